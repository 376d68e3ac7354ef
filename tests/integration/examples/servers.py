"""Engines and application servers for the examples' tests: own folders, free ports, ended by pid."""

import hashlib
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx
import pymysql

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples"
START_SECONDS = 30.0


def free_port() -> int:
    """A TCP port on loopback that nobody holds at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    """Polls until something is true; fails naming it."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def answers(port: int) -> bool:
    """True when something accepts connections on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def service_account() -> str:
    """Who the web servers run as: Debian's account where the tests are root, else whoever runs the tests."""
    return "www-data" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name


class Server:
    """One process that listens on a port, with its log in a file; stopped by its pid."""

    def __init__(
        self, arguments: list[str], port: int, log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.arguments = arguments
        self.port = port
        self.log = log
        self.environment = dict(environment) if environment is not None else None
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Server":
        """Starts it and waits until it accepts connections."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment
            )
        process = self.process

        def ready() -> bool:
            assert process.poll() is None, f"{self.arguments[0]} ended:\n{self.text()[-4000:]}"
            return answers(self.port)

        wait_until(ready, f"{self.arguments[0]} on port {self.port}")
        return self

    def stop(self) -> None:
        """Ends it: politely, then not."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)

    def text(self) -> str:
        """Its log."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


@dataclass(frozen=True)
class Engines:
    """A MariaDB and two Redis servers, with the passwords that lead into them."""

    folder: Path
    mariadb: Server
    cache: Server
    sessions: Server
    password: str

    def root(self) -> pymysql.Connection:
        """A connection that may do everything."""
        return pymysql.connect(unix_socket=str(self.folder / "mariadb.sock"), user="root", autocommit=True)

    def execute(self, *statements: str) -> list[tuple[object, ...]]:
        """Runs statements as root; the rows of the last."""
        connection = self.root()
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return list(cursor.fetchall())
        finally:
            connection.close()

    def new_database(self, name: str) -> None:
        """An empty database, its account, and an account that may only read (it stands for the replica's door)."""
        self.execute(
            f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4",
            f"CREATE USER `{name}`@`127.0.0.1` IDENTIFIED BY '{self.password}'",
            f"GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX, REFERENCES"
            f" ON `{name}`.* TO `{name}`@`127.0.0.1`",
            f"CREATE USER `{name}_read`@`127.0.0.1` IDENTIFIED BY '{self.password}'",
            f"GRANT SELECT ON `{name}`.* TO `{name}_read`@`127.0.0.1`",
        )

    def environment(self, database: str, redis_number: int) -> dict[str, str]:
        """What Lampstand gives to every application, for this database and this number of Redis' databases."""
        quoted = quote(self.password, safe="")
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "DATABASE_URL": f"mysql://{database}:{quoted}@127.0.0.1:{self.mariadb.port}/{database}",
            "DATABASE_REPLICA_URL": f"mysql://{database}_read:{quoted}@127.0.0.1:{self.mariadb.port}/{database}",
            "REDIS_URL": f"redis://:{quoted}@127.0.0.1:{self.cache.port}/{redis_number}",
            "SESSION_REDIS_URL": f"redis://:{quoted}@127.0.0.1:{self.sessions.port}/{redis_number}",
            "DB_HOST": "127.0.0.1",
            "DB_PORT": str(self.mariadb.port),
            "DB_NAME": database,
            "DB_DATABASE": database,
            "DB_USER": database,
            "DB_USERNAME": database,
            "DB_PASSWORD": self.password,
            "APP_RELEASE": "0123456789abcdef0123456789abcdef",
            "APP_SECRET": secrets.token_hex(32),
            "LAMPSTAND_SITE": database,
            "LAMPSTAND_SERVER": "web-1",
        }


def start_engines(stack: ExitStack, folder: Path) -> Engines:
    """A MariaDB and two Redis servers that end with the stack. The password is one that breaks careless URLs."""
    password = "p@s/s:w%" + secrets.token_hex(8)
    data = folder / "mariadb"
    user = pwd.getpwuid(os.geteuid()).pw_name
    subprocess.run(
        ["mariadb-install-db", "--no-defaults", f"--datadir={data}", f"--user={user}", "--skip-test-db",
         "--auth-root-authentication-method=normal", "--skip-name-resolve"],
        check=True, capture_output=True,
    )  # fmt: skip
    port = free_port()
    mariadb = Server(
        ["mariadbd", "--no-defaults", f"--datadir={data}", f"--user={user}", f"--port={port}",
         f"--socket={folder / 'mariadb.sock'}", "--bind-address=127.0.0.1", "--skip-name-resolve",
         "--innodb-buffer-pool-size=32M", "--innodb-log-file-size=16M", "--innodb-flush-log-at-trx-commit=0",
         "--performance-schema=OFF"],
        port, folder / "mariadb.log",
    )  # fmt: skip

    def start_redis(name: str) -> Server:
        port = free_port()
        arguments = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--requirepass", password]
        arguments += ["--save", "", "--dir", str(folder)]
        server = Server(arguments, port, folder / f"{name}.log")
        stack.callback(server.stop)
        return server.start()

    stack.callback(mariadb.stop)
    return Engines(folder, mariadb.start(), start_redis("cache"), start_redis("sessions"), password)


def copy_release(example: Path, destination: Path) -> Path:
    """A copy of an application, as a release is one, with a shared uploads folder behind a link."""
    shutil.copytree(
        example, destination, symlinks=True,
        ignore=shutil.ignore_patterns("uploads", "__pycache__", ".pytest_cache", ".venv"),
    )  # fmt: skip
    return destination


def link_uploads(release: Path, relative: str, shared: Path) -> None:
    """Makes a folder of the release a link to a folder that outlives it and belongs to the web server's account."""
    shared.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        shutil.chown(shared, service_account(), service_account())
    link = release / relative
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_dir() and not link.is_symlink():
        shutil.rmtree(link)
    link.symlink_to(shared)


def start_php(
    stack: ExitStack,
    folder: Path,
    document_root: Path,
    environment: Mapping[str, str],
    engines: Engines,
    number: int,
) -> str:
    """Apache (event) before php-fpm, as a web server of Lampstand is; returns the base URL."""
    run = folder / "php"
    run.mkdir()
    port, account = free_port(), service_account()
    if os.geteuid() == 0:
        shutil.chown(run, account, account)
    quoted = quote(engines.password, safe="")
    owner = f"user = {account}\ngroup = {account}\n" if os.geteuid() == 0 else ""
    (run / "fpm.conf").write_text(
        f"[global]\nerror_log = {run / 'fpm.log'}\ndaemonize = no\n"
        f"[www]\n{owner}listen = {run / 'fpm.sock'}\nlisten.mode = 0666\n"
        "pm = static\npm.max_children = 6\nclear_env = no\ncatch_workers_output = yes\n"
        "php_value[session.save_handler] = redis\n"
        f'php_value[session.save_path] = "tcp://127.0.0.1:{engines.sessions.port}?auth={quoted}&database={number}"\n'
        "php_admin_value[upload_max_filesize] = 8M\nphp_admin_value[post_max_size] = 16M\n"
    )
    modules = "mpm_event authz_core dir mime proxy proxy_fcgi rewrite setenvif"
    loads = "".join(
        f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n" for name in modules.split()
    )
    identity = f"User {account}\nGroup {account}\n" if os.geteuid() == 0 else ""
    (run / "apache.conf").write_text(
        f"{loads}{identity}ServerName localhost\nListen 127.0.0.1:{port}\nPidFile {run / 'apache.pid'}\n"
        f"ErrorLog {run / 'apache.log'}\nTypesConfig /etc/mime.types\nDocumentRoot {document_root}\n"
        "DirectoryIndex index.php\nKeepAlive On\nMaxRequestWorkers 32\nThreadsPerChild 16\nServerLimit 2\n"
        f"DefaultRuntimeDir {run}\nMutex file:{run}\n"
        f"<Directory {document_root}>\n  AllowOverride All Nonfatal=Unknown\n  Require all granted\n"
        "  FallbackResource /index.php\n</Directory>\n"
        f'<FilesMatch "\\.php$">\n  SetHandler "proxy:unix:{run / "fpm.sock"}|fcgi://localhost/"\n</FilesMatch>\n'
        '<Proxy "fcgi://localhost/">\n  ProxySet flushpackets=on timeout=60\n</Proxy>\n'
    )
    fpm = php_fpm()
    process = subprocess.Popen(
        [fpm, "--nodaemonize", "--fpm-config", str(run / "fpm.conf")],
        env=dict(environment), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def stop_fpm() -> None:
        process.terminate()
        process.wait(20)

    stack.callback(stop_fpm)
    wait_until((run / "fpm.sock").exists, f"{fpm} (log: {run / 'fpm.log'})")
    apache = Server(["apache2", "-f", str(run / "apache.conf"), "-D", "FOREGROUND"], port, run / "apache.out")
    stack.callback(apache.stop)
    apache.start()
    return f"http://127.0.0.1:{port}"


def php_fpm() -> str:
    """Debian names the program after PHP's version."""
    found = sorted(Path("/usr/sbin").glob("php-fpm*"))
    assert found, "php-fpm is not installed"
    return str(found[-1])


def start_http(
    stack: ExitStack, arguments: list[str], port: int, log: Path, environment: Mapping[str, str]
) -> str:
    """Any application server that speaks HTTP itself; returns the base URL."""
    server = Server(arguments, port, log, environment)
    stack.callback(server.stop)
    server.start()  # which only says that somebody listens: its workers may still be loading
    url = f"http://127.0.0.1:{port}"

    def answering() -> bool:
        assert server.process is not None
        assert server.process.poll() is None, f"{arguments[0]} ended:\n{server.text()[-4000:]}"
        try:
            return httpx.get(f"{url}/healthz", timeout=5.0).status_code == 200
        except httpx.TransportError:
            return False

    wait_until(answering, f"{url}/healthz answers 200; see {log}")
    return url


def cache_folder() -> Path:
    """What is kept between runs, where the web servers' account can read it (root's home it cannot)."""
    if os.geteuid() == 0:
        return Path("/var/cache/lampstand-tests")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lampstand-tests"


@contextmanager
def background(
    arguments: list[str], folder: Path, environment: Mapping[str, str]
) -> Iterator["subprocess.Popen[bytes]"]:
    """A process without a port, killed at the end where the test has not ended it."""
    process = subprocess.Popen(
        arguments, cwd=folder, env=dict(environment), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)


def python_environment(requirements: Path) -> Path:
    """A virtual environment with an example's requirements, kept between runs; returns its bin folder."""
    cache = cache_folder()
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    venv = cache / f"python-{sys.version_info[0]}.{sys.version_info[1]}-{digest}"
    if not (venv / "ready").exists():
        building = cache / f"{venv.name}.{os.getpid()}"
        building.mkdir(parents=True)
        subprocess.run([sys.executable, "-m", "venv", str(building)], check=True, capture_output=True)
        subprocess.run(
            [str(building / "bin" / "python"), "-m", "pip", "install", "-q", "-r", str(requirements)],
            check=True,
        )
        (building / "ready").touch()
        try:
            building.rename(venv)
        except OSError:  # another test run was first
            shutil.rmtree(building)
    return venv / "bin"
