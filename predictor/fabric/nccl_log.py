"""Reads and judges NCCL_DEBUG=INFO logs (and RCCL's): what carries each channel, what NCCL complained about.

Ranks share one file and tear each other's lines, so everything is searched for, not split into columns.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from ...data.fabric_parts import Machine
from ...data.readers.captured import Line
from .findings import Finding

_EDGE = re.compile(
    r"(?:Channel|Ring) \d+(?:/\d+)? ?: (\d+)\[(\w+)\] -> (\d+)\[(\w+)\](?: \[(?:send|receive)\])? via "
    r"(direct shared memory|\S+(?: (?:pointer|Libfabric)\S*)?)"
)
_RANKS = re.compile(r"\bn[Rr]anks (\d+)(?: nNodes (\d+) localRanks \d)?")
_HOST = re.compile(r"^\s*([\w.-]+):\d+:\d+ \[\d+\] NCCL INFO")
_RING = re.compile(r"Channel \d+/\d+ : +(\d+(?: +\d+)+)\s*$")
_HEAD = re.compile(r"NVLS Head +\d+: +(\d+(?: +\d+)*)\s*$")
_MULTI_NODE = re.compile(r"fabric UUID (\S+) cliqueId (\S+) state (\d+)(?: healthMask (0x[0-9a-fA-F]+))?")
# Lines of which the first of each kind tells; the last group is what it says.
_TELLING = {
    "nvls-off": re.compile(r"(NVLS multicast support is not available|\b0 nvls channels)"),
    "nvls-on": re.compile(r"(NVLS multicast support is available|\b[1-9]\d* nvls channels)"),
    "p2p-off": re.compile(r"(NCCL_P2P_DISABLE set by \w+ to 1|NCCL_P2P_LEVEL set by \w+ to LOC)\b"),
    "ring-type": re.compile(r"Pattern 4, .*type (?!NVL/|LOC/)(\w+)/"),
    "sockets-between": re.compile(r"Using network (Socket)"),
    "rack": re.compile(r"\b(MNNVL 1)\b"),
}
_MOST = 512
_FAILURES = re.compile("fail|error|timeout|timed out|refused|closed|hardware issue|abort|unhandled")
# A library or plugin that is not there is no fault: NCCL goes on without it.
_HARMLESS = re.compile("plugin|libibverbs|libcuda|cuda library")
_FABRIC_STATES = {"1": "not started", "2": "in progress"}
_CLASSES = {
    "SHM": re.compile("SHM|direct shared memory"),
    "P2P": re.compile("P2P"),
    "NET/Socket": re.compile("NET/Socket"),
    "NET/RDMA": re.compile("NET/.*(?:GDR|FasTrak|TCPX|Libfabric|OFI|gIB)", re.IGNORECASE),
    "NET/host": re.compile("NET/"),
}


class Edge(NamedTuple):
    """One hop between ranks, where first seen: its transport, and whether it leaves the machine if known."""

    line: Line
    transport: str
    crosses: bool | None


@dataclass(kw_only=True)
class LogReader:
    """Collects what a log says; counts stay bounded whatever its length.

    edges: the first hop seen for each (class of transport, ends); counts: lines per class; ranks, nodes: the
    most that any line tells of, 0 where none does; faults: what is one on any machine; cliques: (cluster,
    clique) of the GPUs' fabric; found: the first line of each telling kind.
    """

    tool = "NCCL log"
    edges: dict[tuple[str, str], Edge] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    ranks: int = 0
    nodes: int = 0
    hosts: set[str] = field(default_factory=set)
    faults: list[Finding] = field(default_factory=list)
    cliques: set[tuple[str, str]] = field(default_factory=set)
    found: dict[str, tuple[str, Line]] = field(default_factory=dict)

    def feed(self, line: Line) -> None:
        """Take one line."""
        text = line.text
        edge = _EDGE.search(text) if " via " in text else None
        if edge or "NCCL INFO" in text:
            self.found.setdefault("any", (text, line))
        if edge:
            source, device, target, other, transport = edge.groups()
            # Ranks fill one machine after the other: rank 9 on device 1 and rank 0 on device 0 are 8 apart.
            known = all(d.isdigit() and len(d) < 3 for d in (device, other))
            crosses = int(source) - int(device) != int(target) - int(other) if known else None
            kind = next((name for name, pattern in _CLASSES.items() if pattern.match(transport)), "other")
            self.counts[kind] += 1
            if len(self.edges) < _MOST:
                self.edges.setdefault((kind, f"{source}->{target}"), Edge(line, transport, crosses))
        elif "NCCL WARN" in text:
            message = text.split("NCCL WARN", 1)[1].strip()
            if _FAILURES.search(message.lower()) and not _HARMLESS.search(message.lower()):
                self._fault(Finding("transport.warning", message, evidence=(line,)))
        elif "NCCL INFO" in text:
            self._size(text)
            self._info(text, line)

    def _fault(self, finding: Finding) -> None:
        if len(self.faults) < _MOST:
            self.faults.append(finding)

    def _info(self, text: str, line: Line) -> None:
        for name, pattern in _TELLING.items():
            if found := pattern.search(text):
                self.found.setdefault(name, (found[1], line))
        if found := _MULTI_NODE.search(text):
            uuid, clique, state, mask = found[1], found[2], found[3], int(found[4] or "0", 16)
            if uuid.strip("0.") and len(self.cliques) < _MOST:
                self.cliques.add((uuid, clique))
            if state in _FABRIC_STATES:
                self._fault(Finding("transport.fabric-state", _FABRIC_STATES[state], evidence=(line,)))
            # Pairs of bits, 1 for yes: less bandwidth, route recovery, unhealthy route, access timeout.
            elif any(mask >> shift & 3 == 1 for shift in (0, 2, 4, 6)):
                self._fault(Finding("transport.fabric-health", f"{mask:#x}", evidence=(line,)))

    def _size(self, text: str) -> None:
        """Learn ranks and machines: from the communicator, the hosts, the rings and the NVLS heads."""
        if (host := _HOST.match(text)) and len(self.hosts) < _MOST:
            self.hosts.add(host[1])
        ranks, nodes = 0, 0
        if found := _RANKS.search(text):
            ranks, nodes = int(found[1][:9]), int((found[2] or "0")[:9])
        elif found := _RING.search(text):
            ranks = len(found[1].split())
        elif found := _HEAD.search(text):
            # One head rank per machine.
            nodes = len(found[1].split())
        self.ranks, self.nodes = max(self.ranks, ranks), max(self.nodes, nodes, len(self.hosts))

    def judge(self, machine: Machine) -> Iterator[Finding]:
        """Judge every hop and setting: none over host memory or sockets, none switched off."""
        if not self.found:
            return
        gpu, edges, kinds, (_, first) = machine.gpu, self.edges.values(), set(self.counts), self.found["any"]
        card = bool(gpu and gpu.card)
        for (kind, hop), edge in self.edges.items():
            if code := _edge_fault(kind, edge, self.nodes, card):
                yield Finding(f"transport.{code}", hop, edge.transport, "", (edge.line,))
        yield from self.faults
        if len(self.cliques) > 1 and self.nodes == 1:
            yield Finding("transport.cliques", "", len(self.cliques), 1, (first,))
        # On a rack's NVLink, machines reach each other without any network.
        over_links = "rack" in self.found or any(e.crosses and e.transport[:3] == "P2P" for e in edges)
        # NCCL reads over NVLink ("/read") on Ampere alone, which has no in-switch reduction (NVLS); that
        # needs more than two GPUs of one NVLink domain.
        reduces = gpu.registers if gpu else not any(e.transport.endswith("/read") for e in edges)
        telling = {
            "p2p-off": not card,
            "sockets-between": self.nodes > 1 and not over_links and not any("NET" in kind for kind in kinds),
            "nvls-off": edges and "nvls-on" not in self.found and reduces and self.ranks != 2,
            "ring-type": edges and not card,
        }
        for name in (name for name, applies in telling.items() if applies and name in self.found):
            message, line = self.found[name]
            yield Finding(f"transport.{name}", message, self.nodes, "", (line,))
        if edges:
            counts = ", ".join(f"{kind} {count}" for kind, count in sorted(self.counts.items()))
            code, first = "other" if kinds == {"other"} else "direct", next(iter(edges)).line
        else:
            code, counts = "not-shown", ""
        yield Finding(f"transport.{code}", counts, evidence=(first,))


def _edge_fault(kind: str, edge: Edge, nodes: int, card: bool) -> str:
    """Return what is wrong with a hop, "" for nothing."""
    if kind == "NET/Socket":
        return "sockets"
    if kind.startswith("NET/") and (nodes == 1 or edge.crosses is False):
        return "network-inside"
    if kind == "SHM" and not card:
        return "host-memory"
    return "no-gpudirect" if kind == "NET/host" and "NET/IB" in edge.transport and not card else ""
