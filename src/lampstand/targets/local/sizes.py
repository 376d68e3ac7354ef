"""Whether this machine has the memory and the disk that a site asks for."""

from pathlib import Path

from lampstand.errors import LampstandError
from lampstand.site import Site

OVERHEAD = {
    "web": 60_000_000,
    "edge": 60_000_000,
    "balancer": 10_000_000,
    "controller": 60_000_000,
    "redis": 8_000_000,
}
"""Bytes that a server needs beside what the site file gives it (measured; see docs/operations.md)."""


def asked(site: Site) -> int:
    """Bytes of memory that the site as a whole may use."""
    edges = sum((edge.memory or site.cdn.memory) + OVERHEAD["edge"] for edge in site.cdn.edges)
    web = site.web.servers * (site.web.memory or OVERHEAD["web"] + 15_000_000 * site.web.processes)
    database = (1 + site.database.replicas) * site.database.memory
    redis = (1 + site.cache.replicas) * (site.cache.memory + OVERHEAD["redis"])
    redis += (1 + site.sessions.replicas) * (site.sessions.memory + OVERHEAD["redis"])
    return (
        edges + web + database + redis + site.balancer.servers * OVERHEAD["balancer"] + OVERHEAD["controller"]
    )


def memory_of_machine() -> int:
    """Bytes of memory, from /proc/meminfo (proc(5))."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return 0


def check(site: Site) -> None:
    """Raises LampstandError when the site asks for more memory than the machine has."""
    wanted, there = asked(site), memory_of_machine()
    if there and wanted > there:
        raise LampstandError(
            f"the site asks for {wanted / 1e9:.1f} GB of memory and this machine has {there / 1e9:.1f} GB",
            "database.memory, cache.memory, cdn.memory, web.servers",
            "ask for less, or use a larger machine",
        )
