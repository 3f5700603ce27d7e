"""Reads and judges the matrix of `nvidia-smi topo -m`: how each pair of GPUs is connected."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import permutations, takewhile
from typing import NamedTuple

from ...data.fabric_parts import Gpu, Machine, link_counts, table
from ...data.readers.captured import Line
from .findings import Finding

_RELATION = re.compile(r"^(?:X|NV\d{1,2}|SYS|SOC|NODE|PHB|PXB|PIX)$")
_GPU = re.compile(r"^GPU(\d{1,3})$")
_HEADING = re.compile(r"^(?:GPU\d*|NIC\d+|[a-z]\w*_\d+|[a-z]+\d+\w*|CPU|NUMA|Affinity|ID)$")
_AFFINITY = re.compile(r"^(?:[\d,-]+|N/A)$")
_AFTER = {"CPU", "NUMA", "GPU", "Affinity", "ID"}
_MOST = 256
_TRAY, _BOARD = 4, 8
_BUILT = (_TRAY, _BOARD, 16)
Pair = tuple[int, int]


class Row(NamedTuple):
    """One GPU's row: its number, relations, what follows them (affinities), the line."""

    gpu: int
    relations: tuple[str, ...]
    rest: tuple[str, ...]
    line: Line


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """One matrix: GPUs by the header (0 where it is missing) and the rows that were found."""

    columns: int
    rows: tuple[Row, ...]

    @cached_property
    def gpus(self) -> int:
        """GPUs of the machine: by the header, else the most that rows, own places and NVLinks tell of."""
        if self.columns:
            return max(self.columns, len(self.rows))
        cells = ((i, cell) for row in self.rows for i, cell in [(row.gpu, "X"), *enumerate(row.relations)])
        return 1 + max(i for i, cell in cells if cell == "X" or cell.startswith("NV"))

    @cached_property
    def cells(self) -> dict[Pair, tuple[str, Line]]:
        """Relation and line of each pair shown, (row, column)."""
        found = ((row, j, cell) for row in self.rows for j, cell in enumerate(row.relations[: self.gpus]))
        return {(row.gpu, j): (cell, row.line) for row, j, cell in found if cell != "X"}

    @cached_property
    def links(self) -> dict[Pair, int]:
        """NVLinks of each known pair (i, j), i < j: as the row of i has it, else that of j; 0 without any."""
        cells = [((min(p), max(p)), cell) for p, (cell, _) in sorted(self.cells.items(), reverse=True)]
        return {pair: int(cell[2:]) if cell.startswith("NV") else 0 for pair, cell in cells}

    @cached_property
    def totals(self) -> Counter[int]:
        """NVLinks of each GPU to all its peers."""
        sums = Counter(dict.fromkeys(range(self.gpus), 0))
        for pair, links in self.links.items():
            sums.update(dict.fromkeys(pair, links))
        return sums

    @cached_property
    def peers(self) -> Counter[int]:
        """How many peers each GPU reaches over NVLink; those that reach none are left out."""
        return Counter(i for pair, links in self.links.items() if links for i in pair)

    def cell(self, i: int, j: int) -> str:
        """Relation in row i, column j; "" where it is not shown."""
        return self.cells.get((i, j), ("", None))[0]

    def about(self, code: str, pairs: Collection[Pair] = (), expected: int = 0) -> Finding:
        """Return a finding: on these pairs, or on all, with the kinds of links as subject; value: GPUs."""
        named = [f"GPU{i}-GPU{j} {self.cell(i, j) or self.cell(j, i)}" for i, j in pairs]
        kinds = sorted({cell for cell, _ in self.cells.values()}, reverse=True)
        gpus = {i for pair in pairs for i in pair} or {self.rows[0].gpu}
        lines = tuple(row.line for row in self.rows if row.gpu in gpus) or (self.rows[0].line,)
        subject = ", ".join(named[:4]) or "/".join(kinds)
        return Finding(f"topology.{code}", subject, self.gpus, expected, lines)


@dataclass(kw_only=True)
class TopologyReader:
    """Collects the matrices of a stream of lines; a repeated header or row starts the next one."""

    tool = "nvidia-smi topo -m"
    found: list[Matrix] = field(default_factory=list)
    _heading: list[str] = field(default_factory=list)
    _rows: list[Row] = field(default_factory=list)
    _open: bool = False

    def feed(self, line: Line) -> None:
        """Take one line."""
        if "GPU" not in line.text and not self._open:
            return
        words = line.text.split()
        named = _GPU.match(words[0]) if words else None
        if named and len(words) > 1 and _RELATION.match(words[1]):
            if any(row.gpu == int(named[1]) for row in self._rows):
                self.end()
            self._row(int(named[1]), words[1:], line)
        elif named and all(_HEADING.match(word) for word in words):
            # A header too wide for its terminal goes on in the next line, from the next GPU.
            if self._rows or words[0] != f"GPU{self._columns}":
                self.end()
            self._heading += [word for word in words if word not in _AFTER]
        elif words and self._open and self._continues(words):
            last = self._rows.pop()
            self._row(last.gpu, [*last.relations, *last.rest, *words], last.line)
        else:
            self._open = False

    @property
    def _columns(self) -> int:
        return sum(bool(_GPU.match(word)) for word in self._heading)

    def _continues(self, words: list[str]) -> bool:
        short = self._rows and len(self._rows[-1].relations) < len(self._heading)
        return bool(short) and all(_RELATION.match(word) or _AFFINITY.match(word) for word in words)

    def _row(self, gpu: int, words: list[str], line: Line) -> None:
        relations = tuple(takewhile(_RELATION.match, words))
        self._rows.append(Row(gpu, relations, tuple(words[len(relations) :]), line))
        self._open = True

    def end(self) -> None:
        """Close the matrix in work; the last one at the end of the stream."""
        if self._rows and len(self.found) < _MOST:
            self.found.append(Matrix(columns=self._columns, rows=tuple(sorted(self._rows))))
        self._heading, self._rows, self._open = [], [], False

    def judge(self, machine: Machine) -> Iterator[Finding]:
        """Judge each matrix by the GPU, or where it is not known by what the matrix itself states."""
        return (_judge(matrix, machine) for matrix in self.found)


