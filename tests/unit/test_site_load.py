"""Reading from disk: good files, overlays, and every way a file can be wrong, with the place and the mend."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lampstand.errors import ExitCode, Finding, SiteFileError
from lampstand.site import Site
from lampstand.site.load import load
from lampstand.site.text import scalar


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "My Shop"
    folder.mkdir()
    (folder / "index.php").touch()
    return folder


def read(project: Path, text: str | bytes, environment: str | None = None, **overlays: str) -> Site:
    file = project / "lampstand.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    for name, over in overlays.items():
        (project / f"lampstand.{name}.yaml").write_text(over)
    return load(project, None, environment)


def errors(project: Path, text: str | bytes, environment: str | None = None, **overlays: str) -> list[str]:
    """`line:column key: what | mend` of every finding."""
    with pytest.raises(SiteFileError) as caught:
        read(project, text, environment, **overlays)
    assert caught.value.exit_code is ExitCode.SITE_FILE
    return [
        f"{Path(f.file).name}:{f.line}:{f.column} {f.key}: {f.what} | {f.mend}" for f in caught.value.findings
    ]


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}", "\ufeff", "app:\ncdn:\n", "x-note: 1\n"])
def test_an_empty_file_is_a_complete_site(project: Path, text: str) -> None:
    site = read(project, text)
    assert site.site == "my-shop"
    assert (site.app.runtime, site.app.root) == ("php", ".")
    assert site == Site(site="my-shop")


def test_a_whole_file(project: Path) -> None:
    (project / "public").mkdir()
    site = read(
        project,
        """
site: shop
app:
  runtime: php
  root: public
  health: /healthz
  release: php bin/migrate.php
  env: {APP_ENV: production, ZIP: 010, VERSION: 1.10, ON: yes}
  secrets: [STRIPE_KEY]
  uploads: [storage/uploads]
  jobs: {nightly: {schedule: "0 3 * * *", run: php bin/nightly.php}}
  workers: {mail: {run: php bin/worker.php, count: 1}}
