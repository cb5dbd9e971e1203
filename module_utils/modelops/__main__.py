"""`python -m modelops`: see cli.py."""

from __future__ import annotations

import sys

from .execution.cli import main

if __name__ == "__main__":
    sys.exit(main())
