"""Files as they come: no capture, cut, long, mixed, damaged."""

from __future__ import annotations

import io
import random
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofcast.data.fabric_parts import machine_of
from roofcast.data.readers.captured import CHUNK_BYTES, NotText
from roofcast.predictor.fabric import check
from roofcast.predictor.fabric.capture import Capture
from roofcast.predictor.fabric.check import judge

LINKS = "".join(f"\t Link {n}: 26.562 GB/s\n" for n in range(18))
HEALTHY = f"GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)\n{LINKS}"
DEGRADED = HEALTHY.replace("Link 7: 26.562 GB/s", "Link 7: <inactive>")


@pytest.mark.parametrize(
    ("data", "code"),
    [(b"", "empty"), (bytes(range(256)) * 40, "binary"), (b"hello\n", "unrecognised"), (None, "unreadable")],
    ids=["empty", "binary", "prose", "missing"],
)
def test_what_is_no_capture_is_unknown_and_says_why(data: bytes | None, code: str, tmp_path: Path) -> None:
    path = tmp_path / "capture"
    if data is not None:
        path.write_bytes(data)
    report = check([path])
    assert (report.status, report.exit_code) == ("unknown", 2)
    assert [finding.code for finding in report.files[0].findings] == [f"file.{code}"]


@pytest.mark.parametrize("cut", range(0, len(DEGRADED), 23))
def test_a_capture_cut_anywhere_is_never_called_degraded_for_what_is_missing(
    cut: int, tmp_path: Path
) -> None:
    (tmp_path / "capture").write_text(HEALTHY[:cut])
    assert check([tmp_path / "capture"]).status in ("healthy", "unknown")


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


def test_a_folder_of_mixed_machines_says_so_and_judges_each_by_its_own(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one.txt").write_text(HEALTHY)
    (tmp_path / "two.txt").write_text(HEALTHY.replace("H100 80GB HBM3", "B200").replace("26.562", "53.125"))
    (tmp_path / "readme.md").write_text("captures\n")
    report = check([tmp_path])
    assert report.status == "healthy"
    assert report.gpus == ("b200-sxm", "h100-sxm")
    assert {Path(report.file).name for report in report.files} == {"one.txt", "two.txt", "readme.md"}


def test_an_empty_capture_in_a_folder_leaves_the_report_open(tmp_path: Path) -> None:
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
