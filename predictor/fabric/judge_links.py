"""Judges what the driver says of the links: matrix, link rates, error counters, fabric registration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations

from .expected import Expectation, Part, design_counts, part_of, table
from .links import GpuLinks
from .reading import Evidence
from .registration import Registration
from .topology import Topology
from .verdict import DEGRADED, HEALTHY, UNKNOWN, Check, CheckMaker, Found

_STATUS = "nvidia-smi nvlink --status"
_NAMES = "nvidia-smi -L (or --platform)"
_BOARD = 8
_RATE_SHARE = 0.9
_NO_CLUSTER = "00000000-0000-0000-0000-000000000000"
Links = dict[tuple[int, int], int]
Pairs = dict[tuple[int, int], tuple[str, Evidence]]


def judge_topology(topology: Topology, expected: Expectation) -> Check:
    """Judge a `topo -m` matrix against the designs of NVLink, or against the GPU where it is known."""
    pairs, gpus = topology.pairs(), topology.gpus
    links = {p: int(cell[2:]) if cell.startswith("NV") else 0 for p, (cell, _) in pairs.items()}
    check = CheckMaker("topology", expected.known, next_command=_STATUS)
    part = expected.part
    first = topology.rows[0].evidence
    if gpus == 1:
        return check(HEALTHY, "one GPU: no pair to judge", "nothing", "a single GPU needs no link", [first])
    if part and (part.card or not part.links):
        return _cards(check, part, links, pairs)
    if not any(links.values()):
        return _no_nvlink(check, topology, part, pairs)
    fault = _design_fault(links, gpus, part)
    if fault is None:
        return _count(check, topology, expected, links)
    odd = fault or _odd(links)
    lines = list(dict.fromkeys(pairs[p][1] for p in odd)) or [first]
    shown = ", ".join(f"GPU{i}-GPU{j} {pairs[i, j][0]}" for i, j in odd[:4])
    wanted = f"NV{part.links} between every pair, or NVLinks adding up to {part.links} per GPU" if part else (
        "one NVLink design for all GPUs: the same NV# for every pair, a mesh of all links, or equal pairs"
    )  # fmt: skip
    if _one_pair_among_cards(links, gpus, part):
        why = "two GPUs are bridged and the others are not: by choice, or a bridge is down"
        return check(UNKNOWN, shown, "as built", why, lines, missing=f"the GPUs' names and {_STATUS}")
    return check(
        DEGRADED,
        shown or "fewer NVLinks than built",
        wanted,
        "NVLinks are lost or a GPU is off NVLink",
        lines,
    )


def _design_fault(links: Links, gpus: int, part: Part | None) -> list[tuple[int, int]] | None:
    """Return None where the matrix fits a design, else the pairs that do not (possibly none singled out)."""
    switched, mesh, paired = design_counts()
    if part:
        switched = mesh = paired = {part.links}
    counts = Counter(links[p] for p in links if p[0] < p[1])
    every = {k for k in counts if k}
    # Some of a board of four's GPUs: a third of the links lead to each peer.
    corner = {part.links // 3} if part and gpus < 4 else set()
    if len(counts) == 1 and every <= (switched | corner if gpus > 2 else switched | paired | corner):
        return None
    sums: dict[int, int] = {}
    for (i, _), k in links.items():
        sums[i] = sums.get(i, 0) + k
    groups = _groups(links)
    alone = set(range(gpus)) - set().union(*groups)
    complete = len(links) == gpus * (gpus - 1)
    if complete and not alone and len(set(map(len, groups))) == 1 and len(set(sums.values())) == 1:
        total = next(iter(sums.values()))
        size = len(groups[0])
        if total in (paired if size == 2 else mesh) and (not part or size > 2 or gpus == 2):
            return None
    if not part and all(len(g) == 2 for g in groups) and gpus % 2 and len(alone) == 1 and every <= paired:
        return None
    if (not part or part.links == 6) and complete and _is_cube_corner(links, gpus):
        return None
    return _odd(links, part.links if part else max(every))


def _groups(links: Links) -> list[set[int]]:
    """Return the sets of GPUs that NVLinks connect, each of two or more."""
    groups: list[set[int]] = []
    for (i, j), k in links.items():
        if k:
            joined = [g for g in groups if i in g or j in g]
            groups = [g for g in groups if g not in joined] + [{i, j}.union(*joined)]
    return groups


def _odd(links: Links, wanted: int = 0) -> list[tuple[int, int]]:
    """Return the pairs with fewer NVLinks than wanted (the most that any pair has), worst first."""
    most = wanted or max(links.values())
    pairs = [p for p in sorted(links) if p[0] < p[1] and links[p] != most]
    return sorted(pairs, key=lambda p: links[p])


def _is_cube_corner(links: Links, gpus: int) -> bool:
    """Tell whether the matrix is the hybrid cube mesh of eight GPUs, or a part of it, in any numbering."""
    cube = table()["designs"]["cube"]
    if not 2 <= gpus <= len(cube) or max(links.values()) > 2:
        return False

    def place(chosen: list[int]) -> bool:
        at = len(chosen)
        if at == gpus:
            return True
        fits = (
            c for c in range(len(cube))
            if c not in chosen and all(cube[c][chosen[j]] == links[at, j] for j in range(at))
        )  # fmt: skip
        return any(place([*chosen, c]) for c in fits)

    return place([])


def _one_pair_among_cards(links: Links, gpus: int, part: Part | None) -> bool:
    pairs = {k for k in links.values() if k}
    groups = _groups(links)
    return (
        not part
        and gpus >= 4
        and all(len(g) == 2 for g in groups)
        and 2 * len(groups) < gpus
        and len(pairs) == 1
    )


def _count(check: CheckMaker, topology: Topology, expected: Expectation, links: Links) -> Check:
    """Judge the number of GPUs of a matrix whose links are as built."""
    gpus, first = topology.gpus, topology.rows[0].evidence
    kinds = sorted({k for k in links.values() if k}, reverse=True)
    found = f"{gpus} GPUs, " + " and ".join(f"NV{k}" for k in kinds) + " as built"
    wanted = "the links of one NVLink design"
    part, platform = expected.part, expected.platform
    host = min(platform.num_gpus, part.host_gpus or platform.num_gpus) if platform and part else 0
    # Only a Grace host gives GPU memory a NUMA node, and its trays hold four.
    coherent = any(row.rest[2:3] and row.rest[2].isdigit() for row in topology.rows)
    host = host or (part.host_gpus if part else 0) or (4 if coherent and gpus > 2 else 0)
    whole = host or next((n for n in (4, _BOARD, 16) if gpus <= n), gpus)
    meshed = len(kinds) == 1 and all(links.values())
    if meshed and gpus < whole and (gpus > _BOARD // 2 or (host and gpus == host - 1)):
        why = "boards hold 4, 8 or 16 GPUs, and virtual machines get 1, 2, 4 or 8: GPUs are missing"
        return check(
            DEGRADED, f"{gpus} GPUs of {whole}", f"{whole} GPUs", why, [first], next_command="nvidia-smi -L"
        )
    if (platform and gpus < host) or (meshed and gpus == 3 and kinds[0] > _BOARD):
        why = "part of the platform is not seen: a container's share, or GPUs that are gone"
        return check(
            UNKNOWN,
            f"{gpus} GPUs of {whole}",
            f"{whole} GPUs",
            why,
            [first],
            missing="the whole host's matrix",
        )
    return check(HEALTHY, found, wanted, "every GPU reaches its peers over all its NVLinks", [first])


def _cards(check: CheckMaker, part: Part, links: Links, pairs: Pairs) -> Check:
    """Judge PCIe cards: no NVLink is by design, a bridge must be whole."""
    short = [p for p in links if links[p] and links[p] % max(part.bridge_links, 1) and p[0] < p[1]]
    lines = [line for _, line in pairs.values()][:1]
    wanted = f"no NVLink, or bridges of {part.bridge_links}" if part.bridge_links else "no NVLink"
    # Four cards on four-way bridges share their links between three peers.
    total = {i: sum(k for (a, _), k in links.items() if a == i) for i, _ in links}
    if short and any(k not in (0, part.bridge_links) for k in total.values()):
        shown = ", ".join(f"GPU{i}-GPU{j} NV{links[i, j]}" for i, j in short[:4])
        return check(DEGRADED, shown, wanted, "part of a bridge is down", [pairs[p][1] for p in short])
    return check(
        HEALTHY, "PCIe cards" + (", bridged" if any(links.values()) else ""), wanted, "by design", lines
    )


def _no_nvlink(check: CheckMaker, topology: Topology, part: Part | None, pairs: Pairs) -> Check:
    """Judge a matrix without a single NVLink."""
    gpus, lines = topology.gpus, [row.evidence for row in topology.rows]
    kinds = "/".join(sorted({cell for cell, _ in pairs.values()}))
    if part:
        wanted = f"NV{part.links} between GPUs"
        return check(DEGRADED, f"no NVLink at all ({kinds})", wanted, "the fabric is down: PCIe only", lines)
    numa = {i: topology.numa(i) for i in range(gpus)}
    inside = [(i, j) for i, j in combinations(range(gpus), 2) if pairs.get((i, j), ("", None))[0] == "SYS"
              and (numa[i] == numa[j] or not (numa[i].isdigit() and numa[j].isdigit()))]  # fmt: skip
    why, wanted = "", "PCIe cards show this by design"
    if gpus >= 4 and inside:
        why = "GPUs of one NUMA node look as far apart as sockets: some PCIe hosts do so, and a dead fabric"
    elif gpus >= _BOARD and topology.own_nics() > gpus // 2:
        why = "eight GPUs, each beside its own network card, are built like an NVLink board"
    if why:
        return check(UNKNOWN, f"{gpus} GPUs without NVLink ({kinds})", wanted, why, lines[:1], missing=_NAMES)
    return check(
        HEALTHY, f"{gpus} GPUs over PCIe ({kinds})", wanted, "no NVLink is reported anywhere", lines[:1]
    )


def judge_links(blocks: Sequence[GpuLinks], expected: Expectation) -> list[Check]:
    """Judge the links' status and error counters of all GPUs of one capture."""
    checks = []
    told = {b.gpu for b in blocks if b.rates or b.all_inactive}
    status = [b for b in blocks if b.rates or b.all_inactive or not (b.counters or b.gpu in told)]
    # A mere list of GPUs says nothing of links, unless they are cards, which print none.
    if told or any((part := part_of(b.name)) and part.card for b in status):
        checks.append(_link_status(status, expected))
    counted = [b for b in blocks if b.counters]
    if counted:
        checks.append(_link_errors(counted, expected))
    return checks


