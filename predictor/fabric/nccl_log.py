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
from .findings import Finding
from .reading import Line

_EDGE = re.compile(
    r"(?:Channel|Ring) \d+(?:/\d+)? ?: (\d+)\[(\w+)\] -> (\d+)\[(\w+)\](?: \[(?:send|receive)\])? via "
    r"(direct shared memory|\S+(?: (?:pointer|Libfabric)\S*)?)"
)
_RANKS = re.compile(r"\bn[Rr]anks (\d+)(?: nNodes (\d+) localRanks \d)?")
_HOST = re.compile(r"^\s*([\w.-]+):\d+:\d+ \[\d+\] NCCL INFO")
_RING = re.compile(r"Channel \d+/\d+ : +(\d+(?: +\d+)+)\s*$")
_HEAD = re.compile(r"NVLS Head +\d+: +(\d+(?: +\d+)*)\s*$")
_NVLS_OFF = re.compile(r"NVLS multicast support is not available|\b0 nvls channels")
_NVLS_ON = re.compile(r"NVLS multicast support is available|\b[1-9]\d* nvls channels")
_P2P_OFF = re.compile(r"(NCCL_P2P_DISABLE set by \w+ to 1|NCCL_P2P_LEVEL set by \w+ to LOC)\b")
_MULTI_NODE = re.compile(r"fabric UUID (\S+) cliqueId (\S+) state (\d+)(?: healthMask (0x[0-9a-fA-F]+))?")
_INTRA = re.compile(r"Pattern 4, .*type (\w+)/")
_NETWORK = re.compile(r"Using network (\S.{0,39})")
_MOST = 512
_FAILURES = re.compile("fail|error|timeout|timed out|refused|closed|hardware issue|abort|unhandled")
# A library or plugin that is not there is no fault: NCCL goes on without it.
_HARMLESS = re.compile("plugin|libibverbs|libcuda|cuda library")
_FABRIC_STATES = {"1": "not started", "2": "in progress"}
_DIRECT = re.compile(r"GDR|FasTrak|TCPX|Libfabric|OFI|gIB", re.IGNORECASE)


class Edge(NamedTuple):
    """One hop between ranks: where first seen, which, on which devices as printed, over what."""

    line: Line
    source: str
    source_device: str
    target: str
    target_device: str
    transport: str

    @property
    def crosses_nodes(self) -> bool | None:
        """Whether the hop leaves the machine, by rank minus device; None where devices are bus ids.

        Ranks fill one machine after the other: rank 9 on device 1 and rank 0 on device 0 are 8 apart.
        """
        devices = (self.source_device, self.target_device)
        if not all(d.isdigit() and len(d) < 3 for d in devices):
            return None
        return int(self.source) - int(devices[0]) != int(self.target) - int(devices[1])


