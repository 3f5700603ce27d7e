"""Captured output as lines: prefixed, escaped, re-encoded, without line ends, or no text at all."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable

import pytest

from roofcast.data.readers import captured
from roofcast.data.readers.captured import LINE_CHARS, NotText, stream_lines

TEXT = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)\n\t Link 3: 26.562 GB/s\n\t Link 4: <inactive>\n"
PREFIXES = {
    "MPI": "[1,0]<stdout>:", "Ray": "(RayTrainWorker pid=123, ip=10.0.0.1) ", "Slurm": "0: ",
    "Kubernetes": "2026-05-01T10:00:00.123456789Z ", "parallel shell": "node01: ", "a mail": "> ",
    "an indent": "      ",
}  # fmt: skip
STORED: dict[str, Callable[[str], bytes]] = {
    "carriage returns": lambda text: text.replace("\n", "\r\n").encode(),
    "UTF-16": lambda text: text.encode("utf-16"),
    "byte order mark": lambda text: text.encode("utf-8-sig"),
    "escape codes": lambda text: f"\x1b[4m{text}\x1b[0m".encode(),
    "one NUL": lambda text: text.encode().replace(b"Link 3", b"\x00Link 3"),
}


def lines(data: bytes) -> list[str]:
    return [line.text.strip() for line in stream_lines(io.BytesIO(data), "f")]


@pytest.mark.parametrize("prefix", PREFIXES.values(), ids=PREFIXES)
def test_a_launchers_prefix_changes_nothing(prefix: str) -> None:
    assert lines("".join(prefix + line for line in TEXT.splitlines(True)).encode()) == lines(TEXT.encode())


@pytest.mark.parametrize("stored", STORED.values(), ids=STORED)
def test_how_a_capture_was_stored_changes_nothing(stored: Callable[[str], bytes]) -> None:
    assert lines(stored(TEXT)) == lines(TEXT.encode())


def test_bytes_that_are_no_utf_8_spoil_their_own_line_alone() -> None:
    assert lines(b"H\xf6st\xff\n" + TEXT.encode())[1:] == lines(TEXT.encode())


def test_a_line_end_between_two_chunks_is_one_line_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captured, "CHUNK_BYTES", 4)
    found = list(stream_lines(io.BytesIO(b"one\r\ntwo\r\nthree"), "f"))
    assert [(line.number, line.text) for line in found] == [(1, "one"), (2, "two"), (3, "three")]


def test_a_line_without_an_end_is_streamed_too() -> None:
    assert max(map(len, lines(b"x" * (3 << 20)))) <= LINE_CHARS


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty"),
        (b" \n\n", "empty"),
        (bytes(range(256)) * 40, "binary"),
        (gzip.compress(TEXT.encode() * 50, mtime=0), "binary"),
    ],
    ids=["empty", "blank", "binary", "packed"],
)
def test_what_is_no_text_is_refused(data: bytes, code: str) -> None:
    with pytest.raises(NotText) as refused:
        lines(data)
    assert refused.value.code == code
