"""Reads and judges `nvidia-smi nvlink --status` and `-e`, and the Fabric block of `nvidia-smi -q`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from .findings import Finding
from .machine import Machine, gpu_of
from .reading import Line, is_cut

_GPU = re.compile(r"^\s*GPU (\d+): (.+?)(?:\s*\(UUID:.*)?$")
_RATE = re.compile(r"^\s*Link (\d+): (?:([\d.]+) GB/s|<(?:inactive|disabled)>)", re.IGNORECASE)
_COUNTER = re.compile(r"^\s*Link (\d+): (?:Lane \d+: )?([A-Za-z][^:]*?): (-?[\d.,]+(?:e[+-]?\d+)?)\s*$")
_NONE = "all links are inactive"
# What a healthy link counts too: traffic, and what forward error correction or a retry already put right.
_HARMLESS = re.compile(
    r"^(?:[TR]x (?:packets|bytes|data)|Raw |FEC |PLR (?!.*uncorrectable)|Data |Throughput)", re.IGNORECASE
)
_BIT_ERROR_RATE = 1e-12
_RATE_SHARE = 0.9
_BLOCK = re.compile(r"^(\s*)(?:GPU )?Fabric\s*$")
_BUS_ID = re.compile(r"^GPU ([0-9A-Fa-f]{4,8}:[0-9A-Fa-f:.]+)\s*$")
_NAME = re.compile(r"^\s*Product Name\s*:\s*(.+)$")
_KEY = re.compile(r"^(\s*)([A-Za-z][\w /-]*?)\s*:\s*(.*)$")
_HEALTH = re.compile(r"^\s*Health\s*(?::.*)?$")
_COLUMN = {"fabric.state": "State", "fabric.status": "Status"}
_FIELDS = ("State", "Status", "CliqueId", "ClusterUUID")
_NO_CLUSTER = "00000000-0000-0000-0000-000000000000"
_NO_STATE = ("", "n/a", "not supported")
_MOST = 4096


@dataclass(kw_only=True)
class GpuLinks:
    """One GPU's block: rate in GB/s per link (None: inactive) with its line, and what else was said.

    all_inactive: the line that says no link is active; cut: something was left out of the block;
    counters: how many error counters were read; errors: (link and counter, value, line) of those too high.
    """

    gpu: int
    name: str
    line: Line
    rates: dict[int, tuple[float | None, Line]] = field(default_factory=dict)
    all_inactive: Line | None = None
    cut: bool = False
    mig: bool = False
    counters: int = 0
    errors: list[tuple[str, str, Line]] = field(default_factory=list)

    @property
    def active(self) -> int:
        """Links with a rate."""
        return sum(rate is not None for rate, _ in self.rates.values())

    @property
    def tells_status(self) -> bool:
        """Whether it says of any link that it is active or not."""
        return bool(self.rates or self.all_inactive)


@dataclass(kw_only=True)
class LinksReader:
    """Collects the GPUs' blocks of `nvidia-smi nvlink` in a stream of lines."""

    tool = "nvidia-smi nvlink"
    found: list[GpuLinks] = field(default_factory=list)

    def feed(self, line: Line) -> None:
        """Take one line."""
        text = line.text
        if (named := _GPU.match(text)) and len(self.found) < _MOST:
            self.found.append(GpuLinks(gpu=int(named[1]), name=named[2].strip(), line=line))
        elif text.lstrip().startswith("Link "):
            self._link(text, line)
        elif not self.found:
            return
        elif _NONE in text.lower():
            self.found[-1].all_inactive = line
        elif "MIG " in text and "Device" in text:
            self.found[-1].mig = True
        elif is_cut(text):
            self.found[-1].cut = True

    def _link(self, text: str, line: Line) -> None:
        rate, counter = _RATE.match(text), _COUNTER.match(text)
        if not (rate or counter):
            return
        if not self.found:
            self.found.append(GpuLinks(gpu=0, name="", line=line, cut=True))
        block = self.found[-1]
        if rate:
            block.rates[int(rate[1])] = (_number(rate[2]) if rate[2] else None, line)
        elif counter and not _HARMLESS.match(counter[2]):
            block.counters += 1
            # A bit error rate may be tiny: "15e-255" stands for none.
            allowed = _BIT_ERROR_RATE if "BER" in counter[2] else 0.0
            if _number(counter[3]) > allowed and len(block.errors) < _MOST:
                block.errors.append((f"link {counter[1]} {counter[2]}", counter[3], line))

    def judge(self, machine: Machine) -> Iterator[Finding]:
        """Judge the links' status and error counters of all GPUs."""
        told = {b.gpu for b in self.found if b.tells_status}
        blocks = [b for b in self.found if b.tells_status or not (b.counters or b.gpu in told)]
        # A mere list of GPUs says nothing of links, unless they are cards, which print none.
        if told or any((gpu := gpu_of(b.name)) and gpu.card for b in blocks):
            most = max(len(b.rates) for b in blocks)
            for block in blocks:
                last = block is blocks[-1]
                cut = block.cut or (last and len(block.rates) < most)
                yield from _link_faults(block, machine, cut=cut, last=last)
            active = sorted({b.active for b in blocks if not b.cut and b.rates}) or [0]
            counts = " or ".join(map(str, active))
            yield Finding("link-status.active", f"{len(blocks)} GPU(s)", counts, evidence=(blocks[0].line,))
        counted = [b for b in self.found if b.counters]
        for block in counted:
            for name, value, line in block.errors:
                yield Finding("link-errors.counted", f"GPU{block.gpu} {name}", value, 0, (line,))
        if counted:
            total = sum(b.counters for b in counted)
            yield Finding("link-errors.none", value=total, evidence=(counted[0].line,))


