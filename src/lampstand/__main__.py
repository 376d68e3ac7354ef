"""`python -m lampstand`, the same as the `lampstand` command."""

import sys

from lampstand.cli import main

if __name__ == "__main__":
    sys.exit(main())
