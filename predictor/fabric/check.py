"""Checks a machine from captured output: files in, one report out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...data.fabric_parts import Machine, gpus_of, machine_of
from .capture import Capture, read_paths, run_tools
from .findings import FileReport, Finding, Report
from .fitting import measure, write_measured


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
    --fabric`. Raises UnknownName for a platform that is not known and BadRequest where a fabric to write was
    not measured. A file that cannot be read or judged is reported, not raised.
    """
    machine = machine_of(platform) if platform else None
    read = [*read_paths(paths), *(run_tools(time_limit_s) if run else [])]
    if measured is not None:
        write_measured(measured, *measure([item for item in read if isinstance(item, Capture)], platform))
    return judge(read, machine)


def judge(read: Sequence[Capture | FileReport], asked: Machine | None = None) -> Report:
    """Judge what was read; see `check`."""
    captures = [item for item in read if isinstance(item, Capture)]
    files = [item for item in read if isinstance(item, FileReport)]
    named = [gpus_of(capture.names) for capture in captures]
    kinds = {kind: gpu for gpus in named for kind, gpu in gpus.items() if len(gpus) == 1}
    alone = {matrix.gpus for capture in captures for matrix in capture.topology.found} == {1}
    for capture, gpus in zip(captures, named, strict=True):
        known = next((list(some.values()) for some in (gpus, kinds) if len(some) == 1), [None])
        machine = replace(asked or Machine(gpu=known[0]), alone=alone)
        findings = list(capture.judge(machine)) or [Finding("file.names-only")]
        gpu = machine.gpu
        if asked and gpu:
            other = [own.name for own in gpus.values() if own.spec and own.link != gpu.link]
            findings += [Finding("platform.other", name, "", gpu.name) for name in other[:1]]
        name, tools = gpu.name if gpu else "", capture.tools
        files.append(FileReport(file=capture.file, findings=tuple(findings), tools=tools, gpu=name))
    platform = asked.platform.name if asked and asked.platform else ""
    return Report(platform=platform, gpus=tuple(sorted(kinds)), files=tuple(files))
