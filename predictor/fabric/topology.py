"""Reads and judges the matrix of `nvidia-smi topo -m`: how each pair of GPUs is connected."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations, takewhile

from .expected import Expectation, Part, design_counts, table
from .reading import Evidence
from .verdict import DEGRADED, GPU_NAMES, HEALTHY, UNKNOWN, Check, CheckMaker

_RELATION = re.compile(r"^(?:X|NV\d{1,2}|SYS|SOC|NODE|PHB|PXB|PIX)$")
_GPU = re.compile(r"^GPU(\d{1,3})$")
_HEADING = re.compile(r"^(?:GPU\d*|NIC\d+|[a-z]\w*_\d+|[a-z]+\d+\w*|CPU|NUMA|Affinity|ID)$")
_AFFINITY = re.compile(r"^(?:[\d,-]+|N/A)$")
_MOST_GPUS = 256
_BOARD = 8
_STATUS = "nvidia-smi nvlink --status"
Pair = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One GPU's row: its number, the relations in order, what follows them (affinities), the line."""

    gpu: int
    relations: tuple[str, ...]
    rest: tuple[str, ...]
    evidence: Evidence


@dataclass(frozen=True, kw_only=True)
class Topology:
    """One matrix: GPUs by the header (0 where it is missing) and the rows that were found."""

    columns: int
    rows: tuple[Row, ...]

    @cached_property
    def gpus(self) -> int:
        """GPUs of the machine: by the header, else the most that rows, own places and NVLinks tell of."""
        if self.columns:
            return max(self.columns, len(self.rows))
        return 1 + max(
            place
            for row in self.rows
            for place, cell in [(row.gpu, "X"), *enumerate(row.relations)]
            if cell == "X" or cell.startswith("NV")
        )

    @cached_property
    def pairs(self) -> dict[Pair, tuple[str, Evidence]]:
        """Relation and line of each known pair (i, j) and (j, i)."""
        found = {
            (row.gpu, j): (cell, row.evidence)
            for row in self.rows
            for j, cell in enumerate(row.relations[: self.gpus])
            if cell != "X"
        }
        return {**{(j, i): value for (i, j), value in found.items()}, **found}

    @cached_property
    def links(self) -> dict[Pair, int]:
        """NVLinks of each known pair, 0 where it is connected otherwise."""
        return {p: int(cell[2:]) if cell.startswith("NV") else 0 for p, (cell, _) in self.pairs.items()}

    @property
    def upper(self) -> dict[Pair, int]:
        """NVLinks of each known pair, once: (i, j) with i < j."""
        return {(i, j): links for (i, j), links in self.links.items() if i < j}

    @cached_property
    def totals(self) -> Counter[int]:
        """NVLinks of each GPU to all its peers."""
        sums: Counter[int] = Counter()
        for (i, _), links in self.links.items():
            sums[i] += links
        return sums

    def numa(self, gpu: int) -> str:
        """Return the GPU's NUMA affinity as printed, or ""."""
        rest = next((row.rest for row in self.rows if row.gpu == gpu), ())
        return rest[1] if len(rest) > 1 else ""

    def own_nics(self) -> int:
        """Return how many GPUs have a network card nearer than the host bridge."""
        return sum(not {"PIX", "PXB"}.isdisjoint(row.relations[self.gpus :]) for row in self.rows)

    def shown(self, pairs: list[Pair]) -> str:
        """Return the first of these pairs in words."""
        return ", ".join(f"GPU{i}-GPU{j} {self.pairs[i, j][0]}" for i, j in pairs[:4])

    def lines(self, pairs: list[Pair]) -> list[Evidence]:
        """Return the lines that tell of these pairs."""
        return [self.pairs[pair][1] for pair in pairs]


@dataclass(kw_only=True)
class TopologyReader:
    """Collects the matrices of a stream of lines; a repeated header or row starts the next one."""

    tool = "nvidia-smi topo -m"
    found: list[Topology] = field(default_factory=list)
    _columns: int = 0
    _width: int = 0
    _rows: list[Row] = field(default_factory=list)
    _open: bool = False

    def feed(self, line: Evidence) -> None:
        """Take one line."""
        text = line.text
        if "GPU" not in text and not self._open:
            return
        words = text.split()
        named = _GPU.match(words[0]) if words else None
        if named and len(words) > 1 and _RELATION.match(words[1]):
            self._row(int(named[1]), words[1:], line)
        elif named and all(_HEADING.match(word) for word in words):
            self._header(words)
        elif words and self._open and self._continues(words):
            last = self._rows.pop()
            self._row(last.gpu, [*last.relations, *last.rest, *words], last.evidence)
        else:
            self._open = False

    def _header(self, words: list[str]) -> None:
        columns = [word for word in words if _GPU.match(word)]
        # A header too wide for its terminal goes on in the next line, from the next GPU.
        wrapped = not self._rows and self._columns and columns and columns[0] == f"GPU{self._columns}"
        if not wrapped:
            self.end()
        self._columns += len(columns)
        self._width += sum("_" in word or (word[:3] in ("GPU", "NIC") and word != "GPU") for word in words)

    def _continues(self, words: list[str]) -> bool:
        if not self._rows or len(self._rows[-1].relations) >= max(self._width, self._columns):
            return False
        return all(_RELATION.match(word) or _AFFINITY.match(word) for word in words)

    def _row(self, gpu: int, words: list[str], line: Evidence) -> None:
        if any(row.gpu == gpu for row in self._rows) or gpu >= _MOST_GPUS:
            self.end()
        relations = tuple(takewhile(_RELATION.match, words))
        rest = tuple(words[len(relations) :])
        self._rows.append(Row(gpu=gpu, relations=relations, rest=rest, evidence=line))
        self._open = True

    def end(self) -> None:
        """Close the matrix in work; the last one at the end of the stream."""
        if self._rows and len(self.found) < _MOST_GPUS:
            self.found.append(Topology(columns=self._columns, rows=tuple(self._rows)))
        self._columns, self._width, self._rows, self._open = 0, 0, [], False

    def judge(self, expected: Expectation) -> list[Check]:
        """Judge each matrix."""
        return [judge_topology(matrix, expected) for matrix in self.found]


