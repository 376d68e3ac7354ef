"""Expands a site into its web servers, workers and scheduler. Pure."""

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from signal import SIGHUP, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH
from urllib.parse import quote

from lampstand.errors import LampstandError
from lampstand.site import Job, Site
from lampstand.site.schedule import parse_schedule
from lampstand.tiers.templates import add_filter, render
from lampstand.tiers.web import quoting
from lampstand.tiers.web.environment import (
    SESSION_SAVE_PATH,
    TOOLS,
    application_environment,
    session_save_path,
)
from lampstand.topology import Context, File, Instance, Probe, Process

ROOM = "web"
ACCOUNT = "www-data"

THREADS = 64
"""Threads of one Apache process: connections it serves at once."""
LEAST_SERVERS = 4
"""Apache may grow to at least so many processes: 256 connections, long ones (WebSocket) included."""
KEEP_ALIVE = 90
"""Seconds an idle connection is kept: longer than the balancer keeps one (nginx's default is 60), so that it is never
Apache that closes a connection on which a request is just arriving."""
PHP_HEADER_LIMIT = 16_000
"""Bytes: mod_proxy_fcgi leaves out a longer header and says so in its log only (AH02536); an error is better."""
REQUEST_LEAST = 300
"""A request may take at least so many seconds before its process is ended as hung."""

MODULES: tuple[str, ...] = (
    "mpm_event", "authz_core", "mime", "setenvif", "headers", "rewrite", "remoteip", "unique_id", "proxy",
)  # fmt: skip
"""Modules of every web server, beside those that are compiled in (`apache2 -l`)."""
PHP_MODULES: tuple[str, ...] = (
    "proxy_fcgi", "dir", "alias", "env", "expires", "deflate", "filter", "authz_host", "authn_core", "authn_file",
    "authz_user", "auth_basic", "access_compat",
)  # fmt: skip
"""What the .htaccess files of well-known applications use."""

for _filter in (
    quoting.apache,
    quoting.apache_folder,
    quoting.ini,
    quoting.ini_setting,
    quoting.perl,
    quoting.python,
):
    add_filter(ROOM, _filter.__name__, _filter)


def expand(context: Context) -> Iterable[Instance]:
    """The web servers, then the workers, then the scheduler when there are jobs.

    Raises LampstandError for a path that cannot be written into a configuration file and for a secret without a value.
    """
    web = context.site.web
    for index in range(1, web.servers + context.surge + 1):
        yield _web(context, f"web-{index}", index)
    yield from _workers(context)
    if context.site.app.jobs:
        yield _scheduler(context)


def entry(site: Site) -> str:
    """What is started: `app.entry`, which the site file must have for Python and Perl; PHP has a usual one."""
    return site.app.entry or "index.php"


def request_seconds(site: Site) -> int:
    """How long one request may run before its process counts as hung: never less than the balancer waits."""
    return math.ceil(max(REQUEST_LEAST, site.balancer.timeouts.read))


def _web(context: Context, name: str, index: int) -> Instance:
    site = context.site
    environment = application_environment(context, name)
    match site.app.runtime:
        case "php":
            application, files = _php(context, name, environment)
        case "python":
            application, files = _python(context, name, environment)
        case "perl":
            application, files = _perl(context, name, environment)
    apache, apache_conf = _apache(context, name)
    health = site.web.health
    return Instance(
        name=name,
        tier="web",
        kind="web",
        # In the order of starting. They stop in reverse: Apache ends its requests while the application is there.
        processes=(application, apache),
        files=(apache_conf, *files),
        endpoints=(context.endpoint(name, "http", "http"),),
        needs=("gateway-1",),
        probe=Probe(
            "http",
            "http",
            path=site.app.health or "/",
            interval=health.interval,
            timeout=health.timeout,
            rises=health.rises,
            falls=health.falls,
        ),
        release=context.release_of(name),
        memory=site.web.memory,
        index=index,
        slow_start=site.web.slow_start,
    )


