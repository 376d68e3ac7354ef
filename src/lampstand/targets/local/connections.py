"""How many connections a port of this machine has, from /proc/net/tcp (proc(5)): what nobody needs to be asked for."""

from pathlib import Path

TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
OPEN = ("01", "03", "08")
"""ESTABLISHED, SYN_RECV and CLOSE_WAIT (include/net/tcp_states.h): whoever listens has or may get something to do."""


def connections(port: int) -> int:
    """Open connections to a port, those that wait to be accepted among them."""
    return sum(count(table.read_text(), port) for table in TABLES if table.exists())


def count(table: str, port: int) -> int:
    """The same, from the text of one table. Pure."""
    suffix = f":{port:04X}"
    found = 0
    for line in table.splitlines()[1:]:
        fields = line.split(None, 4)
        found += len(fields) > 3 and fields[1].endswith(suffix) and fields[3] in OPEN
    return found
