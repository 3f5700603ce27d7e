"""Checks a machine from captured output: files in, one report out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .capture import Capture, read_paths, run_tools
from .findings import Check, FileReport, Finding, Report, together
from .fitting import measure, write_measured
from .machine import Gpu, Machine, gpus_of, machine_of


def check(
    paths: Sequence[str | Path] = (),
    platform: str | None = None,
    *,
    run: bool = False,
    time_limit_s: float = 60.0,
    measured: str | Path | None = None,
) -> Report:
    """Judge the captures in files and folders (walked through), and with `run` what the tools print here.

    platform: a name of the catalogue, which sets what is expected; else the GPU names in the captures do.
    time_limit_s: of each tool; measured: file to write the measured fabric to, for `roofcast predict
    --fabric`. Raises UnknownName for a platform that is not known and BadRequest where a
    fabric to write was not measured. A file that cannot be read or judged is reported, not raised.
    """
    machine = machine_of(platform) if platform else None
    read = [*read_paths(paths), *(run_tools(time_limit_s) if run else [])]
    captures = [item for item in read if isinstance(item, Capture)]
    if measured is not None:
        write_measured(measured, *measure(captures, platform))
    return judge(read, machine)


def judge(read: Sequence[Capture | FileReport], asked: Machine | None = None) -> Report:
    """Judge what was read; see `check`."""
    captures = [item for item in read if isinstance(item, Capture)]
    files = [item for item in read if isinstance(item, FileReport)]
    named = [gpus_of(capture.names) for capture in captures]
    kinds = {kind: gpu for gpus in named for kind, gpu in gpus.items() if len(gpus) == 1}
    alone = {matrix.gpus for capture in captures for matrix in capture.topology.found} == {1}
    checks: list[Check] = []
    for capture, gpus in zip(captures, named, strict=True):
        machine = asked or Machine(gpu=_only(gpus) or _only(kinds))
        findings = [*capture.judge(replace(machine, alone=alone)), *_contradiction(gpus, asked)]
        by_check: dict[str, list[Finding]] = {}
        for finding in findings:
            by_check.setdefault(finding.check, []).append(finding)
        gpu = machine.gpu.name if machine.gpu else ""
        own = [Check(check=name, findings=tuple(made), gpu=gpu) for name, made in by_check.items()]
        checks += own
        note = None if own else Finding("file.names-only")
        status = together(check.status for check in own)
        files.append(FileReport(file=capture.file, status=status, captures=capture.tools, note=note))
    platform = asked.platform.name if asked and asked.platform else ""
    return Report(platform=platform, gpus=tuple(sorted(kinds)), checks=tuple(checks), files=tuple(files))


def _only(gpus: dict[str, Gpu]) -> Gpu | None:
    return next(iter(gpus.values())) if len(gpus) == 1 else None


def _contradiction(gpus: dict[str, Gpu], asked: Machine | None) -> list[Finding]:
    """Return a finding where the captures name another GPU than the platform asked for has."""
    if not asked or not asked.gpu:
        return []
    other = [gpu.name for gpu in gpus.values() if gpu.spec and gpu.link != asked.gpu.link]
    return [Finding("platform.other", other[0], expected=asked.gpu.name)] if other else []
