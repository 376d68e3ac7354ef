"""The site file: what the user writes, parsed, validated and immutable.

Reading it from disk is `lampstand.site.load.load`; importing this package costs what pydantic costs, so commands that
need no site do not import it.
"""

from lampstand.site.app import App, Job, Static, Worker
from lampstand.site.cdn import Cdn, Edge, Query, Redirect, Rule
from lampstand.site.delivery import Deploy, Hooks, Storage, Tls
from lampstand.site.model import Site
from lampstand.site.targets import Aws, Docker, Kubernetes, Local, Targets
from lampstand.site.tiers import Balancer, Cache, Database, Health, RateLimit, Sessions, Web
from lampstand.site.types import Runtime

__all__ = [
    "App",
    "Aws",
    "Balancer",
    "Cache",
    "Cdn",
    "Database",
    "Deploy",
    "Docker",
    "Edge",
    "Health",
    "Hooks",
    "Job",
    "Kubernetes",
    "Local",
    "Query",
    "RateLimit",
    "Redirect",
    "Rule",
    "Runtime",
    "Sessions",
    "Site",
    "Static",
    "Storage",
    "Targets",
    "Tls",
    "Web",
    "Worker",
]
