"""Files as they come: prefixed, escaped, re-encoded, empty, binary, cut, long, mixed."""

from __future__ import annotations

import gzip
import io
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofcast.data.fabric_parts import machine_of
from roofcast.data.readers import captured
from roofcast.data.readers.captured import CHUNK_BYTES, NotText, stream_lines
from roofcast.predictor.fabric import check
from roofcast.predictor.fabric.capture import Capture
from roofcast.predictor.fabric.check import judge

GPU = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)\n"
LINKS = "".join(f"\t Link {n}: 26.562 GB/s\n" for n in range(18))
HEALTHY = GPU + LINKS
DEGRADED = HEALTHY.replace("Link 7: 26.562 GB/s", "Link 7: <inactive>")
PREFIXES = {
    "MPI": "[1,0]<stdout>:",
    "Ray": "(RayTrainWorker pid=123, ip=10.0.0.1) ",
    "Kubernetes": "2026-05-01T10:00:00.123456789Z ",
    "Slurm": "0: ",
    "parallel shell": "node01: ",
    "a mail": "> ",
    "an indent": "      ",
}
WRITERS: dict[str, Callable[[str], bytes]] = {
    "carriage returns": lambda text: text.replace("\n", "\r\n").encode(),
    "UTF-16": lambda text: text.encode("utf-16"),
    "byte order mark": lambda text: text.encode("utf-8-sig"),
    "not UTF-8": lambda text: b"H\xf6st\xff\n" + text.encode(),
    "escape codes": lambda text: f"\x1b[4m{text}\x1b[0m".encode(),
    "one NUL": lambda text: text.encode().replace(b"Link 3", b"\x00Link 3"),
}