@dataclass(kw_only=True)
class LogReader:
    """Collects what a log says; counts stay bounded whatever its length.

    edges: the first hop seen for each (class of transport, ends); counts: lines per class; ranks, nodes: the
    most that any line tells of, 0 where none does; faults: what is one on any machine; cliques: (cluster,
    clique) of the GPUs' fabric; said: the first line of each telling kind.
    """

    tool = "NCCL log"
    edges: dict[tuple[str, str, str], Edge] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    ranks: int = 0
    nodes: int = 0
    hosts: set[str] = field(default_factory=set)
    faults: list[Finding] = field(default_factory=list)
    cliques: set[tuple[str, str]] = field(default_factory=set)
    said: dict[str, tuple[str, Line]] = field(default_factory=dict)

    @property
    def found(self) -> bool:
        """Whether any line was NCCL's."""
        return bool(self.said or self.edges)

    def feed(self, line: Line) -> None:
        """Take one line."""
        text = line.text
        if "NCCL INFO" in text:
            self.said.setdefault("info", (text, line))
        if " via " in text and (found := _EDGE.search(text)):
            edge = Edge(line, *found.groups())
            kind = transport_class(edge.transport)
            self.counts[kind] += 1
            if len(self.edges) < _MOST:
                self.edges.setdefault((kind, edge.source, edge.target), edge)
        elif "NCCL WARN" in text:
            said = text.split("NCCL WARN", 1)[1].strip()
            if _FAILURES.search(said.lower()) and not _HARMLESS.search(said.lower()):
                self._fault(Finding("transport.warning", said, evidence=(line,)))
        elif "NCCL INFO" in text:
            self._info(text, line)

    def _fault(self, finding: Finding) -> None:
        if len(self.faults) < _MOST:
            self.faults.append(finding)

    def _info(self, text: str, line: Line) -> None:
        self._size(text)
        telling = {"nvls off": _NVLS_OFF, "nvls on": _NVLS_ON, "p2p off": _P2P_OFF, "rings": _INTRA}
        for name, pattern in telling.items():
            if found := pattern.search(text):
                self.said.setdefault(name, (found[found.re.groups], line))
        if found := _NETWORK.search(text):
            self.said.setdefault("sockets" if found[1].startswith("Socket") else "network", (found[1], line))
        if "MNNVL 1" in text:
            self.said.setdefault("rack", (text, line))
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
        gpu, edges = machine.gpu, list(self.edges.values())
        card = bool(gpu and gpu.card)
        for edge in edges:
            if code := _edge_fault(edge, self.nodes, card):
                yield Finding(code, f"{edge.source}->{edge.target}", edge.transport, "", (edge.line,))
        yield from self.faults
        if not card and (told := self._told("transport.p2p-off", "p2p off")):
            yield told
        first = edges[0].line if edges else self.said["info"][1] if self.said else None
        if first and len(self.cliques) > 1 and self.nodes == 1:
            yield Finding("transport.cliques", "", len(self.cliques), 1, (first,))
        # On a rack's NVLink, machines reach each other without any network.
        over_links = "rack" in self.said or any(e.crosses_nodes and e.transport[:3] == "P2P" for e in edges)
        if self.nodes > 1 and not over_links and not any("NET" in kind for kind in self.counts):
            yield from filter(None, [self._told("transport.sockets-between", "sockets")])
        # NCCL reads over NVLink ("/read") on Ampere alone, which has no in-switch reduction (NVLS).
        reduces = gpu.registers if gpu else not any(e.transport.endswith("/read") for e in edges)
        # NVLS needs more than two GPUs of one NVLink domain.
        if edges and "nvls on" not in self.said and reduces and self.ranks != 2:
            yield from filter(None, [self._told("transport.nvls-off", "nvls off")])
        if edges and not card and self.said.get("rings", ("NVL",))[0] not in ("NVL", "LOC"):
            yield from filter(None, [self._told("transport.ring-type", "rings")])
        if edges:
            code = "transport.other" if set(self.counts) <= {"other"} else "transport.direct"
            counts = ", ".join(f"{kind} {count}" for kind, count in sorted(self.counts.items()))
            yield Finding(code, counts, evidence=(edges[0].line,))
        elif first:
            yield Finding("transport.not-shown", evidence=(first,))

    def _told(self, code: str, name: str) -> Finding | None:
        text, line = self.said.get(name, ("", None))
        return Finding(code, text, self.nodes, "", (line,)) if line else None


def transport_class(transport: str) -> str:
    """Return the class of a transport: P2P, SHM, NET/Socket, NET/RDMA (GPU-direct), NET/host or other.

    >>> transport_class("NET/IBext/5(1)/GDRDMA")
    'NET/RDMA'
    """
    if transport.startswith("NET/Socket"):
        return "NET/Socket"
    if transport.startswith("NET/"):
        return "NET/RDMA" if _DIRECT.search(transport) else "NET/host"
    if transport.startswith(("SHM", "direct shared memory")):
        return "SHM"
    return "P2P" if transport.startswith("P2P") else "other"


def _edge_fault(edge: Edge, nodes: int, card: bool) -> str:
    """Return the code of what is wrong with a hop, "" for nothing."""
    kind = transport_class(edge.transport)
    if kind == "SHM" and not card:
        return "transport.host-memory"
    if kind == "NET/Socket":
        return "transport.sockets"
    if kind.startswith("NET/") and (nodes == 1 or edge.crosses_nodes is False):
        return "transport.network-inside"
    return "transport.no-gpudirect" if kind == "NET/host" and "NET/IB" in edge.transport and not card else ""
