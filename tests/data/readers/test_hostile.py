"""Wrong, cut, huge and hostile files end in a clear report, never in a crash."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roofcast.data.errors import BadRows
from roofcast.data.readers import records, registry
from roofcast.data.readers.ingest import IngestReport, _answered, settled
from roofcast.data.store import BenchmarkStore

TakeIn = Callable[..., IngestReport]
FUZZ = settings(
    max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b" \n\n", "empty file"),
        (b"\x00\x01\x02" * 100, "binary"),
        ("model,gpu\n".encode("utf-16"), "binary, or text that is not UTF-8"),
        (gzip.compress(b"{}" * 10_000, mtime=0), "a gzip file"),
        (b"PK\x03\x04" + b"\xff" * 50, "a zip file"),
        (b"hello", "no result of a known tool"),
        (b"a,b\n1,2\n", "a CSV of other columns needs --mapping"),
        (b"model,output_tput\nl\xe9,1\n", "not UTF-8 at byte 1"),
        (b"{}", "no result of a known tool"),
        (b"[]", "no result of a known tool"),
        (b'{"a": ', "not JSON"),
        (b'{"a": [1, 2', "not JSON"),
        (b'{"a": 1}]', "closes nothing"),
        (b'{"a": 1} trailing', "not JSON: 'trailing'"),
        (b'{"a":' * 5000, "nested deeper than 100"),
        (b'{"a":' + b"[" * 5000, "nested deeper than 100"),
        (b'{"a": 1, "a": 2}', "'a' stands twice"),
        (b'{"a": ' + b"9" * 6000 + b"}", "Exceeds the limit"),
        (b'{"a": "' + b"x" * (records.RECORD_BYTES + 1) + b'"}', "a record larger than 16 MiB"),
        (b'[{"a": "\xff\xfe"}]', "not UTF-8"),
        (b"model,output_tput\n" + b"x" * (records.LINE_BYTES + 1), "a line longer than 1 MiB"),
    ],
)
def test_a_file_that_is_no_result_says_why(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(BadRows) as error:
        registry.read(path)
    assert reason in str(error.value)


def test_a_folder_and_a_missing_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadRows, match="not a regular file"):
        registry.read(tmp_path)
    with pytest.raises(BadRows, match="no such file"):
        registry.read(tmp_path / "a")


@pytest.mark.parametrize("name", ["output_throughput", "median_ttft_ms", "completed", "max_concurrency"])
def test_a_hostile_number_never_reaches_the_table(
    name: str, build: SimpleNamespace, store: BenchmarkStore, take_in: TakeIn
) -> None:
    values = [1e308, -1.0, 0, True, [], {}, "1e400", "١٢", 10**300, "9" * 500, float("nan"), float("-inf")]
    lines = "\n".join(json.dumps(build.vllm(**{name: value})) for value in values)
    report = take_in(lines, {**build.ANSWERS, "isl": 1024, "osl": 256})
    assert len(report.files[0].rows) == len(values)
    stored = store.load()
    for column in ("output_tok_s", "ttft_ms", "concurrency"):
        known = stored[column].dropna()
        assert known.between(1.0, 1e5).all()


def test_hostile_text_is_stored_as_plain_words(
    build: SimpleNamespace, store: BenchmarkStore, take_in: TakeIn
) -> None:
    take_in(json.dumps(build.vllm(version="\ud800\x00\x1b[31m" + "v" * 999)))
    (version,) = store.load()["engine_version"]
    assert version.isprintable()
    assert len(version) <= 200


def test_a_torn_line_costs_only_itself(build: SimpleNamespace, take_in: TakeIn) -> None:
    lines = [json.dumps(build.vllm(median_ttft_ms=ttft)) for ttft in (57.0, 58.0, 59.0)]
    lines[1] = lines[1][:200]
    report = take_in("\n".join(lines), name="a.jsonl")
    assert [(row.line, row.fate) for row in report.files[0].rows] == [
        (1, "accepted"), (2, "quarantined"), (3, "accepted"),
    ]  # fmt: skip


def test_a_result_with_every_request_in_it_is_read_in_bounded_memory(
    build: SimpleNamespace, tmp_path: Path
) -> None:
    path = tmp_path / "big.json"
    itls = [[0.0089123] * 255 for _ in range(1500)]
    texts = ['with "quotes", [brackets] and {braces}\n' * 20] * 1500
    path.write_text(json.dumps(build.vllm(itls=itls, generated_texts=texts, errors=[""] * 1500)))
    del itls, texts
    assert path.stat().st_size > 4e6
    tracemalloc.start()
    try:
        reading = registry.read(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reading.drafts[0]["output_tput"] == build.OUTPUT_TOK_S
    assert peak < 3e6


@FUZZ
@given(content=st.binary(max_size=300) | st.text(alphabet='{}[]":,\\\n01aeE.-', max_size=80).map(str.encode))
def test_any_bytes_are_read_or_refused(content: bytes, tmp_path: Path) -> None:
    _read_or_refuse(content, tmp_path)


HOSTILE = [
    "NaN",
    "-Infinity",
    "1e400",
    "-1",
    '""',
    "null",
    "[]",
    "{}",
    "true",
    '"=1+1"',
    '"\\ud800"',
    "9" * 50,
    "\n",
    '"',
    ",",
    "}",
]


@FUZZ
@given(data=st.data())
def test_a_damaged_result_is_read_or_refused(
    data: st.DataObject, samples: dict[str, bytes], tmp_path: Path
) -> None:
    content = samples[data.draw(st.sampled_from(sorted(samples)))]
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        end = start + data.draw(st.integers(0, 40))
        patch = data.draw(st.sampled_from(HOSTILE).map(str.encode) | st.binary(max_size=8))
        content = content[:start] + patch + content[end:]
    _read_or_refuse(content, tmp_path)


@FUZZ
@given(data=st.data())
def test_a_result_of_wrong_types_is_read_or_refused(
    data: st.DataObject, samples: dict[str, bytes], tmp_path: Path
) -> None:
    texts = ("aiperf_csv", "trtllm_log", "mlperf", "csv")
    document = json.loads(samples[data.draw(st.sampled_from(sorted(set(samples) - set(texts))))])
    for _ in range(data.draw(st.integers(1, 5))):
        place: Any = document
        while isinstance(place, dict | list) and place:
            key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
            if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
                place[key] = data.draw(
                    st.sampled_from([None, -1, 1e308, float("nan"), "x", [], {}, [1], {"a": 1}, True])
                )
                break
            place = place[key]
    _read_or_refuse(json.dumps(document).encode(), tmp_path)


def _read_or_refuse(content: bytes, tmp_path: Path) -> None:
    """Read a file as ingest does, up to the store; only the documented error may come out."""
    path = tmp_path / "fuzzed"
    path.write_bytes(content)
    try:
        reading = registry.read(path)
    except BadRows as error:
        refusal = str(error)
    else:
        _settle(reading)
        return
    assert refusal.isprintable()


def _settle(reading: registry.Reading) -> None:
    answers = {"gpu": "h100-sxm", "model": "llama-3.1-8b", "engine": "vllm", "tp": 1, "osl": 256, "isl": 1024}
    drafts = [_answered(draft, answers, reading.tool) for draft in reading.drafts]
    if drafts:
        rows = settled(drafts, "fuzzed")
        assert len(rows) == len(drafts)
