"""Reads and judges `nvidia-smi nvlink --status` and `-e`, and the Fabric block of `nvidia-smi -q`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from ...data.fabric_parts import Machine, gpu_of
from ...data.readers.captured import Line, is_cut
from .findings import Finding

_GPU = re.compile(r"^\s*GPU (\d+): (.+?)(?:\s*\(UUID:.*)?$")
_RATE = re.compile(r"^\s*Link (\d+): (?:(\d*\.?\d+) GB/s|<(?:inactive|disabled)>)", re.IGNORECASE)
_COUNTER = re.compile(
    r"^\s*Link (\d+): (?:Lane \d+: )?([A-Za-z][^:]*?): ((?:\d[\d,]*)?\.?\d+(?:e[+-]?\d+)?)\s*$"
)
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
_COLUMN = {"fabric.state": "State", "fabric.status": "Status"}
_FIELDS = ("State", "Status", "CliqueId", "ClusterUUID")
_NO_CLUSTER = "00000000-0000-0000-0000-000000000000"
_NO_STATE = ("", "n/a", "not supported")
_MOST = 4096


@dataclass(kw_only=True)
class GpuLinks:
    """One GPU's block: the rate [GB/s] of each active link and the inactive ones, with their lines.

    silent: the line that says that all links are inactive; cut: something was left out of the block;
    counters: how many error counters were read; errors: findings on those too high.
    """

    gpu: int
    name: str
    line: Line
    active: dict[int, tuple[float, Line]] = field(default_factory=dict)
    inactive: dict[int, Line] = field(default_factory=dict)
    silent: Line | None = None
    cut: bool = False
    mig: bool = False
    counters: int = 0
    errors: list[Finding] = field(default_factory=list)

    @property
    def listed(self) -> set[int]:
        """The links whose state is shown."""
        return {*self.active, *self.inactive}


@dataclass(kw_only=True)
class LinksReader:
    """Collects the GPUs' blocks of `nvidia-smi nvlink` in a stream of lines."""

    tool = "nvidia-smi nvlink"
    found: list[GpuLinks] = field(default_factory=list)

    def feed(self, line: Line) -> None:
        """Take one line."""
        text = line.text
        rate, counter = _RATE.match(text), _COUNTER.match(text)
        if (named := _GPU.match(text)) and len(self.found) < _MOST:
            self.found.append(GpuLinks(gpu=int(named[1]), name=named[2].strip(), line=line))
        elif (rate or counter) and not self.found:
            self.found.append(GpuLinks(gpu=0, name="", line=line, cut=True))
        if not self.found:
            return
        block = self.found[-1]
        if rate and rate[2]:
            block.active[int(rate[1])] = (float(rate[2]), line)
        elif rate:
            block.inactive[int(rate[1])] = line
        elif counter and not _HARMLESS.match(counter[2]) and block.counters < _MOST:
            block.counters += 1
            # A bit error rate may be tiny: "15e-255" stands for none.
            if float(counter[3].replace(",", "")) > (_BIT_ERROR_RATE if "BER" in counter[2] else 0.0):
                subject = f"GPU{block.gpu} link {counter[1]} {counter[2]}"
                block.errors.append(Finding("link-errors.counted", subject, counter[3], 0, (line,)))
        block.silent = line if "all links are inactive" in text.lower() else block.silent
        block.mig = block.mig or ("MIG " in text and "Device" in text)
        block.cut = block.cut or is_cut(text)

    def judge(self, machine: Machine) -> Iterator[Finding]:
        """Judge the links' status and error counters of all GPUs."""
        known = {b.gpu for b in self.found if b.listed or b.silent}
        blocks = [b for b in self.found if b.listed or b.silent or not (b.counters or b.gpu in known)]
        # A mere list of GPUs says nothing of links, unless they are cards, which print none.
        if known or any((gpu := gpu_of(b.name)) and gpu.card for b in blocks):
            short = len(blocks[-1].listed) < max(len(b.listed) for b in blocks)
            for block in blocks:
                last = block is blocks[-1]
                yield from _link_faults(block, machine, cut=block.cut or (last and short), last=last)
            active = sorted({len(b.active) for b in blocks if not b.cut and b.listed}) or [0]
            counts = " or ".join(map(str, active))
            yield Finding("link-status.active", f"{len(blocks)} GPU(s)", counts, "", (blocks[0].line,))
        if counted := [b for b in self.found if b.counters]:
            yield from (error for block in counted for error in block.errors)
            yield Finding("link-errors.none", "", sum(b.counters for b in counted), 0, (counted[0].line,))


