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

Record = dict[str, Any]

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
_BETWEEN = re.compile("[ \t\r\n,\x1e\ufeff]*")
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
_NEXT_LINE = re.compile(r"\n(?=\{)")


def head(path: Path) -> str:
    """Return the first 64 KiB as text.

    Raises BadRows where there is no plain text file: missing, empty, too large, packed, binary, not UTF-8.
    """
    if not path.is_file():
        raise BadRows(path, [(0, "not a regular file" if path.exists() else "no such file")])
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            first = stream.read(HEAD_BYTES)
    except OSError as error:
        raise BadRows(path, [(0, f"cannot be read: {error.strerror}")]) from None
    packed = [name for magic, name in _PACKED.items() if first.startswith(magic)]
    if packed:
        raise BadRows(path, [(0, f"a {packed[0]} file: give the tool's file itself, unpacked")])
    if b"\0" in first:
        raise BadRows(path, [(0, "binary, or text that is not UTF-8")])
    text = first.decode("utf-8", errors="replace").removeprefix("\ufeff")
    if _BETWEEN.fullmatch(text):
        raise BadRows(path, [(0, "empty file")])
    if size > FILE_BYTES:
        raise BadRows(
            path, [(0, f"{size >> 20} MiB, more than {FILE_BYTES >> 20}: leave the requests' details out")]
        )
    return text


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number, line without its end). Raises BadRows for what is not UTF-8."""
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                reason = f"not UTF-8 at byte {error.start}: save it as UTF-8"
                raise BadRows(path, [(number, reason)]) from None
            yield number, text.rstrip("\r\n")


def json_records(path: Path) -> Iterator[tuple[int, Record | str]]:
    """Yield (line, record) of each JSON object in the file, (line, reason) of what is none.

    The records of a file are its top-level objects, one after another or in one list. Raises BadRows for text
    between records.
    """
    short = _STRING_OR_LIST.sub(_emptied, path.read_bytes())
    text = short.decode("utf-8", errors="surrogateescape")
    at, line, listed, broken, decoder = 0, 1, False, 0, json.JSONDecoder(object_pairs_hook=_once)
    while True:
        start = _between(text, at)
        line += text.count("\n", at, start)
        at = start
        if at == len(text):
            break
        if text[at] in "[]" and (text[at] == "]") == listed:
            listed, at = not listed, at + 1
            continue
        if text[at] not in "[{":
            closing = text[at] in "]}"
            reason = f"'{text[at]}' that closes nothing" if closing else f"not JSON: '{_beginning(text, at)}'"
            raise BadRows(path, [(line, reason)])
        try:
            record, end = decoder.raw_decode(text, at)
            if _NOT_UTF8.search(text, at, end):
                record = "not JSON: not UTF-8"
            yield line, record if isinstance(record, dict | str) else "a JSON value, but no object"
        except (ValueError, RecursionError) as error:  # a torn line must not take the next ones with it
            yield line, f"not JSON: {_reason(error, text, at)}"
            broken += 1
            if broken > MOST_BROKEN:
                raise BadRows(path, [(line, f"the {broken}th record that is no JSON")]) from None
            following = _NEXT_LINE.search(text, at)
            end = following.end() if following else len(text)
            listed = listed and following is not None
        line += text.count("\n", at, end)
        at = end
    if listed:
        yield line, "ends inside a list: the file is cut off"


def _emptied(found: re.Match[bytes]) -> bytes:
    whole = found.group()
    if len(whole) <= LIST_BYTES or whole[:1] == b'"':
        return whole
    return b"[" + b"\n" * whole.count(b"\n") + b"]"


def _between(text: str, at: int) -> int:
    found = _BETWEEN.match(text, at)
    return found.end() if found else at


def _beginning(text: str, at: int) -> str:
    return text[at] + re.split(r'["\[\]{}\n]', text[at + 1 : at + 30], maxsplit=1)[0].rstrip()


def _reason(error: Exception, text: str, at: int) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        error = json.JSONDecodeError(error.msg, text[at : error.pos + 1], error.pos - at)
    return str(error)[:80]


def _once(pairs: list[tuple[str, Any]]) -> Record:
    record = dict(pairs)
    if len(record) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"'{twice[:40]}' stands twice")
    return record
