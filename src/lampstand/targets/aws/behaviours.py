"""CloudFront's cache behaviours and policies out of the same `Behaviour` values as the other targets'
edges."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lampstand.targets.aws.scope import Scope
from lampstand.targets.aws.template import Resource, Value, plain
from lampstand.targets.aws.viewer import PASS_HEADER
from lampstand.tiers.edge.rules import Behaviour, behaviours

CACHING_DISABLED = "4135ea2d-6df8-44a3-9df3-4b5a84be39ad"
"""Id of the managed cache policy `CachingDisabled`, the same in every account."""
YEAR = 31_536_000
BEHAVIOUR_LIMIT = 75
"""Cache behaviours of a distribution (CloudFront quotas)."""


@dataclass(frozen=True)
class Path:
    """One cache behaviour: a path pattern (`*` is the default behaviour) and where it leads."""

    pattern: str
    behaviour: Behaviour
    source: str
    """`balancer`, `assets` or `uploads`."""
    cache: str
    """Logical id or managed id of its cache policy."""
    headers: str | None
    """Logical id of its response-header policy."""


@dataclass
class _Policies:
    """Collects the distinct policies of all paths. Their ids carry a hash of their content, because the
    names of policies are unique in an account: a changed policy is a new one, and the old one goes when
    nothing uses it."""

    scope: Scope
    resources: dict[str, Resource] = field(default_factory=dict[str, Resource])

    def cache(self, behaviour: Behaviour, source: str, *, passes: bool) -> str:
        """The cache policy of a behaviour."""
        if behaviour.bypass:
            return CACHING_DISABLED
        headers = list(behaviour.vary_headers)
        if source == "balancer":
            if not behaviour.allow_authorization:
                headers.append("Authorization")
            headers.append("Host")
            if passes:
                headers.append(PASS_HEADER)
        longest = round(behaviour.ttl) if behaviour.ttl is not None else YEAR
        usual = YEAR if behaviour.immutable else 60 if source == "uploads" else 0
        shared = behaviour.ttl is not None or source != "balancer"
        config: Mapping[str, Value] = {
            # 0: a prohibition in the answer (no-store, private) counts whatever the rule says.
            "MinTTL": 0,
            "DefaultTTL": round(behaviour.ttl) if behaviour.ttl is not None else usual,
            "MaxTTL": longest,
            "ParametersInCacheKeyAndForwardedToOrigin": {
                "EnableAcceptEncodingGzip": behaviour.compress,
                "EnableAcceptEncodingBrotli": behaviour.compress,
                "HeadersConfig": _choice("Header", headers),
                # The application's own pages may be made from any cookie; with a ttl none reaches it but
                # these.
                "CookiesConfig": _choice("Cookie", behaviour.vary_cookies)
                if shared
                else {"CookieBehavior": "all"},
                # The function has removed what does not count.
                "QueryStringsConfig": {"QueryStringBehavior": "all"},
            },
        }
        return self._add("Cache", "AWS::CloudFront::CachePolicy", "CachePolicyConfig", config)

    def headers(self, behaviour: Behaviour) -> str | None:
        """The response-header policy of a behaviour; None where it sets nothing."""
        own = dict(behaviour.headers)
        if behaviour.immutable:
            own["Cache-Control"] = f"public, max-age={round(behaviour.browser_ttl or YEAR)}, immutable"
        elif behaviour.browser_ttl is not None:
            own["Cache-Control"] = f"max-age={round(behaviour.browser_ttl)}"
        hsts = self.scope.site.tls.hsts
        config: dict[str, Value] = {}
        if own:
            config["CustomHeadersConfig"] = {
                "Items": tuple({"Header": k, "Value": v, "Override": True} for k, v in own.items())
            }
        if hsts is not None and self.scope.aws.domain:
            config["SecurityHeadersConfig"] = {
                "StrictTransportSecurity": {"AccessControlMaxAgeSec": round(hsts), "Override": True}
            }
        if not config:
            return None
        return self._add(
            "Headers", "AWS::CloudFront::ResponseHeadersPolicy", "ResponseHeadersPolicyConfig", config
        )

    def _add(self, kind: str, type_: str, key: str, config: Mapping[str, Value]) -> str:
        digest = hashlib.sha256(json.dumps(plain(config), sort_keys=True).encode()).hexdigest()[:10]
        name = f"{kind}{digest}"
        self.resources[name] = Resource(type_, {key: {"Name": f"{self.scope.prefix}-{digest}", **config}})
        return name


def _choice(kind: str, values: Sequence[str]) -> Value:
    many = f"{kind}s"
    if not values:
        return {f"{kind}Behavior": "none"}
    return {f"{kind}Behavior": "whitelist", many: tuple(values)}


def paths(scope: Scope) -> tuple[tuple[Path, ...], Mapping[str, Resource]]:
    """The cache behaviours in their order, the default one last, and the policies they use.

    A behaviour that would do what the default one does is left out where nothing after it is different:
    most sites have thirty patterns of static files that CloudFront treats as pages (the function still
    knows them).
    """
    policies = _Policies(scope)
    many = behaviours(scope.site)
    passes = any(b.bypass_cookies for b in many)
    result: list[Path] = []
    default: Path | None = None
    for behaviour in (*with_uploads(scope, many),):
        source = _source(behaviour)
        if behaviour.methods and not set(behaviour.methods) & {"GET", "HEAD"}:
            continue  # CloudFront caches nothing else, and the function sees to the rest.
        found = [
            Path(
                pattern,
                behaviour,
                source,
                policies.cache(behaviour, source, passes=passes and source == "balancer"),
                policies.headers(behaviour),
            )
            for pattern in behaviour.match or ("*",)
        ]
        if not behaviour.match:
            default = found[0]
            break
        result += found
    if default is None:
        raise ValueError("the last rule must match everything")
    while result and _same(result[-1], default):
        result.pop()
    chosen = (*result, default)
    if len(chosen) > BEHAVIOUR_LIMIT:
        raise ValueError(
            f"the rules need {len(chosen)} cache behaviours; a distribution has at most {BEHAVIOUR_LIMIT}"
        )
    used = {p.cache for p in chosen} | {p.headers for p in chosen}
    return chosen, {name: r for name, r in policies.resources.items() if name in used}


UPLOADS = "uploads"


def with_uploads(scope: Scope, many: Sequence[Behaviour]) -> Sequence[Behaviour]:
    """The behaviours, with uploads that visitors may fetch anyway (below `app.root`) after the user's own
    rules."""
    match = tuple(f"/{folder}/*" for folder in public_uploads(scope))
    if not match:
        return many
    own = [b for b in many if b.name.startswith("cdn.rules")]
    return (*own, Behaviour(UPLOADS, match), *(b for b in many if b not in own))


def public_uploads(scope: Scope) -> tuple[str, ...]:
    """URL paths (without the first slash) of the upload folders below the document root."""
    root = scope.site.app.root
    prefix = "" if root == "." else f"{root}/"
    return tuple(f.removeprefix(prefix) for f in scope.site.app.uploads if f.startswith(prefix))


def _source(behaviour: Behaviour) -> str:
    if behaviour.name == UPLOADS:
        return "uploads"
    return "assets" if behaviour.immutable and not behaviour.redirect else "balancer"


def _same(path: Path, other: Path) -> bool:
    return (path.source, path.cache, path.headers) == (other.source, other.cache, other.headers) and (
        path.behaviour.compress == other.behaviour.compress
    )
