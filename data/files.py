"""Files and folders written whole or not at all, and JSON that holds no NaN."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
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
        _flush(fresh)
        os.replace(fresh, path)
        _flush(path.parent)
    finally:
        fresh.unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """Replace `path` by a file of `text`, as `replace_file` does."""
    replace_file(path, lambda fresh: fresh.write_text(text, encoding="utf-8", newline="\n"))


def replace_folder(path: Path, texts: Mapping[str, str]) -> None:
    """Replace the folder `path` by one of these files. Raises OSError; the old folder is then as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    old = fresh.with_name(f"{fresh.name}.old")
    try:
        fresh.chmod(0o755)
        for name, text in texts.items():
            replace_text(fresh / name, text)
        if path.exists():
            path.rename(old)  # a full folder cannot be renamed over
        try:
            fresh.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _flush(path: Path) -> None:
    """Wait until a file or a folder's list of files lies on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def for_json(value: Any) -> Any:
    """Return a value of what JSON has words for: None for no number; the key "" of a mapping is "value"."""
    if isinstance(value, Mapping):
        return {str(name) or "value": for_json(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [for_json(entry) for entry in value]
    plain = value.item() if hasattr(value, "item") else value
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain
