"""The CDN: its edges, and the rules by which they cache. The same rules drive Varnish and CloudFront."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_serializer, model_validator

from lampstand.site.base import Model, OneOrMore, option, shown
from lampstand.site.types import (
    Count,
    Flag,
    HeaderName,
    Inside,
    Line,
    Method,
    Name,
    Network,
    Pattern,
    Positive,
    TextLine,
)
from lampstand.site.units import Duration, Size

Preset = Literal["none", "wordpress", "mediawiki", "drupal", "django"]
Tag = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,256}$")]
Glob = Annotated[str, StringConstraints(pattern=r"^[!-~]+$")]


class Edge(Model):
    """One cache server of the CDN, near some of the visitors."""

    shorthand = "name"

    name: Name = option(..., "Name, often of a place.", "name: fra")
    weight: Positive = option(1, "Share of the visitors who are near to no edge in particular.", "weight: 2")
    memory: Size | None = option(None, "Memory for cached answers; by default `cdn.memory`.", "memory: 1GiB")
    networks: Annotated[tuple[Network, ...], OneOrMore()] = option(
        (), "Networks of the visitors who are sent to this edge.", "networks: [192.0.2.0/24, 2001:db8::/32]"
    )
    countries: Annotated[
        tuple[Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")], ...], OneOrMore()
    ] = option(
        (),
        "Countries (ISO 3166, two letters) of its visitors; needs `cdn.visitors.mmdb`.",
        "countries: [DE, FR]",
    )


class Query(Model):
    """Which parameters of the query string are part of the cache key and reach the application."""

    keep: tuple[Glob, ...] | None = option(
        None, "Only these; `*` stands for any characters.", "keep: [page, q]"
    )
    drop: tuple[Glob, ...] | None = option(None, "All but these.", "drop: [utm_*, fbclid]")

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, data: Any) -> Any:  # noqa: ANN401 - whatever the file holds
        if isinstance(data, str):
            if data not in ("all", "none"):
                raise ValueError(
                    f"{shown(data)} is not a choice; write all, none, {{keep: [page]}} or {{drop: [utm_*]}}"
                )
            return {"drop": ()} if data == "all" else {"keep": ()}
        return data

    @model_validator(mode="after")
    def _one(self) -> "Query":
        if (self.keep is None) == (self.drop is None):
            raise ValueError("keep and drop exclude each other; write one of them")
        return self

    @model_serializer
    def _as_text(self) -> str | dict[str, list[str]]:
        if self.keep is not None:
            return {"keep": list(self.keep)} if self.keep else "none"
        return {"drop": list(self.drop)} if self.drop else "all"

    def keeps(self, parameter: str) -> bool:
        """Whether a parameter is part of the key."""
        if self.keep is not None:
            return any(glob_matches(glob, parameter) for glob in self.keep)
        return not any(glob_matches(glob, parameter) for glob in self.drop or ())


class Redirect(Model):
    """An answer that sends the visitor elsewhere, given by the edge itself."""

    shorthand = "to"

    to: Annotated[Line, Field(pattern=r"^(https?://[!-~]+|/[!-~]*)$")] = option(
        ..., "A path or URL; a `*` in it stands for what the first `*` of the pattern matched.", "to: /new/*"
    )
    status: Literal[301, 302, 303, 307, 308] = option(
        301, "301 and 308 are for good, 302, 303 and 307 for now.", "status: 302"
    )


class Rule(Model):
    """How the edges treat some of the requests. The first rule that matches a request is the only one for it."""

    match: Annotated[tuple[Pattern, ...], OneOrMore(), Field(min_length=1)] = option(
        ("*",),
        "Path patterns; `*` is any characters, `/` included, and `?` is one.",
        'match: [/assets/*, "*.css"]',
    )
    methods: Annotated[tuple[Method, ...], OneOrMore()] = option(
        (), "Only requests with these methods; by default any.", "methods: [GET, HEAD]"
    )
    ttl: Duration | None = option(
        None, "How long the edges keep an answer; by default what the application's headers say.", "ttl: 1h"
    )
    browser_ttl: Duration | None = option(
        None, "How long browsers keep it; by default what the application's headers say.", "browser_ttl: 5m"
    )
    immutable: Flag = option(
        False, "The content of a URL never changes: browsers do not ask again (RFC 8246).", "immutable: true"
    )
    bypass: Flag = option(False, "Never cached: every request goes to the application.", "bypass: true")
    query: Query | None = option(
        None,
        "Parameters of the query string that count: all, none, or lists to keep or drop. By default `cdn.query`.",
        "query: {keep: [page, q]}",
    )
    vary_cookies: Annotated[tuple[Line, ...], OneOrMore()] = option(
        (),
        "Cookies whose value makes a different answer; others never reach the key.",
        "vary_cookies: [currency]",
    )
    vary_headers: Annotated[tuple[HeaderName, ...], OneOrMore()] = option(
        (), "Request headers whose value makes a different answer.", "vary_headers: [Accept-Language]"
    )
    stale_while_revalidate: Duration | None = option(
        None,
        "How long an old answer is given while a new one is fetched (RFC 5861).",
        "stale_while_revalidate: 30s",
    )
    stale_if_error: Duration | None = option(
        None, "How long an old answer is given while the application fails (RFC 5861).", "stale_if_error: 1d"
    )
    compress: Flag = option(True, "Text is compressed for those who accept it.", "compress: false")
    redirect: Redirect | None = option(None, "Answer with a redirect.", "redirect: {to: /new/*, status: 302}")
    headers: Mapping[HeaderName, TextLine] = option(
        dict, "Headers that the edges set in the answer.", "headers: {X-Frame-Options: DENY}"
    )
    tags: Annotated[tuple[Tag, ...], OneOrMore()] = option(
        (), "Tags for `lampstand purge --tag`, beside those in the answer's headers.", "tags: [catalogue]"
    )
    allow_authorization: Flag = option(
        False,
        "Answers to requests with Authorization may be shared between visitors. Only for what is the same for all.",
        "allow_authorization: true  # /public-api/* with one key for everybody",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "Rule":
        cached = [
            name
            for name in (
                "ttl",
                "stale_while_revalidate",
                "stale_if_error",
                "immutable",
                "allow_authorization",
            )
            if getattr(self, name)
        ]
        if self.bypass and cached:
            raise ValueError(
                f"a rule that bypasses the cache has no {cached[0]}; remove `bypass` or `{cached[0]}`"
            )
        return self

    def matches(self, path: str, method: str = "GET") -> bool:
        """Whether the rule is for a request; `path` is without the query string."""
        return (not self.methods or method in self.methods) and any(glob_matches(p, path) for p in self.match)


class Visitors(Model):
    """How visitors find their edge where no DNS does it: an entry that picks one by their address."""

    mmdb: Inside | None = option(
        None, "A MaxMind database of countries, for `countries` of the edges.", "mmdb: geo/country.mmdb"
    )
    map: Inside | None = option(
        None, "A file of lines `NETWORK EDGE;`, beside `networks` of the edges.", "map: geo/edges.map"
    )


class Purge(Model):
    """Who may purge over HTTP (PURGE and BAN, as plug-ins of WordPress, MediaWiki and Drupal do)."""

    allow: Annotated[tuple[Network, ...], OneOrMore()] = option(
        (),
        "Networks that may without the token of the site, for plug-ins that cannot send one.",
        "allow: [192.0.2.7/32]",
    )


class Cdn(Model):
    """The CDN: its edges, and the rules by which they cache."""

    edges: tuple[Edge, ...] = option(
        lambda: (Edge(name="fra"), Edge(name="iad")),
        "The edges: names, or objects with more. An empty list is no CDN.",
        "edges: [fra, {name: iad, weight: 2, memory: 512MB}]",
    )
    shield: Name | None = option(
        None, "The edge that fetches for all others, so that the application is asked once.", "shield: fra"
    )
    memory: Size = option(64_000_000, "Memory of each edge for cached answers.", "memory: 512MB")
    preset: Preset | None = option(
        None,
        "Rules that fit a well-known application, after your own; found by its files where it is not given.",
        "preset: wordpress",
    )
    rules: tuple[Rule, ...] = option(
        (),
        "How requests are treated. The first rule that matches is the only one.",
        "rules: [{match: /assets/*, ttl: 1y, immutable: true}, {match: /api/*, bypass: true}]",
    )
    query: Query = option(
        lambda: Query(drop=("utm_*", "gclid", "fbclid", "msclkid", "mc_cid", "mc_eid")),
        "Parameters of the query string that count where a rule does not say.",
        "query: {drop: [utm_*, fbclid]}",
    )
    stale_while_revalidate: Duration = option(
        0.0,
        "How long an old answer is given while a new one is fetched, where the application does not say; by default "
        "an old answer is checked first.",
        "stale_while_revalidate: 1m",
    )
    stale_if_error: Duration = option(
        86_400.0, "How long an old answer is given while the application fails.", "stale_if_error: 1h"
    )
    max_object: Size = option(32_000_000, "Larger answers are passed through, not kept.", "max_object: 1GB")
    coalesce: Flag = option(
        True, "Requests for the same missing answer wait for one fetch.", "coalesce: false"
    )
    purge: Purge = option(Purge, "Who may purge over HTTP.", "purge: {allow: [192.0.2.7/32]}")
    visitors: Visitors | None = option(
        None, "An entry that picks the edge by the visitor's address.", "visitors: {mmdb: geo/country.mmdb}"
    )
    access_log: Flag = option(
        True,
        "The edges log what they answer; most of it never reaches a balancer's log.",
        "access_log: false  # saves an eighth of the processor time of a busy edge",
    )
    retries: Count = option(1, "Other balancers that an edge asks when one fails.", "retries: 2")

    @model_validator(mode="after")
    def _fits_together(self) -> "Cdn":
        names = [edge.name for edge in self.edges]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two edges are called `{twice[0]}`; give each its own name")
        if self.shield is not None and self.shield not in names:
            known = ", ".join(names) or "none: `edges` is empty"
            raise ValueError(f"the shield `{self.shield}` is not an edge; choose one of the edges ({known})")
        return self

    def edge(self, name: str) -> Edge:
        """The edge called `name`. Raises KeyError."""
        return next((e for e in self.edges if e.name == name), None) or _missing(name)

    def rule_for(self, path: str, method: str = "GET") -> Rule | None:
        """The user's rule for a request: the first that matches. `path` is without the query string."""
        return next((rule for rule in self.rules if rule.matches(path, method)), None)


def _missing(name: str) -> Any:  # noqa: ANN401 - never returns
    raise KeyError(f"no edge is called {name!r}")


def glob_regex(glob: str) -> str:
    """The regular expression (without anchors; PCRE, Python and VCL alike) of a pattern with `*` and `?`."""
    return "".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in glob)


def glob_matches(glob: str, text: str) -> bool:
    """Whether a pattern with `*` and `?` matches the whole text."""
    return re.fullmatch(glob_regex(glob), text, re.DOTALL) is not None
