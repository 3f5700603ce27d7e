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
SCHEMA: Final = 1
# What settles an unknown, or is to be run next, whoever judges.
GPU_NAMES: Final = "nvidia-smi -L (or --platform)"
LOGGED_RUN: Final = "NCCL_DEBUG=INFO NCCL_DEBUG_SUBSYS=INIT,GRAPH,P2P,NET all_reduce_perf -b 16K -e 1G -f 2"
FULL_RUN: Final = "all_reduce_perf -b 16K -e 8G -f 2 (one process per GPU)"
Found = list[tuple[str, Evidence]]
_EXIT_CODES = {HEALTHY: 0, DEGRADED: 1, UNKNOWN: 2}
_SHOWN_LINES = 5
_NAMED_FACTS = 4


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
    missing: str = ""
    next_command: str = ""
    evidence: tuple[Evidence, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the check as plain values; of its lines the first few."""
        return {**vars(self), "evidence": [line.to_dict() for line in self.evidence[:_SHOWN_LINES]]}


@dataclass(frozen=True)
class CheckMaker:
    """Makes the checks of one judge, by what they have in common.

    known: what is known of the machine; wanted: what a healthy one shows; next_command: if this one does not.
    """

    check: str
    known: str
    wanted: str
    next_command: str

    def __call__(
        self, status: str, found: str, why: str, *evidence: Evidence, wanted: str = "", missing: str = ""
    ) -> Check:
        """Return one check; `wanted` takes the place of the judge's own."""
        return Check(
            check=self.check,
            status=status,
            found=found,
            expected=f"{wanted or self.wanted}: {self.known}",
            why=why,
            missing=missing,
            next_command="" if status == HEALTHY else self.next_command,
            evidence=evidence,
        )

    def of(self, status: str, facts: Found, why: str, missing: str = "") -> Check:
        """Return one check of several facts, each with its line; the first few are named."""
        found = "; ".join(dict.fromkeys(text for text, _ in facts[:_NAMED_FACTS]))
        return self(status, found, why, *(line for _, line in facts), missing=missing)


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
        return _EXIT_CODES[self.status]

    @property
    def reason(self) -> str:
        """One sentence: the first check that decided the status."""
        deciding = [check.found for check in self.checks if check.status == self.status]
        notes = [report.note for report in self.files if report.note]
        return [*deciding, *notes, *self.notes, "nothing was checked"][0]

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as plain values; see docs/fabric.md for the schema."""
        return {
            "schema": SCHEMA,
            "status": self.status,
            "reason": self.reason,
            "platform": self.platform,
            "checks": [check.to_dict() for check in self.checks],
            "files": [{**vars(report), "captures": list(report.captures)} for report in self.files],
            "notes": list(self.notes),
        }


def together(statuses: Iterable[str]) -> str:
    """Return the status of a whole: degraded beats unknown beats healthy; of nothing it is unknown."""
    seen = set(statuses)
    return next((status for status in (DEGRADED, UNKNOWN, HEALTHY) if status in seen), UNKNOWN)