def _link_status(blocks: Sequence[GpuLinks], expected: Expectation) -> Check:
    check = CheckMaker(
        "link-status", expected.known, next_command="nvidia-smi nvlink -e; dmesg | grep -i -e nvlink -e xid"
    )
    faults: Found = []
    unclear: Found = []
    most = max((len(b.rates) for b in blocks), default=0)
    for place, block in enumerate(blocks):
        part = (part_of(block.name) if block.name else None) or expected.part
        last = place == len(blocks) - 1
        cut = block.cut or (last and len(block.rates) < most)
        bad, open_ = _block_faults(block, part, cut=cut, last=last, alone=expected.alone)
        faults += [(f"GPU{block.gpu} {text}", line) for text, line in bad]
        unclear += [(f"GPU{block.gpu} {text}", line) for text, line in open_]
    part = part_of(blocks[0].name) or expected.part
    wanted = f"{part.links} active links per GPU at {part.shown_gb_s:g} GB/s" if part and part.links else (
        "no links, or whole bridges" if part else "all links active"
    )  # fmt: skip
    if faults:
        lines = [line for _, line in faults]
        text = "; ".join(text for text, _ in faults[:4])
        return check(DEGRADED, text, wanted, "a lost link slows every collective that uses it", lines)
    if unclear:
        text = "; ".join(text for text, _ in unclear[:4])
        missing = "the Link lines of nvidia-smi nvlink --status" + ("" if part else f", {_NAMES}")
        return check(
            UNKNOWN, text, wanted, "the evidence is not enough", [e for _, e in unclear], missing=missing
        )
    active = sorted({b.active for b in blocks if not b.cut and b.rates}) or [0]
    found = f"{len(blocks)} GPU(s), " + " or ".join(map(str, active)) + " active links each"
    return check(HEALTHY, found, wanted, "every link that should be is active", [blocks[0].evidence])


