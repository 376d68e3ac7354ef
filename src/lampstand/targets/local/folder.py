"""The state folder of one site on this machine: secrets, ports, records, and the lock that names its holder."""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets as random_source
import stat
import tempfile
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from lampstand.errors import LampstandError, LockedError
from lampstand.files import write_json
from lampstand.topology import SECRETS

LONGEST_SOCKET = 107
"""Bytes in sockaddr_un.sun_path without the final NUL (unix(7))."""


def state_home() -> Path:
    """Where the state of all sites lies: /var/lib/lampstand for root (service accounts must reach it), else XDG."""
    if given := os.environ.get("XDG_STATE_HOME"):
        return Path(given) / "lampstand"
    if os.geteuid() == 0:
        return Path("/var/lib/lampstand")
    return Path.home() / ".local/state/lampstand"


def runtime_home() -> Path:
    """Where sockets lie: a short path, because a socket's name may have only 107 bytes."""
    if os.geteuid() == 0:
        return Path("/run/lampstand")
    given = os.environ.get("XDG_RUNTIME_DIR")
    if given and len(given) < 40 and os.access(given, os.W_OK):
        return Path(given) / "lampstand"
    return Path(tempfile.gettempdir()) / f"lampstand-{os.geteuid()}"


@dataclass(frozen=True)
class StateFolder:
    """Paths of one site's state. Making the object touches nothing; `create` makes the folders."""

    root: Path
    run: Path

    @classmethod
    def of(cls, project: Path, site: str, environment: str | None = None) -> "StateFolder":
        """The folder of the site whose file lies in `project`: one per project path and environment."""
        key = f"{project.resolve()}\0{environment or ''}"
        return cls.at(state_home() / f"{site}-{hashlib.sha256(key.encode()).hexdigest()[:8]}")

    @classmethod
    def at(cls, root: Path) -> "StateFolder":
        """A state folder by its own path."""
        return cls(root, runtime_home() / hashlib.sha256(str(root).encode()).hexdigest()[:10])

    # -- places ------------------------------------------------------------------------------------------------------
    @property
    def instances(self) -> Path:
        return self.root / "instances"

    @property
    def releases(self) -> Path:
        return self.root / "releases"

    @property
    def assets(self) -> Path:
        """Static files of the releases that served lately."""
        return self.root / "assets"

    @property
    def uploads(self) -> Path:
        return self.root / "uploads"

    @property
    def desired(self) -> Path:
        """What the last `up`, `deploy` or `scale` asked for: the input of `expand`."""
        return self.root / "desired.json"

    @property
    def status(self) -> Path:
        return self.root / "status.json"

    @property
    def memory(self) -> Path:
        return self.root / "memory.json"

    @property
    def events(self) -> Path:
        return self.root / "events.ndjson"

    @property
    def socket(self) -> Path:
        """The controller's HTTP API."""
        return self.run / "controller.sock"

    def exists(self) -> bool:
        return self.root.is_dir()

    def create(self) -> None:
        """Make the folders. Raises LampstandError where that is not allowed or the disk is full."""
        # Service accounts pass through the root of the state (x), and see only what is theirs.
        traversable = 0o711 if os.geteuid() == 0 else 0o700
        try:
            for folder in (
                self.root.parent,
                self.root,
                self.instances,
                self.releases,
                self.run.parent,
                self.run,
            ):
                if not folder.is_dir():
                    folder.mkdir(mode=traversable, parents=True, exist_ok=True)
                    folder.chmod(traversable)
        except OSError as error:
            raise LampstandError(
                f"cannot make the state folder: {error.strerror}",
                str(error.filename or self.root),
                "make it writable, free some space, or point XDG_STATE_HOME elsewhere",
            ) from error
        owner = self.run.parent.lstat()
        if owner.st_uid != os.geteuid() or not stat.S_ISDIR(owner.st_mode):
            raise LampstandError(
                "somebody else owns the folder for sockets",
                str(self.run.parent),
                "remove it or set XDG_RUNTIME_DIR",
            )

    # -- documents ---------------------------------------------------------------------------------------------------
    def read_json(self, path: Path) -> dict[str, Any]:
        """A JSON object, empty when the file does not exist. Raises LampstandError when it is damaged."""
        try:
            return cast("dict[str, Any]", json.loads(path.read_text()))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise LampstandError(
                f"not readable as JSON ({error})", str(path), "restore it or remove it"
            ) from error

    def secrets(self) -> dict[str, str]:
        """The generated passwords; made on the first call, kept with mode 0600 from then on."""
        path = self.root / "secrets.json"
        found = cast("dict[str, str]", self.read_json(path))
        missing = [name for name in SECRETS if name not in found]
        if missing:
            found |= {name: random_source.token_urlsafe(24) for name in missing}
            if self.exists():  # a plan of a site that was never brought up leaves no trace
                write_json(path, found, mode=0o600, durable=True)
        return found

    def keep_application_secrets(self, values: Mapping[str, str]) -> None:
        """Keep the values of `app.secrets` for whoever starts a server later."""
        write_json(self.root / "app-secrets.json", values, mode=0o600)

    def keep_overrides(self, values: Mapping[str, str]) -> None:
        """Keep what `scale` changed."""
        write_json(self.root / "scale.json", values)

    # -- the lock ----------------------------------------------------------------------------------------------------
    @contextlib.contextmanager
    def lock(self, purpose: str, wait: float = 0.0) -> Generator[None]:
        """Be the only one who changes the processes of the site.

        The lock ends with its holder, however that ends (flock(2)). Raises LockedError naming the holder after
        `wait` seconds.
        """
        handle = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + wait
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise LockedError(
                            f"{self.lock_holder() or 'another command'} is changing this site",
                            str(self.root / "lock"),
                            "wait for it to end, or end it, and try again",
                        ) from None
                    time.sleep(0.05)
            os.ftruncate(handle, 0)
            holder = {"purpose": purpose, "pid": os.getpid(), "since": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
            os.pwrite(handle, json.dumps(holder).encode(), 0)
            yield
        finally:
            os.close(handle)

    def locked(self) -> bool:
        """Whether somebody holds the lock now."""
        return is_locked(self.root / "lock")

    def lock_holder(self) -> str:
        """`lampstand up (process 4711, since 2026-01-02T03:04:05+0000)`, or an empty text."""
        try:
            holder = json.loads((self.root / "lock").read_text() or "{}")
        except (OSError, ValueError):
            return ""
        return f"`{holder['purpose']}` (process {holder['pid']}, since {holder['since']})" if holder else ""


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock (flock(2)) of a file; nobody does where there is none."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
