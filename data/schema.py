"""Old names of the columns and checks, for modules that have not moved yet."""

from __future__ import annotations

from .columns import COLUMNS as _TABLE
from .columns import STORED, STORED_NUMBERS, STORED_TEXTS
from .measurements import complete, joined, typed, validate
from .measurements import faults as _faults

__all__ = [
    "ALLOWED",
    "COLUMNS",
    "POOL_COLUMNS",
    "RANGES",
    "TARGETS",
    "complete",
    "faults",
    "typed",
    "validate",
]
TEXT_COLUMNS, NUMERIC_COLUMNS, COLUMNS = list(STORED_TEXTS), list(STORED_NUMBERS), list(STORED)
POOL_COLUMNS = [
    f"{p}_{what}" for p in ("prefill", "decode") for what in ("gpus", "tp", "ep", "dp", "workers")
]
TARGETS = ("output_tok_s", "ttft_ms", "tpot_ms")
ALLOWED = {name: column.allowed for name, column in _TABLE.items() if column.allowed and column.stored}
RANGES = {n: (c.low, c.high) for n, c in _TABLE.items() if not c.is_text and (c.low, c.high) != (0.0, 1e12)}


def faults(rows):  # type: ignore[no-untyped-def]
    """Return (position, reason) of every row that breaks the schema."""
    return [(position, joined(found)) for position, found in _faults(rows).items()]
