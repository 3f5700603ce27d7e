"""The answers of today's code are those frozen beside this file: a change of structure changes none.

After a change that is meant to change answers: python tests/golden/freeze/make_freeze.py writes them anew.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.xdist_group("freeze")

HERE = Path(__file__).resolve().parent
RELATIVE, ABSOLUTE = 1e-9, 1e-12
SINGLE_PRECISION = 2e-7  # what a sweep stores
SHOWN = 12
# What the fabric check says in prose is kept with its verdicts but may be reworded.
UNCOMPARED = {
    "fabric": {
        "reason",
        "found",
        "expected",
        "why",
        "missing",
        "next_command",
        "note",
        "notes",
        "err",
        "source",
    },
}
Leaf = tuple[str, Any]
Compare = Callable[..., None]


def read(path: Path) -> Any:
    return json.loads(gzip.decompress(path.read_bytes()))


def leaves(value: Any, uncompared: set[str], path: str = "") -> Iterator[Leaf]:
    """Yield every plain value within a value with the way to it; an empty list or mapping is one."""
    if isinstance(value, dict) and value:
        for name, entry in value.items():
            if name not in uncompared:
                yield from leaves(entry, uncompared, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value:
        for place, entry in enumerate(value):
            yield from leaves(entry, uncompared, f"{path}[{place}]")
    else:
        yield path, value


def same(old: Any, new: Any, relative: float) -> bool:
    if isinstance(old, bool) or isinstance(new, bool) or not isinstance(old, int | float):
        return type(old) is type(new) and bool(old == new)
    if not isinstance(new, int | float):
        return False
    both_missing = math.isnan(old) and math.isnan(new)
    return both_missing or math.isclose(old, new, rel_tol=relative, abs_tol=ABSOLUTE)


def differences(old: Any, new: Any, uncompared: set[str], relative: float) -> list[tuple[str, Any, Any]]:
    """Return the way, the old and the new value of all that differs; what is not there is "(none)"."""
    before, after = dict(leaves(old, uncompared)), dict(leaves(new, uncompared))
    ways = dict.fromkeys((*before, *after))
    pairs = [(way, before.get(way, "(none)"), after.get(way, "(none)")) for way in ways]
    return [(way, was, now) for way, was, now in pairs if not same(was, now, relative)]


def told(inputs: list[Any], found: dict[int, list[tuple[str, Any, Any]]]) -> str:
    """Say how many answers differ, in which columns, and the first ones with their questions."""
    columns = Counter(way.split("[")[0] for rows in found.values() for way, _, _ in rows)
    lines = [f"{len(found)} of {len(inputs)} answers differ, in {sum(columns.values())} values"]
    lines += [f"  {count} x {name}" for name, count in columns.most_common(SHOWN)]
    for place, rows in list(found.items())[:SHOWN]:
        lines.append(f"question {place}: {json.dumps(inputs[place], ensure_ascii=False)[:600]}")
        lines += [f"  {way}: {was!r} -> {now!r}" for way, was, now in rows[:SHOWN]]
        lines += [f"  and {len(rows) - SHOWN} more"] if len(rows) > SHOWN else []
    return "\n".join(lines)


@pytest.fixture
def unchanged(tmp_path: Path, request: pytest.FixtureRequest) -> Compare:
    """Compare a section's answers, made anew in a process of its own, with the frozen ones."""

    def compare(section: str, relative: float = RELATIVE, needs_shared: bool = False) -> None:
        environment = dict(os.environ)
        if needs_shared:
            environment["ROOFCAST_SHARED"] = str(request.getfixturevalue("shared_root"))
        frozen, answered = HERE / f"{section}.json.gz", tmp_path / "answers.json.gz"
        command = [sys.executable, str(HERE / "replay.py"), str(frozen), str(answered)]
        ran = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert ran.returncode == 0, ran.stderr[-4000:]
        before, answers = read(frozen), read(answered)
        assert len(answers) == len(before["answers"])
        uncompared = UNCOMPARED.get(section, set())
        pairs = enumerate(zip(before["answers"], answers, strict=True))
        all_found = {i: differences(old, new, uncompared, relative) for i, (old, new) in pairs}
        found = {place: rows for place, rows in all_found.items() if rows}
        if found:
            pytest.fail(told(before["inputs"], found), pytrace=False)

    return compare


def test_a_frame_of_requests_is_answered_as_before(unchanged: Compare) -> None:
    unchanged("frame")


def test_requests_on_a_measured_fabric_are_answered_as_before(unchanged: Compare) -> None:
    unchanged("frame_on_measured_fabric")


def test_single_requests_are_answered_or_refused_as_before(unchanged: Compare) -> None:
    unchanged("single")


def test_models_by_size_or_config_are_answered_as_before(unchanged: Compare) -> None:
    unchanged("entered")


def test_recommendations_are_as_before(unchanged: Compare) -> None:
    unchanged("recommend")


def test_explanations_are_as_before(unchanged: Compare) -> None:
    unchanged("explain")


def test_listings_single_claims_and_csv_predictions_are_as_before(unchanged: Compare) -> None:
    unchanged("look")


def test_audited_claims_are_judged_as_before(unchanged: Compare) -> None:
    unchanged("audit")


def test_sweeps_find_the_same_rows_and_fronts(unchanged: Compare) -> None:
    unchanged("sweep", relative=SINGLE_PRECISION)


def test_files_of_real_clients_are_ingested_as_before(unchanged: Compare) -> None:
    unchanged("ingest_real")


def test_collected_result_files_are_ingested_as_before(unchanged: Compare) -> None:
    unchanged("ingest_shared", needs_shared=True)


def test_fabric_captures_get_the_same_verdicts_and_numbers(unchanged: Compare) -> None:
    unchanged("fabric", needs_shared=True)


def test_the_table_is_rebuilt_the_same(unchanged: Compare) -> None:
    unchanged("table", needs_shared=True)
