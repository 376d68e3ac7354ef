"""`python -m lampstand`, the same as the `lampstand` command."""

import signal
import sys

# Ctrl-C while the modules are still loading ends the process as the shell expects, without a traceback.
signal.signal(signal.SIGINT, signal.SIG_DFL)

from lampstand.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
