"""`python -m roofcast.predictor` is the command `roofcast`."""

from __future__ import annotations

from .cli import main

if __name__ == "__main__":
    main()
