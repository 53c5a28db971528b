"""`python -m veil` is `veil`."""

from __future__ import annotations

from veil.cli import main

if __name__ == "__main__":
    main()
