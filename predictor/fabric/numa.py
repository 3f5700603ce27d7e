"""Reads and judges `numactl --hardware`: the host's memory nodes, and on Grace hosts the GPUs' among them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ...data import catalogue
from ...data.fabric_parts import Machine, table
from ...data.readers.captured import Line, is_cut
from .findings import Finding

_AVAILABLE = re.compile(r"^\s*available:\s*(\d{1,6}) nodes?\b")
_CPUS = re.compile(r"^\s*node (\d{1,5}) cpus:\s*([\d ]*)$")
_SIZE = re.compile(r"^\s*node (\d{1,5}) size:\s*(\d{1,12}) MB")
_HEAD = re.compile(r"^\s*node\s+(\d+(?:\s+\d+)*)\s*$")
_DISTANCES = re.compile(r"^\s*(\d{1,5}):\s+(\d+(?:\s+\d+)*)\s*$")
_MOST = 4096
_MIB = 1048576
_MIG_NODES = 8


@dataclass(kw_only=True)
class Hardware:
    """One capture: nodes as announced; by node its cores, memory [MB], distances, their lines; any gap."""

    line: Line
    available: int
    cores: dict[int, int] = field(default_factory=dict)
    memory_mb: dict[int, int] = field(default_factory=dict)
    lines: dict[int, Line] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)
    distances: dict[int, tuple[list[int], Line]] = field(default_factory=dict)
    gap: bool = False


@dataclass(kw_only=True)
class NumaReader:
    """Collects the captures of a stream of lines."""

    tool = "numactl"
    found: list[Hardware] = field(default_factory=list)

    def feed(self, line: Line) -> None:
        """Take one line."""
        text = line.text
        if available := _AVAILABLE.match(text):
            self.found = [*self.found[: _MOST - 1], Hardware(line=line, available=int(available[1]))]
        if not self.found:
            return
        hardware = self.found[-1]
        if is_cut(text):
            hardware.gap = True
        elif len(hardware.cores) > _MOST or len(hardware.distances) > _MOST:
            return
        elif (cpus := _CPUS.match(text)) and cpus[2].strip():
            hardware.cores[int(cpus[1])] = len(cpus[2].split())
        elif size := _SIZE.match(text):
            hardware.memory_mb[int(size[1])], hardware.lines[int(size[1])] = int(size[2]), line
        elif head := _HEAD.match(text):
            hardware.order = [int(word[:6]) for word in head[1].split()]
        elif row := _DISTANCES.match(text):
            hardware.distances[int(row[1])] = ([int(word[:6]) for word in row[2].split()], line)

    def judge(self, machine: Machine) -> Iterator[Finding]:
        """Judge the memory nodes of each capture: each CPU has memory, each GPU of a Grace host its node."""
        return (_judge(hardware, machine) for hardware in self.found)


def _judge(hardware: Hardware, machine: Machine) -> Finding:
    limits, first = table()["numa"], (hardware.line,)
    sizes, cores = hardware.memory_mb, hardware.cores
    # It shows fewer nodes than it announces, and neither the distances follow; or says so.
    cut = hardware.gap or (len(sizes) < hardware.available and not hardware.distances)
    if not sizes:
        return Finding("numa.no-nodes", evidence=first)
    if empty := [n for n in cores if sizes.get(n) == 0]:
        return Finding("numa.no-memory", f"node {empty[0]}", 0, "", tuple(hardware.lines[n] for n in empty))
    order = hardware.order or sorted(hardware.distances)
    for node, (row, line) in hardware.distances.items():
        whole = node in order and len(row) == len(order)
        if whole and (row[order.index(node)] != 10 or min(row) < 10 or max(row) >= 255):
            return Finding("numa.distances", f"node {node}", f"{min(row)} to {max(row)}", 10, (line,))
    own = [sizes[n] for n in cores if n in sizes]
    if own and min(own) < limits["uneven_share"] * max(own):
        return Finding("numa.uneven", "", min(own), max(own), first)
    if set(cores.values()) == {limits["grace_cores"]} and len(cores) <= 2:
        return _judge_grace(hardware, machine, cut)
    missing = len(sizes) < hardware.available and not cut
    return Finding(
        "numa.nodes-missing" if missing else "numa.host", "", len(sizes), hardware.available, first
    )


def _judge_grace(hardware: Hardware, machine: Machine, cut: bool) -> Finding:
    """Judge a Grace host: the GPUs' memory nodes, all or (kept by the driver) none."""
    tolerance, cpus = table()["numa"]["size_tolerance"], len(hardware.cores)
    others = {n: size for n, size in hardware.memory_mb.items() if n not in hardware.cores}
    gpus = {n: size * _MIB for n, size in others.items() if size}
    graces = [g for g in catalogue.gpus().values() if g.name.startswith(("gb", "gh"))]
    asked = [g for g in graces if machine.gpu and machine.gpu.spec == g]
    near = [g for g in graces if any(abs(size / g.memory_bytes - 1) < tolerance for size in gpus.values())]
    spec = max(asked or near, key=lambda g: g.memory_bytes, default=None)
    # Eight nodes are kept for each GPU, one for each MIG instance it may be split into.
    kept, left = divmod(hardware.available, cpus)
    slots = not left and kept - 1 in (_MIG_NODES, 2 * _MIG_NODES)
    per_grace = (
        (kept - 1) // _MIG_NODES if slots else (2 if spec is None or spec.name.startswith("gb") else 1)
    )
    built = per_grace * cpus
    shown = len({(n - cpus) // _MIG_NODES for n in gpus}) if slots else len(gpus)
    code = "gpu-memory-missing"
    if shown == built or not (others or cut):
        code = "gpu-memory" if gpus else "cdmm"
    elif cut or not gpus or shown > built:
        code = "cut" if cut else "gpu-memory-odd"
    lines = tuple(hardware.lines[n] for n in gpus) or (hardware.line,)
    return Finding(f"numa.{code}", f"{cpus} Grace", shown, built, lines)