def _number(text: str) -> float:
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return 0.0


def _link_faults(block: GpuLinks, machine: Machine, *, cut: bool, last: bool) -> Iterator[Finding]:
    """Yield the faults and the open questions of one GPU's block."""
    gpu, name, none = gpu_of(block.name) or machine.gpu, f"GPU{block.gpu}", block.all_inactive
    down = [(f"{name} link {n}", line) for n, (rate, line) in block.rates.items() if rate is None]
    rates = [(n, rate, line) for n, (rate, line) in block.rates.items() if rate is not None]
    shown = gpu.shown_gb_s if gpu else max((rate for _, rate, _ in rates), default=0.0)
    slow = [
        Finding("link-status.slow", f"{name} link {n}", rate, shown, (line,))
        for n, rate, line in rates
        if rate < _RATE_SHARE * shown
    ]
    if gpu and (gpu.card or not gpu.links):
        if cut or block.active in (0, gpu.bridge_links):
            yield from slow
        else:
            lines = (block.line, *(line for _, line in down))
            yield Finding("link-status.bridge-down", name, block.active, gpu.bridge_links, lines)
    elif gpu and (gpu.host_gpus == 1 or machine.alone) and (none or not block.active):
        return
    elif block.mig and (none or down):
        yield Finding("link-status.mig", name, evidence=(none or block.line,))
    elif none or not gpu:
        code = "link-status.all-inactive" if gpu else "link-status.inactive-unnamed"
        silent = [(name, none)] if none else down
        yield from (Finding(code, subject, "", gpu.links if gpu else "", (line,)) for subject, line in silent)
        yield from () if none else slow
    else:
        yield from slow
        # Export versions list links that they never had.
        if block.active < gpu.links:
            yield from (Finding("link-status.inactive", name, "", gpu.links, (line,)) for name, line in down)
            if len(block.rates) < gpu.links and not cut and not down:
                # The end of a capture may be missing: what is not shown is not inactive.
                whole_start = last and set(block.rates) == set(range(len(block.rates)))
                code = "link-status.not-shown" if whole_start else "link-status.not-listed"
                yield Finding(code, name, len(block.rates), gpu.links, (block.line,))


@dataclass(kw_only=True)
class FabricState:
    """One GPU's registration with its fabric: fields and lines of its health as printed, by name."""

    name: str
    line: Line
    fields: dict[str, tuple[str, Line]] = field(default_factory=dict)
    health: list[tuple[str, str, Line]] = field(default_factory=list)

    def said(self, name: str) -> tuple[str, Line]:
        """Return a field as printed and its line; "" and the block's where it is absent."""
        return self.fields.get(name, ("", self.line))


