"""``python -m nbcluster``: the same as the command ``nbcluster``."""

from __future__ import annotations

import sys

from nbcluster.cli import main

if __name__ == "__main__":
    sys.exit(main())
