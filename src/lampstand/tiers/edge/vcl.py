"""The VCL of an edge: behaviours and addresses in, one text out. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lampstand.site import Query, Site
from lampstand.site.cdn import glob_regex
from lampstand.tiers.edge.rules import COMPRESSED_FILES, MAX_SORTED, STATIC_FILES, Behaviour, behaviours
from lampstand.tiers.templates import add_filter, render

PROBE_PATH = "/.lampstand/health"
"""What a balancer answers 200 without asking anybody."""

OWN_PATH = "/.lampstand/edge"
"""What an edge answers itself: it runs, and which one it is. Other paths below `/.lampstand/` are nobody's business."""

_HEURISTIC_MAX = 3600
"""Seconds. RFC 9111 section 4.2.2 leaves the limit to the cache; an hour is what a guess is worth here."""

_NEGATIVE_TTL = 5
"""Seconds that a missing page is remembered, so that a wave of requests for it does not reach the application."""

_ANYWAY_TIMEOUT = 5.0
"""Seconds for an answer of a balancer whose probes fail."""

_STALE_TIMEOUT = 2.0
"""Seconds for an answer while an old one is at hand, which may be given when the origin fails."""

_URL_LIMIT = 8192
"""Bytes of a request target (RFC 9110 section 4.1 recommends at least 8000)."""

