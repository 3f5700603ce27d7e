"""Files written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


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