def judge_topology(topology: Topology, expected: Expectation) -> Check:
    """Judge a matrix against the designs of NVLink, or against the GPU where it is known."""
    part, first = expected.part, topology.rows[0].evidence
    wanted = (
        "one NVLink design for all GPUs: the same NV# for every pair, a mesh of all links, or equal pairs"
    )
    if part:
        wanted = f"NV{part.links} between every pair, or NVLinks adding up to {part.links} per GPU"
    check = CheckMaker("topology", expected.known, wanted=wanted, next_command=_STATUS)
    if topology.gpus == 1:
        why = "a single GPU needs no link"
        return check(HEALTHY, "one GPU: no pair to judge", why, first, wanted="nothing")
    if part and (part.card or not part.links):
        return _cards(check, part, topology)
    if not any(topology.links.values()):
        return _no_nvlink(check, part, topology)
    if _fits_a_design(topology, part):
        return _count(check, expected, topology)
    # One row may say more of a pair than the other.
    most = part.links if part else max(topology.upper.values())
    odd = _odd(topology, most) or _odd(topology, max(topology.links.values()))
    lines = dict.fromkeys(topology.lines(odd)) or [first]
    if not part and _one_pair_among_cards(topology):
        why = "two GPUs are bridged and the others are not: by choice, or a bridge is down"
        missing = f"the GPUs' names and {_STATUS}"
        return check(UNKNOWN, topology.shown(odd), why, *lines, wanted="as built", missing=missing)
    found = topology.shown(odd) or "fewer NVLinks than built"
    return check(DEGRADED, found, "NVLinks are lost or a GPU is off NVLink", *lines)


