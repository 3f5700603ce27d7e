"""Judges the host's memory nodes, and on Grace hosts the GPUs' memory among them."""

from __future__ import annotations

from ...data import catalogue
from .expected import Expectation, table
from .numa import Hardware
from .reading import Evidence
from .verdict import DEGRADED, HEALTHY, UNKNOWN, Check, CheckMaker

_MIB = 1048576
_MIG_NODES = 8


def judge_numa(hardware: Hardware, expected: Expectation) -> Check:
    """Judge the memory nodes: each CPU has memory, each GPU of a Grace host its node."""
    check = CheckMaker("numa", expected.known, next_command="numactl --hardware; nvidia-smi topo -m")
    limits = table()["numa"]
    sizes = {n: size for n, (size, _) in hardware.memory_mb.items()}
    cores = {n: count for n, (count, _) in hardware.cpus.items() if count}
    wanted = "memory on every node with cores"
    if not sizes:
        missing = "node lines"
        return check(
            UNKNOWN, "no node shown", wanted, "nothing to judge", [hardware.evidence], missing=missing
        )
    empty = [n for n in cores if sizes.get(n) == 0]
    if empty:
        lines = [hardware.memory_mb[n][1] for n in empty]
        return check(
            DEGRADED, f"node {empty[0]} has cores and no memory", wanted, "memory modules are missing", lines
        )
    if fault := _distance_fault(hardware):
        return check(
            DEGRADED, fault[0], "10 to itself, more to others", "the firmware's map is wrong", [fault[1]]
        )
    own = [sizes[n] for n in cores if n in sizes]
    if own and min(own) < limits["uneven_share"] * max(own):
        found = f"{min(own)} MB beside {max(own)} MB"
        return check(DEGRADED, found, "like nodes", "memory modules are missing", [hardware.evidence])
    if cores and set(cores.values()) == {limits["grace_cores"]} and len(cores) <= 2:
        return _judge_grace(check, hardware, sizes, cores, expected)
    if len(sizes) < hardware.available and not hardware.cut:
        found = f"{len(sizes)} nodes of {hardware.available}"
        return check(
            UNKNOWN, found, wanted, "nodes are not shown", [hardware.evidence], missing="the other nodes"
        )
    found = f"{len(sizes)} nodes, {len(cores)} with cores"
    return check(HEALTHY, found, wanted, "a host without GPU memory nodes", [hardware.evidence])


def _distance_fault(hardware: Hardware) -> tuple[str, Evidence] | None:
    order = hardware.order or sorted(hardware.distances)
    for node, (row, line) in hardware.distances.items():
        if node in order and len(row) == len(order):
            own = row[order.index(node)]
            if own != 10 or min(row) < 10 or max(row) >= 255:
                return f"node {node}: distances {min(row)} to {max(row)}, {own} to itself", line
    return None


def _judge_grace(
    check: CheckMaker, hardware: Hardware, sizes: dict[int, int], cores: dict[int, int], expected: Expectation
) -> Check:
    """Judge a Grace host: the GPUs' memory nodes, all or (kept by the driver) none."""
    tolerance = table()["numa"]["size_tolerance"]
    gpus = {n: size for n, size in sizes.items() if n not in cores and size}
    graces = [g for g in catalogue.gpus().values() if g.name.startswith(("gb", "gh"))]
    fits = {
        g.name: g
        for size in gpus.values()
        for g in graces
        if abs(size * _MIB / g.memory_bytes - 1) < tolerance
    }
    named = expected.part.spec if expected.part and expected.part.spec in graces else None
    spec = named or max(fits.values(), key=lambda g: g.memory_bytes, default=None)
    kept = hardware.available // len(cores) - 1
    slots = kept in (_MIG_NODES, 2 * _MIG_NODES) and hardware.available == len(cores) * (1 + kept)
    per_grace = kept // _MIG_NODES if slots else (2 if spec is None or spec.name.startswith("gb") else 1)
    # Eight nodes are kept for each GPU, one for each MIG instance it may be split into.
    whole = len({(n - len(cores)) // _MIG_NODES for n in gpus}) if slots else len(gpus)
    wanted = f"memory of {per_grace * len(cores)} GPUs, or of none where the driver keeps the memory (CDMM)"
    found = f"{len(cores)} Grace, memory of {whole} GPUs"
    lines = [hardware.memory_mb[n][1] for n in gpus] or [hardware.evidence]
    blank = [n for n in sizes if n not in cores and not sizes[n]]
    if whole == per_grace * len(cores) or (not gpus and not blank and not hardware.cut):
        why = "all GPU memory is on line" if gpus else "CDMM: the driver keeps the memory"
        return check(HEALTHY, found, wanted, why, lines)
    if hardware.cut or not gpus or whole > per_grace * len(cores):
        why = "nodes are left out" if hardware.cut else "GPU memory is not on line, or split (MIG)"
        return check(UNKNOWN, found, wanted, why, lines, missing="all nodes, and nvidia-smi -L")
    return check(DEGRADED, found, wanted, "a GPU's memory did not come on line", lines)
