"""The words of a fabric report: as JSON, and as tables for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .findings import FINDINGS, Check, Finding, Report

if TYPE_CHECKING:
    from rich.console import RenderableType

SCHEMA = 1
_COLOURS = {"healthy": "green", "degraded": "red", "unknown": "yellow"}
_QUOTED_CHARS = 160
_SHOWN_LINES = 5
_NAMED_FACTS = 4


def _words(finding: Finding, part: str) -> str:
    """Return one part of a finding's words: "found", "expected", "why", "missing" or "next"."""
    values = {"subject": finding.subject, "value": finding.value, "expected": finding.expected}
    return FINDINGS[finding.code].get(part, "").format(**values).strip()


def reason(report: Report) -> str:
    """Return one sentence: the first check that decided the status."""
    deciding = [_check(check)["found"] for check in report.checks if check.status == report.status]
    notes = [_words(file.note, "found") for file in report.files if file.note]
    return str([*deciding, *notes, "nothing was checked"][0])


def report_json(report: Report) -> dict[str, Any]:
    """Return the report as plain values; docs/fabric.md has the schema."""
    files = [
        {
            "file": file.file,
            "status": file.status,
            "captures": list(file.captures),
            "note": _words(file.note, "found") if file.note else "",
        }
        for file in report.files
    ]
    return {
        "schema": SCHEMA,
        "status": report.status,
        "reason": reason(report),
        "platform": report.platform or ", ".join(report.gpus),
        "checks": [_check(check) for check in report.checks],
        "files": files,
        "notes": _notes(report),
    }


def _check(check: Check) -> dict[str, Any]:
    """Return one check as plain values; of the findings that decide it the first few, of their lines too."""
    deciding, first = check.deciding, check.deciding[0]
    lines = dict.fromkeys(line for finding in deciding for line in finding.evidence)
    found = dict.fromkeys(_words(finding, "found") for finding in deciding[:_NAMED_FACTS])
    return {
        "check": check.check,
        "status": check.status,
        "found": "; ".join(found),
        "expected": f"{_words(first, 'expected')}: {check.gpu or 'GPU model not stated'}",
        "why": _words(first, "why"),
        "missing": _words(first, "missing"),
        "next_command": "" if check.status == "healthy" else _words(first, "next"),
        "evidence": [
            {"file": line.file, "line": line.number, "text": line.text.strip()[:_QUOTED_CHARS]}
            for line in list(lines)[:_SHOWN_LINES]
        ],
    }


def _notes(report: Report) -> list[str]:
    several = f"captures of more than one kind of GPU: {', '.join(report.gpus)}: each is judged by its own"
    return [several] if len(report.gpus) > 1 else []


def show(report: Report) -> RenderableType:
    """Return the checks as a table, then what was expected and seen of each that is not healthy."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    checks = [_check(check) for check in report.checks]
    table = Table("check", "status", "found", box=None, pad_edge=False)
    lines: list[str] = []
    for row in checks:
        table.add_row(row["check"], Text(row["status"], _COLOURS[row["status"]]), Text(row["found"]))
        if row["status"] != "healthy":
            lines += ["", f"{row['check']} {row['status']}"]
            lines += [
                f"  {line['file']}:{line['line']}: {line['text'][:100]}" for line in row["evidence"][:3]
            ]
            told = {**row, "next": row["next_command"]}
            lines += [
                f"  {name}: {told[name]}" for name in ("expected", "why", "missing", "next") if told[name]
            ]
    lines += [f"{file.file}: {_words(file.note, 'found')}" for file in report.files if file.note]
    lines += [*_notes(report), "", f"{report.status}: {reason(report)}"]
    return Group(*([table] if checks else []), Text("\n".join(lines)))