def _fits_a_design(topology: Topology, part: Part | None) -> bool:
    """Tell whether the matrix is a switched board, a mesh, pairs, or a cube mesh, whole or in part."""
    links, gpus = topology.links, topology.gpus
    switched, mesh, paired = ({part.links},) * 3 if part else design_counts()
    counts = set(topology.upper.values())
    some = counts - {0}
    # Some of a board of four's GPUs: a third of the links lead to each peer.
    corner = {part.links // 3} if part and gpus < 4 else set()
    if len(counts) == 1 and some <= (switched | corner if gpus > 2 else switched | paired | corner):
        return True
    groups = _groups(topology)
    sizes = {len(group) for group in groups}
    alone = gpus - sum(map(len, groups))
    complete = len(links) == gpus * (gpus - 1)
    totals = set(topology.totals.values())
    if complete and not alone and len(sizes) == 1 and len(totals) == 1:
        pairs = sizes == {2}
        if totals <= (paired if pairs else mesh) and (not part or not pairs or gpus == 2):
            return True
    if not part and sizes == {2} and gpus % 2 and alone == 1 and some <= paired:
        return True
    return (not part or part.links == 6) and complete and _is_cube_corner(topology)


def _groups(topology: Topology) -> list[set[int]]:
    """Return the sets of GPUs that NVLinks connect, each of two or more."""
    groups: list[set[int]] = []
    for pair, links in topology.links.items():
        if links:
            joined = [group for group in groups if not group.isdisjoint(pair)]
            groups = [group for group in groups if group not in joined] + [set(pair).union(*joined)]
    return groups


def _odd(topology: Topology, wanted: int) -> list[Pair]:
    """Return the pairs with other NVLinks than wanted, worst first."""
    links = topology.upper
    return sorted((pair for pair in links if links[pair] != wanted), key=lambda pair: (links[pair], pair))


def _is_cube_corner(topology: Topology) -> bool:
    """Tell whether the matrix is the hybrid cube mesh of eight GPUs, or a part of it, in any numbering."""
    links, gpus, cube = topology.links, topology.gpus, table()["designs"]["cube"]
    if not 2 <= gpus <= len(cube) or max(links.values()) > 2:
        return False

    def place(chosen: list[int]) -> bool:
        at = len(chosen)
        return at == gpus or any(
            place([*chosen, corner])
            for corner in range(len(cube))
            if corner not in chosen and all(cube[corner][chosen[j]] == links[at, j] for j in range(at))
        )

    return place([])


def _one_pair_among_cards(topology: Topology) -> bool:
    groups, kinds = _groups(topology), set(topology.links.values()) - {0}
    paired = sum(map(len, groups))
    return topology.gpus >= 4 and len(kinds) == 1 and paired == 2 * len(groups) < topology.gpus


def _count(check: CheckMaker, expected: Expectation, topology: Topology) -> Check:
    """Judge the number of GPUs of a matrix whose links are as built."""
    gpus, first = topology.gpus, topology.rows[0].evidence
    kinds = sorted(set(topology.links.values()) - {0}, reverse=True)
    part, platform = expected.part, expected.platform
    host = min(platform.num_gpus, part.host_gpus or platform.num_gpus) if platform and part else 0
    # Only a Grace host gives GPU memory a NUMA node, and its trays hold four.
    coherent = any(row.rest[2:3] and row.rest[2].isdigit() for row in topology.rows)
    host = host or (part.host_gpus if part else 0) or (4 if coherent and gpus > 2 else 0)
    whole = host or next((n for n in (4, _BOARD, 16) if gpus <= n), gpus)
    meshed = len(kinds) == 1 and all(topology.links.values())
    found, wanted = f"{gpus} GPUs of {whole}", f"{whole} GPUs"
    if meshed and gpus < whole and (gpus > _BOARD // 2 or (host and gpus == host - 1)):
        why = "boards hold 4, 8 or 16 GPUs, and virtual machines get 1, 2, 4 or 8: GPUs are missing"
        return replace(check, next_command="nvidia-smi -L")(DEGRADED, found, why, first, wanted=wanted)
    if (platform and gpus < host) or (meshed and gpus == 3 and kinds[0] > _BOARD):
        why = "part of the platform is not seen: a container's share, or GPUs that are gone"
        return check(UNKNOWN, found, why, first, wanted=wanted, missing="the whole host's matrix")
    found = f"{gpus} GPUs, " + " and ".join(f"NV{k}" for k in kinds) + " as built"
    why = "every GPU reaches its peers over all its NVLinks"
    return check(HEALTHY, found, why, first, wanted="the links of one NVLink design")


def _cards(check: CheckMaker, part: Part, topology: Topology) -> Check:
    """Judge PCIe cards: no NVLink is by design, a bridge must be whole."""
    wanted = "no NVLink" + (f", or bridges of {part.bridge_links}" if part.bridge_links else "")
    short = [pair for pair, links in topology.upper.items() if links % max(part.bridge_links, 1)]
    # Four cards on four-way bridges share their links between three peers.
    if short and not set(topology.totals.values()) <= {0, part.bridge_links}:
        why = "part of a bridge is down"
        return check(DEGRADED, topology.shown(short), why, *topology.lines(short), wanted=wanted)
    found = "PCIe cards" + (", bridged" if any(topology.links.values()) else "")
    return check(HEALTHY, found, "by design", *topology.lines(list(topology.links)[:1]), wanted=wanted)


def _no_nvlink(check: CheckMaker, part: Part | None, topology: Topology) -> Check:
    """Judge a matrix without a single NVLink."""
    gpus, pairs, lines = topology.gpus, topology.pairs, [row.evidence for row in topology.rows]
    kinds = "/".join(sorted({cell for cell, _ in pairs.values()}))
    if part:
        found, why = f"no NVLink at all ({kinds})", "the fabric is down: PCIe only"
        return check(DEGRADED, found, why, *lines, wanted=f"NV{part.links} between GPUs")
    numa = [topology.numa(i) for i in range(gpus)]
    # Two GPUs whose NUMA nodes are not both known may be of one node.
    far_inside = any(
        pairs.get((i, j), ("",))[0] == "SYS"
        and (numa[i] == numa[j] or not (numa[i].isdigit() and numa[j].isdigit()))
        for i, j in combinations(range(gpus), 2)
    )
    why, wanted = "", "PCIe cards show this by design"
    if gpus >= 4 and far_inside:
        why = "GPUs of one NUMA node look as far apart as sockets: some PCIe hosts do so, and a dead fabric"
    elif gpus >= _BOARD and topology.own_nics() > gpus // 2:
        why = "eight GPUs, each beside its own network card, are built like an NVLink board"
    if why:
        found = f"{gpus} GPUs without NVLink ({kinds})"
        return check(UNKNOWN, found, why, lines[0], wanted=wanted, missing=GPU_NAMES)
    found = f"{gpus} GPUs over PCIe ({kinds})"
    return check(HEALTHY, found, "no NVLink is reported anywhere", lines[0], wanted=wanted)