def _apache(context: Context, name: str) -> tuple[Process, File]:
    site, engine = context.site, context.engines.apache
    etc, run = context.placement.folder(name, "etc"), context.placement.folder(name, "run")
    path = f"{etc}/apache.conf"
    address, port = context.placement.bind(name, "http")
    release = context.placement.release(context.release_of(name))
    root = _below(release, site.app.root)
    php = site.app.runtime == "php"
    if php and "?" in root:
        # mod_proxy_fcgi answers 403 to every request for such a file (AH10414).
        raise LampstandError(
            "Apache runs no PHP below a folder with `?` in its name", root, "rename the folder"
        )
    content = render(
        ROOM,
        "apache-php.conf.j2" if php else "apache-proxy.conf.j2",
        name=name,
        run=run,
        log=context.placement.folder(name, "log"),
        modules_folder=engine.modules,
        modules=MODULES + (PHP_MODULES if php else ("proxy_http",)),
        threads=THREADS,
        servers=max(LEAST_SERVERS, math.ceil(2 * site.web.processes * site.web.threads / THREADS)),
        listen=f"[{address}]:{port}" if ":" in address else f"{address}:{port}",
        timeout=math.ceil(site.balancer.timeouts.read) + 5,
        keep_alive=KEEP_ALIVE,
        drain=math.ceil(site.web.drain_seconds),
        header_limit=min(site.balancer.header_limit, PHP_HEADER_LIMIT) if php else site.balancer.header_limit,
        body_limit=site.balancer.body_limit,
        trusted=trusted_networks(address),
        mime_types=context.engines.mime_types.path,
        root=root,
        fallback=f"/{quote(entry(site))}",
        uploads=[_below(release, folder) for folder in site.app.uploads],
    )
    process = Process(
        name="apache",
        argv=(engine.path, "-f", path, "-DFOREGROUND"),
        account=ACCOUNT,
        cwd="/",
        stop_signal=SIGWINCH,  # graceful-stop: httpd(8), "Stopping and Restarting"
        stop_seconds=site.web.drain_seconds + 5,
        reload=SIGUSR1,  # graceful: reopens the logs too
        check=(engine.path, "-t", "-f", path),
    )
    return process, File(path, content, on_change="reload")


def _php(context: Context, name: str, environment: dict[str, str]) -> tuple[Process, tuple[File, ...]]:
    site, engine = context.site, context.engines.php_fpm
    etc = context.placement.folder(name, "etc")
    conf = File(
        f"{etc}/php-fpm.conf",
        render(
            ROOM,
            "php-fpm.conf.j2",
            name=name,
            run=context.placement.folder(name, "run"),
            log=context.placement.folder(name, "log"),
            processes=site.web.processes,
            max_requests=site.web.max_requests,
            request_timeout=request_seconds(site),
            drain=math.ceil(site.web.drain_seconds),
            backlog=1024,
            home=environment["HOME"],
        ),
        on_change="reload",
    )
    ini = _php_ini(context, name, server=True)
    command = (engine.path, "--fpm-config", conf.path, "-c", ini.path)
    process = Process(
        name="php-fpm",
        argv=(*command, "--nodaemonize"),
        account=ACCOUNT,
        env=tuple((environment | {SESSION_SAVE_PATH: session_save_path(context)}).items()),
        cwd=context.placement.release(context.release_of(name)),
        stop_signal=SIGQUIT,  # graceful
        stop_seconds=site.web.drain_seconds + 5,
        reload=SIGUSR2,
        check=(*command, "-t"),
    )
    return process, (conf, ini)


def _php_ini(context: Context, name: str, *, server: bool) -> File:
    site = context.site
    return File(
        f"{context.placement.folder(name, 'etc')}/php.ini",
        render(
            ROOM,
            "php.ini.j2",
            name=name,
            server=server,
            log=context.placement.folder(name, "log"),
            body_limit=site.balancer.body_limit,
            session_lifetime=math.ceil(site.sessions.lifetime),
            session_secure=int(site.tls.enabled and site.tls.redirect),
            settings=list(site.app.php_ini.items()),
        ),
        on_change="reload",
    )


def _python(context: Context, name: str, environment: dict[str, str]) -> tuple[Process, tuple[File, ...]]:
    site = context.site
    release = context.placement.release(context.release_of(name))
    conf = File(
        f"{context.placement.folder(name, 'etc')}/gunicorn.conf.py",
        render(
            ROOM,
            "gunicorn.conf.py.j2",
            name=name,
            run=context.placement.folder(name, "run"),
            release=release,
            entry=entry(site),
            header_limit=site.balancer.header_limit,
            interface=f"{release}/{TOOLS}/interface",
            processes=site.web.processes,
            threads=site.web.threads,
            max_requests=site.web.max_requests,
            # Loading the application counts too.
            request_timeout=max(request_seconds(site), math.ceil(site.app.start_timeout)),
            drain=math.ceil(site.web.drain_seconds),
        ),
        on_change="reload",
    )
    process = Process(
        name="gunicorn",
        argv=(f"{release}/{TOOLS}/venv/bin/python", "-m", "gunicorn", "--config", conf.path, entry(site)),
        account=ACCOUNT,
        env=tuple(environment.items()),
        cwd=release,
        stop_signal=SIGTERM,  # graceful
        stop_seconds=site.web.drain_seconds + 5,
        reload=SIGHUP,
    )
    return process, (conf,)