def _block_faults(
    block: GpuLinks, part: Part | None, *, cut: bool, last: bool, alone: bool
) -> tuple[Found, Found]:
    """Return the faults and the open questions of one GPU's block."""
    down = [(f"link {n} inactive", line) for n, (rate, line) in block.rates.items() if rate is None]
    slow: Found = []
    shown = part.shown_gb_s if part else max((r for r, _ in block.rates.values() if r), default=0.0)
    for n, (rate, line) in block.rates.items():
        if rate is not None and rate < _RATE_SHARE * shown:
            slow.append((f"link {n} at {rate:g} GB/s", line))
    none = block.all_inactive
    if part and (part.card or not part.links):
        whole = block.active % max(part.bridge_step, 1) == 0 and block.active in (0, part.bridge_links)
        short = (f"{block.active} of {part.bridge_links} bridge links active", block.evidence)
        return (slow, []) if whole or cut else ([short, *down], [])
    if part and (part.host_gpus == 1 or alone) and (none or not block.active):
        return [], []
    if block.mig and (none or down):
        return [], [("NVLink is not in use under MIG", none or block.evidence)]
    if none:
        return ([("all links inactive", none)], []) if part else ([], [("all links inactive", none)])
    if part and block.active >= part.links:
        # Export versions list links that they never had.
        down = []
    if not part:
        return (slow, []) if not down else (slow, down)
    seen = len(block.rates)
    if seen < part.links and not cut and not down:
        short = (f"lists {seen} of {part.links} links", block.evidence)
        # The end of a capture may be missing: what is not shown is not inactive.
        whole_start = last and set(block.rates) == set(range(seen))
        return (slow, [short]) if whole_start else ([short, *slow], [])
    return [*down, *slow], []