cdn:
  edges: [fra, iad]
  rules:
    - {match: /assets/*, ttl: 1y, immutable: true}
    - {match: /api/*, bypass: true}
balancer: {servers: 1}
web: {servers: 2, processes: 8}
database: {replicas: 2, memory: 256MB}
cache: {memory: 128MB, replicas: 1}
sessions: {replicas: 1}
targets:
  kubernetes: {context: prod, registry: registry.example.com/shop}
  aws: {region: eu-central-1, domain: shop.example.com, compute: ec2}
""",
    )
    assert site.database.memory == 256_000_000
    assert site.app.env == {"APP_ENV": "production", "ZIP": "010", "VERSION": "1.10", "ON": "yes"}
    assert site.cdn.rules[0].ttl == 31_536_000


def test_anchors_and_merge_keys(project: Path) -> None:
    site = read(
        project,
        "x-base: &base {run: php w.php, count: 2}\n"
        "app:\n  workers:\n    a: *base\n    b: {<<: *base, count: 3}\n    c: {count: 4, <<: [{count: 5}, *base]}\n",
    )
    assert [(n, w.count) for n, w in site.app.workers.items()] == [("a", 2), ("b", 3), ("c", 4)]


def test_what_the_files_tell(project: Path) -> None:
    (project / "index.php").unlink()
    (project / "shop").mkdir()
    (project / "shop" / "__init__.py").write_text("app = FastAPI()")
    (project / "shop" / "static").mkdir()
    site = read(project, "")
    assert (site.app.runtime, site.app.entry, site.app.interface) == ("python", "shop:app", "asgi")
    assert [(s.match, s.folder) for s in site.app.static] == [(("/static/*",), "shop/static")]
    # What the user writes wins, and the rest still follows from it.
    (project / "other.py").write_text("from flask import Flask\nthing = Flask('x')")
    site = read(project, "app: {entry: 'other:thing', static: []}")
    assert (site.app.runtime, site.app.entry, site.app.interface, site.app.static) == (
        "python",
        "other:thing",
        "wsgi",
        (),
    )


def test_wordpress_needs_no_key(project: Path) -> None:
    (project / "wp-includes").mkdir()
    site = read(project, "")
    assert (site.app.entry, site.app.uploads, site.cdn.preset) == (
        "index.php",
        ("wp-content/uploads",),
        "wordpress",
    )
    assert read(project, "cdn: {preset: none}").cdn.preset == "none"


def test_a_document_root_of_the_users_own(project: Path) -> None:
    (project / "htdocs").mkdir()
    assert read(project, "app: {root: htdocs}").app.entry is None


def test_overlays(project: Path) -> None:
    base = "web: {servers: 2, processes: 8}\ncdn: {edges: [fra, iad], memory: 1GB}\n"
    base += "app: {env: {A: a, B: b}, health: /h}\n"
    over = "web: {servers: 5}\ncdn: {edges: [ber], memory: null}\nprotected: true\n"
    over += "app: {env: {B: c, A: null}, health: }\n"
    site = read(project, base, "prod", prod=over)
    assert (site.web.servers, site.web.processes, site.protected) == (5, 8, True)
    assert [edge.name for edge in site.cdn.edges] == ["ber"]
    assert site.cdn.memory == Site().cdn.memory
    assert site.app.env == {"B": "c"}
    assert site.app.health is None
    assert load(project).web.servers == 2
    assert read(project, "", "empty", empty="").web.servers == 2


def test_an_error_in_an_overlay_names_its_file(project: Path) -> None:
    found = errors(
        project, "web:\n  servers: two\n  threads: 1\n", "prod", prod="web:\n  proceses: 1\n  threads: x\n"
    )
    whole = "is not a whole number | write a whole number"
    assert found == [
        "lampstand.prod.yaml:2:3 web.proceses: unknown key `proceses` | did you mean `processes`?",
        f"lampstand.prod.yaml:3:12 web.threads: `x` {whole}, such as `threads: 4`",
        f"lampstand.yaml:2:12 web.servers: `two` {whole}, such as `servers: 4`",
    ]


def test_an_unknown_environment(project: Path) -> None:
    assert errors(project, "", "prood", prod="", staging="") == [
        "lampstand.prood.yaml:None:None : there is no file for the environment `prood` | did you mean `-e prod`?"
    ]
    assert "choose one of prod, staging" in errors(project, "", "qa")[0]
    assert "cannot be a name" in errors(project, "", "../../etc")[0]


def test_another_file_name(project: Path) -> None:
    (project / "other.yml").write_text("site: other\n")
    (project / "other.prod.yml").write_text("site: prod\n")
    assert load(project, project / "other.yml").site == "other"
    assert load(project, project / "other.yml", "prod").site == "prod"


ONE: list[tuple[str, str]] = [
    ("sight: shop\n", "1:1 sight: unknown key `sight` | did you mean `site`?"),
    ("database:\n  replica: 2\n", "2:3 database.replica: unknown key `replica` | did you mean `replicas`?"),
    (
        "web: {max-requests: 2}\n",
        "1:7 web.max-requests: unknown key `max-requests` | did you mean `max_reque",
    ),
    (
        "schedule: x\n",
        "1:1 schedule: unknown key `schedule` | it belongs elsewhere: `app.jobs.NAME.schedule`",
    ),
    ("cache: {zzz: 1}\n", "1:9 cache.zzz: unknown key `zzz` | known here: memory, replicas"),
    ('"it\'s": 1\n', "1:1 [\"it's\"]: unknown key `it's` | known here: site"),
    (
        "web: {servers: '2'}\n",
        "1:16 web.servers: `2` is not a whole number | write `servers: 2`, without quo",
    ),
    ("web: {servers: 0}\n", "1:16 web.servers: 0 is too small | write at least 1"),
    (
        "web: {servers: 2.5}\n",
        "1:16 web.servers: 2.5 is not a whole number | write a whole number, such as `",
    ),
    (
        "web: {servers: true}\n",
        "1:16 web.servers: true is not a whole number | write a whole number, such as",
    ),
    (
        "web: []\n",
        "1:6 web: a list is not a mapping | write a mapping, such as `web: {servers: 4, processes:",
    ),
    ("web: 5\n", "1:6 web: 5 is not a mapping | write a mapping, such as `web: {servers: 4, processes: 8}`"),
    (
        "protected: yes\n",
        "1:12 protected: `yes` is neither true nor false | write `protected: true`, without quotes",
    ),
    (
        "protected: 1\n",
        "1:12 protected: 1 is neither true nor false | write true or false, such as `protecte",
    ),
    ("app: {runtime: pyhton}\n", "1:16 app.runtime: `pyhton` is not known | did you mean `python`?"),
    ("app: {runtime: ruby}\n", "1:16 app.runtime: `ruby` is not known | write php, python or perl"),
    (
        "cache: {memory: 128}\n",
        "1:17 cache.memory: 128 has no unit | write a number with a unit (kB, MB, GB,",
    ),
    ("database: {memory: 1MB}\n", "1:20 database.memory: `1MB` is too small | write at least 64MB"),
    (
        "app: {start_timeout: 30}\n",
        "1:22 app.start_timeout: 30 has no unit | write 30s for seconds, or anoth",
    ),
    (
        "site: My Shop\n",
        "1:7 site: `My Shop` cannot be a name | did you mean `my-shop`? (use at most 40 lowe",
    ),
    (
        "app: {jobs: {n: {schedule: '@daily'}}}\n",
        "1:14 app.jobs.n.run: `run` is missing | add `run: php bin/",
    ),
    (
        "app: {env: {A B: x}}\n",
        "1:13 app.env['A B']: `A B` cannot be an environment variable | use letters, ",
    ),
    (
        "app: {env: {A: [1]}}\n",
        "1:16 app.env.A: a list is not text | write a mapping, such as `env: {APP_ENV",
    ),
    (
        "cdn: {rules: [{ttl: 1s}, {match: x}]}\n",
        "1:34 cdn.rules[1].match: `x` is not a path pattern | begin ",
    ),
    (
        "cdn: {rules: [{match: []}]}\n",
        "1:23 cdn.rules[0].match: the list is empty | write a path pattern (/a",
    ),
    (
        "cdn: {edges: [Frankfurt]}\n",
        "1:15 cdn.edges[0]: `Frankfurt` cannot be a name | did you mean `frankfu",
    ),
    ("a: 1\na: 2\n", "2:1 a: unknown key `a` | known here"),
    ("site: a\nsite: b\n", "2:1 site: the key is written twice; the first time in line 1 | keep one of them"),
    (
        "site: !python/object x\n",
        "1:7 site: the tag `!python/object` means nothing here | remove it, or quot",
    ),
    ("? [a]\n: b\n", "1:3 : a key is no text | write a name before the colon"),
    ("x-a: &a {b: *a}\n", "the alias contains itself"),
    ("- a\n", "1:1 : a site file is a mapping of keys, not a list | write keys, such as `site: shop`"),
    ("hello\n", "1:1 : a site file is a mapping of keys, not `hello` | write keys, such as `site: shop`"),
    (
        "web:\n\tservers: 1\n",
        "2:1 : this is not YAML: found character '\\t' that cannot start any token | in",
    ),
    ("a: [1\n", "1:4 : this is not YAML: "),
    (
        "a: b: c\n",
        "1:5 : this is not YAML: mapping values are not allowed here | check the indentation, and ",
    ),
    ("a: 'x\n", ": this is not YAML: found unexpected end of stream | close the quote"),
    (
        "a: 1\n---\nb: 2\n",
        "2:1 : this is not YAML: found another document | keep one document; remove the li",
    ),
    (
        "cdn: {rules: [{match: *.css}]}\n",
        "1:23 : this is not a value: found undefined alias '.css' | quote a",
    ),
    (
        "a: @daily\n",
        "1:4 : this is not YAML: found character '@' that cannot start any token | quote the val",
    ),
    ("a: \0\n", "1:4 : the character U+0000 is not allowed | remove it, or write it as an escape in quotes"),
]


@pytest.mark.parametrize(("text", "wanted"), ONE)
def test_one_error(project: Path, text: str, wanted: str) -> None:
    found = errors(project, text)
    assert any(wanted in line for line in found), "\n".join(found)


def test_every_error_at_once(project: Path) -> None:
    found = errors(
        project,
        "sight: 1\nweb: {servers: x}\napp:\n  root: /etc\n  uploads: [a, ../b]\ncache: {replica: 1}\n",
    )
    assert [line.split(":")[1] for line in found] == ["1", "2", "4", "5", "6"]


def test_not_utf8(project: Path) -> None:
    assert errors(project, b"site: shop\napp: {health: /\xff}\n") == [
        "lampstand.yaml:2:16 : the file is not UTF-8: byte 0xff | save it as UTF-8"
    ]


def test_a_file_made_to_hurt(project: Path) -> None:
    bomb = "x-0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"x-{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9))
    assert "more than 100000 values" in errors(project, bomb)[0]
    assert "nested too deeply" in errors(project, "x-a: " + "[" * 500)[0]
    assert "larger than" in errors(project, "#" * 1_000_001)[0]
    assert "is not a whole number" in errors(project, f"web: {{servers: {'9' * 5_000}}}")[0]


def test_files_that_cannot_be_read(project: Path) -> None:
    file = project / "lampstand.yaml"

    def what() -> str:
        with pytest.raises(SiteFileError) as caught:
            load(project)
        return str(caught.value)

    assert f"{file}: there is no site file here\n  write one with `lampstand init`" in what()
    file.mkdir()
    assert "the site file is a folder" in what()
    file.rmdir()
    file.symlink_to(file)
    assert "a symbolic link that leads to itself" in what()
    file.unlink()
    with pytest.raises(SiteFileError, match="there is no site file here"):
        load(project / "missing")
    with pytest.raises(SiteFileError, match="there is no site file here"):
        load(project / "index.php")


def test_a_file_that_may_not_be_read(project: Path) -> None:
    # Root may read everything, so the one who reads is somebody else.
    (project / "lampstand.yaml").write_text("")
    (project / "lampstand.yaml").chmod(0)
    if os.geteuid() == 0:
        for folder in (project, *project.parents[:-1]):
            folder.chmod(folder.stat().st_mode | 0o055)
    child = os.fork()
    if child == 0:
        if os.geteuid() == 0:
            os.setuid(65534)
        try:
            load(project)
        except SiteFileError as error:
            os._exit(42 if "may not be read" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42


PATHS: list[tuple[str, str]] = [
    (
        "app: {root: nowhere}",
        "1:13 app.root: there is no folder `nowhere` | make it, or name another folder ",
    ),
    ("app: {root: index.php}", "1:13 app.root: `index.php` is not a folder | name a folder"),
    ("app: {root: out}", "1:13 app.root: `out` leads out of the application, to /"),
    ("app: {root: loop}", "1:13 app.root: `loop` is a symbolic link that leads to itself | replace the link"),
    (
        "app: {root: ../x}",
        "1:13 app.root: `../x` may lead out of the application | write a path without `..`",
    ),
    ("app: {entry: nothing.php}", "1:14 app.entry: there is no file `nothing.php`"),
    ("app: {uploads: [out]}", "1:17 app.uploads[0]: `out` leads out of the application"),
    ("app: {uploads: [index.php]}", "1:17 app.uploads[0]: `index.php` is not a folder"),
    ("app: {static: [{match: /s/*, folder: loop}]}", "1:38 app.static[0].folder: `loop` is a symbolic link"),
    ("app: {runtime: perl, entry: x.psgi}", "1:29 app.entry: there is no file `x.psgi`"),
    ("cdn: {visitors: {mmdb: geo.mmdb}}", "1:24 cdn.visitors.mmdb: there is no file `geo.mmdb`"),
]


@pytest.mark.parametrize(("text", "wanted"), PATHS)
def test_paths(project: Path, text: str, wanted: str) -> None:
    (project / "out").symlink_to("/")
    (project / "loop").symlink_to("loop")
    found = errors(project, text)
    assert any(wanted in line for line in found), "\n".join(found)


def test_what_a_build_makes_need_not_be_there_yet(project: Path) -> None:
    assert read(project, "app: {root: dist, build: npm run build}").app.root == "dist"
    assert read(project, "app: {uploads: [new/folder]}").app.uploads == ("new/folder",)


def test_no_application(project: Path) -> None:
    (project / "index.php").unlink()
    (project / "package.json").touch()
    found = errors(project, "site: shop\n")
    assert "no application is recognised: package.json is there" in found[0]
    assert read(project, "app: {runtime: php}").app.runtime == "php"


def test_a_link_to_the_project_is_no_way_out(project: Path, tmp_path: Path) -> None:
    (project / "lampstand.yaml").touch()
    (tmp_path / "link").symlink_to(project)
    assert load(tmp_path / "link").site == "link"


@pytest.mark.parametrize(
    "name",
    [
        "it's",
        'say "hi"',
        "a b",
        "ü€漢字",
        "$(rm -rf x)",
        "`x`",
        "a;b|c&d",
        "%s",
        "{{ x }}",
        "-rf",
        "😀",
        "a\nb",
    ],
)
def test_odd_names_of_folders(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name / "inner"
    folder.mkdir(parents=True)
    (folder.parent / "index.php").touch()
    (folder.parent / "lampstand.yaml").touch()
    site = load(folder.parent)
    assert site.site.isascii()
    if "\n" not in name:
        (folder / name).mkdir()
        (folder / "index.php").touch()
        (folder / "lampstand.yaml").write_text(
            f"app: {{uploads: [{scalar(name)}], root: {scalar(f'./{name}/')}}}\n"
        )
        assert load(folder).app.uploads == (name,)


@given(text=st.text(max_size=40))
def test_any_text_is_a_site_or_an_error_with_a_place(text: str) -> None:
    with TemporaryDirectory() as folder:
        project = Path(folder)
        (project / "index.php").touch()
        (project / "lampstand.yaml").write_text(text, encoding="utf-8", errors="replace")
        findings: tuple[Finding, ...] = ()
        try:
            load(project)
        except SiteFileError as error:
            findings = error.findings
        assert all(f.what and Path(f.file).name == "lampstand.yaml" for f in findings)
