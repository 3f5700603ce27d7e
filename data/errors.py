"""The errors of roofcast: one small tree; `str()` of each is one printable line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from .fault_texts import FAULT_TEXTS

_ROWS_SHOWN = 3
_SHORTEST_PART = 3
_NAME_COMPARED = 100


def nearest_names(name: str, known: Iterable[str], n: int = 3) -> tuple[str, ...]:
    """Return up to `n` known names that look most like `name`, best first.

    Names are compared in lower case; a known name that begins with `name` comes first, one that contains it
    (or is contained in it) counts as close even where the edit distance is large.

    >>> nearest_names("b20", ["b200-sxm", "h100-sxm", "l4"])
    ('b200-sxm',)
    """
    wanted = name.strip().lower()[:_NAME_COMPARED]
    by_lower = {candidate.lower(): candidate for candidate in known}
    close = get_close_matches(wanted, by_lower, n=n, cutoff=0.6)
    if len(wanted) >= _SHORTEST_PART:
        part = [c for c in by_lower if wanted in c or (len(c) >= _SHORTEST_PART and c in wanted)]
        begins = sorted((c for c in part if c.startswith(wanted)), key=len)
        close = begins + close + sorted(part, key=len)
    return tuple(by_lower[candidate] for candidate in dict.fromkeys(close))[:n]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What is wrong with one value of a row, or to be known of it: `code` names its text in FAULT_TEXTS."""

    code: str
    column: str = ""
    value: object = None
    allowed: object = ""

    def __str__(self) -> str:
        return FAULT_TEXTS[self.code].format(**vars(self))


class RoofcastError(Exception):
    """Any error that roofcast raises on purpose; catch this one to catch them all.

    given: what the child was made of, for copies and other processes (None: the message).
    """

    def __init__(self, message: str, given: tuple[object, ...] | None = None) -> None:
        # Hostile input cannot break the one-line promise.
        self.message = "".join(c if c.isprintable() else " " for c in message)
        self._given = (message,) if given is None else given
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), self._given


class UnknownName(RoofcastError, KeyError):
    """A GPU, platform, model or similar name that no catalogue knows.

    Fields: `kind` ("gpu", "platform", "model", ...), `name` as given, `nearest` names, best first.
    """

    def __init__(self, kind: str, name: object, nearest: Sequence[str] = ()) -> None:
        self.kind, self.name, self.nearest = kind, str(name), tuple(nearest)
        hint = f"; nearest: {', '.join(self.nearest)}" if self.nearest else ""
        super().__init__(f"unknown {kind} '{self.name}'{hint}", (kind, self.name, self.nearest))


class BadRequest(RoofcastError, ValueError):
    """A value outside its allowed range.

    Fields: `field`, `value` as given, `allowed`: what would have been accepted.
    """

    def __init__(self, field: str, value: object, allowed: str) -> None:
        self.field, self.value, self.allowed = field, value, allowed
        super().__init__(f"{field} = {value!r} is not allowed: {allowed}", (field, value, allowed))


class BadRows(RoofcastError, ValueError):
    """Rows of a benchmark file that cannot be taken.

    Fields: `file`, `rows` as (line number, reason); line 0 speaks of the file as a whole.
    """

    def __init__(self, file: object, rows: Sequence[tuple[int, str]]) -> None:
        self.file, self.rows = str(file), list(rows)
        first, rest = self.rows[:_ROWS_SHOWN], len(self.rows) - _ROWS_SHOWN
        shown = "; ".join(f"line {line}: {reason}" if line else reason for line, reason in first)
        more = f"; and {rest} more" if rest > 0 else ""
        super().__init__(f"{self.file}: {len(rows)} bad row(s): {shown}{more}", (self.file, self.rows))


class BadBundle(RoofcastError):
    """A model bundle that is missing, damaged, foreign or of another version."""


class BadStore(RoofcastError):
    """A benchmark store that is missing, damaged or half written."""
