"""The words, expressions and live files that the balancer's configuration is made of."""

import re

import pytest

from lampstand.site import Site
from lampstand.tiers.balancer import live, statics
from lampstand.tiers.balancer.live import Canary, Server
from lampstand.tiers.balancer.quoting import address, milliseconds, patterns_regex, quoted, quoted_value
from lampstand.tiers.balancer.statics import Files, Uploads


def nginx_reads(word: str) -> str:
    """What nginx makes of a word in double quotes (ngx_conf_read_token)."""
    assert word[0] == word[-1] == '"'
    out, i, inside = "", 0, word[1:-1]
    while i < len(inside):
        if inside[i] == "\\" and i + 1 < len(inside) and inside[i + 1] in "\"'\\trn":
            out += {"t": "\t", "r": "\r", "n": "\n"}.get(inside[i + 1], inside[i + 1])
            i += 2
        else:
            assert inside[i] != '"', "the word would end here"
            out += inside[i]
            i += 1
    return out


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "with blank",
        'quo"te',
        "it's",
        "back\\slash",
        "end\\",
        "\\\\",
        '\\"',
        r"\.(?:css|js)$",
        r"\t\n\r",
        "a;b{c}",
        "$x",
        "größe",
    ],
)
def test_a_quoted_word_is_read_back_as_it_was(text: str) -> None:
    assert nginx_reads(quoted(text)) == text
    assert nginx_reads(quoted_value(text)).replace("${lampstand_dollar}", "$") == text


def test_expressions_stay_readable_and_variables_stay_variables() -> None:
    assert quoted(r"\.css$") == r'"\.css$"'
    assert quoted_value("/a$b", "$uri") == '"/a${lampstand_dollar}b$uri"'


def test_times_and_addresses() -> None:
    assert milliseconds(0.25) == "250ms"
    assert milliseconds(60.0) == "60000ms"
    assert address("127.0.0.1", 80) == "127.0.0.1:80"
    assert address("::1", 80) == "[::1]:80"


@pytest.mark.parametrize(
    ("patterns", "yes", "no"),
    [
        (("*.css", "*.js"), ["/a.css", "/x/y.js"], ["/a.CSS", "/css", "/a.css/b", "/acss"]),
        (("/static/*",), ["/static/a", "/static/"], ["/static", "/x/static/a"]),
        (("/a?.png", "*.min.css"), ["/ab.png", "/x.min.css"], ["/a.png", "/abc.png", "/x.css"]),
        (("/a%20b/*",), ["/a b/c"], ["/a%20b/c"]),
        (("/login",), ["/login"], ["/login/", "/login2"]),
    ],
)
def test_patterns_become_one_expression(patterns: tuple[str, ...], yes: list[str], no: list[str]) -> None:
    found = re.compile(patterns_regex(patterns))
    assert [path for path in yes if not found.search(path)] == []
    assert [path for path in no if found.search(path)] == []


# -- files and uploads ---------------------------------------------------------------------------------------------


def site(**app: object) -> Site:
    return Site.model_validate({"app": app})


def test_by_default_endings_are_looked_up_in_the_document_root() -> None:
    (found,) = statics.files(site(root="public"))
    assert (found.folder, found.variable) == ("/public", "$uri")
    assert re.search(found.regex, "/a/b.woff2")
    assert not re.search(found.regex, "/index.php")
    assert statics.files(site())[0].folder == ""


def test_a_folder_of_its_own_begins_at_the_first_star() -> None:
    found = statics.files(site(static=[{"match": "/static/*", "folder": "build/out"}]))
    assert found == (Files(r"^/static/(?<file>.*)$", "/build/out", "/$file"),)
    assert statics.files(site(static=[{"match": "/a/favicon.ico", "folder": "."}])) == (
        Files(r"^/a/(?<file>favicon\.ico)$", "", "/$file"),
    )


def test_sources_beside_the_files_are_not_opened_by_an_ending() -> None:
    python = {"runtime": "python", "entry": "shop:app"}
    assert statics.files(site(**python)) == ()
    assert len(statics.files(site(**python, root="public"))) == 1
    named = statics.files(site(**python, static=[{"match": ["*.txt", "/*", "/docs/*", "/robots.txt"]}]))
    assert [f.regex for f in named] == [r"^/docs/.*$|^/robots\.txt$"]


@pytest.mark.parametrize(
    ("app", "found"),
    [
        ({"root": "public", "uploads": ["public/uploads"]}, [("/uploads/", "public/uploads/")]),
        ({"uploads": ["wp-content/uploads"]}, [("/wp-content/uploads/", "wp-content/uploads/")]),
        ({"root": "public", "uploads": ["storage/private"]}, []),
        ({"root": "public", "uploads": ["public"]}, []),
        ({"root": "public", "uploads": ["publicity"]}, []),
        (
            {
                "runtime": "python",
                "entry": "a:b",
                "uploads": ["media"],
                "static": {"match": "/m/*", "folder": "media"},
            },
            [("/m/", "media/")],
        ),
        (
            {"root": "public", "uploads": ["var"], "static": {"match": "/files/*", "folder": "var/public"}},
            [("/files/", "var/public/")],
        ),
        (
            {"root": "public", "uploads": ["files/user"], "static": {"match": "/f/*", "folder": "files"}},
            [("/f/user/", "files/user/")],
        ),
        ({"runtime": "perl", "entry": "app.psgi", "uploads": ["media"]}, []),
    ],
)
def test_uploads_are_public_where_the_document_root_or_static_says_so(
    app: dict[str, object], found: list[tuple[str, str]]
) -> None:
    assert statics.uploads(site(**app)) == tuple(Uploads(*pair) for pair in found)


def test_uploads_in_a_bucket_are_not_files() -> None:
    described = Site.model_validate({"app": {"root": "p", "uploads": ["p/u"]}, "storage": "shop-uploads"})
    assert statics.uploads(described) == ()


# -- live files ----------------------------------------------------------------------------------------------------


def test_an_upstream_without_servers_is_a_valid_one() -> None:
    assert live.web_routes(()).count("server 127.0.0.1:1 down;") == 2
    assert live.gateway_routes([("writer", ())]).count(" down;") == 1


def test_the_name_of_the_routes_is_a_name_of_their_content() -> None:
    one, two = (live.web_routes([Server("web-1", "127.0.0.1", port)]) for port in (1001, 1002))
    assert re.findall(r"default ([0-9a-f]{12});", one) != re.findall(r"default ([0-9a-f]{12});", two)
    assert one == live.web_routes([Server("web-1", "127.0.0.1", 1001)])


def test_releases_lie_beside_each_other() -> None:
    text = live.releases(["/state/releases/r2", "/state/releases/r1"])
    assert 'root "/state/releases";' in text
    assert 'try_files "/r2$asset" "/r1$asset" @web;' in text
    assert 'root "/";' in live.releases(["/app", "/old"])


def test_maintenance_is_off_or_has_guests() -> None:
    assert 'default "";' in live.maintenance()
    on = live.maintenance(60, ["192.0.2.0/24"])
    assert "default 60;" in on
    assert '192.0.2.0/24 "";' in on
    assert "default 1;" in live.maintenance(0)


def test_a_canary_without_servers_is_none() -> None:
    servers = [Server("web-1", "127.0.0.1", 1001)]
    assert live.web_routes(servers, Canary("r2", (), 10)) == live.web_routes(servers)
