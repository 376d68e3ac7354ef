"""The application: what it is, how it starts, what it is told, and what runs beside it."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, Field, model_validator

from lampstand.site.base import Model, Named, OneOrMore, option, shown
from lampstand.site.schedule import check_schedule
from lampstand.site.types import (
    Command,
    Inside,
    Line,
    Name,
    Pattern,
    Positive,
    Runtime,
    Text,
    TextLine,
    Url,
    UrlPath,
    Variable,
)
from lampstand.site.units import Duration

STATIC_PATTERNS: tuple[str, ...] = tuple(
    f"*.{ending}"
    for ending in (
        "css", "js", "mjs", "map", "webmanifest", "txt", "xml", "pdf", "wasm",
        "png", "jpg", "jpeg", "gif", "webp", "avif", "svg", "ico", "bmp",
        "woff", "woff2", "ttf", "otf", "eot",
        "mp3", "mp4", "webm", "ogg", "ogv", "wav",
    )
)  # fmt: skip
"""What nginx serves by itself where the file exists below `app.root`."""


class Static(Model):
    """URL paths that nginx answers from a folder of the release, never asking a web server for a file that exists."""

    shorthand = "match"

    match: Annotated[tuple[Pattern, ...], OneOrMore(), Field(min_length=1)] = option(
        ..., "Path patterns of the URLs.", "match: /static/*"
    )
    folder: Inside | None = option(
        None,
        "Folder of the files. What comes before the first `*` of the pattern is not part of the file's path. "
        "Without it, the URL's path is looked up below `app.root`.",
        "folder: staticfiles  # /static/site.css is the file staticfiles/site.css",
    )


class Job(Model):
    """A command that runs at set times, on exactly one place, in the environment of the application."""

    schedule: Annotated[str, AfterValidator(check_schedule)] = option(
        "@daily",
        "Five fields of cron (minute, hour, day, month, weekday) or @hourly, @daily, @weekly, @monthly; in UTC.",
        'schedule: "0 3 * * *"  # at 03:00',
    )
    run: Command = option(..., "The command.", "run: php bin/nightly.php")
    timeout: Duration = option(3600.0, "Longer than this and the job is ended.", "timeout: 15m")


class Worker(Model):
    """A command that always runs, supervised, in the environment of the application."""

    shorthand = "run"

    run: Command = option(..., "The command.", "run: php bin/worker.php")
    count: Positive = option(1, "How many of it run.", "count: 2")
    stop_timeout: Duration = option(
        30.0, "Time between SIGTERM and SIGKILL, to finish what it is at.", "stop_timeout: 2m"
    )


class App(Model):
    """The application: what it is, how it starts, what it is told, and what runs beside it."""

    runtime: Runtime = option(
        "php",
        "Language of the application; found by its files where it is not given.",
        "runtime: python\nentry: shop.wsgi:application",
    )
    root: Inside = option(
        ".",
        "Document root: the folder whose files visitors may fetch (and whose scripts run, with PHP).",
        "root: public",
    )
    entry: Line | None = option(
        None,
        "What is started. Python: MODULE:NAME of the WSGI or ASGI application; Perl: the PSGI file; PHP: the front "
        "controller below `root`, which answers every URL that is no file.",
        "entry: shop.wsgi:application  # perl: app.psgi, php: index.php",
    )
    interface: Literal["wsgi", "asgi"] = option(
        "wsgi",
        "What the entry speaks (Python only); found by its source where it is not given.",
        "interface: asgi",
    )
    health: UrlPath | None = option(
        None,
        "Path that answers 200 when the application and what it needs are well. `lampstand deploy` needs one; "
        "without it a server counts as well when `/` answers with less than 500.",
        "health: /healthz",
    )
    url: Url | None = option(
        None, "URL that visitors use, given to the application as APP_URL; by default the target's.",
        "url: https://shop.example.com",
    )  # fmt: skip
    build: Command | None = option(
        None,
        "Run once for each release, after the packages of composer, pip or cpanm are installed.",
        "build: npm ci && npm run build",
    )
    release: Command | None = option(
        None,
        "Run once for each deploy, before the new release gets traffic: the place of database migrations.",
        "release: php bin/migrate.php",
    )
    release_timeout: Duration = option(
        600.0, "Longer than this and the release step has failed.", "release_timeout: 30m"
    )
    env: Mapping[Variable, Text] = option(
        dict, "Environment variables, beside those that every application gets.", "env: {APP_ENV: production}"
    )
    secrets: tuple[Variable, ...] = option(
        (),
        "Names of environment variables with secret values. The values are not in this file.",
        "secrets: [STRIPE_KEY]",
    )
    uploads: Annotated[tuple[Inside, ...], OneOrMore()] = option(
        (),
        "Folders the application writes to that all web servers must share and that outlive a release.",
        "uploads: [storage/uploads]",
    )
    jobs: Annotated[Mapping[Name, Job], Named()] = option(
        dict,
        "Commands at set times, by name.",
        'jobs: {nightly: {schedule: "0 3 * * *", run: php bin/nightly.php}}',
    )
    workers: Annotated[Mapping[Name, Worker], Named()] = option(
        dict, "Commands that always run, by name.", "workers: {mail: {run: php bin/worker.php, count: 1}}"
    )
    start_timeout: Duration = option(
        30.0, "A server that is not well after this time has failed to start.", "start_timeout: 1m"
    )
    static: Annotated[tuple[Static, ...], OneOrMore()] = option(
        lambda: (Static(match=STATIC_PATTERNS),),
        "What nginx serves by itself: path patterns below `root`, or patterns with a folder of their own. By default "
        "the usual endings (css, js, images, fonts and the like) below `root`, where `root` is not the whole of a "
        "Python or Perl application.",
        "static: [{match: /static/*, folder: staticfiles}]",
    )
    php_ini: Mapping[Line, TextLine] = option(
        dict, "Settings of php.ini (PHP only).", "php_ini: {memory_limit: 256M, upload_max_filesize: 64M}"
    )

    @model_validator(mode="before")
    @classmethod
    def _code_is_not_served(cls, data: Any) -> Any:  # noqa: ANN401 - whatever the file holds
        """Without a document root of its own, nothing of a Python or Perl application is for visitors."""
        if isinstance(data, Mapping):
            written = cast("Mapping[str, Any]", data)
            rootless = written.get("root", ".") in (".", "./")
            if written.get("runtime") in ("python", "perl") and rootless and "static" not in written:
                return {**written, "static": ()}
        return cast("object", data)

    @model_validator(mode="after")
    def _entry_fits(self) -> "App":
        if self.runtime == "php":
            return self
        example = "shop.wsgi:application" if self.runtime == "python" else "app.psgi"
        if self.entry is None:
            raise ValueError(f"a {self.runtime} application needs its entry; add `entry: {example}`")
        if self.runtime == "python" and not re.fullmatch(
            r"[^\W\d]\w*(\.\w+)*:[^\W\d]\w*(\.\w+)*(\(\))?", self.entry
        ):
            raise ValueError(f"{shown(self.entry)} is not MODULE:NAME; write it like `entry: {example}`")
        return self
