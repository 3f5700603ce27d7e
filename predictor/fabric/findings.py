"""What a check of a machine's fabric says, as values; `messages` makes the words.

degraded if any finding is; else unknown if any finding is, or none was made; else healthy
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from typing import Final

from ...data.readers.captured import Line

EXIT_CODES: Final = {"healthy": 0, "degraded": 1, "unknown": 2}
_TEXT = resources.files("roofcast.data").joinpath("fabric_findings.toml").read_text("utf-8")
_CHECKS = tomllib.loads(_TEXT)
# What each finding means for the machine, and its words, by "check.name".
FINDINGS: Final[dict[str, dict[str, str]]] = {
    f"{check}.{name}": {"check": check, **_CHECKS["check"][check], **entry}
    for check in _CHECKS["check"]
    for name, entry in _CHECKS[check].items()
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
    def status(self) -> str:
        """What it makes of the machine."""
        return FINDINGS[self.code]["status"]


@dataclass(frozen=True, kw_only=True)
class FileReport:
    """The findings of one file; tools: recognised in it; gpu: by which it was judged, "" if not known.

    stray: not named but met in a folder, and no capture: it has no say.
    """

    file: str
    findings: tuple[Finding, ...]
    tools: tuple[str, ...] = ()
    gpu: str = ""
    stray: bool = False

    @property
    def status(self) -> str:
        """Healthy, degraded or unknown; "" for a file without a say."""
        return "" if self.stray else together(finding.status for finding in self.findings)


@dataclass(frozen=True, kw_only=True)
class Report:
    """The whole answer; platform: as asked for; gpus: the kinds that the captures name."""

    platform: str
    gpus: tuple[str, ...]
    files: tuple[FileReport, ...]

    @property
    def status(self) -> str:
        """Healthy, degraded or unknown."""
        return together(file.status for file in self.files)

    @property
    def exit_code(self) -> int:
        """0 healthy, 1 degraded, 2 unknown."""
        return EXIT_CODES[self.status]


def together(statuses: Iterable[str]) -> str:
    """Return the status of a whole: degraded beats unknown beats healthy; of nothing it is unknown."""
    seen = set(statuses)
    return next((status for status in ("degraded", "unknown", "healthy") if status in seen), "unknown")
