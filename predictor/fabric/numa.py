"""Reads and judges `numactl --hardware`: the host's memory nodes, and on Grace hosts the GPUs' among them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ...data import catalogue
from .findings import Finding
from .machine import Machine, table
from .reading import Line, is_cut

_AVAILABLE = re.compile(r"^\s*available:\s*(\d{1,6}) nodes? ?(?:\(([\d,-]*)\))?")
_CPUS = re.compile(r"^\s*node (\d{1,5}) cpus:\s*([\d ]*)$")
_SIZE = re.compile(r"^\s*node (\d{1,5}) size:\s*(\d{1,12}) MB")
_HEAD = re.compile(r"^\s*node\s+(\d+(?:\s+\d+)*)\s*$")
_DISTANCES = re.compile(r"^\s*(\d{1,5}):\s+(\d+(?:\s+\d+)*)\s*$")
_MOST = 4096
_MIB = 1048576
_MIG_NODES = 8


@dataclass(kw_only=True)
class Hardware:
    """One capture: nodes as announced, CPUs and memory [MB] by node, distances by row, and any gap in it."""

    line: Line
    available: int
    cpus: dict[int, int] = field(default_factory=dict)
    memory_mb: dict[int, tuple[int, Line]] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)
    distances: dict[int, tuple[list[int], Line]] = field(default_factory=dict)
    gap: bool = False

    @property
    def cut(self) -> bool:
        """Whether it shows fewer nodes than it announces, and neither the distances follow; or says so."""
        return self.gap or (len(self.memory_mb) < self.available and not self.distances)


@dataclass(kw_only=True)
class NumaReader:
    """Collects the captures of a stream of lines."""

    tool = "numactl"
    found: list[Hardware] = field(default_factory=list)

    def feed(self, line: Line) -> None:
        """Take one line."""
        if available := _AVAILABLE.match(line.text):
            if len(self.found) < _MOST:
                self.found.append(Hardware(line=line, available=int(available[1])))
        elif self.found:
            self._inside(self.found[-1], line.text, line)

    def _inside(self, hardware: Hardware, text: str, line: Line) -> None:
        if is_cut(text):
            hardware.gap = True
        elif len(hardware.cpus) > _MOST or len(hardware.distances) > _MOST:
            return
        elif cpus := _CPUS.match(text):
            hardware.cpus[int(cpus[1])] = len(cpus[2].split())
        elif size := _SIZE.match(text):
            hardware.memory_mb[int(size[1])] = (int(size[2]), line)
        elif head := _HEAD.match(text):
            hardware.order = [int(word[:6]) for word in head[1].split()]
        elif distances := _DISTANCES.match(text):
            row = [int(word[:6]) for word in distances[2].split()]
            hardware.distances[int(distances[1])] = (row, line)

    def judge(self, machine: Machine) -> Iterator[Finding]:
        """Judge the memory nodes of each capture: each CPU has memory, each GPU of a Grace host its node."""
        return (_judge(hardware, machine) for hardware in self.found)


def _judge(hardware: Hardware, machine: Machine) -> Finding:
    limits, first = table()["numa"], (hardware.line,)
    sizes = {n: size for n, (size, _) in hardware.memory_mb.items()}
    cores = {n: count for n, count in hardware.cpus.items() if count}
    if not sizes:
        return Finding("numa.no-nodes", evidence=first)
    if empty := [n for n in cores if sizes.get(n) == 0]:
        lines = tuple(hardware.memory_mb[n][1] for n in empty)
        return Finding("numa.no-memory", f"node {empty[0]}", evidence=lines)
    order = hardware.order or sorted(hardware.distances)
    for node, (row, line) in hardware.distances.items():
        if node in order and len(row) == len(order):
            own = row[order.index(node)]
            if own != 10 or min(row) < 10 or max(row) >= 255:
                return Finding("numa.distances", f"node {node}", f"{min(row)} to {max(row)}", 10, (line,))
    own_mb = [sizes[n] for n in cores if n in sizes]
    if own_mb and min(own_mb) < limits["uneven_share"] * max(own_mb):
        return Finding("numa.uneven", value=min(own_mb), expected=max(own_mb), evidence=first)
    if set(cores.values()) == {limits["grace_cores"]} and len(cores) <= 2:
        return _judge_grace(hardware, sizes, set(cores), machine)
    missing = len(sizes) < hardware.available and not hardware.cut
    code = "numa.nodes-missing" if missing else "numa.host"
    return Finding(code, value=len(sizes), expected=hardware.available, evidence=first)


def _judge_grace(hardware: Hardware, sizes: dict[int, int], cpus: set[int], machine: Machine) -> Finding:
    """Judge a Grace host: the GPUs' memory nodes, all or (kept by the driver) none."""
    tolerance = table()["numa"]["size_tolerance"]
    gpus = {n: size for n, size in sizes.items() if n not in cpus and size}
    blank = any(not size for n, size in sizes.items() if n not in cpus)
    graces = [g for g in catalogue.gpus().values() if g.name.startswith(("gb", "gh"))]
    asked = [g for g in graces if machine.gpu and machine.gpu.spec == g]
    near = [g for g in graces if any(abs(mb * _MIB / g.memory_bytes - 1) < tolerance for mb in gpus.values())]
    spec = max(asked or near, key=lambda g: g.memory_bytes, default=None)
    # Eight nodes are kept for each GPU, one for each MIG instance it may be split into.
    kept, left = divmod(hardware.available, len(cpus))
    slots = not left and kept - 1 in (_MIG_NODES, 2 * _MIG_NODES)
    per_grace = (
        (kept - 1) // _MIG_NODES if slots else (2 if spec is None or spec.name.startswith("gb") else 1)
    )
    built = per_grace * len(cpus)
    shown = len({(n - len(cpus)) // _MIG_NODES for n in gpus}) if slots else len(gpus)
    lines = tuple(hardware.memory_mb[n][1] for n in gpus) or (hardware.line,)
    code = "numa.gpu-memory-missing"
    if shown == built or not (gpus or blank or hardware.cut):
        code = "numa.gpu-memory" if gpus else "numa.cdmm"
    elif hardware.cut or not gpus or shown > built:
        code = "numa.cut" if hardware.cut else "numa.gpu-memory-odd"
    return Finding(code, f"{len(cpus)} Grace", shown, built, lines)
