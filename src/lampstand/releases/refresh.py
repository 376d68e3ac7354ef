"""After a deploy: what the edges keep of the release before is made old, so that no page of it stays for long."""

from collections.abc import Awaitable, Callable
from typing import Any

from lampstand.errors import LampstandError
from lampstand.releases.receipts import Receipt
from lampstand.site import Site


async def refresh_edges(
    site: Site,
    receipt: Receipt,
    operate: Callable[..., Awaitable[dict[str, Any]]],
    say: Callable[[str], None],
) -> None:
    """A soft purge of everything, where another release serves now: each answer is given once more while it is fetched.

    An edge that does not answer does it later. That it could not be asked for is said, and fails nothing.
    """
    if not site.cdn.edges or not receipt.previous or receipt.release == receipt.previous:
        return
    try:
        await operate("purge", everything=True, soft=True)
    except LampstandError as error:
        say(f"the edges still give what they kept: {error.what} (`lampstand purge --all`)")
