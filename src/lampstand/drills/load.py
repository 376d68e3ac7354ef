"""HTTP requests through the edge at a constant rate, made and logged by nghttp2's h2load(1)."""

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lampstand.errors import EngineMissingError

LONGEST = 86_400
"""Seconds; h2load is ended when the drill is."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One request: when it began (unix time), its status (-1: no answer), and how long it took (seconds)."""

    at: float
    status: int
    seconds: float

    @property
    def failed(self) -> bool:
        """Whether a visitor saw an error: no answer, or a 5xx."""
        return self.status < 100 or self.status >= 500


class Load:
    """A load on one URL until `stop`."""

    def __init__(
        self, program: str, url: str, rate: float, clients: int = 4, headers: tuple[str, ...] = ()
    ) -> None:
        """`rate` in requests a second over all clients. Raises EngineMissingError without h2load."""
        if not program:
            raise EngineMissingError("h2load is not installed", mend="run `lampstand doctor --fix`")
        self._folder = tempfile.TemporaryDirectory(prefix="lampstand-load-")
        self._log = Path(self._folder.name) / "log"
        self._argv = [
            program, "--h1", f"--clients={clients}", f"--rps={max(rate / clients, 0.1):g}", f"--duration={LONGEST}",
            f"--log-file={self._log}", *(f"--header={h}" for h in headers), url,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin."""
        with (Path(self._folder.name) / "out").open("wb") as out:
            self._process = subprocess.Popen(self._argv, stdout=out, stderr=out, stdin=subprocess.DEVNULL)

    def running(self) -> bool:
        """Whether it still sends requests (h2load ends when all of its connections were refused)."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> list[Answer]:
        """End, and return every request."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(5.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        answers = read_log(self._log)
        self._folder.cleanup()
        return answers


def read_log(path: Path) -> list[Answer]:
    """The requests in a log of h2load: start in µs since 1970, status, µs until the end of the answer."""
    found: list[Answer] = []
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return found
    for line in lines:
        parts = line.split("\t")
        if len(parts) >= 3 and parts[2].lstrip("-").isdecimal():
            found.append(Answer(int(parts[0]) / 1e6, int(parts[1]), int(parts[2]) / 1e6))
    return found