def _judge(matrix: Matrix, machine: Machine) -> Finding:
    gpu, links = machine.gpu, matrix.links
    if matrix.gpus == 1:
        return matrix.about("one-gpu")
    if gpu and (gpu.card or not gpu.links):
        short = [pair for pair, count in links.items() if count % max(gpu.bridge_links, 1)]
        # Four cards on four-way bridges share their links between three peers.
        if short and not set(matrix.totals.values()) <= {0, gpu.bridge_links}:
            return matrix.about("bridge-down", short, gpu.bridge_links)
        return matrix.about("cards", expected=gpu.bridge_links)
    both = ((pair, matrix.cell(*pair), matrix.cell(*pair[::-1])) for pair in links)
    # A cell that was cut, NV1 of NV18, is no contradiction.
    if odd := [p for p, a, b in both if "NV" in a + b and not (a.startswith(b) or b.startswith(a))]:
        return matrix.about("asymmetric", odd)
    if not any(links.values()):
        return matrix.about("no-nvlink", expected=gpu.links) if gpu else _no_nvlink(matrix)
    if _as_built(matrix, gpu):
        return _count(matrix, machine)
    if not gpu and matrix.gpus >= 4 and set(matrix.peers.values()) == {1} and len(matrix.peers) < matrix.gpus:
        return matrix.about("one-bridge", sorted(links))
    most = gpu.links if gpu else max(links.values())
    odd = [p for p in links if links[p] != most] or [p for p in links if links[p] != max(links.values())]
    return matrix.about("links-lost", sorted(odd or links, key=lambda pair: (links[pair], pair)), most)


def _as_built(matrix: Matrix, gpu: Gpu | None) -> bool:
    """Tell whether every GPU has all its NVLinks: through a switch, straight to its peers, or to one peer."""
    designs, gpus, links = table()["designs"], matrix.gpus, matrix.links
    switched = {gpu.links} if gpu else link_counts()
    straight = switched if gpu else switched.union(designs["mesh_links"])
    paired = switched if gpu else switched.union(designs["pair_links"])
    # Two or three of a board of four: a third of the links lead to each peer.
    allowed = switched | (paired if gpus == 2 else set()) | ({gpu.links // 3} if gpu and gpus < 4 else set())
    if len(set(links.values())) == 1 and set(links.values()) <= allowed:
        return True
    whole = len(links) == gpus * (gpus - 1) // 2
    pairs, alone = set(matrix.peers.values()) == {1}, gpus - len(matrix.peers)
    totals = set(matrix.totals.values()) - {0}
    if len(totals) == 1 and totals <= (paired if pairs else straight):
        if whole and not alone and not (gpu and pairs and gpus > 2):
            return True
        if not gpu and pairs and gpus % 2 and alone == 1:
            return True
    cube = designs["cube"]
    if (gpu and gpu.links != 6) or not whole or gpus > len(cube) or max(links.values()) > 2:
        return False
    # The V100's hybrid cube mesh of eight, or a part of it, in any numbering.
    places = permutations(range(len(cube)), gpus)
    return any(all(cube[at[i]][at[j]] == count for (i, j), count in links.items()) for at in places)


def _count(matrix: Matrix, machine: Machine) -> Finding:
    """Judge the number of GPUs of a matrix whose links are as built."""
    gpu, platform, gpus = machine.gpu, machine.platform, matrix.gpus
    host = gpu.host_gpus if gpu else 0
    if platform:
        host = min(platform.num_gpus, host or platform.num_gpus)
    # Only a Grace host gives GPU memory a NUMA node.
    elif not host and gpus > 2 and any(row.rest[2:3] and row.rest[2].isdigit() for row in matrix.rows):
        host = _TRAY
    built = host or next((n for n in _BUILT if gpus <= n), gpus)
    uniform = len(set(matrix.links.values())) == 1
    if uniform and gpus < built and (gpus > _BOARD // 2 or gpus == host - 1):
        return matrix.about("gpus-missing", expected=built)
    # Three GPUs behind a switch are no machine that is sold; the matrix may be a container's.
    if (platform and gpus < host) or (uniform and gpus == 3 and max(matrix.links.values()) > _BOARD):
        return matrix.about("part-of-host", expected=built)
    return matrix.about("as-built")


def _no_nvlink(matrix: Matrix) -> Finding:
    """Judge a matrix without NVLink and without the GPU's name: PCIe cards, or a dead fabric."""
    nodes = {row.gpu: row.rest[1] for row in matrix.rows if row.rest[1:] and row.rest[1].isdigit()}
    far = (pair for pair, (cell, _) in matrix.cells.items() if cell == "SYS")
    # Two GPUs whose NUMA nodes are not both known may be of one node.
    own_nics = sum(not {"PIX", "PXB"}.isdisjoint(row.relations[matrix.gpus :]) for row in matrix.rows)
    if matrix.gpus >= 4 and any(i not in nodes or j not in nodes or nodes[i] == nodes[j] for i, j in far):
        return matrix.about("far-inside-a-node")
    board = matrix.gpus >= _BOARD and own_nics > matrix.gpus // 2
    return matrix.about("built-like-a-board" if board else "pcie")
