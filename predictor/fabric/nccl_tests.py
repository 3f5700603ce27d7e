"""Reads the tables of nccl-tests and rccl-tests, old and new columns, with or without headers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .reading import Evidence, is_cut

_TITLE = re.compile(r"\bnThread\s+\d+\s+nGpus\s+(\d+)\s+minBytes\s+(\d+)\s+maxBytes\s+(\d+)")
_STARTING = re.compile(r"Collective test starting:\s*(\w+)_perf")
_RANK = re.compile(r"^\s*#?\s*Rank\s+(\d+)\b(.*)$")
_DEVICE = re.compile(r"(?:Pid\s+(\d+)\s+on\s+(\S+)\s+)?device\s+\d+\s+\[[\w:.]+\]\s*(.*)$")
_HEADER = re.compile(r"^\s*#?\s*size\s+count\s+(?:\(\w+\)\s+)?type\b")
_DATA = re.compile(r"^\s*(\d{1,18})\s+(\d{1,18})\s+([a-z]\w*)\s+(.+)$")
_FAILED = re.compile(r"Out of bounds values\s*:\s*(\d+)\s+FAILED", re.IGNORECASE)
_FOOTER = re.compile(r"Out of bounds values\s*:|Avg bus bandwidth\s*:|Collective test concluded")
_CRASH = re.compile(r"Test (NCCL|CUDA) failure|: Test failure|NCCL failure .*\.cu:\d+")
_AVERAGE = re.compile(r"Avg bus bandwidth\s*:\s*([\d.]+)")
_MOST_TABLES = 64
_MOST_ROWS = 4096
_MOST_RANKS = 100_000


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One message size: bytes, best of out-of-place and in-place [us], bus bandwidth [GB/s], wrong values."""

    bytes: int
    time_us: float
    algorithm_gb_s: float
    bus_gb_s: float
    wrong: int
    evidence: Evidence


@dataclass(kw_only=True)
class Table:
    """One run: what its header and device list say, its rows, how it ended."""

    first: Evidence
    collective: str = ""
    gpus_per_process: int = 0
    max_bytes: int = 0
    ranks: int = 0
    processes: set[tuple[str, str]] = field(default_factory=set)
    hosts: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    reduction: str = ""
    root: str = ""
    header: Evidence | None = None
    rows: list[Timing] = field(default_factory=list)
    failed: Evidence | None = None
    crash: Evidence | None = None
    ended: bool = False
    cut: bool = False
    rccl: bool = False

    @property
    def operation(self) -> str:
        """The collective: by the title, else by the reduction column and the ratio of the two bandwidths."""
        if self.collective:
            return self.collective
        if self.reduction == "none":
            return "broadcast" if self.root not in ("", "-1") else "all_gather"
        if self.root not in ("", "-1"):
            return "reduce"
        return "all_reduce" if self._ratio() >= 1.0 else "reduce_scatter"

    @property
    def size(self) -> int:
        """Ranks: as listed, else from busbw / algbw = 2 (n - 1) / n (all-reduce) or (n - 1) / n."""
        ratio = self._ratio()
        if self.ranks or not ratio:
            return self.ranks or (self.gpus_per_process if self.gpus_per_process > 1 else 0)
        share = ratio / 2.0 if self.operation == "all_reduce" else ratio
        return round(1.0 / (1.0 - share)) if 0.0 < share < 0.9999 else 0

    @property
    def one_process(self) -> bool:
        """Whether one process drives several GPUs, which doubles the launch latency."""
        return self.gpus_per_process > 1 or (len(self.processes) == 1 and self.ranks > 1)

    def _ratio(self) -> float:
        """Return busbw / algbw of the largest message with enough digits."""
        good = [row for row in self.rows if row.algorithm_gb_s >= 1.0]
        last = max(good, key=lambda row: row.bytes, default=None)
        return last.bus_gb_s / last.algorithm_gb_s if last else 0.0


