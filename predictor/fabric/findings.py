"""What a check of a machine's fabric says, as values; `messages` makes the words.

degraded if any finding is; else unknown if any finding is, or none was made; else healthy
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from typing import Final

from .reading import Line

HEALTHY: Final = "healthy"
DEGRADED: Final = "degraded"
UNKNOWN: Final = "unknown"
_EXIT_CODES = {HEALTHY: 0, DEGRADED: 1, UNKNOWN: 2}
_TEXT = resources.files("roofcast.data").joinpath("fabric_findings.toml").read_text("utf-8")
# What each finding means for the machine, with its words; and the words of each check.
CHECKS: Final[dict[str, dict[str, str]]] = tomllib.loads(_TEXT).pop("check")
FINDINGS: Final[dict[str, dict[str, str]]] = {
    f"{check}.{name}": {"check": check, **CHECKS[check], **entry}
    for check, entries in tomllib.loads(_TEXT).items()
    if check != "check"
    for name, entry in entries.items()
}


@dataclass(frozen=True)
class Finding:
    """One fact of a capture: its code in `FINDINGS`, subject, found and expected value, and the lines."""

    code: str
    subject: str = ""
    value: float | str = ""
    expected: float | str = ""
    evidence: tuple[Line, ...] = ()

    @property
    def check(self) -> str:
        """Which check it belongs to."""
        return FINDINGS[self.code]["check"]

    @property
    def status(self) -> str:
        """What it makes of the machine."""
        return FINDINGS[self.code]["status"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """The findings of one kind in one file; gpu: what they were judged by, "" where it is not known."""

    check: str
    findings: tuple[Finding, ...]
    gpu: str = ""

    @property
    def status(self) -> str:
        """The worst status of the findings."""
        return together(finding.status for finding in self.findings)

    @property
    def deciding(self) -> tuple[Finding, ...]:
        """The findings of that status."""
        return tuple(finding for finding in self.findings if finding.status == self.status)


@dataclass(frozen=True, kw_only=True)
class FileReport:
    """What one file was: its status ("": no say), the tools recognised in it, what is to be said of it."""

    file: str
    status: str
    captures: tuple[str, ...] = ()
    note: Finding | None = None


@dataclass(frozen=True, kw_only=True)
class Report:
    """The whole answer; platform: as asked for; gpus: the kinds that the captures name."""

    platform: str
    gpus: tuple[str, ...]
    checks: tuple[Check, ...]
    files: tuple[FileReport, ...]

    @property
    def status(self) -> str:
        """Healthy, degraded or unknown."""
        unread = (file.status for file in self.files if file.status and not file.captures)
        return together([*(check.status for check in self.checks), *unread])

    @property
    def exit_code(self) -> int:
        """0 healthy, 1 degraded, 2 unknown."""
        return _EXIT_CODES[self.status]


def together(statuses: Iterable[str]) -> str:
    """Return the status of a whole: degraded beats unknown beats healthy; of nothing it is unknown."""
    seen = set(statuses)
    return next((status for status in (DEGRADED, UNKNOWN, HEALTHY) if status in seen), UNKNOWN)
