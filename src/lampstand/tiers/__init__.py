"""The five rooms. A new tier or engine is one new folder and one line in `EXPANDERS`."""

from collections.abc import Mapping

from lampstand.tiers.balancer.tier import expand as _balancer
from lampstand.tiers.cache.tier import expand as _cache
from lampstand.tiers.database.tier import expand as _database
from lampstand.tiers.edge.tier import expand as _edge
from lampstand.tiers.web.tier import expand as _web
from lampstand.topology import Expander, TierName

EXPANDERS: Mapping[TierName, Expander] = {
    "edge": _edge,
    "balancer": _balancer,
    "web": _web,
    "database": _database,
    "cache": _cache,
}
