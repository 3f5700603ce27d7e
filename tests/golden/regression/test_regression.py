"""A fixed set of questions is answered as before; python replay.py SECTION writes answers that are meant."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import pytest

from .replay import HERE, SECTIONS, read, replayed

pytestmark = pytest.mark.xdist_group("regression")

RELATIVE, ABSOLUTE, SINGLE_PRECISION = 1e-9, 1e-12, 2e-7  # a sweep stores single precision
SHOWN = 12
# The fabric check's words may change where its verdicts do not.
PROSE = {"reason", "found", "expected", "why", "missing", "next_command", "note", "notes", "err", "source"}


def leaves(value: Any, skipped: set[str], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every plain value within a value with the way to it; an empty list or mapping is one."""
    if isinstance(value, dict | list) and value:
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        for name, entry in entries:
            if name not in skipped:
                yield from leaves(entry, skipped, f"{path}.{name}")
    else:
        yield path, value


def same(old: Any, new: Any, relative: float) -> bool:
    if isinstance(old, bool) or not isinstance(old, int | float) or not isinstance(new, int | float):
        return type(old) is type(new) and bool(old == new)
    both_missing = math.isnan(old) and math.isnan(new)
    return both_missing or math.isclose(old, new, rel_tol=relative, abs_tol=ABSOLUTE)


@pytest.mark.parametrize("section", SECTIONS)
def test_answers_are_as_before(section: str, request: pytest.FixtureRequest) -> None:
    if SECTIONS[section][1]:
        request.getfixturevalue("shared_root")
    before, answers = read(HERE / f"{section}.json.gz"), replayed(section)
    relative = SINGLE_PRECISION if section == "sweep" else RELATIVE
    skipped = PROSE if section == "fabric" else set()
    assert len(answers) == len(before["answers"])
    found = []
    for asked, old, new in zip(before["inputs"], before["answers"], answers, strict=True):
        was, now = dict(leaves(old, skipped)), dict(leaves(new, skipped))
        ways = [w for w in dict.fromkeys((*was, *now)) if not same(was.get(w), now.get(w), relative)]
        changes = [f"  {way}: {was.get(way)!r} -> {now.get(way)!r}" for way in ways[:SHOWN]]
        found += [f"{json.dumps(asked)[:600]}: {len(ways)} differ", *changes] if ways else []
    assert not found, "\n".join(found[: 10 * SHOWN])