_DAY, _MONTH = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)", "(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_TIME = "[0-9]{2}:[0-9]{2}:[0-9]{2}"
HTTP_DATE = (
    f"^(?:{_DAY}, [0-9]{{2}} {_MONTH} [0-9]{{4}} {_TIME} GMT"
    f"|(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, [0-9]{{2}}-{_MONTH}-[0-9]{{2}} {_TIME} GMT"
    f"|{_DAY} {_MONTH} [ 0-9][0-9] {_TIME} [0-9]{{4}})$"
)
"""The three forms of RFC 9110 section 5.6.7. Varnish's own reading is more lenient (a bare number passes)."""

_SF_ITEM = (
    r"(?:-?[0-9]{1,15}|-?[0-9]{1,12}\.[0-9]{1,3}|\x22(?:[ !#-\[\]-~]|\x5c[\x22\x5c])*\x22"
    r"|[A-Za-z*][0-9A-Za-z!#$%&'*+.^_`|~:/-]*|:[A-Za-z0-9+/=]*:|\?[01])"
)
_SF_KEY = "[a-z*][a-z0-9_.*-]*"
_SF_MEMBER = f"{_SF_KEY}(?:={_SF_ITEM})?(?:;[ ]*{_SF_KEY}(?:={_SF_ITEM})?)*"
SF_DICTIONARY = rf"^[ ]*{_SF_MEMBER}(?:[ \t]*,[ \t]*{_SF_MEMBER})*[ ]*$"
"""A structured-field dictionary without inner lists (RFC 8941 section 3.2): what RFC 9213 lets CDN-Cache-Control be."""


@dataclass(frozen=True, slots=True)
class Backend:
    """One place that an edge fetches from."""

    name: str
    instance: str
    host: str
    port: int
    group: str
    """`origin`, `unsafe`, `anyway` (tried without a probe) or `shield`."""


@dataclass(frozen=True, slots=True)
class _RuleText:
    """One behaviour as lines of VCL."""

    name: str
    position: int
    condition: str
    request: tuple[str, ...]
    response: tuple[str, ...]
    deliver: tuple[str, ...]


def edge_vcl(
    site: Site,
    name: str,
    backends: Sequence[Backend],
    *,
    token_file: str,
    leaving_file: str,
    purgers: Sequence[str] = (),
) -> str:
    """The whole VCL of the edge `name`.

    `token_file` is the path of the purge token as varnishd sees it, `purgers` networks that need none. While
    `leaving_file` exists no connection of a visitor is kept.
    """
    many = behaviours(site)
    timeouts = site.balancer.timeouts
    return render(
        "edge",
        "edge.vcl.j2",
        name=name,
        site=site.site,
        backends=backends,
        shield=any(b.group == "shield" for b in backends),
        probe_path=PROBE_PATH,
        own_path=OWN_PATH,
        connect_timeout=timeouts.connect,
        # The balancer's own limit comes first, so that its answer is seen and not a closed connection.
        read_timeout=timeouts.read + 5.0,
        anyway_timeout=_ANYWAY_TIMEOUT,
        stale_timeout=_STALE_TIMEOUT,
        compressed_files=COMPRESSED_FILES,
        rules=[_rule_text(i, b) for i, b in enumerate(many)],
        queries=_queries(many),
        coalesce=site.cdn.coalesce,
        # Another balancer is asked, not the same one twice.
        retries=min(site.cdn.retries, site.balancer.servers - 1),
        max_object=site.cdn.max_object,
        max_sorted=MAX_SORTED,
        url_limit=_URL_LIMIT,
        heuristic_max=_HEURISTIC_MAX,
        negative_ttl=_NEGATIVE_TTL,
        http_date=HTTP_DATE,
        sf_dictionary=SF_DICTIONARY,
        token_file=token_file,
        leaving_file=leaving_file,
        purgers=purgers,
        trusted=site.balancer.trusted,
        **_guard(site, purgers),
    )


@dataclass(frozen=True, slots=True)
class _Limit:
    """A token bucket for each visitor (vmod_vsthrottle): `burst` requests at once, and all of them again after
    `period` seconds."""

    name: str
    pattern: str
    """Regular expression of URLs; empty for all."""
    burst: int
    period: float


def _guard(site: Site, purgers: Sequence[str]) -> dict[str, Any]:
    """What the template needs to know of networks and limits."""
    balancer, rate = site.balancer, site.balancer.rate_limit
    limits = [
        _Limit(
            f"paths {n}",
            f"^(?:{'|'.join(glob_regex(g) for g in path.match)})(?:\\?|$)",
            *_bucket(path.per_client, path.burst),
        )
        for n, path in enumerate(rate.paths, 1)
    ]
    if rate.per_client is not None:
        limits.append(_Limit("all", "", *_bucket(rate.per_client, rate.burst)))
    lists = {
        "purgers": purgers,
        "trusted": balancer.trusted,
        "denied": balancer.deny,
        "allowed": balancer.allow,
        "exempt": rate.exempt if limits else (),
    }
    return {
        "acls": [(name, [_network(n) for n in networks]) for name, networks in lists.items()],
        "denied": balancer.deny,
        "allowed": balancer.allow,
        "exempt": lists["exempt"],
        "limits": limits,
        "body_limit": balancer.body_limit,
        "guarded": bool(limits or balancer.deny or balancer.allow or balancer.body_limit),
    }


def _bucket(per_second: float, burst: int) -> tuple[int, float]:
    """nginx lets `burst` requests through beyond the one that is due, so the bucket holds one more."""
    return burst + 1, (burst + 1) / per_second


def vcl_string(text: str) -> str:
    """A VCL string literal of any text. Raises ValueError for what no form of literal can hold."""
    if any(ord(c) < 0x20 for c in text):
        raise ValueError(f"a control character cannot stand in VCL: {text!r}")
    if '"' not in text:
        return f'"{text}"'
    if '"}' not in text:
        return '{"' + text + '"}'
    return " + ".join(vcl_string(part) for part in re.split(r'(?<=")(?=})', text))


def vcl_duration(seconds: float) -> str:
    """`2.5` -> `2.500s`."""
    return f"{seconds:.3f}s"


def _network(network: str) -> str:
    address, _, mask = network.partition("/")
    return f'"{address}"/{mask}' if mask else f'"{address}"'


def _anchored(patterns: Sequence[str]) -> str:
    """One regular expression for a whole path: any of the patterns. Endings (`*.css`) are looked at from the end."""
    endings = [p[1:] for p in patterns if p.startswith("*") and not set(p[1:]) & {"*", "?"}]
    others = [p for p in patterns if p[1:] not in endings or not p.startswith("*")]
    parts = [f"^(?:{'|'.join(glob_regex(p) for p in others)})$"] if others else []
    if endings:
        dot = "\\." if all(e.startswith(".") for e in endings) else ""
        parts.append(f"{dot}(?:{'|'.join(glob_regex(e.removeprefix('.') if dot else e) for e in endings)})$")
    return "|".join(parts)


def _rule_text(position: int, rule: Behaviour) -> _RuleText:
    conditions = [f"req.http.x-edge-path ~ {vcl_string(_anchored(rule.match))}"] if rule.match else []
    if rule.methods:
        conditions.append(f"req.method ~ {vcl_string(_anchored(rule.methods))}")
    return _RuleText(
        name=rule.name,
        position=position,
        condition=" && ".join(conditions) or "true",
        request=tuple(_request_lines(rule)),
        response=tuple(_response_lines(rule)),
        deliver=tuple(_deliver_lines(rule)),
    )


def _request_lines(rule: Behaviour) -> list[str]:
    lines: list[str] = []
    if rule.redirect:
        target = vcl_string(rule.redirect)
        if "*" in rule.redirect and len(rule.match) == 1 and "*" in rule.match[0]:
            captured = f"^{glob_regex(rule.match[0]).replace('.*', '(.*)', 1)}$"
            replacement = rule.redirect.replace("\\", "\\\\").replace("*", "\\1", 1)
            target = f"regsub(req.http.x-edge-path, {vcl_string(captured)}, {vcl_string(replacement)})"
        lines.append(f"set req.http.x-edge-location = {target};")
        lines.append(f"return (synth({rule.redirect_status}));")
        return lines
    if rule.bypass:
        lines.append('set req.http.x-edge-bypass = "1";')
    if rule.ignored_cookies:
        names = "|".join(glob_regex(c) for c in rule.ignored_cookies)
        lines += [
            "cookie.parse(req.http.Cookie);",
            f"cookie.filter_re({vcl_string(f'^(?:{names})$')});",
            *_SET_COOKIES,
        ]
    if rule.bypass_cookies:
        names = "|".join(glob_regex(c) for c in rule.bypass_cookies)
        lines.append(f"if (req.http.Cookie ~ {vcl_string(f'(?:^|;)[ ]*(?:{names})=')}) {{")
        lines.append('    set req.http.x-edge-bypass = "1";')
        lines.append("}")
    if rule.vary_cookies:
        lines.append("cookie.parse(req.http.Cookie);")
    varying = [(f"c:{n}=", f"cookie.get({vcl_string(n)})") for n in rule.vary_cookies]
    varying += [(f"h:{n}=", f"req.http.{n}") for n in rule.vary_headers]
    lines += [
        f'set req.http.x-edge-vary = req.http.x-edge-vary + {vcl_string(what)} + {value} + ";";'
        for what, value in varying
    ]
    if not rule.cookies_reach_the_application:
        lines.append('if (!req.http.x-edge-bypass && (req.method == "GET" || req.method == "HEAD")) {')
        if rule.vary_cookies:
            names = "|".join(re.escape(c) for c in rule.vary_cookies)
            lines.append("    cookie.parse(req.http.Cookie);")
            lines.append(f"    cookie.keep_re({vcl_string(f'^(?:{names})$')});")
            lines += [f"    {line}" for line in _SET_COOKIES]
        else:
            lines.append("    unset req.http.Cookie;")
        lines.append("}")
    return lines


_SET_COOKIES = (
    r'set req.http.Cookie = regsub(cookie.get_string(), ";\s*$", "");',
    'if (req.http.Cookie == "") {',
    "    unset req.http.Cookie;",
    "}",
)
"""What is left of the parsed cookies, as the request's own."""


def _response_lines(rule: Behaviour) -> list[str]:
    lines = [
        f'var.set_int("swr", {int(rule.stale_while_revalidate)});',
        f'var.set_int("sie", {int(rule.stale_if_error)});',
    ]
    if rule.compress:
        lines.append('var.set("compress", "1");')
    if rule.allow_authorization:
        lines.append('var.set("authorization", "1");')
    if rule.ttl is not None:
        # The operator's word on how long, not on whether; a missing page is not worth as much as a page.
        lines.append('var.set("share", "1");')
        lines.append(
            "if (beresp.status == 200 || beresp.status == 203 || beresp.status == 301 || beresp.status == 308) {"
        )
        lines.append(f'    var.set_int("lifetime", {int(rule.ttl)});')
        lines.append("}")
    tags = " ".join(rule.tags) or ("static" if rule.name == STATIC_FILES else "")
    if tags:
        lines.append(f'var.set("tags", {vcl_string(" " + tags)});')
    return lines


def _deliver_lines(rule: Behaviour) -> list[str]:
    lines: list[str] = []
    if rule.browser_ttl is not None or rule.immutable:
        lines.append(
            'if (resp.status < 400 && resp.http.Cache-Control !~ "(?i)no-store|private" && !resp.http.Set-Cookie) {'
        )
        if rule.browser_ttl is not None:
            # A browser subtracts Age from max-age (RFC 9111 section 4.2), so it is added first.
            seconds = f"std.integer(resp.http.Age, 0) + {int(rule.browser_ttl)}"
            lines.append(f'    set resp.http.Cache-Control = "max-age=" + ({seconds});')
            lines.append("    unset resp.http.Expires;")
        elif rule.ttl is not None:
            lines.append('    if (resp.http.Cache-Control !~ "(?i)max-age=") {')
            lines.append(f'        set resp.http.Cache-Control = "public, max-age={int(rule.ttl)}";')
            lines.append("    }")
        if rule.immutable:
            # RFC 8246.
            lines.append('    if (resp.http.Cache-Control !~ "(?i)immutable") {')
            lines.append('        set resp.http.Cache-Control = resp.http.Cache-Control + ", immutable";')
            lines.append("    }")
        lines.append("}")
    lines += [f'header.append(resp.http.Vary, "{header}");' for header in rule.vary_headers]
    if rule.vary_cookies:
        lines.append('header.append(resp.http.Vary, "Cookie");')
    for name, value in rule.headers:
        lines.append(f"set resp.http.{name} = {vcl_string(value)};")
    return lines


def _queries(many: Sequence[Behaviour]) -> list[dict[str, str]]:
    """One regular expression of parameters to take out for each group of behaviours that share a query policy."""
    groups: dict[str, list[int]] = {}
    for position, rule in enumerate(many):
        regex = _query_regex(rule.query)
        if regex:
            groups.setdefault(regex, []).append(position)
    return [{"positions": f"^({'|'.join(map(str, p))})$", "regex": regex} for regex, p in groups.items()]


def _query_regex(query: Query) -> str:
    """Matches each `&name=value` that is taken out; empty when none is."""
    if query.keep is not None:
        if not query.keep:
            return "&[^&]*"
        return f"&(?!(?:{'|'.join(_name_regex(g) for g in query.keep)})(?:=|&|$))[^&]*"
    if not query.drop:
        return ""
    return f"&(?:{'|'.join(_name_regex(g) for g in query.drop)})(?:=[^&]*)?(?=&|$)"


def _name_regex(glob: str) -> str:
    """A pattern of names, which hold neither `=` nor `&`."""
    return "".join("[^=&]*" if c == "*" else "[^=&]" if c == "?" else re.escape(c) for c in glob)


add_filter("edge", "vcl_string", vcl_string)
add_filter("edge", "vcl_duration", lambda seconds: vcl_duration(float(seconds)))