@pytest.fixture
def capture(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(data: bytes) -> Path:
        path = tmp_path / "capture"
        path.write_bytes(data)
        return path

    return write


@pytest.mark.parametrize("prefix", PREFIXES.values(), ids=PREFIXES)
@pytest.mark.parametrize("text", [HEALTHY, DEGRADED], ids=["healthy", "degraded"])
def test_a_launchers_prefix_changes_nothing(prefix: str, text: str, capture: Callable[[bytes], Path]) -> None:
    plain = check([capture(text.encode())]).status
    prefixed = "".join(prefix + line for line in text.splitlines(keepends=True))
    assert check([capture(prefixed.encode())]).status == plain


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_how_a_capture_was_stored_changes_nothing(
    write: Callable[[str], bytes], capture: Callable[[bytes], Path]
) -> None:
    assert check([capture(write(HEALTHY))]).status == "healthy"
    assert check([capture(write(DEGRADED))]).status == "degraded"


@pytest.mark.parametrize(
    ("data", "note"),
    [
        (b"", "empty"),
        (b" \n\n", "empty"),
        (bytes(range(256)) * 40, "binary"),
        (gzip.compress(HEALTHY.encode() * 50, mtime=0), "binary"),
        (b"hello\n", "unrecognised"),
        (None, "unreadable"),
    ],
    ids=["empty", "blank", "binary", "packed", "prose", "missing"],
)
def test_what_is_no_capture_ends_in_a_clear_line(
    data: bytes | None, note: str, capture: Callable[[bytes], Path], tmp_path: Path
) -> None:
    path = tmp_path / "missing" if data is None else capture(data)
    verdict = check([path])
    assert verdict.status == "unknown"
    assert verdict.exit_code == 2
    (report,) = verdict.files
    assert [finding.code for finding in report.findings] == [f"file.{note}"]


@pytest.mark.parametrize("cut", range(0, len(DEGRADED), 23))
def test_a_capture_cut_anywhere_is_never_called_degraded_for_what_is_missing(
    cut: int, capture: Callable[[bytes], Path]
) -> None:
    assert check([capture(HEALTHY[:cut].encode())]).status in ("healthy", "unknown")


def test_a_long_log_is_streamed_in_bounded_memory() -> None:
    line = b"host:7:7 [0] NCCL INFO Channel 00/0 : 2[2] -> 3[3] via P2P/CUMEM\n"

    class Endless(io.RawIOBase):
        left = 6 << 20

        def read(self, size: int = -1) -> bytes:
            taken = min(size, self.left)
            self.left -= taken
            return (line * (taken // len(line) + 1))[:taken]

    tracemalloc.start()
    found = Capture("log", Endless())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.log.counts["P2P"] > 80_000
    assert peak < 12 * CHUNK_BYTES


def test_a_line_end_between_two_chunks_is_one_line_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captured, "CHUNK_BYTES", 4)
    found = list(stream_lines(io.BytesIO(b"one\r\ntwo\r\nthree"), "f"))
    assert [(line.number, line.text) for line in found] == [(1, "one"), (2, "two"), (3, "three")]


def test_a_line_without_an_end_is_streamed_too() -> None:
    lines = list(stream_lines(io.BytesIO(b"x" * (3 << 20)), "log"))
    assert max(len(line.text) for line in lines) <= 1 << 14


def test_a_folder_of_mixed_machines_says_so_and_judges_each_by_its_own(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one.txt").write_text(HEALTHY)
    (tmp_path / "two.txt").write_text(HEALTHY.replace("H100 80GB HBM3", "B200").replace("26.562", "53.125"))
    (tmp_path / "readme.md").write_text("captures\n")
    verdict = check([tmp_path])
    assert verdict.status == "healthy"
    assert verdict.gpus == ("b200-sxm", "h100-sxm")
    assert {Path(report.file).name for report in verdict.files} == {"one.txt", "two.txt", "readme.md"}


def test_an_empty_capture_in_a_folder_leaves_the_verdict_open(tmp_path: Path) -> None:
    (tmp_path / "links.txt").write_text(HEALTHY)
    (tmp_path / "topo.txt").write_text("")
    assert check([tmp_path]).status == "unknown"


def test_a_files_name_has_no_say(tmp_path: Path) -> None:
    path = tmp_path / "nvlink__hgx-h100__healthy.txt"
    path.write_text(DEGRADED)
    assert check([path]).status == "degraded"


def _read(data: bytes) -> None:
    try:
        found = Capture("x", io.BytesIO(data))
    except NotText:
        return
    judge([found])
    judge([found], machine_of("hgx-b200"))


@given(st.binary(max_size=2000))
def test_any_bytes_are_read_and_judged_without_a_crash(data: bytes) -> None:
    _read(data)


VOCABULARY = """GPU0 GPU1 GPU 0: X NV18 NV0 SYS NIC0 Link 3: 26.562 GB/s <inactive> Replay Errors: 9e999
    Fabric State : Completed Status Health available: 2 nodes (0-1) node 0 cpus: size: MB distances: 10
    99999999999999999999 NCCL INFO WARN Channel 00/0 0[0] -> 1[1] via P2P/CUMEM SHM nRanks nNodes localRanks
    # Rank device [0x1] nGpus float sum -1 0.00 1e9 healthMask 0xffffffffff AllReduce | 1.0/2.0 Algorithm Ring
    ... 8589934592 -5 nan"""
WORDS = st.sampled_from(VOCABULARY.split())


@given(st.lists(st.lists(WORDS, max_size=14), max_size=12))
def test_any_order_of_the_tools_words_is_judged_without_a_crash(lines: list[list[str]]) -> None:
    _read("\n".join(" ".join(words) for words in lines).encode())


@given(st.integers(0, 2**32), st.integers(1, 30))
def test_damaged_captures_are_judged_without_a_crash(seed: int, edits: int) -> None:
    from pathlib import Path

    shared = Path(__file__).resolve().parents[4] / "shared" / "fabric"
    texts = sorted(shared.glob("*.txt")) if shared.is_dir() else []
    chance = random.Random(seed)
    data = bytearray(chance.choice(texts).read_bytes()[:20000] if texts else DEGRADED.encode())
    for _ in range(edits):
        at = chance.randrange(len(data) + 1)
        kind = chance.randrange(3)
        if kind == 0:
            data[at : at + 1] = bytes([chance.randrange(256)])
        elif kind == 1:
            del data[at : at + chance.randrange(200)]
        else:
            start = chance.randrange(len(data) + 1)
            data[at:at] = data[start : start + chance.randrange(200)]
    _read(bytes(data))
