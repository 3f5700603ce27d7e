"""Wrong, cut, huge and hostile files end in a clear report, never in a crash."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roofcast.data.errors import BadRows
from roofcast.data.ingest import settled
from roofcast.data.readers import recognise, records
from roofcast.data.readers.answers import answered
from roofcast.data.store import BenchmarkStore

from .conftest import ANSWERS, FILES, OUTPUT_TOK_S, ReadRows, TakeIn, sample

FUZZ = settings(
    max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        *[(blank, "empty file") for blank in (b"", b" \n\n")],
        *[(other, "no result of a known tool") for other in (b"hello", b"{}", b"[]", b'[{"a": 1}, ')],
        *[(deep * 5000, "nested too deeply") for deep in (b'{"a":', b'{"a":[[[[')],
        *[(torn, "not JSON") for torn in (b'{"a": ', b'{"a": [1, 2')],
        (b"\x00\x01\x02" * 100, "binary"),
        ("model,gpu\n".encode("utf-16"), "binary, or text that is not UTF-8"),
        (gzip.compress(b"{}" * 10_000, mtime=0), "a gzip file"),
        (b"PK\x03\x04" + b"\xff" * 50, "a zip file"),
        (b"a,b\n1,2\n", "a CSV of other columns needs --mapping"),
        (b"model,output_tput\nl\xe9,1\n", "not UTF-8 at byte 1"),
        (b'{"a": 1}]', "closes nothing"),
        (b'{"a": 1} trailing', "not JSON: 'trailing'"),
        (b'{"a": 1, "a": 2}', "'a' stands twice"),
        (b'{"a": ' + b"9" * 6000 + b"}", "Exceeds the limit"),
        (b'[{"a": "\xff\xfe"}]', "not UTF-8"),
        (b"model,output_tput\n" + b"x" * 200_000, "field larger than field limit"),
    ],
)
def test_a_file_that_is_no_result_says_why(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(BadRows) as error:
        recognise.read(path)
    assert reason in str(error.value)


def test_a_folder_a_missing_file_and_one_too_large_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadRows, match="not a regular file"):
        recognise.read(tmp_path)
    with pytest.raises(BadRows, match="no such file"):
        recognise.read(tmp_path / "a")
    monkeypatch.setattr(records, "FILE_BYTES", 1 << 20)
    (tmp_path / "b").write_text("{" + " " * (2 << 20) + "}")
    with pytest.raises(BadRows, match="2 MiB, more than 1"):
        recognise.read(tmp_path / "b")


@pytest.mark.parametrize("name", ["output_throughput", "median_ttft_ms", "completed", "max_concurrency"])
def test_a_hostile_number_never_reaches_the_table(name: str, store: BenchmarkStore, take_in: TakeIn) -> None:
    values = [1e308, -1.0, 0, True, [], {}, "1e400", "١٢", 10**300, "9" * 500, math.nan, -math.inf]
    lines = "\n".join(sample("vllm", {name: value}) for value in values)
    report = take_in(lines, {**ANSWERS, "isl": 1024, "osl": 256})
    assert len(report.files[0].rows) == len(values)
    for column in ("output_tok_s", "ttft_ms", "concurrency"):
        assert store.load()[column].dropna().between(1.0, 1e5).all()


def test_hostile_text_is_stored_as_plain_text(read_rows: ReadRows) -> None:
    (row,) = read_rows(sample("vllm", version="\ud800\x00\x1b[31m" + "v" * 999))
    assert row["engine_version"].isprintable()
    assert len(row["engine_version"]) <= 200


def test_a_torn_line_costs_only_itself(take_in: TakeIn) -> None:
    lines = [sample("vllm", median_ttft_ms=ttft) for ttft in (57.0, 58.0, 59.0)]
    lines[1] = lines[1][:200]
    report = take_in("\n".join(lines), name="a.jsonl")
    fates = [(row.line, row.fate) for row in report.files[0].rows]
    assert fates == [(1, "accepted"), (2, "quarantined"), (3, "accepted")]


def test_the_long_lists_of_every_request_are_emptied_and_lines_still_counted(tmp_path: Path) -> None:
    details = {
        "itls": [[0.0089123] * 255 for _ in range(100)],
        "generated_texts": ['with "quotes", [brackets], {braces} and \\\n' * 20] * 100,
        "errors": [""] * 1500,
    }
    run = json.dumps({**json.loads(sample("vllm")), **details}, indent=1)
    (tmp_path / "a").write_text(f"{run}\n{run}")
    (first, one), (second, _) = records.json_records(tmp_path / "a")
    assert (first, second) == (1, run.count("\n") + 2)
    assert isinstance(one, dict)
    assert [len(json.dumps(one[name])) < 1000 for name in details] == [True, True, True]
    assert one["output_throughput"] == OUTPUT_TOK_S


@FUZZ
@given(content=st.binary(max_size=300) | st.text(alphabet='{}[]":,\\\n01aeE.-', max_size=80).map(str.encode))
def test_any_bytes_are_read_or_refused(content: bytes, tmp_path: Path) -> None:
    _read_or_refuse(content, tmp_path)


HOSTILE = ["NaN", "-Infinity", "1e400", "-1", '""', "null", "[]", "{}", "true", '"=1+1"', '"\\ud800"']
HOSTILE += ["9" * 50, "\n", '"', ",", "}"]
TOOLS = sorted(set(FILES) - {"plain.csv", "plain.toml"})


@FUZZ
@given(data=st.data())
def test_a_damaged_result_is_read_or_refused(data: st.DataObject, tmp_path: Path) -> None:
    content = sample(data.draw(st.sampled_from(TOOLS))).encode()
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        end = start + data.draw(st.integers(0, 40))
        patch = data.draw(st.sampled_from(HOSTILE).map(str.encode) | st.binary(max_size=8))
        content = content[:start] + patch + content[end:]
    _read_or_refuse(content, tmp_path)


@FUZZ
@given(data=st.data())
def test_a_result_of_wrong_types_is_read_or_refused(data: st.DataObject, tmp_path: Path) -> None:
    document = json.loads(sample(data.draw(st.sampled_from([tool for tool in TOOLS if "." not in tool]))))
    values = [None, -1, 1e308, math.nan, "x", [], {}, [1], {"a": 1}, True]
    for _ in range(data.draw(st.integers(1, 5))):
        inner: Any = document
        while isinstance(inner, dict | list) and inner:
            key = data.draw(st.sampled_from(sorted(inner) if isinstance(inner, dict) else range(len(inner))))
            if not isinstance(inner[key], dict | list) or not inner[key] or data.draw(st.booleans()):
                inner[key] = data.draw(st.sampled_from(values))
                break
            inner = inner[key]
    _read_or_refuse(json.dumps(document).encode(), tmp_path)


def _read_or_refuse(content: bytes, tmp_path: Path) -> None:
    """Read a file as ingest does, up to the store; only the documented error may come out."""
    path = tmp_path / "fuzzed"
    path.write_bytes(content)
    try:
        reading = recognise.read(path)
    except BadRows as error:
        refusal = str(error)
    else:
        answers = {**ANSWERS, "model": "llama-3.1-8b", "osl": 256, "isl": 1024}
        drafts = [answered(draft, answers, reading.tool) for draft in reading.drafts]
        assert len(settled(drafts, "fuzzed")) == len(drafts)
        return
    assert refusal.isprintable()
