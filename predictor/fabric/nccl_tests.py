"""Reads and judges the tables of nccl-tests and rccl-tests, old and new columns, with or without headers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ...data import catalogue
from ...data.fabric_parts import Machine, gpus_of, table
from ...data.readers.captured import Line, is_cut
from ...data.specs import GpuSpec
from ...features.nccl import MODELLED, predicted_us
from .findings import Finding

_TITLE = re.compile(r"\bnThread\s+\d+\s+nGpus\s+(\d+)\s+minBytes\s+\d+\s+maxBytes\s+(\d+)")
_STARTING = re.compile(r"Collective test starting:\s*(\w+)_perf")
_RANK = re.compile(r"^\s*#?\s*Rank\s+(\d+)\b(.*\bdevice\b.*)$")
_DEVICE = re.compile(r"(?:Pid\s+(\d+)\s+on\s+(\S+)\s+)?device\s+\d+\s+\[[\w:.]+\]\s*(.*)$")
_HEADER = re.compile(r"^\s*#?\s*size\s+count\s+(?:\(\w+\)\s+)?type\b")
_DATA = re.compile(r"^\s*(\d{1,18})\s+\d{1,18}\s+[a-z]\w*\s+(.+)$")
_WRONG = re.compile(r"Out of bounds values\s*:\s*\d+\s+FAILED", re.IGNORECASE)
_FOOTER = re.compile(r"Out of bounds values\s*:|Avg bus bandwidth\s*:|Collective test concluded")
_CRASH = re.compile(r"Test (NCCL|CUDA) failure|: Test failure|NCCL failure .*\.cu:\d+")
_NUMBER = re.compile(r"-?\d{1,18}(?:\.\d{1,9})?(?:e[+-]?\d{1,2})?")
_MOST_TABLES, _MOST_ROWS, _MOST_RANKS = 64, 4096, 100_000
_MIB = 1048576


class Timing(NamedTuple):
    """One message size: bytes, best of out-of-place and in-place [us], bandwidths [GB/s], wrong values.

    before: the columns between the type and the times (reduction, root).
    """

    bytes: int
    time_us: float
    algorithm_gb_s: float
    bus_gb_s: float
    wrong: bool
    before: tuple[str, ...]
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
    faults: list[Finding] = field(default_factory=list)
    ended: bool = False
    rccl: bool = False

    @property
    def operation(self) -> str:
        """The collective: by the title, else by reduction and root and the ratio of the two bandwidths."""
        before = self.rows[-1].before if self.rows else ()
        rooted = before[1:] not in ((), ("-1",))
        if self.collective or before[:1] == ("none",):
            return self.collective or ("broadcast" if rooted else "all_gather")
        return "reduce" if rooted else "all_reduce" if self._ratio() >= 1.0 else "reduce_scatter"

    @property
    def size(self) -> int:
        """Ranks: as listed, else from busbw / algbw = 2 (n - 1) / n (all-reduce) or (n - 1) / n."""
        share = self._ratio() / (2.0 if self.operation == "all_reduce" else 1.0)
        if self.ranks or not share:
            return self.ranks or (self.gpus_per_process if self.gpus_per_process > 1 else 0)
        return round(1.0 / (1.0 - share)) if share < 0.9999 else 0

    @property
    def sent(self) -> list[Timing]:
        """Rows of messages above 0 bytes, by size."""
        return sorted((row for row in self.rows if row.bytes), key=lambda row: row.bytes)

    @property
    def falls(self) -> bool:
        """Whether the rate of a large message falls under a share of the best smaller one's."""
        limits = table()["collective"]
        rates = [row.bus_gb_s for row in self.sent if row.bytes >= limits["dip_bytes"]]
        return any(rate < limits["dip_share"] * max(rates[: i + 1]) for i, rate in enumerate(rates))

    def _ratio(self) -> float:
        """Return busbw / algbw of the largest message with enough digits."""
        good = (row for row in reversed(self.sent) if row.algorithm_gb_s >= 1.0)
        return next((row.bus_gb_s / row.algorithm_gb_s for row in good), 0.0)

    @property
    def measured(self) -> bool:
        """Whether it tells the time of something that is modelled."""
        return self.size > 1 and self.operation in MODELLED and bool(self.sent)

    def about(self, code: str, row: Timing, value: float, expected: float = 0.0) -> Finding:
        """Return a finding on one row."""
        subject = f"{row.bytes} B over {self.size} GPUs"
        return Finding(f"collective.{code}", subject, value, expected, (row.line,))


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
        elif title := _TITLE.search(text):
            run = self._table(line)
            run.gpus_per_process, run.max_bytes = int(title[1][:9]), int(title[2][:18])
        elif starting := _STARTING.search(text):
            name = starting[1].replace("alltoall", "all_to_all").replace("sendrecv", "point_to_point")
            self._table(line).collective = name
        elif rank := _RANK.match(text):
            run, device = self._table(line), _DEVICE.search(rank[2])
            run.ranks = min(max(run.ranks, int(rank[1][:9]) + 1), _MOST_RANKS)
            if device and len(run.processes) < _MOST_RANKS:
                run.processes |= {(device[2], device[1])} if device[1] else set()
                run.names |= {re.sub(r"\(node \d+\)", "", device[3]).strip()} - {""}
        elif _HEADER.match(text):
            self._table(line).header = line
        elif "rccl-tests" in text:
            self._table(line).rccl = True
        elif self.found:
            run = self.found[-1]
            for code, telling in (("failed", _CRASH), ("wrong-results", _WRONG)):
                if telling.search(text) and len(run.faults) < _MOST_TABLES:
                    run.faults.append(Finding(f"collective.{code}", evidence=(line,)))
            cut = is_cut(text) or ("runcated" in text and text.lstrip().startswith("#"))
            run.ended = run.ended or cut or bool(_FOOTER.search(text))

    def _table(self, line: Line) -> Table:
        """Return the run in work; a new one once the last has rows."""
        if not self.found or (self.found[-1].rows and len(self.found) < _MOST_TABLES):
            self.found.append(Table(first=line))
        return self.found[-1]

    def judge(self, machine: Machine) -> Iterator[Finding]:
        """Judge each table: right results, a rate and a latency that fit the machine."""
        for run in self.found:
            wrong = [run.about("wrong-results", row, 0) for row in run.rows if row.wrong]
            yield from [*run.faults, *wrong] or [_judge(run, machine)]


