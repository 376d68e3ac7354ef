"""Drills that are judged by what legitimate visitors see: under an attack, and with the whole origin down."""

import re
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from lampstand.drills.attacks import Attack, Flood, Front, Slowloris
from lampstand.drills.load import Answer, Load
from lampstand.drills.runner import WELL_BEFORE, Options, Site, wait_until_well
from lampstand.drills.words import Drill, Round, Verdict, percentile
from lampstand.errors import LampstandError, TimedOutError
from lampstand.topology import Topology

CALM = 4.0
"""Seconds of load before and after, to compare with."""


def run_visitors_drill(site: Site, drill: Drill, options: Options) -> Verdict:
    """One drill of `VISITOR_DRILLS`. Raises LampstandError when the site is not well before, or keeps nothing."""
    wait_until_well(site, WELL_BEFORE)
    url = front_url(site.topology)
    if drill.fault == "origin-down":
        url = kept_url(url)
    load = Load(site.program("h2load"), url, options.http_rate)
    started = time.time()
    windows: list[tuple[float, float]] = []
    rounds: list[Round] = []
    attacked: dict[str, int] = {}
    try:
        load.start()
        for _ in range(options.rounds):
            _pause(CALM)
            began = time.time()
            options.say(f"{drill.fault} for {drill.hold:g} s")
            for name, count in _break(site, drill, url).items():
                attacked[name] = attacked.get(name, 0) + count
            healed = time.time()
            windows.append((began, healed))
            well = _well_after(site, drill.heals_within)
            rounds.append(Round(drill.kind, began - started, 0.0, well))
        _pause(CALM)
    finally:
        site.faults.heal_all()
        answers = load.stop()
    calm: list[Answer] = []
    during: list[Answer] = []
    for answer in answers:
        meanwhile = any(begin <= answer.at <= end for begin, end in windows)
        (during if meanwhile else calm).append(answer)
    return Verdict(
        drill=drill.name, target=site.target, rounds=rounds, deadline_seconds=drill.deadline, acknowledged=0, lost=0,
        unknown=0, failed_writes=0, duplicated=0, requests=len(answers),
        failed_requests=sum(_failed(a) for a in during), two_primaries=0, diverged=0, seconds=time.time() - started,
        judged=drill.judged, seed=options.seed, also_breached=_slow(during, drill.deadline),
        visitors={"url": url, "calm": figures(calm), "during": figures(during), "attack": attacked},
    )  # fmt: skip


def _break(site: Site, drill: Drill, url: str) -> Mapping[str, int]:
    """Do it for as long as the drill says, and undo it."""
    if drill.fault == "origin-down":
        names = [i.name for i in site.topology.of_kind("balancer")]
        for name in names:
            site.faults.freeze(name)
        _pause(drill.hold)
        for name in names:
            site.faults.heal(name)
        return {}
    front = Front.of(url)
    attack: Attack = Flood(front) if drill.fault == "flood" else Slowloris(front)
    attack.start()
    try:
        _pause(drill.hold)
    finally:
        counts = attack.stop()
    return counts


def figures(answers: Sequence[Answer]) -> dict[str, Any]:
    """What visitors saw: how many, how many failed (no answer, 5xx, or refused), and how long it took in ms."""
    times = [a.seconds * 1000 for a in answers if a.status > 0]
    middle, slowest = percentile(times, 50), percentile(times, 99)
    return {
        "requests": len(answers),
        "failed": sum(_failed(a) for a in answers),
        "p50_ms": None if middle is None else round(middle, 2),
        "p99_ms": None if slowest is None else round(slowest, 2),
    }


def _failed(answer: Answer) -> bool:
    return answer.failed or answer.status in (403, 429)


def _slow(answers: Sequence[Answer], deadline: float) -> tuple[str, ...]:
    slowest = percentile([a.seconds for a in answers if a.status > 0], 99)
    if slowest is None:
        return ("no visitor was answered meanwhile",)
    if slowest > deadline:
        return (f"a visitor in a hundred waited {slowest:.2f} s, more than {deadline:g} s",)
    return ()


def _well_after(site: Site, seconds: float) -> float | None:
    began = time.monotonic()
    try:
        wait_until_well(site, seconds)
    except TimedOutError:
        return None
    return time.monotonic() - began


def front_url(topology: Topology) -> str:
    """Where visitors come in: the visitors' entry, else an edge, else a balancer."""
    for kind in ("visitors", "edge", "balancer"):
        for instance in topology.of_kind(kind):
            secure = next((e for e in instance.endpoints if e.name == "https"), None)
            endpoint = secure or instance.endpoint("http")
            return f"{'https' if secure else 'http'}://{endpoint.address}/"
    raise LampstandError("the site has neither edges nor balancers")


def kept_url(front: str) -> str:
    """A URL of the site that an edge keeps: the front page, or a file that it names. Raises LampstandError."""
    import httpx

    with httpx.Client(verify=False, timeout=5.0) as client:  # the site's own authority, on this machine
        page = client.get(front)
        links = re.findall(r"""(?:src|href)=["']?(/[^"'\s>?#][^"'\s>#]*)""", page.text)
        for url in (front, *(front.rstrip("/") + link for link in dict.fromkeys(links))):
            client.get(url)
            answer = client.get(url)
            if answer.headers.get("X-Cache", "").startswith("hit"):
                return url
    raise LampstandError(
        "no edge keeps the front page, nor anything that it names",
        front,
        "send `Cache-Control: public, max-age=60` with it, or give a rule of `cdn.rules` a ttl",
    )


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)
