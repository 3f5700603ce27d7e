"""Fits what was measured: alpha and beta of an nccl-tests table, against the model's healthy platform.

    time = alpha + bytes x bus factor / bandwidth        for each band of sizes

The scales of a `MeasuredFabric` are medians of measured over predicted: latency over small messages,
bandwidth over the largest. Without a table, the links that are left give the bandwidth.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...data.errors import BadRequest
from ...data.files import for_json, replace_text
from ...features.measured import MeasuredFabric
from .check import Capture
from .expected import MODELLED, Part, bus_factor, bus_gb_s, of_platform, part_of, table
from .nccl_tests import Table, Timing, compare, large, latency_factor
from .verdict import FileReport

_BANDS = (("small", 0, 1 << 16), ("middle", 1 << 16, 1 << 24), ("large", 1 << 24, 1 << 62))
_LEAST_ROWS = 2


@dataclass(frozen=True, kw_only=True)
class Band:
    """One line through a band of sizes: alpha [us], bus bandwidth [GB/s], rows, median error [%]."""

    band: str
    alpha_us: float
    bandwidth_gb_s: float
    rows: int
    error_percent: float


def fit_bands(run: Table) -> list[Band]:
    """Fit alpha and beta to each band of message sizes that holds two rows, by least relative error."""
    from scipy.optimize import nnls

    factor = bus_factor(run.operation, max(run.size, 2))
    bands = []
    for name, low, high in _BANDS:
        rows = [row for row in run.sent if low <= row.bytes < high]
        if len({row.bytes for row in rows}) < _LEAST_ROWS:
            continue
        size = np.array([row.bytes for row in rows], dtype=float)
        time = np.array([row.time_us for row in rows])
        # least squares of the relative errors, neither below zero
        columns = np.stack([1.0 / time, size / time], axis=1)
        alpha, per_byte = map(float, nnls(columns, np.ones(len(time)))[0])
        error = 100.0 * float(np.median(np.abs((alpha + per_byte * size) / time - 1.0)))
        rate = factor / per_byte * 1e-3 if per_byte > 0.0 else float("inf")
        bands.append(
            Band(band=name, alpha_us=alpha, bandwidth_gb_s=rate, rows=len(rows), error_percent=error)
        )
    return bands


def measure(
    read: Sequence[Capture | FileReport], platform: str | None = None
) -> tuple[MeasuredFabric, dict[str, Any]]:
    """Return the measured fabric of what was read, and the fit as plain values.

    The largest all-reduce table counts, else any table, else the links that are left.
    Raises BadRequest where nothing was measured or the GPU is not known to the catalogue.
    """
    captures = [item for item in read if isinstance(item, Capture)]
    asked = of_platform(platform).part if platform else None
    runs = [
        (run, part)
        for capture in captures
        for run in capture.tests.found
        if (part := _part(run.names, asked)) and run.size > 1 and run.operation in MODELLED and run.sent
    ]
    if runs:
        return _from_table(*max(runs, key=lambda item: _weight(item[0])))
    for capture in captures:
        part = _part(capture.names, asked)
        if part and part.links and (found := _from_links(capture, part)):
            return found
    allowed = "an nccl-tests table, or link counts, of a GPU that the captures or --platform name"
    raise BadRequest("measured", "nothing measured", allowed)


def _weight(run: Table) -> tuple[bool, int, int]:
    return run.operation == "all_reduce", run.size, len(run.rows)


def _part(names: set[str], asked: Part | None) -> Part | None:
    """Return the catalogue's GPU that the names state, else the one asked for."""
    found = next((p for name in sorted(names) if (p := part_of(name)) and p.spec), None)
    return found or (asked if asked and asked.spec else None)


def _from_table(run: Table, part: Part) -> tuple[MeasuredFabric, dict[str, Any]]:
    compared = compare(run, part)
    notes = []
    alpha = latency_factor(compared)
    if not alpha:
        alpha = 1.0
        notes.append("no small messages: the latency stays that of the healthy platform")
    elif run.one_process:
        alpha = 1.0
        notes.append("one process drove all GPUs, which doubles the launch: the latency stays as predicted")
    bandwidth = float(np.median([time / row.time_us for row, time in large(compared)]))
    if max(row.bytes for row in run.sent) <= table()["collective"]["dip_bytes"]:
        bandwidth = 1.0
        notes.append("no large messages: the bandwidth stays that of the healthy platform")
    fit = {
        "operation": run.operation,
        "ranks": run.size,
        "bands": [vars(band) for band in fit_bands(run)],
        "sizes": [_compared(row, time, run) for row, time in compared],
        "notes": notes,
    }
    source = f"{run.operation} over {run.size} GPUs, {Path(run.first.file).name} line {run.first.line}"
    return MeasuredFabric(alpha_scale=alpha, bandwidth_scale=bandwidth, gpu=part.kind, source=source), fit


def _compared(row: Timing, predicted: float, run: Table) -> dict[str, float]:
    return {
        "bytes": row.bytes,
        "measured_us": row.time_us,
        "predicted_us": round(predicted, 2),
        "measured_gb_s": row.bus_gb_s,
        "predicted_gb_s": round(bus_gb_s(run.operation, row.bytes, run.size, predicted), 2),
    }


def _from_links(capture: Capture, part: Part) -> tuple[MeasuredFabric, dict[str, Any]] | None:
    """Return the bandwidth that the worst GPU has left: active links, the matrix's fewest NV#, or PCIe."""
    least = [(b.active, b.evidence) for b in capture.links.found if b.rates and not b.cut]
    least += [(0, b.all_inactive) for b in capture.links.found if b.all_inactive]
    for matrix in capture.topology.found:
        switched = max(matrix.links.values(), default=0) == part.links
        # A board without switches: a GPU's links to its peers add up to all it has.
        left = matrix.links if switched else {pair: matrix.totals[pair[0]] for pair in matrix.links}
        least += [(left[pair], line) for pair, (_, line) in matrix.pairs.items()]
    if not least or part.spec is None:
        return None
    links, line = min(least, key=lambda item: item[0])
    pcie = part.spec.pcie_bandwidth / part.spec.link_bandwidth
    scale = min(1.0, max(links / part.links, pcie))
    source = f"{links} of {part.links} links, {Path(line.file).name} line {line.line}"
    note = "from link counts alone: the latency stays that of the healthy platform"
    return MeasuredFabric(bandwidth_scale=scale, gpu=part.spec.name, source=source), {"notes": [note]}


def write_measured(path: str | Path, fabric: MeasuredFabric, fit: dict[str, Any]) -> None:
    """Write a measured fabric with its fit as JSON, whole or not at all."""
    text = json.dumps(for_json({**fabric.to_dict(), "fit": fit}), indent=1) + "\n"
    try:
        replace_text(Path(path), text)
    except OSError as error:
        raise BadRequest("measured", str(path), f"a file that can be written ({error.strerror})") from error
