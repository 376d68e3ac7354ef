"""Where a release is built: runs commands in its folder, keeps the log, and keeps what the next build can use again."""

import contextlib
import fcntl
import hashlib
import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lampstand.errors import LampstandError, TimedOutError
from lampstand.tiers.web.environment import PATH

BUILDER = "nobody"
"""Account that builds when Lampstand is root: package managers run what strangers wrote, and neither root nor the
account that later serves the result should."""
COMMAND_SECONDS = 1800.0
_TAIL = 15


@dataclass
class Workshop:
    """One build of one release."""

    folder: Path
    """The release, unpacked; it has another path while it is built than when it serves."""
    final: Path
    """Where it will be."""
    cache: Path
    """What builds leave for later ones: venvs, packages, the caches of pip and composer."""
    environment: Mapping[str, str]
    say: Callable[[str], None]
    lines: list[str] = field(default_factory=list[str])

    def note(self, text: str) -> None:
        """A line of the build log."""
        self.lines.append(text)

    @property
    def log(self) -> str:
        """Every command with its output and time."""
        return "\n".join(self.lines) + "\n" if self.lines else ""

    def run(self, argv: Sequence[str], *, purpose: str, mend: str | None = None) -> str:
        """Run a command in the release's folder and return what it printed.

        Raises LampstandError with its last lines when it fails, TimedOutError when it takes more than half an hour.
        """
        self.say(purpose)
        began = time.monotonic()
        output, code = self.ask(argv)
        self.note(f"$ {' '.join(argv)}")
        if output.strip():
            self.note(output.rstrip())
        self.note(f"# exit {code} after {time.monotonic() - began:.1f} s")
        if code:
            tail = "\n".join(f"  {line}" for line in output.strip().splitlines()[-_TAIL:])
            raise LampstandError(f"{purpose} failed with exit code {code}:\n{tail}", " ".join(argv), mend)
        return output

    def ask(self, argv: Sequence[str]) -> tuple[str, int]:
        """What a command prints, and its exit code. Nothing is written to the log."""
        home = self.cache / "home"
        variables = {
            "PATH": PATH,
            "LANG": "C.UTF-8",
            "HOME": str(home),
            "XDG_CACHE_HOME": str(home / ".cache"),
            "COMPOSER_HOME": str(home / "composer"),
            **_proxies(),
            **self.environment,
        }
        root = os.geteuid() == 0
        try:
            done = subprocess.run(
                argv,
                cwd=self.folder,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=COMMAND_SECONDS,
                check=False,
                umask=0o022,
                user=BUILDER if root else None,
                group=_group(BUILDER) if root else None,
                extra_groups=() if root else None,
            )
        except FileNotFoundError as error:
            raise LampstandError(
                "no such program", argv[0], "install it, or run `lampstand doctor`"
            ) from error
        except subprocess.TimeoutExpired:
            raise TimedOutError(f"did not end within {COMMAND_SECONDS:g} s", " ".join(argv)) from None
        return done.stdout.decode("utf-8", "replace"), done.returncode

    def find(self, program: str) -> str | None:
        """Path of a program that the build can run, if it is there."""
        return shutil.which(program, path=self.environment.get("PATH", PATH))

    @contextlib.contextmanager
    def kept(self, kind: str, *parts: str | bytes) -> Generator[tuple[Path, bool]]:
        """The folder of the cache for these inputs, and whether it is complete; it counts as complete from then on.

        Two builds of the same inputs wait for each other. What a killed build left half-done is removed first.
        """
        digest = hashlib.sha256()
        for part in parts:
            data = part.encode() if isinstance(part, str) else part
            digest.update(len(data).to_bytes(8, "big") + data)
        place = self.cache / f"{kind}-{digest.hexdigest()[:16]}"
        done = place / ".complete"
        with open(self.cache / f".{place.name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            complete = done.exists()
            if not complete:
                shutil.rmtree(place, ignore_errors=True)
                place.mkdir(mode=0o755)
                give_to_builder(place)
            yield place, complete
            if not complete:
                take_back(place)
                done.touch()

    @contextlib.contextmanager
    def opened(self) -> Generator[None]:
        """The builder may write to the release's folder inside the block; afterwards it is ours again."""
        (self.cache / "home").mkdir(parents=True, exist_ok=True)
        self.cache.chmod(0o755)
        give_to_builder(self.cache / "home")
        give_to_builder(self.folder)
        try:
            yield
        finally:
            take_back(self.folder)


def give_to_builder(folder: Path) -> None:
    """When we are root: the builder owns a folder and all below it."""
    if os.geteuid() == 0:
        _own(folder, pwd.getpwnam(BUILDER).pw_uid, _group(BUILDER))


def take_back(folder: Path) -> None:
    """We own it again; a set-user-id bit does not survive that (chown(2))."""
    if os.geteuid() == 0:
        _own(folder, 0, 0)


def _own(folder: Path, user: int, group: int) -> None:
    os.chown(folder, user, group, follow_symlinks=False)
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(os.path.join(place, name), user, group, follow_symlinks=False)


def _group(account: str) -> int:
    return pwd.getpwnam(account).pw_gid


def _proxies() -> dict[str, str]:
    """How this machine reaches the package registries; nothing else of the caller's environment gets into a build."""
    names = (
        "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
        "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "COMPOSER_AUTH", "PERL_CPANM_OPT",
    )  # fmt: skip
    return {
        name: value
        for name, value in os.environ.items()
        if name in names or name.startswith(("PIP_", "NPM_CONFIG_", "npm_config_"))
    }
