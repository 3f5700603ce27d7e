"""The benchmark store: what goes in comes out, and no crash loses a row."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from roofcast.data.errors import BadRows, BadStore
from roofcast.data.store import STORE_VARIABLE, BenchmarkStore, fingerprint

ROW = {
    "source": "mine", "gpu": "h100-sxm", "model": "llama-3.1-8b", "engine": "vllm", "mode": "closed-loop",
    "num_gpus": 1, "tp": 1, "isl": 1024.0, "osl": 128.0, "tpot_ms": 7.5,
}  # fmt: skip


def rows(count: int, start: int = 1) -> pd.DataFrame:
    return pd.DataFrame([{**ROW, "concurrency": float(start + i)} for i in range(count)])


@pytest.fixture
def store(tmp_path: Path) -> BenchmarkStore:
    made = BenchmarkStore.create(tmp_path / "mine.parquet", pd.DataFrame(columns=[*ROW, "row_id"]))
    made.append(rows(5))
    return made


def test_the_environment_variable_names_the_store_and_the_shipped_table_is_not_appended_to(
    store: BenchmarkStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STORE_VARIABLE, str(store.path))
    assert len(BenchmarkStore().load()) == 5
    empty, none = partial(monkeypatch.setenv, STORE_VARIABLE, ""), partial(monkeypatch.delenv, STORE_VARIABLE)
    for change in (empty, none):
        change()
        with pytest.raises(BadStore, match="read-only"):
            BenchmarkStore().append(rows(1))


def test_a_store_starts_with_valid_rows_or_the_shipped_ones(tmp_path: Path) -> None:
    with pytest.raises(BadRows, match="tpot_ms"):
        BenchmarkStore.create(tmp_path / "a.parquet", rows(1).assign(tpot_ms=-1.0))
    assert not (tmp_path / "a.parquet").exists()
    copy = BenchmarkStore.create(tmp_path / "b.parquet")
    assert copy.snapshot()[1] == BenchmarkStore(BenchmarkStore().path).snapshot()[1]


def test_new_rows_are_added_and_known_ones_counted_by_the_catalogues_names(store: BenchmarkStore) -> None:
    report = store.append(rows(7).assign(gpu="H100", model="meta-llama/Llama-3.1-8B-Instruct"))
    assert (report.added, report.duplicates, report.rejected) == (2, 5, 0)
    table = store.load()
    assert (len(table), table["config_group"].nunique()) == (7, 7)
    assert table[["gpu", "model"]].drop_duplicates().to_numpy().tolist() == [["h100-sxm", "llama-3.1-8b"]]


@pytest.mark.parametrize(("column", "value"), [("gpu", "h1000-sxm"), ("model", "llama-9-8b"), ("osl", -4.0)])
def test_a_bad_row_goes_to_the_quarantine_once_with_its_reason(
    store: BenchmarkStore, column: str, value: object
) -> None:
    given = rows(3, start=20)
    given.loc[1, column] = value
    report = store.append(given, file="night.csv")
    assert (report.added, report.rejected, list(report.reason_of)) == (2, 1, [1])
    store.append(given, file="night.csv")
    kept = store.quarantine()
    assert kept[["file", "line"]].to_numpy().tolist() == [["night.csv", 2]]
    assert str(value) in kept["reason"].iloc[0]
    report = store.append(rows(3, start=30), rejected={1: "too fast"})  # and what the caller refuses
    assert (report.added, report.rejected, report.reason_of) == (2, 1, {1: "too fast"})
    assert store.quarantine()["reason"].tolist()[1:] == ["too fast"]


def test_unknown_columns_are_refused_before_anything_is_written(store: BenchmarkStore) -> None:
    before = store.snapshot()[1]
    with pytest.raises(BadRows, match="unknown column tps"):
        store.append(rows(1).assign(tps=1.0))
    assert store.snapshot()[1] == before


def test_the_fingerprint_is_of_the_content_and_not_of_its_order(store: BenchmarkStore) -> None:
    table = store.load()
    shuffled = table.sample(frac=1.0, random_state=1)[list(reversed(table.columns))]
    changed = table.copy()
    changed.loc[0, "tpot_ms"] += 1e-9
    assert fingerprint(shuffled) == fingerprint(table) == store.snapshot()[1]
    assert fingerprint(changed) != fingerprint(table)


def test_a_truncated_file_is_one_clear_line(store: BenchmarkStore) -> None:
    whole = store.path.read_bytes()
    store.path.write_bytes(whole[: len(whole) // 2])
    for use in (store.load, lambda: store.append(rows(1))):
        with pytest.raises(BadStore, match=r"\A.*not a readable Parquet file.*\Z"):
            use()
    assert store.path.read_bytes() == whole[: len(whole) // 2]


def test_a_foreign_table_and_a_missing_file_are_named(tmp_path: Path) -> None:
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(BadStore, match="not a benchmark table"):
        BenchmarkStore(tmp_path / "other.parquet").load()
    with pytest.raises(BadStore, match="no benchmark store at"):
        BenchmarkStore(tmp_path / "none.parquet").load()
    with pytest.raises(BadStore, match="already"):
        BenchmarkStore.create(tmp_path / "other.parquet")


def test_leftovers_of_a_crash_are_ignored_and_then_cleared(store: BenchmarkStore) -> None:
    leftover = store.path.with_name(f".{store.path.name}.999999.tmp")
    leftover.write_bytes(b"PAR1 half a file")
    assert len(store.load()) == 5
    store.append(rows(1, start=90))
    assert not leftover.exists()
    assert len(store.load()) == 6


KILLED = """
    import os, sys
    import pandas as pd
    from roofcast.data import store

    def stop(source, target):
        print("ready", flush=True)
        sys.stdin.readline()

    store.os.replace = stop
    row = {row!r}
    store.BenchmarkStore({path!r}).append(pd.DataFrame([row]))
"""


def test_a_process_killed_in_the_middle_of_an_append_loses_nothing(store: BenchmarkStore) -> None:
    before = store.snapshot()[1]
    script = textwrap.dedent(KILLED).format(row={**ROW, "concurrency": 77.0}, path=str(store.path))
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
        os.kill(process.pid, signal.SIGKILL)
    assert list(store.path.parent.glob(".*.tmp"))
    assert store.snapshot()[1] == before
    assert store.append(pd.DataFrame([{**ROW, "concurrency": 77.0}])).added == 1
    assert not list(store.path.parent.glob(".*.tmp"))


def _append_one(path: Path, number: int) -> None:
    BenchmarkStore(path).append(rows(1, start=number))


def test_concurrent_writers_lose_no_row(store: BenchmarkStore) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_append_one, args=(store.path, 100 + i)) for i in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert {writer.exitcode for writer in writers} == {0}
    assert len(store.load()) == 8
