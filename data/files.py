"""Files written whole or not at all, and JSON that holds no NaN."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Replace `path` by what `write` puts at the path it is given: readers see the old file or the new one.

    Raises what `write` raises, OSError above all; the old file is then as it was.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(fresh)
        with fresh.open("rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """Replace `path` by a file of `text`, as `replace_file` does."""
    replace_file(path, lambda fresh: fresh.write_text(text, encoding="utf-8"))


def for_json(value: Any) -> Any:
    """Return a value of what JSON has words for: None for no number; the key "" of a mapping is "value"."""
    if isinstance(value, Mapping):
        return {str(name) or "value": for_json(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [for_json(entry) for entry in value]
    plain = value.item() if hasattr(value, "item") else value
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain
