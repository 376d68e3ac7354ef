"""Cache rules as a pure model: which rule a request meets, what its key is, what the edges may do with the answer.

The model knows nothing of Varnish. `vcl.py` turns it into VCL; a CloudFront behaviour can be made of the same
`Behaviour`. First match wins: the user's rules, then those of the preset, then the two of every site.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from lampstand.site import Query, Rule, Site
from lampstand.site.cdn import glob_matches
from lampstand.tiers.edge.presets import PRESETS

STATIC_FILES = "static files"

COMPRESSED_FILES = "css|js|mjs|json|map|svg|xml|txt|html|wasm|ttf|otf"
"""Names of files that builds compress beforehand, as alternatives of a regular expression."""

MAX_SORTED = 32
"""Query strings with more parameters are used as they come; sorting them would cost more than a second copy."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What an edge does with the requests that a rule matches. Durations in seconds."""

    name: str
    """Where it comes from: `cdn.rules[0]`, `wordpress: admin`, `static files`, `default`."""
    match: tuple[str, ...]
    """Path patterns with `*` and `?`; none matches all."""
    methods: tuple[str, ...] = ()
    bypass: bool = False
    """Never cached."""
    bypass_cookies: tuple[str, ...] = ()
    """Cookie names (patterns) whose presence makes a request the application's alone."""
    ignored_cookies: tuple[str, ...] = ()
    """Cookie names (patterns) that are taken from the request: only scripts in the browser read them."""
    ttl: float | None = None
    """Freshness at the edges instead of what the answer says; a prohibition in the answer still counts."""
    browser_ttl: float | None = None
    immutable: bool = False
    query: Query = field(default_factory=lambda: Query(drop=()))
    vary_cookies: tuple[str, ...] = ()
    vary_headers: tuple[str, ...] = ()
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    compress: bool = True
    redirect: str | None = None
    """Where to; `\\1` stands for what the first `*` matched."""
    redirect_status: int = 301
    headers: tuple[tuple[str, str], ...] = ()
    tags: tuple[str, ...] = ()
    allow_authorization: bool = False

    def matches(self, path: str, method: str = "GET") -> bool:
        """Whether it is for a request; `path` is without the query string."""
        if self.methods and method not in self.methods:
            return False
        return not self.match or any(glob_matches(p, path) for p in self.match)

    @property
    def cookies_reach_the_application(self) -> bool:
        """With a ttl of the operator, an answer is for everybody, so it must not be made from anybody's cookies."""
        return self.bypass or self.ttl is None


@dataclass(frozen=True, slots=True)
class Explanation:
    """What an edge does with one URL, and why: the pure half of `lampstand cdn explain`."""

    url: str
    behaviour: Behaviour
    position: int
    """Position of the behaviour in the site's list, from 0."""
    key: str
    """The cache key: scheme, host, path, sorted query, and the values that vary."""
    fetched: str
    """Path and query that the application is asked for."""
    dropped: tuple[str, ...]
    """Parameters that are neither part of the key nor reach the application."""
    reasons: tuple[str, ...]
    """Sentences, in the order in which the edge decides."""


def behaviours(site: Site) -> tuple[Behaviour, ...]:
    """All behaviours of a site in the order in which they are tried; the last matches everything."""
    cdn = site.cdn
    preset = PRESETS[cdn.preset or "none"]
    own = [_from_rule(site, rule, f"cdn.rules[{i}]") for i, rule in enumerate(cdn.rules)]
    known = [_from_rule(site, rule, f"{cdn.preset}: {name}") for name, rule in preset.rules]
    if preset.ttl is not None and site.app.health:
        known.append(_from_rule(site, Rule(match=(site.app.health,), bypass=True), "health path"))
    patterns = tuple(dict.fromkeys(pattern for s in site.app.static for pattern in s.match))
    files = [_from_rule(site, Rule(match=patterns), STATIC_FILES)] if patterns else []
    name = f"{cdn.preset}: pages" if preset.ttl is not None else "default"
    pages = replace(
        _from_rule(site, Rule(), name),
        bypass_cookies=preset.cookies,
        ignored_cookies=preset.ignored_cookies,
        ttl=preset.ttl,
    )
    if preset.stale_while_revalidate is not None:
        pages = replace(pages, stale_while_revalidate=preset.stale_while_revalidate)
    return (*own, *known, *files, pages)


def _from_rule(site: Site, rule: Rule, name: str) -> Behaviour:
    cdn = site.cdn
    swr, sie = rule.stale_while_revalidate, rule.stale_if_error
    return Behaviour(
        name=name,
        match=() if "*" in rule.match else tuple(rule.match),
        methods=tuple(rule.methods),
        bypass=rule.bypass,
        ttl=rule.ttl,
        browser_ttl=rule.browser_ttl,
        immutable=rule.immutable,
        query=rule.query or cdn.query,
        vary_cookies=tuple(rule.vary_cookies),
        vary_headers=tuple(rule.vary_headers),
        stale_while_revalidate=cdn.stale_while_revalidate if swr is None else swr,
        stale_if_error=cdn.stale_if_error if sie is None else sie,
        compress=rule.compress,
        redirect=rule.redirect.to if rule.redirect else None,
        redirect_status=rule.redirect.status if rule.redirect else 301,
        headers=tuple(rule.headers.items()),
        tags=tuple(rule.tags),
        allow_authorization=rule.allow_authorization,
    )


