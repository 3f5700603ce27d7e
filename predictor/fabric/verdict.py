"""The verdict: checks with their evidence, put together, as plain values and as an exit code.

degraded if any check is; else unknown if any check is, or none was made; else healthy
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from .reading import Evidence

HEALTHY: Final = "healthy"
DEGRADED: Final = "degraded"
UNKNOWN: Final = "unknown"
EXIT_CODES: Final = {HEALTHY: 0, DEGRADED: 1, UNKNOWN: 2}
SCHEMA: Final = 1
Found = list[tuple[str, Evidence]]
_SHOWN_LINES = 5


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check: which, its status, what was found where, what was expected and why, what to run next.

    missing: for an unknown, what would settle it.
    """

    check: str
    status: str
    found: str
    expected: str
    why: str
    evidence: tuple[Evidence, ...] = ()
    missing: str = ""
    next_command: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the check as plain values; of its lines the first few."""
        lines = [line.to_dict() for line in self.evidence[:_SHOWN_LINES]]
        return {**{name: getattr(self, name) for name in _TEXTS}, "evidence": lines}


_TEXTS = ("check", "status", "found", "expected", "why", "missing", "next_command")


class CheckMaker:
    """Makes the checks of one judge: same name, same knowledge of the machine, same next command."""

    def __init__(self, check: str, known: str, next_command: str) -> None:
        self.check, self.known, self.next_command = check, known, next_command

    def __call__(
        self, status: str, found: str, wanted: str, why: str, evidence: Iterable[Evidence], missing: str = "",
        next_command: str = "",
    ) -> Check:  # fmt: skip
        """Return one check; `wanted` is completed by what is known of the machine."""
        return Check(
            check=self.check, status=status, found=found, expected=f"{wanted}: {self.known}", why=why,
            evidence=tuple(evidence), missing=missing,
            next_command=(next_command or self.next_command) if status != HEALTHY else "",
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FileReport:
    """What one file was: its status, the captures found in it, and a note where something is to be said."""

    file: str
    status: str
    captures: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The whole answer of `roofcast fabric check`; `to_dict` is its documented JSON."""

    status: str
    platform: str
    checks: tuple[Check, ...]
    files: tuple[FileReport, ...]
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 healthy, 1 degraded, 2 unknown."""
        return EXIT_CODES[self.status]

    @property
    def reason(self) -> str:
        """One sentence: the first check that decided the status."""
        deciding = [check for check in self.checks if check.status == self.status]
        notes = [report.note for report in self.files if report.note]
        return deciding[0].found if deciding else next(iter([*notes, *self.notes]), "nothing was checked")

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as plain values; see docs/fabric.md for the schema."""
        files = [{**vars(report), "captures": list(report.captures)} for report in self.files]
        return {
            "schema": SCHEMA,
            "status": self.status,
            "reason": self.reason,
            "platform": self.platform,
            "checks": [check.to_dict() for check in self.checks],
            "files": files,
            "notes": list(self.notes),
        }


def together(statuses: Iterable[str]) -> str:
    """Return the status of a whole: degraded beats unknown beats healthy; of nothing it is unknown."""
    seen = set(statuses)
    return next((status for status in (DEGRADED, UNKNOWN, HEALTHY) if status in seen), UNKNOWN)