def _timing(data: re.Match[str], line: Line) -> Timing | None:
    """Return one row: after its reduction and root, (time, algbw, busbw, [wrong]) once or twice.

    Where the columns begin is told by algbw = bytes / time, which holds in every layout.
    """
    size, words = int(data[1]), data[2].split()
    n = [float(word) if _NUMBER.fullmatch(word) else float("nan") for word in words]
    # To the digits printed, 0.01 GB/s.
    starts = [
        i
        for i in range(len(n) - 2)
        if n[i] > 0.0 and n[i + 2] <= 2.0 * n[i + 1] + 0.02
        and abs(size / n[i] * 1e-3 - n[i + 1]) <= 0.006 + 0.02 * n[i + 1]
    ]  # fmt: skip
    if not starts:
        return None
    wrong = any(n[i + 3] >= 1.0 for i in starts if i + 3 < len(n) and i + 3 not in starts)
    time, algorithm, bus = min(n[i : i + 3] for i in starts)
    return Timing(size, time, algorithm, bus, wrong, tuple(words[: min(starts[0], 2)]), line)


def _judge(run: Table, machine: Machine) -> Finding:
    if not run.rows:
        code = "collective.hung" if run.header else "collective.no-table"
        return Finding(code, evidence=(run.header or run.first,))
    if run.size == 1 or (run.size == 0 and run.gpus_per_process == 1):
        return Finding("collective.one-rank", evidence=(run.first,))
    if not run.measured:
        return Finding("collective.not-judged", run.operation, evidence=(run.first,))
    named = gpus_of(run.names).values()
    gpu = next(iter(named), machine.gpu)
    gpu = gpu if gpu and all(own.link == gpu.link for own in named) else None
    best = max(run.sent, key=lambda row: row.bus_gb_s)
    if gpu and gpu.card and not (gpu.bridge_links and gpu.spec and best.bus_gb_s > gpu.pcie_gb_s):
        least = table()["collective"]["card_healthy_share"] * gpu.pcie_gb_s
        slow = best.bus_gb_s < least and best.bytes >= _MIB
        return run.about("card-slow" if slow else "card", best, best.bus_gb_s, least)
    return _judge_named(run, gpu.spec, best) if gpu and gpu.spec else _judge_unnamed(run, best)


