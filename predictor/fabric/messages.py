"""The words of a fabric report: as JSON, and as tables for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .findings import FINDINGS, FileReport, Finding, Report, together

if TYPE_CHECKING:
    from rich.console import RenderableType

SCHEMA = 1
_COLOURS = {"healthy": "green", "degraded": "red", "unknown": "yellow"}
_QUOTED_CHARS = 160
_NAMED_FACTS = 4
_LINES = 5


def _words(finding: Finding, part: str) -> str:
    """Return one part of a finding's words: "found", "expected", "why", "missing" or "next"."""
    values = {"subject": finding.subject, "value": finding.value, "expected": finding.expected}
    return FINDINGS[finding.code].get(part, "").format(**values).strip()


def _note(file: FileReport) -> str:
    return next((_words(f, "found") for f in file.findings if FINDINGS[f.code]["check"] == "file"), "")


def _checks(report: Report) -> list[dict[str, Any]]:
    """Return the findings by file and check as plain values; of those that decide the first few."""
    checks = []
    for file in report.files:
        for name in dict.fromkeys(FINDINGS[finding.code]["check"] for finding in file.findings):
            own = [finding for finding in file.findings if FINDINGS[finding.code]["check"] == name]
            status = together(finding.status for finding in own)
            deciding = [finding for finding in own if finding.status == status]
            found = dict.fromkeys(_words(finding, "found") for finding in deciding[:_NAMED_FACTS])
            cited = dict.fromkeys(line for finding in deciding for line in finding.evidence)
            check = {"check": name, "status": status, "found": "; ".join(found)}
            check |= {part: _words(deciding[0], part) for part in ("expected", "why", "missing")}
            check["expected"] += f": {file.gpu or 'GPU model not stated'}"
            check["next_command"] = "" if status == "healthy" else _words(deciding[0], "next")
            quoted = [(line.file, line.number, line.text.strip()[:_QUOTED_CHARS]) for line in cited]
            evidence = [dict(zip(("file", "line", "text"), one, strict=True)) for one in quoted[:_LINES]]
            checks += [{**check, "evidence": evidence}] if name != "file" else []
    return checks


def reason(report: Report) -> str:
    """Return one sentence: the first check that decided the status."""
    deciding = [check["found"] for check in _checks(report) if check["status"] == report.status]
    return str([*deciding, *filter(None, map(_note, report.files)), "nothing was checked"][0])


def report_json(report: Report) -> dict[str, Any]:
    """Return the report as plain values; docs/fabric.md has the schema."""
    return {
        "schema": SCHEMA,
        "status": report.status,
        "reason": reason(report),
        "platform": report.platform or ", ".join(report.gpus),
        "checks": _checks(report),
        "files": [
            {"file": file.file, "status": file.status, "captures": list(file.tools), "note": _note(file)}
            for file in report.files
        ],
        "notes": _notes(report),
    }


def _notes(report: Report) -> list[str]:
    several = f"captures of more than one kind of GPU: {', '.join(report.gpus)}: each is judged by its own"
    return [several] if len(report.gpus) > 1 else []


def show(report: Report) -> RenderableType:
    """Return the checks as a table, then what was expected and seen of each that is not healthy."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    checks, lines = _checks(report), list[str]()
    table = Table("check", "status", "found", box=None, pad_edge=False)
    for row in checks:
        table.add_row(row["check"], Text(row["status"], _COLOURS[row["status"]]), Text(row["found"]))
        if row["status"] != "healthy":
            lines += ["", f"{row['check']} {row['status']}"]
            lines += [
                f"  {line['file']}:{line['line']}: {line['text'][:100]}" for line in row["evidence"][:3]
            ]
            parts = ("expected", "why", "missing", "next_command")
            lines += [f"  {name.removesuffix('_command')}: {row[name]}" for name in parts if row[name]]
    lines += [f"{file.file}: {_note(file)}" for file in report.files if _note(file)]
    lines += [*_notes(report), "", f"{report.status}: {reason(report)}"]
    return Group(*([table] if checks else []), Text("\n".join(lines)))
