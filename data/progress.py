"""How long work tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, float], None]  # what is done now, and the share of the whole that is done, 0 to 1


def silent(what: str, share: float) -> None:
    """Tell nobody."""


def within(progress: Progress, low: float, high: float) -> Progress:
    """Return the progress of a part of the work, which is `low` to `high` of the whole.

    >>> within(lambda what, share: print(what, share), 0.5, 1.0)("fold 1 of 2", 0.5)
    fold 1 of 2 0.75
    """
    return lambda what, share: progress(what, low + (high - low) * share)
