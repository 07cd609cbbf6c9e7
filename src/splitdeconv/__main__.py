"""``python -m splitdeconv``."""

from __future__ import annotations

import sys

from splitdeconv.cli import main

if __name__ == "__main__":
    sys.exit(main())
