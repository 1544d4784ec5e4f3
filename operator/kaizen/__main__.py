"""`python -m kaizen` is the command `kaizen`."""

import sys

from kaizen.cli import main

if __name__ == "__main__":
    sys.exit(main())
