"""Reads `nvidia-smi nvlink --status` and `-e`: each GPU's links, their rates and error counters."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

from .reading import Evidence, is_cut

_GPU = re.compile(r"^\s*GPU (\d+): (.+?)(?:\s*\(UUID:.*)?$")
_RATE = re.compile(r"^\s*Link (\d+): (?:([\d.]+) GB/s|<(?:inactive|disabled)>)", re.IGNORECASE)
_COUNTER = re.compile(r"^\s*Link (\d+): (?:Lane \d+: )?([A-Za-z][^:]*?): (-?[\d.,]+(?:e[+-]?\d+)?)\s*$")
_NONE = "all links are inactive"
# What a healthy link counts too: traffic, and what forward error correction or a retry already put right.
_HARMLESS = re.compile(
    r"^(?:[TR]x (?:packets|bytes|data)|Raw |FEC |PLR (?!.*uncorrectable)|Data |Throughput)", re.IGNORECASE
)
_BIT_ERROR_RATE = 1e-12
_MOST = 4096


@dataclass(frozen=True, kw_only=True)
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
    errors: tuple[tuple[str, Evidence], ...] = ()

    @property
    def active(self) -> int:
        """Links with a rate."""
        return sum(rate is not None for rate, _ in self.rates.values())


@dataclass(kw_only=True)
class LinksReader:
    """Collects the GPUs' blocks of a stream of lines."""

    found: list[GpuLinks] = field(default_factory=list)

    def feed(self, line: Evidence) -> None:
        """Take one line."""
        text = line.text
        if (named := _GPU.match(text)) and len(self.found) < _MOST:
            self.found.append(GpuLinks(gpu=int(named[1]), name=named[2].strip(), evidence=line))
        elif text.lstrip().startswith("Link "):
            self._link(text, line)
        elif self.found and _NONE in text.lower():
            self._change(all_inactive=line)
        elif self.found and "MIG " in text and "Device" in text:
            self._change(mig=True)
        elif self.found and is_cut(text):
            self._change(cut=True)

    def _change(self, **fields: Any) -> None:
        self.found[-1] = replace(self.found[-1], **fields)

    def _link(self, text: str, line: Evidence) -> None:
        rate, counter = _RATE.match(text), _COUNTER.match(text)
        if not (rate or counter):
            return
        if not self.found:
            self.found.append(GpuLinks(gpu=0, name="", evidence=line, cut=True))
        if rate:
            self.found[-1].rates[int(rate[1])] = (float(_number(rate[2])) if rate[2] else None, line)
        elif counter and not _HARMLESS.match(counter[2]):
            block = self.found[-1]
            self._change(counters=block.counters + 1)
            if _is_error(counter[2], counter[3]) and len(block.errors) < _MOST:
                self._change(errors=(*block.errors, (f"link {counter[1]} {counter[2]}", line)))

    def end(self) -> None:
        """Nothing is left open."""


def _number(text: str) -> float:
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return 0.0


def _is_error(name: str, value: str) -> bool:
    """Tell whether a counter is an error; a bit error rate may be tiny ("15e-255" stands for none)."""
    return _number(value) > (_BIT_ERROR_RATE if "BER" in name else 0.0)
