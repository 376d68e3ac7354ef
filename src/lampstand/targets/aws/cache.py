"""Step 5: cache and sessions. Life: longer than any machine; the sessions' last snapshot outlives the stack.

Two replication groups, because what may be evicted differs: a page costs a query, a session costs a login.
Both speak TLS only and ask for a password; the gateway on every machine speaks it for the application.
"""

from collections.abc import Mapping

from lampstand.targets.aws.alarms import alarm
from lampstand.targets.aws.scope import CACHE_PORT, Scope
from lampstand.targets.aws.storage import secret_reference
from lampstand.targets.aws.template import Att, Ref, Resource, Sub, Template, Value, merge, tags

ENGINES: Mapping[str, tuple[str, str]] = {"valkey": ("8.0", "valkey8"), "redis": ("7.1", "redis7")}
"""Engine -> version and parameter group family."""


def template(scope: Scope) -> Template:
    """Two replication groups, their parameters and alarms."""
    resources = merge(
        {
            "Subnets": Resource(
                "AWS::ElastiCache::SubnetGroup",
                {
                    "Description": f"Isolated subnets of {scope.site.site}",
                    "SubnetIds": scope.imported_subnets("Isolated"),
                    "Tags": tags(scope.tags("cache")),
                },
            )
        },
        _group(scope, "Cache", scope.site.cache.replicas, "allkeys-lfu"),
        _group(scope, "Sessions", scope.site.sessions.replicas, "noeviction"),
    )
    return Template(
        f"Lampstand {scope.site.site}: step 5, cache and sessions",
        resources,
        outputs={
            f"{name}Host": scope.export(
                "cache", f"{name}Host", Att(name, "PrimaryEndPoint.Address"), f"Primary of {name}"
            )
            for name in ("Cache", "Sessions")
        },
    )


def _group(scope: Scope, name: str, replicas: int, eviction: str) -> Mapping[str, Resource]:
    version, family = ENGINES[scope.aws.cache_engine]
    sessions = name == "Sessions"
    identifier = f"{scope.site.site}-{name.lower()}"[:40].rstrip("-")
    properties: dict[str, Value] = {
        "ReplicationGroupDescription": f"Lampstand {scope.site.site}: {name.lower()}",
        "Engine": scope.aws.cache_engine,
        "EngineVersion": version,
        "CacheNodeType": scope.aws.cache_class,
        "NumCacheClusters": 1 + replicas,
        # ElastiCache refuses both with a single node.
        "AutomaticFailoverEnabled": replicas > 0,
        "MultiAZEnabled": replicas > 0,
        "CacheParameterGroupName": Ref(f"{name}Settings"),
        "CacheSubnetGroupName": Ref("Subnets"),
        "SecurityGroupIds": (scope.imported("network", "CacheGroup"),),
        "Port": CACHE_PORT,
        "AtRestEncryptionEnabled": True,
        "TransitEncryptionEnabled": True,
        "AuthToken": secret_reference(scope.imported("storage", "CacheSecret")),
        "AutoMinorVersionUpgrade": True,
        "SnapshotRetentionLimit": scope.aws.backup_days if sessions else 0,
        "Tags": tags(scope.tags("cache"), Name=identifier),
    }
    return {
        f"{name}Settings": Resource(
            "AWS::ElastiCache::ParameterGroup",
            {
                "CacheParameterGroupFamily": family,
                "Description": f"Lampstand {scope.site.site}: {name.lower()}",
                "Properties": {"maxmemory-policy": eviction},
                "Tags": tags(scope.tags("cache")),
            },
        ),
        name: Resource(
            "AWS::ElastiCache::ReplicationGroup", properties, keep="Snapshot" if sessions else None
        ),
        f"{name}Full": alarm(
            scope,
            "AWS/ElastiCache",
            "DatabaseMemoryUsagePercentage",
            {"CacheClusterId": Sub("${" + name + "}-001")},
            above=90,
            # A cache that evicts is meant to be full; sessions that are full are lost logins.
            minutes=5 if sessions else 60,
            text=f"{name.lower()}: memory above 90 %",
        ),
    }
