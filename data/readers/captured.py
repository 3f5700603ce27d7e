"""Captured output of tools as clean lines: streamed, with bounded memory, whatever stored it.

Escape codes, carriage returns, byte order marks and the prefixes of launchers (MPI, Slurm, Ray, Kubernetes,
parallel shells) are taken off; bytes that are no UTF-8 become a replacement character.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from typing import IO, NamedTuple

CHUNK_BYTES = 1 << 18
LINE_CHARS = 1 << 14
_BINARY_SHARE = 0.1
_ESCAPE = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z^_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f]")
_PREFIX = re.compile(
    r"^\s*(?:"
    r"\[\d+,\d+\]<std(?:out|err)>:"  # mpirun --tag-output
    r"|\((?:[\w.]+ )?pid=\d+(?:, ip=[\d.]+)?\)"  # Ray
    r"|\d{4}-\d\d-\d\d[T ][\d:.,]+(?:Z|[+-]\d\d:?\d\d)?(?=\s)"  # kubectl logs --timestamps
    r"|\d+:(?=\s.*[A-Za-z#])"  # srun --label
    r"|(?!NIC\d)[A-Za-z][\w.-]*\d[\w.-]*:(?=\s)|[\w.-]+:(?=\s(?:GPU ?\d|\s*Link \d|node \d|#))"  # pdsh, clush
    r"|>(?=\s)"  # quoted in a mail or an issue
    r") ?"
)
_CUT = re.compile(r"^\W{0,3}(?:\.\.\.+|…|\[?\W*(?:snip|truncated|omitted|cut)\b.*)\W{0,3}$", re.IGNORECASE)


class Line(NamedTuple):
    """One line of a capture: file, line number from 1, text."""

    file: str
    number: int
    text: str


class NotText(Exception):
    """The file holds no text; `code` says why: "empty" or "binary"."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def clean(text: str) -> str:
    """Return one line without escape codes, control characters and launchers' prefixes.

    >>> clean("[1,0]<stdout>:\\x1b[4mGPU0\\x1b[0m")
    'GPU0'
    """
    text = _CONTROL.sub("", _ESCAPE.sub("", text)).rstrip()
    for _ in range(3):
        text, found = _PREFIX.subn("", text, count=1)
        if not found:
            break
    return text


def is_cut(text: str) -> bool:
    """Tell whether a line only says that something was left out ("...", "[snip]")."""
    return bool(_CUT.match(text.strip()))


def stream_lines(stream: IO[bytes], name: str) -> Iterator[Line]:
    """Yield the clean lines of an open stream.

    Memory stays within a few chunks of CHUNK_BYTES whatever its size; a line longer than LINE_CHARS is split.
    Raises NotText where it is empty or binary.
    """
    head = stream.read(CHUNK_BYTES)
    if not head.strip():
        raise NotText("empty")
    wide = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if not wide and _is_binary(head[:8192]):
        raise NotText("binary")
    encoded = codecs.getincrementaldecoder("utf-16" if wide else "utf-8-sig")("replace")
    decoder = io.IncrementalNewlineDecoder(encoded, translate=True)
    number, rest, chunk = 0, "", head
    while chunk:
        *whole, rest = (rest + decoder.decode(chunk)).split("\n")
        if len(rest) > LINE_CHARS:
            whole, rest = [*whole, rest], ""
        for text in whole:
            number += 1
            for start in range(0, max(len(text), 1), LINE_CHARS):
                yield Line(name, number, clean(text[start : start + LINE_CHARS]))
        chunk = stream.read(CHUNK_BYTES)
    yield Line(name, number + 1, clean((rest + decoder.decode(b"", final=True))[:LINE_CHARS]))


def _is_binary(head: bytes) -> bool:
    """Tell whether bytes look like no text at all: NULs, or many control characters."""
    odd = sum(byte < 9 or 13 < byte < 27 or 27 < byte < 32 for byte in head)
    return b"\x00\x00" in head or odd > _BINARY_SHARE * len(head)