def _link_errors(blocks: Sequence[GpuLinks], expected: Expectation) -> Check:
    check = CheckMaker(
        "link-errors", expected.known, next_command="nvidia-smi nvlink -e again after a load: do they grow?"
    )
    errors = [(f"GPU{b.gpu} {name}", line) for b in blocks for name, line in b.errors]
    if errors:
        shown = "; ".join(f"{name}: {line.text.rsplit(':', 1)[-1].strip()}" for name, line in errors[:4])
        why = "links replay, lose or corrupt packets: retries cost time, recoveries stop the traffic"
        return check(DEGRADED, shown, "every error counter 0", why, [line for _, line in errors])
    read = sum(b.counters for b in blocks)
    return check(
        HEALTHY,
        f"{read} error counters, all 0",
        "every error counter 0",
        "no link errors",
        [blocks[0].evidence],
    )


def judge_registration(blocks: Sequence[Registration], expected: Expectation) -> Check:
    """Judge whether every GPU joined its NVLink fabric, and the same one."""
    check = CheckMaker(
        "fabric-state", expected.known, next_command="systemctl status nvidia-fabricmanager nvidia-imex"
    )
    bad: Found = []
    silent: list[Evidence] = []
    wanted = "State Completed, Status Success, no ill health"
    for block in blocks:
        part = (part_of(block.name) if block.name else None) or expected.part
        state, status = block.state.lower(), block.status.lower()
        line = block.status_evidence if state == "completed" and block.status_evidence else block.evidence
        if state in ("", "n/a", "not supported") or (state == "completed" and not status):
            if not part or part.registers:
                silent.append(line)
        elif state != "completed" or status != "success":
            bad.append((f"State {block.state}, Status {block.status or 'not shown'}", line))
        elif part and part.rack and block.cluster == _NO_CLUSTER:
            bad.append(("ClusterUUID zero: outside the rack's NVLink domain", line))
        bad += [(f"{name} {value}", where) for name, value, where in block.health if _is_ill(name, value)]
    for name, values in (
        ("CliqueId", {b.clique for b in blocks}),
        ("ClusterUUID", {b.cluster for b in blocks}),
    ):
        if len(values - {"", "N/A"}) > 1:
            bad.append((f"{name} differs between GPUs of one host", blocks[0].evidence))
    if bad:
        why = (
            "GPUs that are not registered cannot use NVLink: programs wait, fail, or fall back to the network"
        )
        return check(
            DEGRADED, "; ".join(dict.fromkeys(t for t, _ in bad[:4])), wanted, why, [e for _, e in bad]
        )
    if silent:
        missing = "State and Status of the Fabric block, " + _NAMES
        return check(UNKNOWN, "no fabric state", wanted, "not every GPU registers", silent, missing=missing)
    return check(
        HEALTHY, f"{len(blocks)} GPU(s) registered or without need to", wanted, "joined", [blocks[0].evidence]
    )


def _is_ill(name: str, value: str) -> bool:
    """Tell whether a line of the Health block speaks of a fault."""
    word, name = value.lower(), name.lower()
    if name == "bandwidth":
        return "degraded" in word
    if name in ("summary", "incorrect configuration"):
        return word not in ("", "n/a", "none", "healthy", "false", "not supported")
    return ("recovery" in name or "unhealthy" in name) and word in ("true", "yes")
