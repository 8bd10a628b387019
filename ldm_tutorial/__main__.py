"""`python -m ldm_tutorial` is `ldm-tutorial`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
