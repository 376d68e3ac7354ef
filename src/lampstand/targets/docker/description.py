"""What a container's first process (images/lampstand-init) must know of its server, as lines of text. Pure."""

import re
from collections.abc import Iterable, Iterator, Mapping
from signal import Signals

from lampstand.targets.docker.placement import DATA, LOGS, PUBLISHED, RELEASES, SOCKETS, UPLOADS
from lampstand.topology import File, Instance

PUBLISHERS = ("web",)
"""Kinds that give the balancers a copy of their release, for its static files."""


def description_file(
    instance: Instance, uploads: Iterable[str] = (), keep: float = 0.0, *, publish: bool = True
) -> File:
    """The file `processes` beside the server's configuration. `uploads` are the folders of `app.uploads`, `keep` is
    `deploy.assets_keep`; without `publish` the balancers get the release in another way.

    It holds the environment of the application, passwords included, so that `docker inspect` shows none.
    """
    return File(
        f"/etc/lampstand/{instance.name}/processes",
        "".join(f"{line}\n" for line in _lines(instance, uploads, keep, publish)),
        mode=0o600,
        secret=True,
    )


def encoded(text: str) -> str:
    """A value on one line: control characters and `%` as `%0a`."""
    return re.sub(r"[%\x00-\x1f\x7f]", lambda found: f"%{ord(found[0]):02x}", text)


def log_files(instance: Instance) -> list[str]:
    """The log files that the server's configuration and commands name, sorted."""
    texts = [f.content for f in (*instance.files, *instance.live_files)]
    texts += [argument for process in instance.processes for argument in process.argv]
    pattern = re.compile(re.escape(f"{LOGS}/{instance.name}/") + r"[\w.-]*\w")
    return sorted({match for text in texts for match in pattern.findall(text)})


def _lines(instance: Instance, uploads: Iterable[str], keep: float, publish: bool) -> Iterator[str]:
    name = instance.name
    yield f"# {name}: read by the first process of its container. Written by Lampstand."
    yield f"data {DATA}/{name}"
    folders = [f"{top}/{name}" for top in (DATA, LOGS, SOCKETS)] + list(instance.folders)
    if instance.tier == "web":
        folders += [f"{UPLOADS}/{folder}" for folder in uploads]
    for folder in dict.fromkeys(folders):
        yield f"folder {encoded(folder)}"
    for path in log_files(instance):
        # What the engine writes to a file is what `docker logs` shows.
        yield f"link {path} /proc/1/fd/{1 if path.endswith('access.log') else 2}"
    if publish and instance.kind in PUBLISHERS and instance.release:
        yield f"publish {RELEASES}/{instance.release} {PUBLISHED} {instance.release} {keep:.0f}"
    for preparation in instance.prepare:
        yield f"prepare {encoded(preparation.creates)}"
        yield from _program(preparation.argv, dict(preparation.env))
    for process in instance.processes:
        yield f"process {process.name}"
        yield from _program(process.argv, dict(process.env))
        if process.cwd:
            yield f"cwd {encoded(process.cwd)}"
        yield f"stop {int(process.stop_signal)}"
        yield f"seconds {process.stop_seconds:g}"
        match process.reload:
            case None:
                pass
            case Signals() as number:
                yield f"reload {int(number)}"
            case argv:
                yield from (f"reload-arg {encoded(argument)}" for argument in argv)


def _program(argv: Iterable[str], env: Mapping[str, str]) -> Iterator[str]:
    yield from (f"arg {encoded(argument)}" for argument in argv)
    yield from (f"env {encoded(f'{variable}={value}')}" for variable, value in env.items())
