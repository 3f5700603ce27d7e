"""Reads and judges `nvidia-smi nvlink --status` and `-e`: links, rates and error counters per GPU."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from .expected import Expectation, part_of
from .reading import Evidence, is_cut
from .verdict import DEGRADED, GPU_NAMES, HEALTHY, UNKNOWN, Check, CheckMaker, Found

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
_NEXT = "nvidia-smi nvlink -e; dmesg | grep -i -e nvlink -e xid"
_MOST = 4096


@dataclass(kw_only=True)
class GpuLinks:
    """One GPU's block: rate in GB/s per link (None: inactive) with its line, and what else was said.

    all_inactive: the line that says no link is active; cut: something was left out of the block;
    counters: how many error counters were read; errors: (counter, line) of those that are not zero.
    """

    gpu: int
    name: str
    evidence: Evidence
    rates: dict[int, tuple[float | None, Evidence]] = field(default_factory=dict)
    all_inactive: Evidence | None = None
    cut: bool = False
    mig: bool = False
    counters: int = 0
    errors: Found = field(default_factory=list)

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
    """Collects the GPUs' blocks of a stream of lines."""

    tool = "nvidia-smi nvlink"
    found: list[GpuLinks] = field(default_factory=list)

    def feed(self, line: Evidence) -> None:
        """Take one line."""
        text = line.text
        if (named := _GPU.match(text)) and len(self.found) < _MOST:
            self.found.append(GpuLinks(gpu=int(named[1]), name=named[2].strip(), evidence=line))
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

    def _link(self, text: str, line: Evidence) -> None:
        rate, counter = _RATE.match(text), _COUNTER.match(text)
        if not (rate or counter):
            return
        if not self.found:
            self.found.append(GpuLinks(gpu=0, name="", evidence=line, cut=True))
        block = self.found[-1]
        if rate:
            block.rates[int(rate[1])] = (_number(rate[2]) if rate[2] else None, line)
        elif counter and not _HARMLESS.match(counter[2]):
            block.counters += 1
            # A bit error rate may be tiny: "15e-255" stands for none.
            allowed = _BIT_ERROR_RATE if "BER" in counter[2] else 0.0
            if _number(counter[3]) > allowed and len(block.errors) < _MOST:
                block.errors.append((f"link {counter[1]} {counter[2]}", line))

    def judge(self, expected: Expectation) -> list[Check]:
        """Judge the links' status and error counters of all GPUs."""
        checks = []
        told = {b.gpu for b in self.found if b.tells_status}
        status = [b for b in self.found if b.tells_status or not (b.counters or b.gpu in told)]
        # A mere list of GPUs says nothing of links, unless they are cards, which print none.
        if told or any((part := part_of(b.name)) and part.card for b in status):
            checks.append(_link_status(status, expected))
        counted = [b for b in self.found if b.counters]
        if counted:
            checks.append(_link_errors(counted, expected))
        return checks


def _number(text: str) -> float:
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return 0.0


def _link_status(blocks: Sequence[GpuLinks], expected: Expectation) -> Check:
    part = expected.part_of(blocks[0].name)
    wanted = "all links active"
    if part:
        whole = f"{part.links} active links per GPU at {part.shown_gb_s:g} GB/s"
        wanted = whole if part.links else "no links, or whole bridges"
    check = CheckMaker("link-status", expected.known, wanted=wanted, next_command=_NEXT)
    faults: Found = []
    unclear: Found = []
    most = max(len(b.rates) for b in blocks)
    for block in blocks:
        last = block is blocks[-1]
        cut = block.cut or (last and len(block.rates) < most)
        bad, open_ = _block_faults(block, expected, cut=cut, last=last)
        faults += [(f"GPU{block.gpu} {text}", line) for text, line in bad]
        unclear += [(f"GPU{block.gpu} {text}", line) for text, line in open_]
    if faults:
        return check.of(DEGRADED, faults, "a lost link slows every collective that uses it")
    if unclear:
        missing = "the Link lines of nvidia-smi nvlink --status" + ("" if part else f", {GPU_NAMES}")
        return check.of(UNKNOWN, unclear, "the evidence is not enough", missing)
    active = sorted({b.active for b in blocks if not b.cut and b.rates}) or [0]
    found = f"{len(blocks)} GPU(s), " + " or ".join(map(str, active)) + " active links each"
    return check(HEALTHY, found, "every link that should be is active", blocks[0].evidence)


def _block_faults(block: GpuLinks, expected: Expectation, *, cut: bool, last: bool) -> tuple[Found, Found]:
    """Return the faults and the open questions of one GPU's block."""
    part = expected.part_of(block.name)
    down = [(f"link {n} inactive", line) for n, (rate, line) in block.rates.items() if rate is None]
    rates = [(n, rate, line) for n, (rate, line) in block.rates.items() if rate is not None]
    shown = part.shown_gb_s if part else max((rate for _, rate, _ in rates), default=0.0)
    slow = [(f"link {n} at {rate:g} GB/s", line) for n, rate, line in rates if rate < _RATE_SHARE * shown]
    none = block.all_inactive
    if part and (part.card or not part.links):
        short = (f"{block.active} of {part.bridge_links} bridge links active", block.evidence)
        return (slow, []) if cut or block.active in (0, part.bridge_links) else ([short, *down], [])
    if part and (part.host_gpus == 1 or expected.alone) and (none or not block.active):
        return [], []
    if block.mig and (none or down):
        return [], [("NVLink is not in use under MIG", none or block.evidence)]
    if none:
        silent = [("all links inactive", none)]
        return (silent, []) if part else ([], silent)
    if not part:
        return slow, down
    if block.active >= part.links:
        # Export versions list links that they never had.
        return slow, []
    seen = len(block.rates)
    if seen < part.links and not cut and not down:
        short = (f"lists {seen} of {part.links} links", block.evidence)
        # The end of a capture may be missing: what is not shown is not inactive.
        whole_start = last and set(block.rates) == set(range(seen))
        return (slow, [short]) if whole_start else ([short, *slow], [])
    return [*down, *slow], []


def _link_errors(blocks: Sequence[GpuLinks], expected: Expectation) -> Check:
    next_command = "nvidia-smi nvlink -e again after a load: do they grow?"
    check = CheckMaker("link-errors", expected.known, "every error counter 0", next_command)
    errors = [(f"GPU{b.gpu} {name}", line) for b in blocks for name, line in b.errors]
    if errors:
        shown = "; ".join(f"{name}: {line.text.rsplit(':', 1)[-1].strip()}" for name, line in errors[:4])
        why = "links replay, lose or corrupt packets: retries cost time, recoveries stop the traffic"
        return check(DEGRADED, shown, why, *(line for _, line in errors))
    found = f"{sum(b.counters for b in blocks)} error counters, all 0"
    return check(HEALTHY, found, "no link errors", blocks[0].evidence)