def _perl(context: Context, name: str, environment: dict[str, str]) -> tuple[Process, tuple[File, ...]]:
    site = context.site
    release = context.placement.release(context.release_of(name))
    wrapper = File(
        f"{context.placement.folder(name, 'etc')}/app.psgi",
        render(ROOM, "app.psgi.j2", name=name, entry=_below(release, entry(site))),
    )
    run = context.placement.folder(name, "run")
    process = Process(
        name="starman",
        argv=(
            context.engines.starman.path,
            *("--listen", f"{run}/app.sock"),
            *("--workers", str(site.web.processes)),
            *("--max-requests", str(site.web.max_requests or 2**31 - 1)),
            *("--env", "deployment"),
            "--disable-keepalive",
            wrapper.path,
        ),
        account=ACCOUNT,
        env=tuple(environment.items()),
        cwd=release,
        stop_signal=SIGQUIT,  # graceful
        stop_seconds=site.web.drain_seconds + 5,
        # No reload: on SIGHUP Starman starts again and closes its socket meanwhile. It reads none of Apache's files.
    )
    return process, (wrapper,)


def _workers(context: Context) -> Iterator[Instance]:
    """One instance for each process of `app.workers`."""
    for worker_name, worker in context.site.app.workers.items():
        for index in range(1, worker.count + 1):
            name = f"worker-{worker_name}-{index}"
            process = Process(
                name="worker",
                argv=command_line(worker.run),
                account=ACCOUNT,
                env=tuple(application_environment(context, name).items()),
                cwd=context.placement.release(context.release_of(name)),
                stop_seconds=worker.stop_timeout,
            )
            yield _beside(context, name, "worker", process, index)


def _scheduler(context: Context) -> Instance:
    """The one instance that runs `app.jobs`.

    Its program is a file of its own and needs nothing but the distribution's Python, so that it runs on every target
    and under the application's account.
    """
    name = "scheduler-1"
    etc = context.placement.folder(name, "etc")
    program = File(f"{etc}/scheduler.py", (Path(__file__).parent / "scheduler.py").read_text("utf-8"))
    jobs = File(
        f"{etc}/jobs.json",
        json.dumps({n: _job(j) for n, j in context.site.app.jobs.items()}, indent=1, ensure_ascii=False)
        + "\n",
        on_change="reload",
    )
    process = Process(
        name="scheduler",
        argv=(context.engines.python3.path, "-I", program.path, jobs.path),
        account=ACCOUNT,
        env=tuple(application_environment(context, name).items()),
        cwd=context.placement.release(context.release_of(name)),
        stop_seconds=context.site.web.drain_seconds + 5,
        reload=SIGHUP,
    )
    return _beside(context, name, "scheduler", process, 1, (program, jobs))


def _job(job: Job) -> dict[str, object]:
    """A job as the scheduler reads it. Its schedule goes in parsed, so that only the site file knows cron's syntax."""
    schedule = parse_schedule(job.schedule)
    return {
        "run": command_line(job.run),
        "timeout": job.timeout,
        "minutes": sorted(schedule.minutes),
        "hours": sorted(schedule.hours),
        "days": sorted(schedule.days),
        "months": sorted(schedule.months),
        "weekdays": sorted(schedule.weekdays),
        "either_day": schedule.either_day,
    }


def _beside(
    context: Context, name: str, kind: str, process: Process, index: int, files: tuple[File, ...] = ()
) -> Instance:
    """An instance with the application's release and environment that no request reaches."""
    php = context.site.app.runtime == "php"
    return Instance(
        name=name,
        tier="web",
        kind=kind,
        processes=(process,),
        files=(*files, *((_php_ini(context, name, server=False),) if php else ())),
        needs=("gateway-1",),
        release=context.release_of(name),
        memory=context.site.web.memory,
        index=index,
    )


def command_line(argv: tuple[str, ...]) -> tuple[str, ...]:
    """A command of the site file. env(1) finds the program in the PATH of the application, which a target does not."""
    return ("/usr/bin/env", *argv)


def _below(release: str, folder: str) -> str:
    return release if folder == "." else f"{release}/{folder}"


def trusted_networks(address: str) -> tuple[str, ...]:
    """The networks whose X-Forwarded-For is believed: the machine itself where only it can connect, else the private
    networks that containers and clouds put between balancer and web servers (RFC 1918, RFC 4193)."""
    loopback = ("127.0.0.0/8", "::1/128")
    if address in ("127.0.0.1", "::1", "localhost"):
        return loopback
    return (*loopback, "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
