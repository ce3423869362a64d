"""`python -m headway` is the command line."""

import sys

from headway.cli._main import main

if __name__ == "__main__":
    sys.exit(main())
