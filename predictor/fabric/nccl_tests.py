"""Reads and judges the tables of nccl-tests and rccl-tests, old and new columns, with or without headers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

import numpy as np

from ...data import catalogue
from .expected import MODELLED, Expectation, Part, bus_gb_s, of_platform, part_of, predicted_us, table
from .reading import Evidence, is_cut
from .verdict import DEGRADED, FULL_RUN, HEALTHY, LOGGED_RUN, UNKNOWN, Check, CheckMaker

_TITLE = re.compile(r"\bnThread\s+\d+\s+nGpus\s+(\d+)\s+minBytes\s+\d+\s+maxBytes\s+(\d+)")
_STARTING = re.compile(r"Collective test starting:\s*(\w+)_perf")
_RANK = re.compile(r"^\s*#?\s*Rank\s+(\d+)\b(.*)$")
_DEVICE = re.compile(r"(?:Pid\s+(\d+)\s+on\s+(\S+)\s+)?device\s+\d+\s+\[[\w:.]+\]\s*(.*)$")
_HEADER = re.compile(r"^\s*#?\s*size\s+count\s+(?:\(\w+\)\s+)?type\b")
_DATA = re.compile(r"^\s*(\d{1,18})\s+(\d{1,18})\s+([a-z]\w*)\s+(.+)$")
_FAILED = re.compile(r"Out of bounds values\s*:\s*\d+\s+FAILED", re.IGNORECASE)
_FOOTER = re.compile(r"Out of bounds values\s*:|Avg bus bandwidth\s*:|Collective test concluded")
_CRASH = re.compile(r"Test (NCCL|CUDA) failure|: Test failure|NCCL failure .*\.cu:\d+")
_MOST_TABLES = 64
_MOST_ROWS = 4096
_MOST_RANKS = 100_000
_MIB = 1048576


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One message size: bytes, best of out-of-place and in-place [us], bus bandwidth [GB/s], wrong values.

    reduction, root: what its columns say, "" where there are none.
    """

    bytes: int
    time_us: float
    algorithm_gb_s: float
    bus_gb_s: float
    wrong: int
    reduction: str
    root: str
    evidence: Evidence


Compared = list[tuple[Timing, float]]


@dataclass(kw_only=True)
class Table:
    """One run: what its header and device list say, its rows, how it ended."""

    first: Evidence
    collective: str = ""
    gpus_per_process: int = 0
    max_bytes: int = 0
    ranks: int = 0
    processes: set[tuple[str, str]] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
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
        rooted = bool(self.rows) and self.rows[-1].root not in ("", "-1")
        if self.rows and self.rows[-1].reduction == "none":
            return "broadcast" if rooted else "all_gather"
        if rooted:
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

    def feed(self, line: Evidence) -> None:
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

    def _end_of_table(self, text: str, line: Evidence) -> None:
        run = self.found[-1]
        if _CRASH.search(text):
            run.crash = run.crash or line
        elif _FAILED.search(text):
            run.failed = line
        elif is_cut(text) or ("runcated" in text and text.lstrip().startswith("#")):
            run.cut = True
        run.ended = run.ended or bool(_FOOTER.search(text))

    def _table(self, line: Evidence) -> Table:
        """Return the run in work; a new one once the last has rows."""
        if not self.found or (self.found[-1].rows and len(self.found) < _MOST_TABLES):
            self.found.append(Table(first=line))
        return self.found[-1]

    def _rank(self, rank: int, text: str, line: Evidence) -> None:
        run = self._table(line)
        run.ranks = min(max(run.ranks, rank + 1), _MOST_RANKS)
        if (device := _DEVICE.search(text)) and len(run.processes) < _MOST_RANKS:
            if device[1]:
                run.processes.add((device[2], device[1]))
            if name := re.sub(r"\(node \d+\)", "", device[3]).strip():
                run.names.add(name)

    def judge(self, expected: Expectation) -> list[Check]:
        """Judge each table."""
        return [judge_tests(run, expected) for run in self.found]


