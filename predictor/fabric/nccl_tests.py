"""Reads and judges the tables of nccl-tests and rccl-tests, old and new columns, with or without headers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ...data import catalogue
from .findings import Finding
from .machine import MODELLED, Gpu, Machine, bus_gb_s, gpus_of, machine_of, predicted_us, table
from .reading import Line, is_cut

_TITLE = re.compile(r"\bnThread\s+\d+\s+nGpus\s+(\d+)\s+minBytes\s+\d+\s+maxBytes\s+(\d+)")
_STARTING = re.compile(r"Collective test starting:\s*(\w+)_perf")
_RANK = re.compile(r"^\s*#?\s*Rank\s+(\d+)\b(.*)$")
_DEVICE = re.compile(r"(?:Pid\s+(\d+)\s+on\s+(\S+)\s+)?device\s+\d+\s+\[[\w:.]+\]\s*(.*)$")
_HEADER = re.compile(r"^\s*#?\s*size\s+count\s+(?:\(\w+\)\s+)?type\b")
_DATA = re.compile(r"^\s*(\d{1,18})\s+(\d{1,18})\s+([a-z]\w*)\s+(.+)$")
_FAILED = re.compile(r"Out of bounds values\s*:\s*\d+\s+FAILED", re.IGNORECASE)
_FOOTER = re.compile(r"Out of bounds values\s*:|Avg bus bandwidth\s*:|Collective test concluded")
_CRASH = re.compile(r"Test (NCCL|CUDA) failure|: Test failure|NCCL failure .*\.cu:\d+")
_NUMBER = re.compile(r"-?\d{1,18}(?:\.\d{1,9})?(?:e[+-]?\d{1,2})?")
_MOST_TABLES = 64
_MOST_ROWS = 4096
_MOST_RANKS = 100_000
_MIB = 1048576


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One message size: bytes, best of out-of-place and in-place [us], bandwidths, count of wrong values.

    reduction, root: what its columns say, "" where there are none.
    """

    bytes: int
    time_us: float
    algorithm_gb_s: float
    bus_gb_s: float
    wrong: int
    reduction: str
    root: str
    line: Line


Compared = list[tuple[Timing, float]]


@dataclass(kw_only=True)
class Table:
    """One run: what its header and device list say, its rows, how it ended."""

    first: Line
    collective: str = ""
    gpus_per_process: int = 0
    max_bytes: int = 0
    ranks: int = 0
    processes: set[tuple[str, str]] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    header: Line | None = None
    rows: list[Timing] = field(default_factory=list)
    failed: Line | None = None
    crash: Line | None = None
    ended: bool = False
    cut: bool = False
    rccl: bool = False

    @property
    def operation(self) -> str:
        """The collective: by the title, else by the reduction column and the ratio of the two bandwidths."""
        if self.collective:
            return self.collective
        rooted = bool(self.rows) and self.rows[-1].root not in ("", "-1")
        if self.rows and self.rows[-1].reduction == "none":
            return "broadcast" if rooted else "all_gather"
        return "reduce" if rooted else "all_reduce" if self._ratio() >= 1.0 else "reduce_scatter"

    @property
    def size(self) -> int:
        """Ranks: as listed, else from busbw / algbw = 2 (n - 1) / n (all-reduce) or (n - 1) / n."""
        ratio = self._ratio()
        if self.ranks or not ratio:
            return self.ranks or (self.gpus_per_process if self.gpus_per_process > 1 else 0)
        share = ratio / 2.0 if self.operation == "all_reduce" else ratio
        return round(1.0 / (1.0 - share)) if 0.0 < share < 0.9999 else 0

    @property
    def sent(self) -> list[Timing]:
        """Rows of messages above 0 bytes."""
        return [row for row in self.rows if row.bytes]

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

    tool = "nccl-tests"
    found: list[Table] = field(default_factory=list)

    def feed(self, line: Line) -> None:
        """Take one line."""
        text = line.text
        if (data := _DATA.match(text)) and (row := _timing(data, line)):
            run = self.found[-1] if self.found else self._table(line)
            if len(run.rows) < _MOST_ROWS:
                run.rows.append(row)
        elif "nGpus" in text and (title := _TITLE.search(text)):
            run = self._table(line)
            run.gpus_per_process, run.max_bytes = int(title[1][:9]), int(title[2][:18])
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

    def _end_of_table(self, text: str, line: Line) -> None:
        run = self.found[-1]
        if _CRASH.search(text):
            run.crash = run.crash or line
        elif _FAILED.search(text):
            run.failed = line
        elif is_cut(text) or ("runcated" in text and text.lstrip().startswith("#")):
            run.cut = True
        run.ended = run.ended or bool(_FOOTER.search(text))

    def _table(self, line: Line) -> Table:
        """Return the run in work; a new one once the last has rows."""
        if not self.found or (self.found[-1].rows and len(self.found) < _MOST_TABLES):
            self.found.append(Table(first=line))
        return self.found[-1]

    def _rank(self, rank: int, text: str, line: Line) -> None:
        run = self._table(line)
        run.ranks = min(max(run.ranks, rank + 1), _MOST_RANKS)
        if (device := _DEVICE.search(text)) and len(run.processes) < _MOST_RANKS:
            if device[1]:
                run.processes.add((device[2], device[1]))
            if name := re.sub(r"\(node \d+\)", "", device[3]).strip():
                run.names.add(name)

    def judge(self, machine: Machine) -> Iterator[Finding]:
        """Judge each table: right results, a rate and a latency that fit the machine."""
        return (_judge(run, machine) for run in self.found)