def choose(many: Sequence[Behaviour], path: str, method: str = "GET") -> tuple[int, Behaviour]:
    """Position and behaviour for a request: the first that matches. Raises LookupError when none does."""
    for position, behaviour in enumerate(many):
        if behaviour.matches(path, method):
            return position, behaviour
    raise LookupError(f"no behaviour matches {path}")


def split_url(url: str) -> tuple[str, list[str]]:
    """Path and parameters of a request target; empty parameters and a fragment are nothing."""
    path, _, query = url.partition("#")[0].partition("?")
    return path, [p for p in query.split("&") if p]


def parameter_name(parameter: str) -> str:
    """What stands before the first `=`."""
    return parameter.partition("=")[0]


def fetched_url(url: str, query: Query) -> str:
    """The request target that the application sees: parameters that are no part of the key never reach it.

    An unkeyed parameter that changes an answer is how caches are poisoned, so there is none. The order stays.
    """
    path, parameters = split_url(url)
    return _join(path, [p for p in parameters if query.keeps(parameter_name(p))])


def key_url(url: str, query: Query) -> str:
    """The part of the cache key that comes from the request target: as fetched, with sorted parameters.

    Where a name occurs twice its order has a meaning (`a[]=1&a[]=2`), so such a query string is left as it is.
    """
    path, parameters = split_url(fetched_url(url, query))
    names = [parameter_name(p) for p in parameters]
    if len(parameters) <= MAX_SORTED and len(set(names)) == len(names):
        parameters.sort(key=lambda p: p.encode())
    return _join(path, parameters)


def _join(path: str, parameters: Sequence[str]) -> str:
    return f"{path}?{'&'.join(parameters)}" if parameters else path


def normal_host(host: str, scheme: str = "http") -> str:
    """The host as it stands in the key: lower case, without the scheme's own port and a closing dot."""
    default = "443" if scheme == "https" else "80"
    return re.sub(rf"\.?(:{default})?$", "", host.lower(), count=1)


def explain(
    site: Site, url: str, *, method: str = "GET", cookies: Sequence[str] = (), authorization: bool = False
) -> Explanation:
    """Which rule matches a URL (`https://host/path?query`, or a path), what its key is, and what the edges do.

    `cookies` are names of cookies of the request. Nothing is asked of any edge.
    """
    parts = urlsplit(url)
    scheme, host = (
        parts.scheme or ("https" if site.tls.enabled else "http"),
        normal_host(parts.netloc, parts.scheme),
    )
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    path, parameters = split_url(target)
    position, behaviour = choose(behaviours(site), path, method)
    dropped = tuple(p for p in parameters if not behaviour.query.keeps(parameter_name(p)))
    key = " ".join(
        [
            f"{scheme}://{host}{key_url(target, behaviour.query)}",
            *(f"cookie:{name}" for name in behaviour.vary_cookies),
            *(f"header:{name}" for name in behaviour.vary_headers),
        ]
    )
    reasons = _reasons(behaviour, method, cookies, authorization)
    if re.search(rf"\.(?:{COMPRESSED_FILES})$", path) and not behaviour.bypass:
        reasons.append("visitors who take brotli have a copy of their own")
    return Explanation(
        url, behaviour, position, key, fetched_url(target, behaviour.query), dropped, tuple(reasons)
    )


def _reasons(behaviour: Behaviour, method: str, cookies: Sequence[str], authorization: bool) -> list[str]:
    rule = f"the rule `{behaviour.name}`"
    if behaviour.redirect:
        return [f"{rule} answers with a redirect ({behaviour.redirect_status}); nothing is fetched or kept"]
    if method not in ("GET", "HEAD"):
        return [f"{method} goes to the application; a successful answer removes this URL from the edges"]
    if behaviour.bypass:
        return [f"{rule} bypasses the cache"]
    hit = [c for c in cookies if any(glob_matches(p, c) for p in behaviour.bypass_cookies)]
    if hit:
        return [f"the cookie `{hit[0]}` makes the request the application's alone ({rule})"]
    said = [
        f"kept for {behaviour.ttl:g} s ({rule}), unless the answer says no-store or private"
        if behaviour.ttl is not None
        else "kept as the answer's headers say (CDN-Cache-Control, s-maxage, max-age, Expires, Last-Modified)",
        "never kept with Set-Cookie or a Vary that contains *",
    ]
    if authorization and not behaviour.allow_authorization:
        said.append(
            "with Authorization only an answer that says public, s-maxage or must-revalidate is shared"
        )
    if cookies and behaviour.cookies_reach_the_application:
        said.append("with cookies only an answer that says public or s-maxage is shared")
    if behaviour.stale_while_revalidate:
        said.append(f"given up to {behaviour.stale_while_revalidate:g} s too old while a new one is fetched")
    if behaviour.stale_if_error:
        said.append(f"given up to {behaviour.stale_if_error:g} s too old while the application fails")
    return said