def _timing(data: re.Match[str], line: Evidence) -> Timing | None:
    """Return one row: after its reduction and root, (time, algbw, busbw, [wrong]) once or twice.

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
            return Timing(
                bytes=size, time_us=time, algorithm_gb_s=algorithm, bus_gb_s=bus, wrong=wrong,
                reduction=reduction, root=numbers[0] if start else "", evidence=line,
            )  # fmt: skip
    return None


def _is_number(word: str) -> bool:
    return bool(re.fullmatch(r"-?\d{1,18}(?:\.\d{1,9})?(?:e[+-]?\d{1,2})?", word))


def _agrees(size: int, time_us: float, algorithm: float, bus: float) -> bool:
    """Tell whether algbw = bytes / time to the digits printed (0.01 GB/s)."""
    if time_us <= 0.0 or bus > 2.0 * algorithm + 0.02:
        return False
    return abs(size / time_us * 1e-3 - algorithm) <= 0.006 + 0.02 * algorithm


def judge_tests(run: Table, expected: Expectation) -> Check:
    """Judge one table: right results, a rate and a latency that fit the machine."""
    wanted = "rows with right results"
    check = CheckMaker("collective", expected.known, wanted=wanted, next_command=LOGGED_RUN)
    wrong = [row.evidence for row in run.rows if row.wrong]
    if run.crash or run.failed or wrong:
        lines = [line for line in (run.crash, run.failed, *wrong[:3]) if line]
        found = "the run failed" if run.crash else f"wrong results at {len(wrong)} message size(s)"
        return check(DEGRADED, found, "a fabric that corrupts or drops data", *lines)
    if not run.rows and run.header:
        why = "the run hung or was stopped before its first message"
        return check(DEGRADED, "a header and no row", why, run.header)
    if not run.rows:
        return check(UNKNOWN, "no table", "nothing was measured", run.first, missing="the table's rows")
    if run.size == 1 or (run.size == 0 and run.gpus_per_process == 1):
        why, missing = "one rank moves nothing: its rates mean nothing", "a run over all GPUs"
        return check(UNKNOWN, "one rank", why, run.first, wanted="two or more ranks", missing=missing)
    if run.size < 2 or run.operation not in MODELLED:
        missing = "the device list" if run.size < 2 else "an all_reduce_perf run"
        return check(UNKNOWN, run.operation, "not a table to judge by", run.first, missing=missing)
    if not run.sent:
        missing = "messages above 0 bytes"
        return check(UNKNOWN, "no message", "nothing was sent", run.first, wanted="rows", missing=missing)
    named = {part.link: part for name in sorted(run.names) if (part := part_of(name))}
    part = next(iter(named.values()), expected.part) if len(named) < 2 else None
    return _judge_rate(check, run, part)


def _judge_rate(check: CheckMaker, run: Table, part: Part | None) -> Check:
    """Judge a table by what is known of its GPUs: their fabric's rate, PCIe's, or that of any platform."""
    limits = table()["collective"]
    best = max(run.sent, key=lambda row: row.bus_gb_s)
    bridged = part and part.bridge_links and part.spec and best.bus_gb_s > part.pcie_gb_s
    if part and part.card and not bridged:
        least = limits["card_healthy_share"] * part.pcie_gb_s
        status = HEALTHY if best.bus_gb_s >= least or best.bytes < _MIB else DEGRADED
        found, wanted = f"{best.bus_gb_s:g} GB/s", f"{least:g} GB/s or more over PCIe"
        return check(status, found, "by design without NVLink", best.evidence, wanted=wanted)
    if part is None or part.spec is None:
        return _judge_unnamed(check, run, best)
    large_messages = max(row.bytes for row in run.sent) > limits["dip_bytes"]
    judge = _judge_fabric if large_messages else _judge_latency
    return judge(check, run, part)


def _judge_fabric(check: CheckMaker, run: Table, part: Part) -> Check:
    """Judge a table of large messages by the collective model's prediction for this GPU."""
    limits = table()["collective"]
    best = max(run.sent, key=lambda row: row.bus_gb_s)
    last = max(run.sent, key=lambda row: (row.bytes, row.bus_gb_s))
    compared = compare(run, part)
    share, predicted = _best_share(run, compared)
    slow = latency_factor(compared)
    dip = _dip(run)
    spans = run.size / part.domain
    healthy, degraded = _limits(spans, last.bytes, run.operation)
    check = replace(check, wanted=f"{predicted:.0f} GB/s, {healthy:g} of it or more")
    found = f"{best.bus_gb_s:g} GB/s at {best.bytes} B over {run.size} GPUs, {share:.2f} of the prediction"
    if share < degraded or (dip and spans <= 1.0):
        falls = dip and share >= degraded
        why = "the rate falls as messages grow" if falls else "far under the class of this fabric"
        return check(DEGRADED, found, why, best.evidence, *([dip.evidence] if dip else []))
    if share < healthy or dip or slow > limits["latency_degraded_factor"]:
        late = f"small messages take {slow:.0f} times the prediction"
        why = late if share >= healthy else "slower than the class"
        network = "the network: cards per GPU and their rate"
        missing = network if spans > 1.0 else "a second run, and its NCCL log"
        return check(UNKNOWN, found, why, best.evidence, missing=missing)
    if not run.ended and not run.cut and last.bytes * 2 <= run.max_bytes:
        found, missing = f"{found}, then nothing", f"the rows up to {run.max_bytes} B"
        return check(UNKNOWN, found, "hung, stopped or cut", last.evidence, missing=missing)
    return check(HEALTHY, found, "the rate of this fabric", best.evidence)


