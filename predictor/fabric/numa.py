"""Reads and judges `numactl --hardware`: the host's memory nodes, and on Grace hosts the GPUs' among them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ...data import catalogue
from .expected import Expectation, table
from .reading import Evidence, is_cut
from .verdict import DEGRADED, HEALTHY, UNKNOWN, Check, CheckMaker

_AVAILABLE = re.compile(r"^\s*available:\s*(\d{1,6}) nodes? ?(?:\(([\d,-]*)\))?")
_CPUS = re.compile(r"^\s*node (\d{1,5}) cpus:\s*([\d ]*)$")
_SIZE = re.compile(r"^\s*node (\d{1,5}) size:\s*(\d{1,12}) MB")
_HEAD = re.compile(r"^\s*node\s+(\d+(?:\s+\d+)*)\s*$")
_DISTANCES = re.compile(r"^\s*(\d{1,5}):\s+(\d+(?:\s+\d+)*)\s*$")
_MOST = 4096
_MIB = 1048576
_MIG_NODES = 8
_NEXT = "numactl --hardware; nvidia-smi topo -m"


@dataclass(kw_only=True)
class Hardware:
    """One capture: nodes as announced, CPUs and memory [MB] by node, distances by row, and any gap in it."""

    evidence: Evidence
    available: int
    cpus: dict[int, int] = field(default_factory=dict)
    memory_mb: dict[int, tuple[int, Evidence]] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)
    distances: dict[int, tuple[list[int], Evidence]] = field(default_factory=dict)
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

    def feed(self, line: Evidence) -> None:
        """Take one line."""
        if available := _AVAILABLE.match(line.text):
            if len(self.found) < _MOST:
                self.found.append(Hardware(evidence=line, available=int(available[1])))
        elif self.found:
            self._inside(self.found[-1], line.text, line)

    def _inside(self, hardware: Hardware, text: str, line: Evidence) -> None:
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

    def judge(self, expected: Expectation) -> list[Check]:
        """Judge the memory nodes of each capture."""
        return [judge_numa(hardware, expected) for hardware in self.found]


def judge_numa(hardware: Hardware, expected: Expectation) -> Check:
    """Judge the memory nodes: each CPU has memory, each GPU of a Grace host its node."""
    wanted = "memory on every node with cores"
    check = CheckMaker("numa", expected.known, wanted=wanted, next_command=_NEXT)
    limits, first = table()["numa"], hardware.evidence
    sizes = {n: size for n, (size, _) in hardware.memory_mb.items()}
    cores = {n: count for n, count in hardware.cpus.items() if count}
    if not sizes:
        return check(UNKNOWN, "no node shown", "nothing to judge", first, missing="node lines")
    empty = [n for n in cores if sizes.get(n) == 0]
    if empty:
        found = f"node {empty[0]} has cores and no memory"
        lines = [hardware.memory_mb[n][1] for n in empty]
        return check(DEGRADED, found, "memory modules are missing", *lines)
    if fault := _distance_fault(hardware):
        wanted = "10 to itself, more to others"
        return check(DEGRADED, fault[0], "the firmware's map is wrong", fault[1], wanted=wanted)
    own = [sizes[n] for n in cores if n in sizes]
    if own and min(own) < limits["uneven_share"] * max(own):
        found = f"{min(own)} MB beside {max(own)} MB"
        return check(DEGRADED, found, "memory modules are missing", first, wanted="like nodes")
    if set(cores.values()) == {limits["grace_cores"]} and len(cores) <= 2:
        return _judge_grace(check, hardware, sizes, set(cores), expected)
    if len(sizes) < hardware.available and not hardware.cut:
        found = f"{len(sizes)} nodes of {hardware.available}"
        return check(UNKNOWN, found, "nodes are not shown", first, missing="the other nodes")
    found = f"{len(sizes)} nodes, {len(cores)} with cores"
    return check(HEALTHY, found, "a host without GPU memory nodes", first)


def _distance_fault(hardware: Hardware) -> tuple[str, Evidence] | None:
    order = hardware.order or sorted(hardware.distances)
    for node, (row, line) in hardware.distances.items():
        if node in order and len(row) == len(order):
            own = row[order.index(node)]
            if own != 10 or min(row) < 10 or max(row) >= 255:
                return f"node {node}: distances {min(row)} to {max(row)}, {own} to itself", line
    return None


def _judge_grace(
    check: CheckMaker, hardware: Hardware, sizes: dict[int, int], cpus: set[int], expected: Expectation
) -> Check:
    """Judge a Grace host: the GPUs' memory nodes, all or (kept by the driver) none."""
    tolerance = table()["numa"]["size_tolerance"]
    gpus = {n: size for n, size in sizes.items() if n not in cpus and size}
    blank = any(not size for n, size in sizes.items() if n not in cpus)
    graces = [g for g in catalogue.gpus().values() if g.name.startswith(("gb", "gh"))]
    fits = [
        g for g in graces
        if any(abs(size * _MIB / g.memory_bytes - 1) < tolerance for size in gpus.values())
    ]  # fmt: skip
    named = expected.part.spec if expected.part and expected.part.spec in graces else None
    spec = named or max(fits, key=lambda g: g.memory_bytes, default=None)
    kept = hardware.available // len(cpus) - 1
    slots = kept in (_MIG_NODES, 2 * _MIG_NODES) and hardware.available == len(cpus) * (1 + kept)
    per_grace = kept // _MIG_NODES if slots else (2 if spec is None or spec.name.startswith("gb") else 1)
    built = per_grace * len(cpus)
    # Eight nodes are kept for each GPU, one for each MIG instance it may be split into.
    whole = len({(n - len(cpus)) // _MIG_NODES for n in gpus}) if slots else len(gpus)
    wanted = f"memory of {built} GPUs, or of none where the driver keeps the memory (CDMM)"
    found = f"{len(cpus)} Grace, memory of {whole} GPUs"
    lines = [hardware.memory_mb[n][1] for n in gpus] or [hardware.evidence]
    if whole == built or not (gpus or blank or hardware.cut):
        why = "all GPU memory is on line" if gpus else "CDMM: the driver keeps the memory"
        return check(HEALTHY, found, why, *lines, wanted=wanted)
    if hardware.cut or not gpus or whole > built:
        why = "nodes are left out" if hardware.cut else "GPU memory is not on line, or split (MIG)"
        missing = "all nodes, and nvidia-smi -L"
        return check(UNKNOWN, found, why, *lines, wanted=wanted, missing=missing)
    return check(DEGRADED, found, "a GPU's memory did not come on line", *lines, wanted=wanted)
