"""The variables that every application gets, on every target and in every language (https://12factor.net/config)."""

from collections.abc import Mapping
from urllib.parse import quote

from lampstand.errors import LampstandError
from lampstand.site import Site, Storage
from lampstand.tiers.database import accounts as database
from lampstand.topology import Context

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

TOOLS = ".lampstand"
"""Folder of a release in which its build keeps what belongs to it (the venv, notes). Hidden, so never served."""


def secret_key(variable: str) -> str:
    """Where `Context.secrets` holds the value of a variable of `app.secrets`."""
    return f"env.{variable}"


def secret_variables(site: Site) -> frozenset[str]:
    """Names of the variables that hold a password: what an export keeps in a secret store and a plan never shows."""
    return frozenset(
        {
            "APP_SECRET",
            "DATABASE_REPLICA_URL",
            "DATABASE_URL",
            "DB_PASSWORD",
            "LAMPSTAND_PURGE_TOKEN",
            "REDIS_PASSWORD",
            "REDIS_URL",
            "SESSION_REDIS_PASSWORD",
            "SESSION_REDIS_URL",
            SESSION_SAVE_PATH,
            *site.app.secrets,
        }
    )


SESSION_SAVE_PATH = "LAMPSTAND_SESSION_SAVE_PATH"
"""php-fpm alone gets it: php.ini names this variable, so no file holds the password."""


def application_environment(context: Context, instance: str) -> dict[str, str]:
    """The variables of one instance (a web server, a worker, a one-off command), sorted by name.

    Database and Redis are reached through the gateway, so that a failover changes no address. What the site file says
    in `app.env` wins over what Lampstand sets. Raises LampstandError when a variable of `app.secrets` has no value.
    """
    site, secrets = context.site, context.secrets
    writer_host, writer_port = context.placement.reach("gateway-1", "writer")
    reader_host, reader_port = context.placement.reach("gateway-1", "reader")
    cache_host, cache_port = context.placement.reach("gateway-1", "cache")
    sessions_host, sessions_port = context.placement.reach("gateway-1", "sessions")
    name, password = site.database.name, secrets["database_app"]
    account = f"{database.APP}:{quote(password, safe='')}"
    release = context.placement.release(context.release_of(instance))
    variables = {
        "APP_RELEASE": context.release_of(instance),
        "APP_SECRET": secrets["app_secret"],
        "APP_URL": site.app.url or context.placement.public_url(),
        "DATABASE_REPLICA_URL": f"mysql://{account}@{reader_host}:{reader_port}/{name}",
        "DATABASE_URL": f"mysql://{account}@{writer_host}:{writer_port}/{name}",
        "DB_DATABASE": name,
        "DB_HOST": writer_host,
        "DB_NAME": name,
        "DB_PASSWORD": password,
        "DB_PORT": str(writer_port),
        "DB_REPLICA_HOST": reader_host,
        "DB_REPLICA_PORT": str(reader_port),
        "DB_USER": database.APP,
        "DB_USERNAME": database.APP,
        "LAMPSTAND_EDGES": _edges(context),
        "LAMPSTAND_PURGE_TOKEN": secrets["purge"],
        "LAMPSTAND_SERVER": instance,
        "LAMPSTAND_SITE": site.site,
        "REDIS_HOST": cache_host,
        "REDIS_PASSWORD": secrets["cache"],
        "REDIS_PORT": str(cache_port),
        "REDIS_URL": redis_url(cache_host, cache_port, secrets["cache"]),
        "SESSION_REDIS_HOST": sessions_host,
        "SESSION_REDIS_PASSWORD": secrets["sessions"],
        "SESSION_REDIS_PORT": str(sessions_port),
        "SESSION_REDIS_URL": redis_url(sessions_host, sessions_port, secrets["sessions"]),
        "UPLOADS_DIR": context.placement.uploads(),
        **_bucket(site.storage),
        "HOME": context.placement.folder(instance, "data"),
        "LANG": "C.UTF-8",
        **language_environment(site, release, context.placement.folder(instance, "etc")),
        **site.app.env,
        **{variable: _secret(secrets, variable) for variable in site.app.secrets},
    }
    return dict(sorted(variables.items()))


def _bucket(storage: Storage) -> dict[str, str]:
    """Where uploads live when it is a bucket; its keys are secrets of the application (`app.secrets`)."""
    if storage.bucket is None:
        return {}
    region = storage.region or "us-east-1"
    return {
        "UPLOADS_BUCKET": storage.bucket,
        "UPLOADS_ENDPOINT": storage.endpoint or f"https://s3.{region}.amazonaws.com",
        "UPLOADS_PREFIX": storage.prefix,
        "UPLOADS_REGION": region,
    }


def _edges(context: Context) -> str:
    """`HOST:PORT` of each edge, for purges by the application (PURGE over HTTP); empty where a service is the CDN."""
    reached = [context.placement.reach(f"edge-{e.name}", "http") for e in context.site.cdn.edges]
    return ",".join(f"{host}:{port}" for host, port in reached if port)


def language_environment(site: Site, release: str, etc: str) -> dict[str, str]:
    """Where the language finds the packages of the release: PATH and what the interpreter itself reads."""
    match site.app.runtime:
        case "php":
            return {"PATH": f"{release}/vendor/bin:{PATH}", "PHPRC": etc}
        case "python":
            venv = f"{release}/{TOOLS}/venv"
            return {
                "PATH": f"{venv}/bin:{PATH}",
                "VIRTUAL_ENV": venv,
                "PYTHONUNBUFFERED": "1",
                "PYTHONDONTWRITEBYTECODE": "1",  # a release never changes
            }
        case "perl":
            local = f"{release}/local"
            return {"PATH": f"{local}/bin:{PATH}", "PERL5LIB": f"{release}/lib:{local}/lib/perl5"}


def redis_url(host: str, port: int, password: str) -> str:
    """A redis:// URL of database 0 (IANA provisional URI scheme `redis`)."""
    return f"redis://:{quote(password, safe='')}@{host}:{port}/0"


def session_save_path(context: Context) -> str:
    """`session.save_path` of phpredis for the session store. Times in seconds."""
    host, port = context.placement.reach("gateway-1", "sessions")
    auth = quote(context.secrets["sessions"], safe="")
    return f"tcp://{host}:{port}?timeout=2&read_timeout=5&prefix=session:&auth={auth}"


def _secret(secrets: Mapping[str, str], variable: str) -> str:
    try:
        return secrets[secret_key(variable)]
    except KeyError:
        raise LampstandError(
            f"the secret {variable} has no value",
            "app.secrets",
            f"give it one, or remove {variable} from `app.secrets`",
        ) from None