def _judge_latency(check: CheckMaker, run: Table, part: Part) -> Check:
    """Judge a table of small messages by its latency alone."""
    healthy = table()["collective"]["latency_healthy_factor"]
    compared = compare(run, part)
    first, predicted = compared[0]
    factor = max(latency_factor(compared), 1.0 / max(_best_share(run, compared)[0], 1e-9))
    found = f"{first.time_us:g} us at {first.bytes} B over {run.size} GPUs, {factor:.1f} times the prediction"
    wanted = f"{predicted:.0f} us, up to {healthy:g} times as much"
    check = replace(check, wanted=wanted, next_command=FULL_RUN)
    why = "the latency of small messages; they say little of the rate"
    if factor <= healthy:
        return check(HEALTHY, found, why, first.evidence)
    status = DEGRADED if factor > table()["collective"]["latency_degraded_factor"] else UNKNOWN
    return check(status, found, why, first.evidence, missing="larger messages")


def _judge_unnamed(check: CheckMaker, run: Table, best: Timing) -> Check:
    """Judge a table without GPU names: healthy only where the rate is that of some NVLink platform."""
    healthy, _ = _limits(1.0, best.bytes, run.operation)
    fits = []
    for platform in catalogue.platforms().values():
        part = of_platform(platform.name).part
        is_amd = catalogue.gpus()[platform.gpu].vendor == "amd"
        if part and platform.scale_up_domain > 1 and is_amd == run.rccl:
            time = predicted_us(part, run.operation, best.bytes, run.size, platform.nic_bandwidth)
            share = best.bus_gb_s / bus_gb_s(run.operation, best.bytes, run.size, time)
            if healthy <= share <= 1.0 / healthy:
                fits.append((abs(np.log(share)), platform.name))
    found = f"{best.bus_gb_s:g} GB/s at {best.bytes} B over {run.size} GPUs"
    settled = best.bytes >= table()["collective"]["settled_bytes"]
    if fits and settled and not _dip(run):
        why, wanted = f"the class of {min(fits)[1]}", "the rate of an NVLink platform"
        return check(HEALTHY, found, why, best.evidence, wanted=wanted)
    missing, wanted = "the GPU's name: the device list or --platform", "the rate of a known platform"
    return check(UNKNOWN, found, "fits none", best.evidence, wanted=wanted, missing=missing)


def compare(run: Table, part: Part) -> Compared:
    """Return the rows of all messages above 0 bytes, each with its predicted time [us]."""
    return [(row, predicted_us(part, run.operation, row.bytes, run.size)) for row in run.sent]


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
    limits = table()["collective"]
    best = 0.0
    for row in sorted(run.sent, key=lambda row: row.bytes):
        if row.bytes >= limits["dip_bytes"]:
            if row.bus_gb_s < limits["dip_share"] * best:
                return row
            best = max(best, row.bus_gb_s)
    return None