@dataclass(kw_only=True)
class FabricReader:
    """Collects the Fabric blocks of `nvidia-smi -q`, or the rows of a query of fabric.state."""

    tool = "nvidia-smi -q"
    found: list[FabricState] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    _name: str = ""
    _indent: int = -1
    _columns: list[str] = field(default_factory=list)

    def feed(self, line: Line) -> None:
        """Take one line."""
        text = line.text
        if self._indent >= 0:
            self._inside(text, line)
        if block := _BLOCK.match(text):
            self._indent = len(block[1])
            if len(self.found) < _MOST:
                self.found.append(FabricState(name=self._name, line=line))
        elif _BUS_ID.match(text):
            self._name = ""
        elif "Product Name" in text and (name := _NAME.match(text)):
            self._name = name[1].strip()
            self.names.add(self._name)
        elif "fabric.st" in text:
            self._columns = [word.strip() for word in text.split(",")]
        elif self._columns:
            self._csv([word.strip() for word in text.split(",")], line)

    def _inside(self, text: str, line: Line) -> None:
        key = _KEY.match(text)
        if not key:
            if text.strip() and not _HEALTH.match(text):
                self._indent = -1
            return
        indent, name, value = len(key[1]), key[2], key[3].strip()
        if indent < self._indent or (indent == self._indent and name not in _FIELDS):
            self._indent = -1
            return
        block = self.found[-1]
        if name not in _FIELDS and len(block.health) < _MOST:
            block.health.append((name, value, line))
        elif name in _FIELDS and not block.said(name)[0]:
            block.fields[name] = (value, line)

    def _csv(self, words: list[str], line: Line) -> None:
        if len(words) != len(self._columns) or len(self.found) >= _MOST:
            self._columns = []
            return
        values = dict(zip(self._columns, words, strict=True))
        fields = {_COLUMN[column]: (word, line) for column, word in values.items() if column in _COLUMN}
        name = values.get("name", "")
        self.names |= {name} - {""}
        self.found.append(FabricState(name=name, line=line, fields=fields))

    def judge(self, machine: Machine) -> Iterator[Finding]:
        """Judge whether every GPU joined its NVLink fabric, and the same one."""
        for block in self.found:
            yield from _state_faults(block, machine)
        for name in ("CliqueId", "ClusterUUID"):
            values = sorted({block.said(name)[0] for block in self.found} - {"", "N/A"})
            if len(values) > 1:
                yield Finding(
                    "fabric-state.differs", name, " and ".join(values[:2]), evidence=(self.found[0].line,)
                )
        if self.found:
            line = self.found[0].said("State")[1]
            yield Finding("fabric-state.joined", f"{len(self.found)} GPU(s)", evidence=(line,))


def _state_faults(block: FabricState, machine: Machine) -> Iterator[Finding]:
    gpu = gpu_of(block.name) or machine.gpu
    (state, line), (status, status_line) = block.said("State"), block.said("Status")
    done = state.lower() == "completed"
    if done and "Status" in block.fields:
        line = status_line
    if state.lower() in _NO_STATE or (done and not status):
        if not gpu or gpu.registers:
            yield Finding("fabric-state.no-state", evidence=(line,))
    elif not done or status.lower() != "success":
        yield Finding("fabric-state.not-joined", state, status or "not shown", evidence=(line,))
    elif gpu and gpu.host_gpus and gpu.domain > 8 and block.said("ClusterUUID")[0] == _NO_CLUSTER:
        yield Finding("fabric-state.outside-rack", "ClusterUUID", 0, evidence=(line,))
    for name, value, where in block.health:
        if _is_ill(name.lower(), value.lower()):
            yield Finding("fabric-state.ill", name, value, evidence=(where,))


def _is_ill(name: str, value: str) -> bool:
    """Tell whether a line of the Health block speaks of a fault."""
    if name == "bandwidth":
        return "degraded" in value
    if name in ("summary", "incorrect configuration"):
        return value not in (*_NO_STATE, "none", "healthy", "false")
    return ("recovery" in name or "unhealthy" in name) and value in ("true", "yes")
