"""The commented site file that `lampstand init` writes for an application."""

from collections.abc import Iterator
from pathlib import Path

from lampstand.site.detect import Detected, detect
from lampstand.site.text import flow, scalar
from lampstand.site.types import slug

_WORKERS = {
    "laravel": ("queue", "php artisan queue:work --max-time=3600"),
    "symfony": ("messenger", "php bin/console messenger:consume async --time-limit=3600"),
}
_JOBS = {
    "laravel": ("scheduler", "* * * * *", "php artisan schedule:run"),
    "drupal": ("cron", "0 * * * *", "php vendor/bin/drush cron"),
    "django": ("clearsessions", "@daily", "python manage.py clearsessions"),
}


def starter(folder: Path) -> str:
    """Text of a `lampstand.yaml` for the application in `folder`: what was found, and what is worth deciding.

    It loads as it is where the application is recognised; where it is not, its comments say what to fill in.
    """
    found = detect(folder)
    return "\n".join([*_head(folder, found), *_app(found), *_rest(found)]) + "\n"


def _head(folder: Path, found: Detected) -> Iterator[str]:
    yield "# The whole site in one file. Every key has a default: `lampstand config --docs` explains all of them,"
    yield "# `lampstand config` prints what applies, `lampstand plan` what `lampstand up` would do."
    yield "#"
    for reason in found.reasons:
        yield f"# Found: {_comment(reason)}." if found.runtime else f"# Not recognised: {_comment(reason)}."
    yield ""
    yield f"site: {scalar(slug(folder.absolute().name) or 'site')}"


def _app(found: Detected) -> Iterator[str]:
    yield ""
    yield "app:"
    if found.runtime is None:
        yield "  runtime: php                # php, python or perl"
        yield "  # root: public              # the folder whose files visitors may fetch"
        yield "  # entry: shop.wsgi:application   # python; or app.psgi (perl), index.php (php: a front controller)"
    else:
        yield f"  runtime: {found.runtime}"
        if found.root != "." or found.runtime == "php":
            yield f"  root: {scalar(found.root)}"
        if found.entry is not None:
            yield f"  entry: {scalar(found.entry)}"
        if found.interface is not None:
            yield f"  interface: {found.interface}"
    if found.static:
        entries = [{"match": match, "folder": folder} for match, folder in found.static]
        yield f"  static: {flow(entries)}"
    yield "  # A path that answers 200 when the application, its database and its cache are well. Deploys need one."
    yield "  # health: /healthz"
    yield "  # Runs once for each deploy, before the new release gets requests."
    yield f"  # release: {found.release or _migrate(found)}"
    yield "  # Folders the application writes to, shared by all web servers."
    if found.uploads:
        yield f"  uploads: {flow(list(found.uploads))}"
    else:
        yield "  # uploads: [storage/uploads]"
    yield "  # env: {APP_ENV: production}"
    yield "  # secrets: [STRIPE_KEY]     # names only; the values are not in this file"
    name, schedule, run = _JOBS.get(
        found.framework or "", ("nightly", "0 3 * * *", f"{_command(found)} bin/nightly")
    )
    yield f"  # jobs: {{{name}: {{schedule: {scalar(schedule)}, run: {run}}}}}   # times in UTC"
    worker, run = _WORKERS.get(found.framework or "", ("mail", f"{_command(found)} bin/worker"))
    yield f"  # workers: {{{worker}: {{run: {run}, count: 1}}}}"


def _rest(found: Detected) -> Iterator[str]:
    yield ""
    yield "cdn:"
    yield "  edges: [fra, iad]"
    if found.framework in ("wordpress", "mediawiki", "drupal", "django"):
        yield f"  preset: {found.framework}"
    yield "  # The first rule that matches a request is the only one for it."
    yield "  # rules:"
    yield "  #   - {match: /assets/*, ttl: 1y, immutable: true}"
    yield "  #   - {match: /api/*, bypass: true}"
    yield ""
    yield "# web: {servers: 2, processes: 4}"
    yield "# database: {replicas: 2, memory: 128MB}"
    yield "# cache: {memory: 64MB}"
    yield "# tls: {mode: acme, domains: [shop.example.com], email: admin@example.com}"


def _command(found: Detected) -> str:
    return found.runtime or "php"


def _migrate(found: Detected) -> str:
    return {"python": "python migrate.py", "perl": "perl bin/migrate.pl"}.get(
        found.runtime or "", "php bin/migrate.php"
    )


def _comment(text: str) -> str:
    """Text that stays in its comment, whatever a file is called."""
    return "".join(c if c.isprintable() else "?" for c in text)
