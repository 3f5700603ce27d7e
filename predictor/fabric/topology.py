"""Reads the matrix of `nvidia-smi topo -m`: how each pair of GPUs is connected."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .reading import Evidence

_RELATION = re.compile(r"^(?:X|NV\d{1,2}|SYS|SOC|NODE|PHB|PXB|PIX)$")
_GPU = re.compile(r"^GPU(\d{1,3})$")
_HEADING = re.compile(r"^(?:GPU\d*|NIC\d+|[a-z]\w*_\d+|[a-z]+\d+\w*|CPU|NUMA|Affinity|ID)$")
_AFFINITY = re.compile(r"^(?:[\d,-]+|N/A)$")
_MOST_GPUS = 256


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

    @property
    def gpus(self) -> int:
        """GPUs of the machine: by the header, else the most that rows, own places and NVLinks tell of."""
        reach = [row.gpu + 1 for row in self.rows]
        for row in self.rows:
            reach += [i + 1 for i, cell in enumerate(row.relations) if cell == "X" or cell.startswith("NV")]
        return max(self.columns, *reach) if not self.columns else max(self.columns, len(self.rows))

    def pairs(self) -> dict[tuple[int, int], tuple[str, Evidence]]:
        """Return relation and line of each known pair (i, j) and (j, i)."""
        found: dict[tuple[int, int], tuple[str, Evidence]] = {}
        for row in self.rows:
            for j, cell in enumerate(row.relations[: self.gpus]):
                if cell != "X":
                    found[row.gpu, j] = (cell, row.evidence)
        return {**{(j, i): value for (i, j), value in found.items()}, **found}

    def numa(self, gpu: int) -> str:
        """Return the GPU's NUMA affinity as printed, or ""."""
        rest = next((row.rest for row in self.rows if row.gpu == gpu), ())
        return rest[1] if len(rest) > 1 else ""

    def own_nics(self) -> int:
        """Return how many GPUs have a network card nearer than the host bridge."""
        gpus = self.gpus
        return sum(any(cell in ("PIX", "PXB") for cell in row.relations[gpus:]) for row in self.rows)


@dataclass(kw_only=True)
class TopologyReader:
    """Collects the matrices of a stream of lines; a repeated header or row starts the next one."""

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
        relations = []
        for word in words:
            if not _RELATION.match(word):
                break
            relations.append(word)
        rest = tuple(words[len(relations) :])
        self._rows.append(Row(gpu=gpu, relations=tuple(relations), rest=rest, evidence=line))
        self._open = True

    def end(self) -> None:
        """Close the matrix in work; the last one at the end of the stream."""
        if self._rows and len(self.found) < _MOST_GPUS:
            self.found.append(Topology(columns=self._columns, rows=tuple(self._rows)))
        self._columns, self._width, self._rows, self._open = 0, 0, [], False
