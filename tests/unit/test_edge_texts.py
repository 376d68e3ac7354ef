"""The edges on paper: topology, golden VCL, quoting."""

import re
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lampstand.tiers.edge.tier import expand
from lampstand.tiers.edge.vcl import HTTP_DATE, SF_DICTIONARY, vcl_string
from tests.web_support import Paper, golden, paper_context

SITES: Mapping[str, Mapping[str, object]] = {
    "default": {},
    "rules": {
        "balancer": {"servers": 2, "trusted": ["198.51.100.0/24", "2001:db8::/32"]},
        "cdn": {
            "edges": ["fra", {"name": "iad", "memory": "1GiB"}],
            "shield": "fra",
            "preset": "wordpress",
            "coalesce": False,
            "purge": {"allow": ["192.0.2.7", "10.0.0.0/8"]},
            "rules": [
                {"match": "/assets/*", "ttl": "1y", "immutable": True, "tags": ["assets"]},
                {"match": ["/api/*", "/feed?"], "methods": ["GET", "POST"], "bypass": True},
                {"match": "/old/*", "redirect": {"to": "/new/*", "status": 302}},
                {"match": "/shop/*", "ttl": "1h", "vary_cookies": ["currency"], "vary_headers": ["X-Device"]},
                {"match": "/search", "query": {"keep": ["q"]}, "headers": {"X-Frame-Options": 'D"E}N"}Y'}},
            ],
        },
    },
    "guarded": {
        "balancer": {
            "allow": ["10.0.0.0/8", "127.0.0.1"],
            "deny": "10.9.0.0/16",
            "body_limit": "1MB",
            "rate_limit": {
                "per_client": "50/s",
                "burst": 99,
                "exempt": "10.1.0.0/16",
                "paths": [{"match": ["/login", "/wp-*.php"], "per_client": "6/m", "burst": 2}],
            },
        },
        "cdn": {"edges": ["one"], "preset": "mediawiki", "access_log": False},
    },
    "tls": {"tls": {"mode": "local"}, "cdn": {"edges": ["one"]}},
    "acme": {
        "tls": {
            "mode": "acme",
            "domains": ["shop.test", "www.shop.test"],
            "email": "admin@shop.test",
            "hsts": "1y",
        },
        "balancer": {"rate_limit": {"connections": 20, "exempt": ["10.0.0.0/8"]}},
        "cdn": {
            "edges": [
                {"name": "fra", "weight": 2, "networks": ["192.0.2.0/24"], "countries": ["DE"]},
                {"name": "iad", "countries": ["US", "CA"]},
                "sin",
            ],
            "visitors": {"mmdb": "geo/country.mmdb", "map": "geo/edges.map"},
        },
    },
}


@pytest.mark.parametrize("name", SITES)
def test_golden(name: str) -> None:
    for instance in expand(paper_context(SITES[name])):
        for file in instance.files:
            if not (
                file.secret or file.path.endswith("/reload") or (name == "acme" and instance.kind == "edge")
            ):
                golden(f"edge/{name}-{instance.name}-{file.path.rpartition('/')[2]}", file.content)


def test_topology() -> None:
    fra, iad = expand(paper_context(SITES["rules"], Paper("/srv")))
    assert (fra.name, fra.tier, fra.kind, fra.index, iad.index) == ("edge-fra", "edge", "edge", 1, 2)
    assert (fra.needs, iad.needs) == (("balancer-1", "balancer-2"), ("edge-fra", "balancer-1", "balancer-2"))
    assert [e.name for e in fra.endpoints] == ["http", "shield", "admin"]
    assert [e.name for e in iad.endpoints] == ["http", "admin"]
    assert "malloc,1073741824" in iad.processes[0].argv
    assert (iad.memory or 0) > 2**30


def test_no_edges_is_no_cdn() -> None:
    assert list(expand(paper_context({"cdn": {"edges": []}}))) == []


def test_a_changed_rule_reloads_and_a_changed_memory_restarts() -> None:
    before, *_ = expand(paper_context({}))
    rule, *_ = expand(paper_context({"cdn": {"rules": [{"match": "/x", "bypass": True}]}}))
    memory, *_ = expand(paper_context({"cdn": {"memory": "128MB"}}))
    assert rule.restart_hash == before.restart_hash
    assert rule.config_hash != before.config_hash
    assert memory.restart_hash != before.restart_hash


def test_the_token_is_a_secret_and_in_no_other_file() -> None:
    context = paper_context({}, secrets={"purge": "hush-hush"})
    for instance in expand(context):
        assert [f.path.rpartition("/")[2] for f in instance.files if f.secret] == ["purge-token"]
        assert "hush-hush" not in "".join(f.content for f in instance.files if not f.secret)
        assert "hush-hush" not in " ".join(instance.processes[0].argv)


PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=12)


@given(PRINTABLE | st.text('"}{x\\', max_size=8))
def test_a_string_literal_is_its_text(text: str) -> None:
    """Read back as vcl(7) reads it: "..." without quotation marks, {"..."} up to the first closing pair."""
    literal, read = vcl_string(text), ""
    while literal:
        match = re.match(r'\{"(?P<long>.*?)"\}|"(?P<short>[^"\n]*)"', literal)
        assert match, literal
        read += match["long"] if match["long"] is not None else match["short"]
        literal = literal[match.end() :].removeprefix(" + ")
    assert read == text


@pytest.mark.parametrize("text", ["a\nb", "a\0b", "a\rb"])
def test_control_characters_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="control character"):
        vcl_string(text)


@pytest.mark.parametrize(
    ("text", "well_formed"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", True),
        ("Sunday, 06-Nov-94 08:49:37 GMT", True),
        ("Sun Nov  6 08:49:37 1994", True),
        ("Sun, 06 Nov 1994 08:49:37 UTC", False),
        ("06 Nov 1994", False),
        ("784111777", False),
    ],
)
def test_dates(text: str, well_formed: bool) -> None:
    assert bool(re.search(HTTP_DATE, text)) == well_formed


@pytest.mark.parametrize(
    ("text", "well_formed"),
    [
        ("max-age=60", True),
        ("a, b=?1, c=1.5, d=tok/en;q=1;r, e=:YQ==:", True),
        ('a="x, \\" y"', True),
        ("", False),
        ("A=1", False),
        ("a=1,", False),
        ("a =1", False),
        ("a= 1", False),
        ("a=&", False),
        ('a="x', False),
    ],
)
def test_structured_dictionaries(text: str, well_formed: bool) -> None:
    assert bool(re.search(SF_DICTIONARY, text)) == well_formed