def _link_faults(block: GpuLinks, machine: Machine, *, cut: bool, last: bool) -> Iterator[Finding]:
    """Yield the faults and the open questions of one GPU's block."""
    gpu, active, silent = gpu_of(block.name) or machine.gpu, len(block.active), block.silent
    shown = gpu.shown_gb_s if gpu else max((rate for rate, _ in block.active.values()), default=0.0)
    links = gpu.links if gpu else 0

    def of(code: str, link: int | None, line: Line, value: float = 0, expected: float = links) -> Finding:
        subject = f"GPU{block.gpu}" + ("" if link is None else f" link {link}")
        return Finding(f"link-status.{code}", subject, value, expected, (line,))

    if gpu and not links:
        if not cut and active not in (0, gpu.bridge_links):
            yield of("bridge-down", None, block.line, active, gpu.bridge_links)
    elif gpu and not active and (gpu.host_gpus == 1 or machine.alone):
        return
    elif block.mig and (silent or block.inactive):
        yield of("mig", None, silent or block.line)
    elif silent:
        yield of("all-inactive" if gpu else "inactive-unnamed", None, silent)
    # Export versions list links that they never had.
    elif active < links or not gpu:
        code = "inactive" if gpu else "inactive-unnamed"
        yield from (of(code, link, line) for link, line in block.inactive.items())
        if gpu and len(block.listed) < links and not cut and not block.inactive:
            # The end of a capture may be missing: what is not shown is not inactive.
            whole_start = last and block.listed == set(range(active))
            yield of("not-shown" if whole_start else "not-listed", None, block.line, active)
    for link, (rate, line) in block.active.items():
        if rate < _RATE_SHARE * shown:
            yield of("slow", link, line, rate, shown)


class FabricState(NamedTuple):
    """One GPU's registration with its fabric: the lines of its block, health among them, by name."""

    name: str
    line: Line
    fields: dict[str, tuple[str, Line]]

    def value(self, name: str) -> str:
        """Return a value as printed, "" where it is absent."""
        return self.fields[name][0] if name in self.fields else ""


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
        if (block := _BLOCK.match(text)) and len(self.found) < _MOST:
            self._indent = len(block[1])
            self.found.append(FabricState(self._name, line, {}))
        elif _BUS_ID.match(text):
            self._name = ""
        elif name := _NAME.match(text):
            self._name = name[1].strip()
            self.names.add(self._name)
        elif "fabric.st" in text:
            self._columns = [word.strip() for word in text.split(",")]
        elif self._columns:
            values = dict(zip(self._columns, map(str.strip, text.split(",")), strict=False))
            if len(values) < len(self._columns) or len(self.found) >= _MOST:
                self._columns = []
                return
            fields = {_COLUMN.get(column, column): (word, line) for column, word in values.items()}
            self.names |= {values.get("name", "")} - {""}
            self.found.append(FabricState(values.get("name", ""), line, fields))

    def _inside(self, text: str, line: Line) -> None:
        key = _KEY.match(text)
        if key and len(key[1]) >= self._indent + (key[2] not in _FIELDS):
            if key[3].strip():
                self.found[-1].fields.setdefault(key[2], (key[3].strip(), line))
        elif key or text.strip() not in ("", "Health"):
            self._indent = -1

    def judge(self, machine: Machine) -> Iterator[Finding]:
        """Judge whether every GPU joined its NVLink fabric, and the same one."""
        for block in self.found:
            yield from _state_faults(block, machine)
        for name in ("CliqueId", "ClusterUUID"):
            values = sorted({block.value(name) for block in self.found} - {"", "N/A"})
            if len(values) > 1:
                yield Finding(
                    "fabric-state.differs", name, " and ".join(values[:2]), "", (self.found[0].line,)
                )
        if self.found:
            yield Finding("fabric-state.joined", f"{len(self.found)} GPU(s)", evidence=(self.found[0].line,))


def _state_faults(block: FabricState, machine: Machine) -> Iterator[Finding]:
    gpu, state, status = gpu_of(block.name) or machine.gpu, block.value("State"), block.value("Status")
    _, line = block.fields.get("Status" if state.lower() == "completed" else "State", ("", block.line))
    if state.lower() in _NO_STATE or (state.lower() == "completed" and not status):
        if not gpu or gpu.registers:
            yield Finding("fabric-state.no-state", evidence=(line,))
    elif (state.lower(), status.lower()) != ("completed", "success"):
        yield Finding("fabric-state.not-joined", state, status or "not shown", "", (line,))
    elif gpu and gpu.rack and block.value("ClusterUUID") == _NO_CLUSTER:
        yield Finding("fabric-state.outside-rack", "ClusterUUID", 0, "", (line,))
    for name, (value, where) in block.fields.items():
        if _is_ill(name.lower(), value.lower()):
            yield Finding("fabric-state.ill", name, value, "", (where,))


def _is_ill(name: str, value: str) -> bool:
    """Tell whether a line of the Health block speaks of a fault."""
    if name in ("summary", "incorrect configuration"):
        return value not in (*_NO_STATE, "none", "healthy", "false")
    marked = ("recovery" in name or "unhealthy" in name) and value in ("true", "yes")
    return marked or (name == "bandwidth" and "degraded" in value)
