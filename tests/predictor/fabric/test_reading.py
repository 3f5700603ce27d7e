"""Files as they come: no capture, cut, long, mixed, damaged."""

from __future__ import annotations

import io
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

from .test_captures import DEGRADED, H100, HEALTHY, UNKNOWN, status

LINKS = status(H100, 1, 18, 26.562)
INACTIVE = status(H100, 1, 18, 26.562, gpu0=[7])


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


def test_a_capture_cut_anywhere_is_never_called_degraded_for_what_is_missing(tmp_path: Path) -> None:
    for cut in range(0, len(LINKS), 23):
        (tmp_path / "capture").write_text(LINKS[:cut])
        assert check([tmp_path / "capture"]).status in ("healthy", "unknown"), cut


def test_a_long_log_is_streamed_in_bounded_memory() -> None:
    line = b"host:7:7 [0] NCCL INFO Channel 00/0 : 2[2] -> 3[3] via P2P/CUMEM\n"

    class Endless(io.RawIOBase):
        left = 3 << 20

        def read(self, size: int = -1) -> bytes:
            taken = min(size, self.left)
            self.left -= taken
            return (line * (taken // len(line) + 1))[:taken]

    tracemalloc.start()
    found = Capture("log", Endless())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.log.counts["P2P"] > 40_000
    assert peak < 12 * CHUNK_BYTES


def test_a_folder_of_mixed_machines_says_so_and_judges_each_by_its_own(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one.txt").write_text(LINKS)
    (tmp_path / "two.txt").write_text(status("NVIDIA B200", 1, 18, 53.125))
    (tmp_path / "readme.md").write_text("captures\n")
    report = check([tmp_path])
    assert (report.status, report.gpus) == ("healthy", ("b200-sxm", "h100-sxm"))
    assert {Path(report.file).name for report in report.files} == {"one.txt", "two.txt", "readme.md"}
    (tmp_path / "empty.txt").write_text("")
    assert check([tmp_path]).status == "unknown"


def test_a_files_name_has_no_say(tmp_path: Path) -> None:
    path = tmp_path / "nvlink__hgx-h100__healthy.txt"
    path.write_text(INACTIVE)
    assert check([path]).status == "degraded"


VOCABULARY = """GPU0 GPU1 GPU 0: X NV18 NV0 SYS NIC0 Link 3: 26.562 GB/s <inactive> Replay Errors: 9e999
    Fabric State : Completed Status Health available: 2 nodes (0-1) node 0 cpus: size: MB distances: 10
    99999999999999999999 NCCL INFO WARN Channel 00/0 0[0] -> 1[1] via P2P/CUMEM SHM nRanks nNodes localRanks
    # Rank device [0x1] nGpus float sum -1 0.00 1e9 healthMask 0xffffffffff AllReduce | 1.0/2.0 Algorithm Ring
    ... 8589934592 -5 nan"""
WORDS = st.lists(st.lists(st.sampled_from(VOCABULARY.split()), max_size=14).map(" ".join), max_size=12)
CAPTURES = [text.encode() for cases in (HEALTHY, DEGRADED, UNKNOWN) for text in cases.values()]
# A place in the capture, how many bytes go from there, and what stands there instead.
EDITS = st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 200), st.binary(max_size=20)), max_size=30)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(CAPTURES)))
    for at, gone, instead in draw(EDITS):
        start = at % (len(data) + 1)
        data[start : start + gone] = instead
    return bytes(data)


KINDS = {
    "any bytes": st.binary(max_size=2000),
    "the tools' words": WORDS.map(lambda lines: "\n".join(lines).encode()),
    "damaged captures": damaged(),
}


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_whatever_a_file_holds_is_judged_without_a_crash(kind: str, data: st.DataObject) -> None:
    try:
        found = Capture("x", io.BytesIO(data.draw(KINDS[kind])))
    except NotText:
        return
    judge([found])
    judge([found], machine_of("hgx-b200"))
