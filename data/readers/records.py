"""Files of any size and origin, read in bounded memory: JSON results one by one, text line by line.

A result with its requests' details may be a gigabyte, of which a reader wants some thirty numbers. The JSON
scanner follows the nesting, keeps each record's text without its long lists, and gives that to the standard
parser, which takes what tools really write (`Infinity`, several records per file) and streaming parsers do
not.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import BadRows

Record = dict[str, Any]

CHUNK_BYTES = 1 << 18
HEAD_BYTES = 1 << 16
LINE_BYTES = 1 << 20
# Lists longer than this are dropped: plain ones, and lists of objects below a record's first level.
LIST_BYTES = 1 << 16
RECORD_BYTES = 1 << 24
DEPTH = 100

_PACKED = {
    b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ": "xz",
    b"BZh": "bzip2", b"7z\xbc\xaf": "7z", b"PAR1": "Parquet", b"SQLite format 3": "SQLite",
}  # fmt: skip
_OUTSIDE = re.compile(rb'["\[\]{}\n]')
_INSIDE = re.compile(rb'["\\]')
_BETWEEN = b" \t\r\n,\x1e\xef\xbb\xbf"


def head(path: Path) -> str:
    """Return the first 64 KiB as text.

    Raises BadRows where there is no plain text file: missing, empty, packed, binary, not UTF-8.
    """
    if not path.is_file():
        raise BadRows(path, [(0, "not a regular file" if path.exists() else "no such file")])
    try:
        with path.open("rb") as stream:
            first = stream.read(HEAD_BYTES)
    except OSError as error:
        raise BadRows(path, [(0, f"cannot be read: {error.strerror}")]) from None
    packed = [name for magic, name in _PACKED.items() if first.startswith(magic)]
    if packed:
        raise BadRows(path, [(0, f"a {packed[0]} file: give the tool's file itself, unpacked")])
    if b"\0" in first:
        raise BadRows(path, [(0, "binary, or text that is not UTF-8")])
    if not first.strip(_BETWEEN):
        raise BadRows(path, [(0, "empty file")])
    return first.decode("utf-8", errors="replace").removeprefix("\ufeff")


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number, line without its end). Raises BadRows for what is not UTF-8 or endless lines."""
    with path.open("rb") as stream:
        number = 0
        while line := stream.readline(LINE_BYTES):
            number += 1
            if len(line) == LINE_BYTES:
                raise BadRows(path, [(number, f"a line longer than {LINE_BYTES >> 20} MiB")])
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise BadRows(
                    path, [(number, f"not UTF-8 at byte {error.start}: save it as UTF-8")]
                ) from None
            yield number, text.rstrip("\r\n")


def json_records(path: Path) -> Iterator[tuple[int, Record | str]]:
    """Yield (line, record) of each JSON object in the file, (line, reason) of what is none.

    The records of a file are its top-level objects, one after another or in one list. Memory: the record's
    text without long lists, 16 MiB at most. Raises BadRows for text between records.
    """
    scanner = _Scanner(path)
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            yield from scanner.feed(chunk)
    yield from scanner.end()


