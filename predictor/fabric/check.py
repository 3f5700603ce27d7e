"""Checks a machine from captured output: files in, one report out; and fits a `MeasuredFabric` to them.

Its scales are medians of measured over predicted: latency over small messages, bandwidth over the largest.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...data.errors import BadRequest
from ...data.fabric_parts import Gpu, Machine, gpus_of, machine_of, table
from ...data.files import for_json, replace_text
from ...data.specs import GpuSpec
from ...features.measured import MeasuredFabric
from .capture import Capture, read_paths, run_tools
from .findings import FileReport, Finding, Report
from .nccl_tests import Table, compare, large, latency_factor

Fit = tuple[MeasuredFabric, dict[str, Any]]


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
        others = [own.name for own in gpus.values() if gpu and asked and own.spec and own.link != gpu.link]
        findings += [Finding("platform.other", name, "", gpu.name) for name in others if gpu]
        name = gpu.name if gpu else ""
        files.append(FileReport(file=capture.file, findings=tuple(findings), tools=capture.tools, gpu=name))
    platform = asked.platform.name if asked and asked.platform else ""
    return Report(platform=platform, gpus=tuple(sorted(kinds)), files=tuple(files))


def measure(captures: Sequence[Capture], platform: str | None = None) -> Fit:
    """Return the measured fabric of what was read, and what it was fitted to as plain values.

    The largest all-reduce table counts, else any table, else the links that are left.
    Raises BadRequest where nothing was measured or the GPU is not known to the catalogue.
    """
    asked = machine_of(platform).gpu if platform else None
    runs = [
        ((run.operation == "all_reduce", run.size, len(run.rows)), run, gpu.spec)
        for run in (run for capture in captures for run in capture.tests.found)
        if (gpu := _gpu(run.names, asked)) and gpu.spec and run.measured
    ]
    if runs:
        return _from_table(*max(runs, key=lambda item: item[0])[1:])
    for capture in captures:
        gpu = _gpu(capture.names, asked)
        if gpu and gpu.links and (found := _from_links(capture, gpu)):
            return found
    allowed = "an nccl-tests table, or link counts, of a GPU that the captures or --platform name"
    raise BadRequest("measured", "nothing measured", allowed)


def _gpu(names: set[str], asked: Gpu | None) -> Gpu | None:
    """Return the catalogue's GPU that the names state, else the one asked for."""
    return next((gpu for gpu in (*gpus_of(names).values(), asked) if gpu and gpu.spec), None)


def _from_table(run: Table, gpu: GpuSpec) -> Fit:
    compared, notes = compare(run, gpu), []
    alpha = latency_factor(compared)
    bandwidth = float(np.median([time / row.time_us for row, time in large(compared)]))
    one_process = run.gpus_per_process > 1 or (len(run.processes) == 1 and run.ranks > 1)
    if not alpha or one_process:
        alpha = 1.0
        one = "one process drove all GPUs, which doubles the launch: the latency stays as predicted"
        notes.append(one if one_process else "no small messages: the latency stays as predicted")
    if run.sent[-1].bytes <= table()["collective"]["dip_bytes"]:
        bandwidth = 1.0
        notes.append("no large messages: the bandwidth stays as predicted")
    sizes = [
        {"bytes": row.bytes, "measured_us": row.time_us, "predicted_us": round(time, 2),
         "measured_gb_s": row.bus_gb_s, "predicted_gb_s": round(row.bus_gb_s * row.time_us / time, 2)}
        for row, time in compared
    ]  # fmt: skip
    source = f"{run.operation} over {run.size} GPUs, {Path(run.first.file).name} line {run.first.number}"
    fabric = MeasuredFabric(alpha_scale=alpha, bandwidth_scale=bandwidth, gpu=gpu.name, source=source)
    return fabric, {"operation": run.operation, "ranks": run.size, "sizes": sizes, "notes": notes}


def _from_links(capture: Capture, gpu: Gpu) -> Fit | None:
    """Return the bandwidth that the worst GPU has left: active links, the matrix's fewest NV#, or PCIe."""
    least = [(len(b.active), b.line) for b in capture.links.found if b.listed and not b.cut]
    least += [(0, b.silent) for b in capture.links.found if b.silent]
    for matrix in capture.topology.found:
        switched = max(matrix.links.values(), default=0) == gpu.links
        # A board without switches: a GPU's links to its peers add up to all it has.
        for pair, (cell, line) in matrix.cells.items():
            shown = int(cell[2:]) if cell.startswith("NV") else 0
            least.append((shown if switched else min(matrix.totals[i] for i in pair), line))
    if not least or gpu.spec is None:
        return None
    links, line = min(least, key=lambda item: item[0])
    scale = min(1.0, max(links / gpu.links, gpu.spec.pcie_bandwidth / gpu.spec.link_bandwidth))
    source = f"{links} of {gpu.links} links, {Path(line.file).name} line {line.number}"
    note = "from link counts alone: the latency stays that of the healthy platform"
    return MeasuredFabric(bandwidth_scale=scale, gpu=gpu.spec.name, source=source), {"notes": [note]}


def write_measured(path: str | Path, fabric: MeasuredFabric, fit: dict[str, Any]) -> None:
    """Write a measured fabric with its fit as JSON, whole or not at all."""
    try:
        replace_text(Path(path), json.dumps(for_json({**fabric.to_dict(), "fit": fit}), indent=1) + "\n")
    except OSError as error:
        raise BadRequest("measured", str(path), f"a file that can be written ({error.strerror})") from error
