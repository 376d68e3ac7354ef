"""Commands that run once in the environment of a release: the release step, one-off commands. Pure."""

from collections.abc import Sequence

from lampstand.tiers.web.environment import application_environment
from lampstand.tiers.web.tier import ACCOUNT, command_line
from lampstand.topology import Context, Process


def one_off(context: Context, argv: Sequence[str]) -> Process:
    """A command with the folder, account and variables of a web server that runs `context.release`."""
    return Process(
        name="one-off",
        argv=command_line(tuple(argv)),
        account=ACCOUNT,
        env=tuple(application_environment(context, "one-off").items()),
        cwd=context.placement.release(context.release),
    )
