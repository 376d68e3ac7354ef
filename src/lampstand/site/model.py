"""The site file as a whole."""

from typing import cast

from pydantic import model_validator

from lampstand.site.app import App
from lampstand.site.base import Model, option
from lampstand.site.cdn import Cdn
from lampstand.site.delivery import Deploy, Hooks, Storage, Tls
from lampstand.site.redact import redact
from lampstand.site.targets import Targets
from lampstand.site.tiers import Balancer, Cache, Database, Sessions, Web
from lampstand.site.types import Flag, Name


class Site(Model):
    """What the user wrote, parsed and validated. Every key has a default, so `Site()` is a complete site."""

    site: Name = option("site", "Name of the site; by default the folder's.", "site: shop")
    protected: Flag = option(
        False, "Drills and whatever deletes data ask for --yes-really.", "protected: true  # the real one"
    )
    app: App = option(App, "The application.", "app: {root: public, health: /healthz}")
    cdn: Cdn = option(Cdn, "The CDN: edges and caching rules.", "cdn: {edges: [fra, iad]}")
    balancer: Balancer = option(Balancer, "The balancer (nginx).", "balancer: {servers: 2}")
    web: Web = option(Web, "The web servers.", "web: {servers: 4, processes: 8}")
    database: Database = option(Database, "The database (MariaDB).", "database: {replicas: 2, memory: 1GiB}")
    cache: Cache = option(Cache, "The cache (Redis).", "cache: {memory: 512MB}")
    sessions: Sessions = option(Sessions, "The session store (Redis).", "sessions: {lifetime: 30d}")
    storage: Storage = option(
        Storage, "Where uploads live.", "storage: {bucket: shop-uploads, region: eu-central-1}"
    )
    tls: Tls = option(
        Tls, "Encryption.", "tls: {mode: acme, domains: [shop.example.com], email: admin@example.com}"
    )
    deploy: Deploy = option(Deploy, "How a release replaces another.", "deploy: {keep: 10, canary: 10%}")
    hooks: Hooks = option(Hooks, "Commands around a deploy.", "hooks: {before_deploy: ./bin/check}")
    targets: Targets = option(
        Targets,
        "What each target needs to know.",
        "targets: {aws: {region: eu-central-1, domain: shop.example.com}}",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "Site":
        both = sorted(set(self.app.env) & set(self.app.secrets))
        if both:
            raise ValueError(f"`{both[0]}` is in app.env and in app.secrets; keep it in one of them")
        return self

    def redacted(self) -> dict[str, object]:
        """The site as it applies, in the form of the site file, for people to read: without secrets."""
        return cast("dict[str, object]", redact(self.model_dump(mode="json", exclude_none=True)))