class _Scanner:
    """Where the reading stands: nesting, strings, lines, and the text kept of the current record."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kept = bytearray()
        self.line = self.start = 1
        self.depth = 0
        self.listed = 0  # 1 inside a top-level list
        self.in_string = self.escaped = False
        self.list_at = -1  # where in `kept` the outermost list that may be dropped begins
        self.list_depth = 0
        self.dropping = False

    def feed(self, chunk: bytes) -> Iterator[tuple[int, Record | str]]:
        """Take the next piece of the file; yield the records that end in it."""
        at, mark = int(self.escaped), 0
        self.escaped = False
        while found := (_INSIDE if self.in_string else _OUTSIDE).search(chunk, at):
            at, sign = found.end(), found.group()
            if sign == b"\\":
                self.escaped = at == len(chunk)
                at += 1
            elif sign == b'"':
                self.in_string = not self.in_string
                if self.depth == self.listed:
                    self._between(chunk[mark:at])
            elif sign == b"\n":
                self.line += 1
            elif sign in b"[{":
                mark = self._open(sign, chunk, mark, found.start())
            else:
                mark = self._close(sign, chunk, mark, at)
                if self.kept and self.depth == self.listed:
                    yield from _parsed(bytes(self.kept), self.start)
                    self.kept.clear()
        self._keep(chunk[mark:])

    def end(self) -> Iterator[tuple[int, Record | str]]:
        """Yield what can be read of a record that does not end."""
        if self.kept:
            yield from _parsed(bytes(self.kept), self.start)
        elif self.depth:
            yield self.line, "ends inside a list: the file is cut off"

    def _open(self, sign: bytes, chunk: bytes, mark: int, at: int) -> int:
        self._keep(chunk[mark:at])
        if self.depth == 0 and sign == b"[" and not self.listed:
            self.listed = self.depth = 1
            return at + 1
        if self.depth == self.listed:
            self.start = self.line
        self.depth += 1
        if self.depth > DEPTH:
            raise BadRows(self.path, [(self.line, f"nested deeper than {DEPTH}")])
        first_level = self.depth == self.listed + 2
        if sign == b"[" and self.list_at < 0 and self.depth > self.listed + 1:
            objects = chunk[at + 1 : at + 64].lstrip().startswith(b"{")
            if not (objects and first_level):
                self.list_at, self.list_depth = len(self.kept), self.depth
        return at

    def _close(self, sign: bytes, chunk: bytes, mark: int, at: int) -> int:
        if self.depth == self.listed:
            if not (sign == b"]" and self.listed):
                raise BadRows(self.path, [(self.line, f"'{sign.decode()}' that closes nothing")])
            self._keep(chunk[mark : at - 1])
            self.listed = self.depth = 0
            return at
        self._keep(chunk[mark:at])
        if self.list_at >= 0 and self.depth == self.list_depth:
            if self.dropping or len(self.kept) - self.list_at > LIST_BYTES:
                del self.kept[self.list_at :]
                self.kept += b"[]"
            self.list_at, self.dropping = -1, False
        self.depth -= 1
        return at

    def _keep(self, piece: bytes) -> None:
        if self.depth == self.listed:
            self._between(piece)
            return
        if not self.dropping:
            self.kept += piece
            if self.list_at >= 0 and len(self.kept) - self.list_at > LIST_BYTES:
                del self.kept[self.list_at :]
                self.dropping = True
        if len(self.kept) > RECORD_BYTES:
            raise BadRows(self.path, [(self.start, f"a record larger than {RECORD_BYTES >> 20} MiB")])

    def _between(self, piece: bytes) -> None:
        if piece.strip(_BETWEEN):
            words = piece.strip()[:30].decode("utf-8", errors="replace")
            raise BadRows(self.path, [(self.line, f"not JSON: '{words}'")])


def _parsed(text: bytes, line: int) -> Iterator[tuple[int, Record | str]]:
    """Parse one record; a torn line of a file with a record per line must not take the next ones with it."""
    try:
        record = json.loads(text.decode("utf-8"), object_pairs_hook=_once)
        yield line, record if isinstance(record, dict) else "a JSON value, but no object"
    except (ValueError, RecursionError) as error:
        first, *rest = re.split(rb"\n(?=\{)", text)
        yield line, f"not JSON: {_words(error)}"
        for piece in rest:
            line += first.count(b"\n") + 1
            first = piece
            try:
                yield line, json.loads(piece.decode("utf-8"), object_pairs_hook=_once)
            except (ValueError, RecursionError) as worse:
                yield line, f"not JSON: {_words(worse)}"


def _words(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)[:80]


def _once(pairs: list[tuple[str, Any]]) -> Record:
    record = dict(pairs)
    if len(record) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"'{twice[:40]}' stands twice")
    return record