def _timing(data: re.Match[str], line: Line) -> Timing | None:
    """Return one row: after its reduction and root, (time, algbw, busbw, [wrong]) once or twice.

    Where the columns begin is told by algbw = bytes / time, which holds in every layout.
    """
    size, words = int(data[1]), data[4].split()
    reduction, numbers = ("", words) if _NUMBER.fullmatch(words[0]) else (words[0], words[1:])
    for start in range(min(2, len(numbers))):
        rest = numbers[start:]
        step = 4 if len(rest) in (4, 8) else 3
        groups = [rest[at : at + step] for at in range(0, len(rest), step)]
        if len(rest) not in (3, 4, 6, 8) or not all(_NUMBER.fullmatch(w) for g in groups for w in g[:3]):
            continue
        if good := [g for g in groups if _agrees(size, *map(float, g[:3]))]:
            time, algorithm, bus = map(float, min(good, key=lambda g: float(g[0]))[:3])
            return Timing(
                bytes=size,
                time_us=time,
                algorithm_gb_s=algorithm,
                bus_gb_s=bus,
                wrong=max(
                    (int(float(g[3])) for g in groups if step == 4 and _NUMBER.fullmatch(g[3])), default=0
                ),
                reduction=reduction,
                root=numbers[0] if start else "",
                line=line,
            )
    return None


def _agrees(size: int, time_us: float, algorithm: float, bus: float) -> bool:
    """Tell whether algbw = bytes / time to the digits printed (0.01 GB/s)."""
    if time_us <= 0.0 or bus > 2.0 * algorithm + 0.02:
        return False
    return abs(size / time_us * 1e-3 - algorithm) <= 0.006 + 0.02 * algorithm


def _judge(run: Table, machine: Machine) -> Finding:
    first, wrong = (run.first,), tuple(row.line for row in run.rows if row.wrong)
    if run.crash:
        return Finding("collective.failed", evidence=(run.crash,))
    if run.failed or wrong:
        lines = (*((run.failed,) if run.failed else ()), *wrong)
        return Finding("collective.wrong-results", value=len(wrong), expected=0, evidence=lines)
    if not run.rows:
        lines = (run.header,) if run.header else first
        return Finding("collective.hung" if run.header else "collective.no-table", evidence=lines)
    if run.size == 1 or (run.size == 0 and run.gpus_per_process == 1):
        return Finding("collective.one-rank", value=1, expected=2, evidence=first)
    if run.size < 2 or run.operation not in MODELLED:
        code = "collective.no-ranks" if run.size < 2 else "collective.not-modelled"
        return Finding(code, run.operation, evidence=first)
    if not run.sent:
        return Finding("collective.no-message", evidence=first)
    named = gpus_of(run.names)
    links = {gpu.link for gpu in named.values()}
    gpu = machine.gpu if not named else next(iter(named.values())) if len(links) == 1 else None
    limits, best = table()["collective"], max(run.sent, key=lambda row: row.bus_gb_s)
    bridged = gpu and gpu.bridge_links and gpu.spec and best.bus_gb_s > gpu.pcie_gb_s
    if gpu and gpu.card and not bridged:
        least = limits["card_healthy_share"] * gpu.pcie_gb_s
        slow = best.bus_gb_s < least and best.bytes >= _MIB
        code = "collective.card-slow" if slow else "collective.card"
        return Finding(code, "", best.bus_gb_s, least, (best.line,))
    if gpu is None or gpu.spec is None:
        return _judge_unnamed(run, best)
    large_messages = max(row.bytes for row in run.sent) > limits["dip_bytes"]
    return _judge_rate(run, gpu, best) if large_messages else _judge_latency(run, gpu)


