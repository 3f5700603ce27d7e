"""Reads `numactl --hardware`: the host's memory nodes, with or without the GPUs' memory among them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .reading import Evidence, is_cut

_AVAILABLE = re.compile(r"^\s*available:\s*(\d{1,6}) nodes? ?(?:\(([\d,-]*)\))?")
_CPUS = re.compile(r"^\s*node (\d{1,5}) cpus:\s*([\d ]*)$")
_SIZE = re.compile(r"^\s*node (\d{1,5}) size:\s*(\d{1,12}) MB")
_HEAD = re.compile(r"^\s*node\s+(\d+(?:\s+\d+)*)\s*$")
_DISTANCES = re.compile(r"^\s*(\d{1,5}):\s+(\d+(?:\s+\d+)*)\s*$")
_MOST = 4096


@dataclass(kw_only=True)
class Hardware:
    """One capture: nodes as announced, CPUs and memory [MB] by node, distances by row, whether it is cut."""

    evidence: Evidence
    available: int
    cpus: dict[int, tuple[int, Evidence]] = field(default_factory=dict)
    memory_mb: dict[int, tuple[int, Evidence]] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)
    distances: dict[int, tuple[list[int], Evidence]] = field(default_factory=dict)
    cut: bool = False


@dataclass(kw_only=True)
class NumaReader:
    """Collects the captures of a stream of lines."""

    found: list[Hardware] = field(default_factory=list)

    def feed(self, line: Evidence) -> None:
        """Take one line."""
        text = line.text
        if available := _AVAILABLE.match(text):
            if len(self.found) < _MOST:
                self.found.append(Hardware(evidence=line, available=int(available[1])))
        elif self.found:
            self._inside(self.found[-1], text, line)

    def _inside(self, hardware: Hardware, text: str, line: Evidence) -> None:
        if is_cut(text):
            hardware.cut = True
        elif len(hardware.cpus) > _MOST or len(hardware.distances) > _MOST:
            return
        elif cpus := _CPUS.match(text):
            hardware.cpus[int(cpus[1])] = (len(cpus[2].split()), line)
        elif size := _SIZE.match(text):
            hardware.memory_mb[int(size[1])] = (int(size[2]), line)
        elif head := _HEAD.match(text):
            hardware.order = [int(word[:6]) for word in head[1].split()]
        elif distances := _DISTANCES.match(text):
            row = [int(word[:6]) for word in distances[2].split()]
            hardware.distances[int(distances[1])] = (row, line)

    def end(self) -> None:
        """A capture that announces more nodes than it shows was cut, unless the distances follow."""
        for hardware in self.found:
            if len(hardware.memory_mb) < hardware.available and not hardware.distances:
                hardware.cut = True
