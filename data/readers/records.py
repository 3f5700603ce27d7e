"""Files of any origin: JSON results one by one, text line by line.

A result with its requests' details is mostly long lists, of which a reader wants nothing: they are emptied
before the parser, which takes what tools really write (`Infinity`, several records in a file), sees them.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import BadRows
from .base import Record

FILE_BYTES = 1 << 29
HEAD_BYTES = 1 << 16
MOST_BROKEN = 1000
LIST_BYTES = 1 << 10  # lists of numbers and texts that are longer than this are emptied

_PACKED = {
    b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ": "xz",
    b"BZh": "bzip2", b"7z\xbc\xaf": "7z", b"PAR1": "Parquet", b"SQLite format 3": "SQLite",
}  # fmt: skip
_STRING = rb'"(?:[^"\\]++|\\.)*+"?'  # a torn one reaches to the end
_STRING_OR_LIST = re.compile(rb"(?s)" + _STRING + rb'|\[(?:[^\[\]{}"]++|' + _STRING + rb")*+\]")
_BEGINNING = re.compile(r'[^ \t\r\n,\x1e\ufeff][^"\[\]{}\n]{0,28}')  # of a record, or of what is none
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
_NEXT_LINE = re.compile(r"\n(?=\{)")


def unread(path: Path, reason: str, line: int = 0) -> BadRows:
    """Return the refusal of a whole file, for what stands in a line of it or for itself."""
    return BadRows(path, [(line, reason)])


def head(path: Path) -> str:
    """Return the first 64 KiB as text.

    Raises BadRows where there is no plain text file: missing, empty, too large, packed, binary, not UTF-8.
    """
    if not path.is_file():
        raise unread(path, "not a regular file" if path.exists() else "no such file")
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            first = stream.read(HEAD_BYTES)
    except OSError as error:
        raise unread(path, f"cannot be read: {error.strerror}") from None
    text = first.decode("utf-8", errors="replace").removeprefix("\ufeff")
    packed = next((name for magic, name in _PACKED.items() if first.startswith(magic)), "")
    if packed:
        raise unread(path, f"a {packed} file: give the tool's file itself, unpacked")
    if b"\0" in first:
        raise unread(path, "binary, or text that is not UTF-8")
    if not _BEGINNING.search(text):
        raise unread(path, "empty file")
    if size > FILE_BYTES:
        most = FILE_BYTES >> 20
        raise unread(path, f"{size >> 20} MiB, more than {most}: leave the requests' details out")
    return text


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number, line without its end). Raises BadRows for what is not UTF-8."""
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise unread(path, f"not UTF-8 at byte {error.start}: save it as UTF-8", number) from None
            yield number, text.rstrip("\r\n")


def json_records(path: Path) -> Iterator[tuple[int, Record | str]]:
    """Yield (line, record) of each JSON object in the file, (line, reason) of what is none.

    The records of a file are its top-level objects, one after another or in one list. Raises BadRows for text
    between records.
    """
    short = _STRING_OR_LIST.sub(_emptied, path.read_bytes())
    text = short.decode("utf-8", errors="surrogateescape")
    end, line, listed, broken, decoder = 0, 1, False, 0, json.JSONDecoder(object_pairs_hook=_once)
    while found := _BEGINNING.search(text, end):
        start, character = found.start(), found[0][0]
        line += text.count("\n", end, start)
        end = start + 1
        if character == ("]" if listed else "["):
            listed = not listed
            continue
        if character not in "[{":
            closing = f"'{character}' that closes nothing"
            raise unread(path, closing if character in "]}" else f"not JSON: '{found[0].rstrip()}'", line)
        try:
            record, end = decoder.raw_decode(text, start)
            if _NOT_UTF8.search(text, start, end):
                record = "not JSON: not UTF-8"
            yield line, record if isinstance(record, dict | str) else "a JSON value, but no object"
        except (ValueError, RecursionError) as error:  # a torn line must not take the next ones with it
            yield line, f"not JSON: {_reason(error, text, start)}"
            broken += 1
            if broken > MOST_BROKEN:
                raise unread(path, f"the {broken}th record that is no JSON", line) from None
            following = _NEXT_LINE.search(text, start)
            end = following.end() if following else len(text)
            listed = listed and following is not None
        line += text.count("\n", start, end)
    if listed:
        yield line, "ends inside a list: the file is cut off"


def _emptied(found: re.Match[bytes]) -> bytes:
    whole = found[0]
    if len(whole) <= LIST_BYTES or whole[:1] == b'"':
        return whole
    return b"[" + b"\n" * whole.count(b"\n") + b"]"


def _reason(error: Exception, text: str, start: int) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, json.JSONDecodeError):  # its place within the record
        error = json.JSONDecodeError(error.msg, text[start : error.pos + 1], error.pos - start)
    return str(error)[:80]


def _once(pairs: list[tuple[str, Any]]) -> Record:
    record = dict(pairs)
    if len(record) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"'{twice[:40]}' stands twice")
    return record