def _judge_rate(run: Table, gpu: Gpu, best: Timing) -> Finding:
    """Judge a table of large messages by the collective model's prediction for this GPU."""
    last, compared, dip = max(run.sent, key=lambda row: row.bytes), compare(run, gpu), _dip(run)
    share, predicted = _best_share(run, compared)
    spans = run.size / gpu.domain
    healthy, degraded = _limits(spans, last.bytes, run.operation)
    code = "collective.rate"
    if share < degraded:
        code = "collective.slow"
    elif dip and spans <= 1.0:
        code = "collective.falls"
    elif share < healthy or dip:
        code = "collective.below-class" if spans <= 1.0 else "collective.network-below-class"
    elif latency_factor(compared) > table()["collective"]["latency_degraded_factor"]:
        code = "collective.late"
    elif not run.ended and not run.cut and last.bytes * 2 <= run.max_bytes:
        code = "collective.stopped"
    lines = (best.line, *((dip.line,) if dip else ()))
    return Finding(code, _on(run, best), best.bus_gb_s, predicted, lines)


def _judge_latency(run: Table, gpu: Gpu) -> Finding:
    """Judge a table of small messages by its latency alone."""
    limits, compared = table()["collective"], compare(run, gpu)
    first, predicted = compared[0]
    factor = max(latency_factor(compared), 1.0 / max(_best_share(run, compared)[0], 1e-9))
    code = "collective.latency-high" if factor > limits["latency_healthy_factor"] else "collective.latency"
    if factor > limits["latency_degraded_factor"]:
        code = "collective.latency-far"
    return Finding(code, _on(run, first), first.time_us, predicted, (first.line,))


def _judge_unnamed(run: Table, best: Timing) -> Finding:
    """Judge a table without GPU names: healthy only where the rate is a catalogued NVLink platform's."""
    healthy, _ = _limits(1.0, best.bytes, run.operation)
    settled = best.bytes >= table()["collective"]["settled_bytes"] and not _dip(run)
    for platform in catalogue.platforms().values() if settled else ():
        is_amd = catalogue.gpus()[platform.gpu].vendor == "amd"
        if (gpu := machine_of(platform.name).gpu) and platform.scale_up_domain > 1 and is_amd == run.rccl:
            time = predicted_us(gpu, run.operation, best.bytes, run.size, platform.nic_bandwidth)
            predicted = bus_gb_s(run.operation, best.bytes, run.size, time)
            if healthy <= best.bus_gb_s / predicted <= 1.0 / healthy:
                return Finding("collective.rate", _on(run, best), best.bus_gb_s, predicted, (best.line,))
    return Finding("collective.unnamed", _on(run, best), best.bus_gb_s, evidence=(best.line,))


def _on(run: Table, row: Timing) -> str:
    return f"{row.bytes} B over {run.size} GPUs"


def compare(run: Table, gpu: Gpu) -> Compared:
    """Return the rows of all messages above 0 bytes, each with its predicted time [us]."""
    return [(row, predicted_us(gpu, run.operation, row.bytes, run.size)) for row in run.sent]


def latency_factor(compared: Compared) -> float:
    """Return measured over predicted time of the small messages, their median; 0 without any."""
    most = table()["collective"]["small_bytes"]
    return float(np.median([row.time_us / time for row, time in compared if row.bytes <= most] or [0.0]))


def large(compared: Compared) -> Compared:
    """Return the largest messages: those of a quarter of the largest or more."""
    largest = max(row.bytes for row, _ in compared)
    return [(row, time) for row, time in compared if row.bytes * 4 >= largest]


def _best_share(run: Table, compared: Compared) -> tuple[float, float]:
    """Return the best share of the predicted rate among the largest messages, and that prediction [GB/s]."""
    wanted = [(row, bus_gb_s(run.operation, row.bytes, run.size, time)) for row, time in large(compared)]
    return max((row.bus_gb_s / rate, rate) for row, rate in wanted)


def _limits(spans: float, largest: int, operation: str) -> tuple[float, float]:
    """Return the shares from which a table is healthy and under which it is degraded."""
    limits = table()["collective"]
    if spans > 1.0:
        many = spans > limits["network_many_domains"]
        name = "network_many_healthy_share" if many else "network_healthy_share"
        return limits[name], limits["network_degraded_share"]
    fitted = MODELLED[operation] == operation
    prefix = "domain" if fitted and largest >= limits["settled_bytes"] else "small"
    return limits[f"{prefix}_healthy_share"], limits[f"{prefix}_degraded_share"]


def _dip(run: Table) -> Timing | None:
    """Return the first large message whose rate falls under a share of the best smaller one's."""
    limits, best = table()["collective"], 0.0
    for row in sorted(run.sent, key=lambda row: row.bytes):
        if row.bytes >= limits["dip_bytes"]:
            if row.bus_gb_s < limits["dip_share"] * best:
                return row
            best = max(best, row.bus_gb_s)
    return None