def _judge_named(run: Table, gpu: GpuSpec, best: Timing) -> Finding:
    """Judge by the collective model's prediction for this GPU: the rate of large messages, or the latency."""
    limits, compared, spans = table()["collective"], compare(run, gpu), run.size / max(gpu.link_domain, 1)
    share, late = max(time / row.time_us for row, time in large(compared)), latency_factor(compared)
    healthy, degraded = _limits(spans, run.sent[-1].bytes, run.operation)
    if run.sent[-1].bytes <= limits["dip_bytes"]:
        (first, predicted), late = compared[0], max(late, 1.0 / share)
        high = late > limits["latency_healthy_factor"]
        code = "latency-far" if late > limits["latency_degraded_factor"] else "latency-high"
        return run.about(code if high else "latency", first, first.time_us, predicted)
    code = "rate"
    if share < degraded or (run.falls and spans <= 1.0):
        code = "slow" if share < degraded else "falls"
    elif share < healthy or run.falls:
        code = "below-class" if spans <= 1.0 else "network-below-class"
    elif late > limits["latency_degraded_factor"]:
        code = "late"
    elif not run.ended and run.sent[-1].bytes * 2 <= run.max_bytes:
        code = "stopped"
    return run.about(code, best, best.bus_gb_s, best.bus_gb_s / share)


def _judge_unnamed(run: Table, best: Timing) -> Finding:
    """Judge a table without GPU names: healthy only where the rate is a catalogued NVLink platform's."""
    healthy, _ = _limits(1.0, best.bytes, run.operation)
    settled = best.bytes >= table()["collective"]["settled_bytes"] and not run.falls
    for platform in catalogue.platforms().values() if settled else ():
        gpu = catalogue.gpus()[platform.gpu]
        if platform.scale_up_domain > 1 and (gpu.vendor == "amd") == run.rccl:
            time = predicted_us(gpu, run.operation, best.bytes, run.size, platform.nic_bandwidth)
            if healthy <= (share := time / best.time_us) <= 1.0 / healthy:
                return run.about("rate", best, best.bus_gb_s, best.bus_gb_s / share)
    return run.about("unnamed", best, best.bus_gb_s)


def _limits(spans: float, largest: int, operation: str) -> tuple[float, float]:
    """Return the shares from which a table is healthy and under which it is degraded."""
    limits = table()["collective"]
    fitted = MODELLED[operation] == operation and largest >= limits["settled_bytes"]
    name = "domain" if fitted else "small"
    if spans > 1.0:
        name = "network_many" if spans > limits["network_many_domains"] else "network"
    return limits[f"{name}_healthy_share"], limits[f"{name}_degraded_share"]


def compare(run: Table, gpu: GpuSpec) -> Compared:
    """Return the rows of all messages above 0 bytes, by size, each with its predicted time [us]."""
    return [(row, predicted_us(gpu, run.operation, row.bytes, run.size)) for row in run.sent]


def latency_factor(compared: Compared) -> float:
    """Return measured over predicted time of the small messages, their median; 0 without any."""
    most = table()["collective"]["small_bytes"]
    return float(np.median([row.time_us / time for row, time in compared if row.bytes <= most] or [0.0]))


def large(compared: Compared) -> Compared:
    """Return the largest messages: those of a quarter of the largest or more."""
    return [(row, time) for row, time in compared if row.bytes * 4 >= compared[-1][0].bytes]