@dataclass(kw_only=True)
class TestsReader:
    """Collects the tables of a stream of lines; a new title or header after rows starts the next one."""

    found: list[Table] = field(default_factory=list)

    def feed(self, line: Evidence) -> None:
        """Take one line."""
        text = line.text
        if (data := _DATA.match(text)) and (found := _timing(data, line)):
            self._row(*found, line)
        elif "nGpus" in text and (title := _TITLE.search(text)):
            table = self._table(line)
            table.gpus_per_process, table.max_bytes = int(title[1][:9]), int(title[3][:18])
        elif "starting" in text and (starting := _STARTING.search(text)):
            name = starting[1].replace("alltoall", "all_to_all").replace("sendrecv", "point_to_point")
            self._table(line).collective = name
        elif "Rank" in text and (rank := _RANK.match(text)) and "device" in text:
            self._rank(int(rank[1][:9]), rank[2], line)
        elif "size" in text and _HEADER.match(text):
            self._table(line).header = line
        elif "rccl-tests" in text:
            self._table(line).rccl = True
        elif self.found:
            self._end_of_table(text, line)

    def _end_of_table(self, text: str, line: Evidence) -> None:
        table = self.found[-1]
        if _CRASH.search(text):
            table.crash = table.crash or line
        elif failed := _FAILED.search(text):
            table.failed = line if int(failed[1][:9]) or "FAILED" in text else None
        elif is_cut(text) or ("runcated" in text and text.lstrip().startswith("#")):
            table.cut = True
        table.ended = table.ended or bool(_FOOTER.search(text))

    def _table(self, line: Evidence) -> Table:
        """Return the run in work; a new one once the last has rows."""
        if not self.found or (self.found[-1].rows and len(self.found) < _MOST_TABLES):
            self.found.append(Table(first=line))
        return self.found[-1]

    def _rank(self, rank: int, text: str, line: Evidence) -> None:
        table = self._table(line)
        table.ranks = min(max(table.ranks, rank + 1), _MOST_RANKS)
        if (device := _DEVICE.search(text)) and len(table.processes) < _MOST_RANKS:
            if device[1]:
                table.processes.add((device[2], device[1]))
                table.hosts.add(device[2])
            if name := re.sub(r"\(node \d+\)", "", device[3]).strip():
                table.names.add(name)

    def _row(self, timing: Timing, reduction: str, root: str, line: Evidence) -> None:
        if not self.found:
            self.found.append(Table(first=line))
        table = self.found[-1]
        if len(table.rows) < _MOST_ROWS:
            table.rows.append(timing)
        table.reduction, table.root = reduction, root

    def end(self) -> None:
        """Nothing is left open."""


def _timing(data: re.Match[str], line: Evidence) -> tuple[Timing, str, str] | None:
    """Return one row with its reduction and root: (time, algbw, busbw, [wrong]) once or twice after those.

    Where the columns begin is told by algbw = bytes / time, which holds in every layout.
    """
    size, words = int(data[1]), data[4].split()
    reduction, numbers = ("", words) if _is_number(words[0]) else (words[0], words[1:])
    for start in range(min(2, len(numbers))):
        rest = numbers[start:]
        step = 4 if len(rest) in (4, 8) else 3
        groups = [rest[at : at + step] for at in range(0, len(rest), step)]
        if len(rest) not in (3, 4, 6, 8) or not all(_is_number(w) for g in groups for w in g[:3]):
            continue
        good = [g for g in groups if _agrees(size, *map(float, g[:3]))]
        if good:
            time, algorithm, bus = map(float, min(good, key=lambda g: float(g[0]))[:3])
            wrong = max((int(float(g[3])) for g in groups if step == 4 and _is_number(g[3])), default=0)
            timing = Timing(
                bytes=size, time_us=time, algorithm_gb_s=algorithm, bus_gb_s=bus, wrong=wrong, evidence=line
            )  # fmt: skip
            return timing, reduction, numbers[0] if start else ""
    return None


def _is_number(word: str) -> bool:
    return bool(re.fullmatch(r"-?\d{1,18}(?:\.\d{1,9})?(?:e[+-]?\d{1,2})?", word))


def _agrees(size: int, time_us: float, algorithm: float, bus: float) -> bool:
    """Tell whether algbw = bytes / time to the digits printed (0.01 GB/s)."""
    if time_us <= 0.0 or bus > 2.0 * algorithm + 0.02:
        return False
    return abs(size / time_us * 1e-3 - algorithm) <= 0.006 + 0.02 * algorithm
