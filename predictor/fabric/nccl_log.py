"""Reads NCCL_DEBUG=INFO logs (and RCCL's): what carries each channel, and what NCCL complained about.

Ranks share one file and tear each other's lines, so everything is searched for, not split into columns.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .reading import Evidence

_EDGE = re.compile(
    r"(?:Channel|Ring) \d+(?:/\d+)? ?: (\d+)\[(\w+)\] -> (\d+)\[(\w+)\](?: \[(?:send|receive)\])? via "
    r"(direct shared memory|\S+(?: (?:pointer|Libfabric)\S*)?)"
)
_NODES = re.compile(r"n[Rr]anks (\d+) nNodes (\d+) localRanks (\d+)")
_RANKS = re.compile(r"\bn[Rr]anks (\d+)")
_HOST = re.compile(r"^\s*([\w.-]+):\d+:\d+ \[\d+\] NCCL INFO")
_RING = re.compile(r"Channel \d+/\d+ : +(\d+(?: +\d+)+)\s*$")
_HEAD = re.compile(r"NVLS Head +\d+: +(\d+(?: +\d+)*)\s*$")
_RACK_WIDE = re.compile(r"\bMNNVL 1\b")
_NVLS_OFF = re.compile(r"NVLS multicast support is not available|\b0 nvls channels")
_NVLS_ON = re.compile(r"NVLS multicast support is available|\b[1-9]\d* nvls channels")
_SET = re.compile(r"(NCCL_\w+) set by (?:environment|system) to (\S+)")
_MULTI_NODE = re.compile(r"fabric UUID (\S+) cliqueId (\S+) state (\d+)(?: healthMask (0x[0-9a-fA-F]+))?")
_INTRA = re.compile(r"Pattern 4, .*type (\w+)/")
_ESTIMATE = re.compile(r"(\d+\.\d+)/\s*(\d+\.\d+)")
_HEADS = re.compile(r"\b(CollNetDirect|CollNetChain|NVLSTree|NVLS|Ring|Tree|PAT)\b")
_TABLE = re.compile(r"^.*?\bAllReduce \|")
_MOST = 512


@dataclass(frozen=True, kw_only=True)
class Edge:
    """One hop between ranks: which, on which devices as printed, over what, where first seen."""

    source: str
    source_device: str
    target: str
    target_device: str
    transport: str
    evidence: Evidence

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
    most that any line tells of, 0 where none does; settings: NCCL_ variables; fabric: (cluster, clique,
    state, health mask, line) per GPU; estimates: the tuning table's best all-reduce [GB/s] by algorithm.
    """

    edges: dict[tuple[str, str, str], Edge] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    first: Evidence | None = None
    ranks: int = 0
    nodes: int = 0
    hosts: set[str] = field(default_factory=set)
    rack_wide: bool = False
    nvls_off: Evidence | None = None
    nvls_on: Evidence | None = None
    intra: tuple[str, Evidence] | None = None
    settings: dict[str, tuple[str, Evidence]] = field(default_factory=dict)
    warnings: list[Evidence] = field(default_factory=list)
    fabric: list[tuple[str, str, int, int, Evidence]] = field(default_factory=list)
    networks: dict[str, Evidence] = field(default_factory=dict)
    estimates: dict[str, tuple[float, Evidence]] = field(default_factory=dict)
    _algorithms: list[str] = field(default_factory=list)

    def feed(self, line: Evidence) -> None:
        """Take one line."""
        text = line.text
        if "NCCL" not in text and " via " not in text:
            return
        if self.first is None and "NCCL INFO" in text:
            self.first = line
        if " via " in text and (edge := _EDGE.search(text)):
            self._edge(edge, line)
        elif "NCCL WARN" in text and len(self.warnings) < _MOST:
            self.warnings.append(line)
        elif "NCCL INFO" in text:
            self._info(text, line)

    def _edge(self, found: re.Match[str], line: Evidence) -> None:
        source, from_device, target, to_device, transport = found.groups()
        kind = transport_class(transport)
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if (kind, source, target) not in self.edges and len(self.edges) < _MOST:
            self.edges[kind, source, target] = Edge(
                source=source, source_device=from_device, target=target, target_device=to_device,
                transport=transport, evidence=line,
            )  # fmt: skip

    def _info(self, text: str, line: Evidence) -> None:
        self._size(text)
        if _NVLS_OFF.search(text):
            self.nvls_off = self.nvls_off or line
        elif _NVLS_ON.search(text):
            self.nvls_on = self.nvls_on or line
        if (found := _SET.search(text)) and len(self.settings) < _MOST:
            self.settings.setdefault(found[1], (found[2].rstrip("."), line))
        if (found := _MULTI_NODE.search(text)) and len(self.fabric) < _MOST:
            mask = int(found[4], 16) if found[4] else 0
            self.fabric.append((found[1], found[2], int(found[3][:9]), mask, line))
        if found := _INTRA.search(text):
            self.intra = self.intra or (found[1], line)
        if "Using network " in text and len(self.networks) < _MOST:
            self.networks.setdefault(text.split("Using network ", 1)[1].strip()[:40], line)
        if "|" in text:
            self._tuning(text, line)

    def _size(self, text: str) -> None:
        """Learn ranks and machines: from the communicator, the hosts, the rings and the NVLS heads."""
        if (host := _HOST.match(text)) and len(self.hosts) < _MOST:
            self.hosts.add(host[1])
        ranks, nodes = 0, 0
        if found := _NODES.search(text):
            ranks, nodes = int(found[1][:9]), int(found[2][:9])
        elif found := _RANKS.search(text):
            ranks = int(found[1][:9])
        elif found := _RING.search(text):
            ranks = len(found[1].split())
        elif found := _HEAD.search(text):
            # One head rank per machine.
            nodes = len(found[1].split())
        self.ranks, self.nodes = max(self.ranks, ranks), max(self.nodes, nodes, len(self.hosts))
        self.rack_wide = self.rack_wide or bool(_RACK_WIDE.search(text))

    def _tuning(self, text: str, line: Evidence) -> None:
        if "Algorithm" in text:
            self._algorithms = _HEADS.findall(text)
        elif "Latency/AlgBw" in text:
            # The older head names the algorithm with each of its three protocols.
            self._algorithms = _HEADS.findall(text)[::3]
        elif _TABLE.match(text):
            # Three protocols per algorithm: LL, LL128, Simple.
            for place, pair in enumerate(_ESTIMATE.findall(text)):
                if place // 3 < len(self._algorithms):
                    name, bandwidth = self._algorithms[place // 3], float(pair[1])
                    if bandwidth >= self.estimates.get(name, (0.0, line))[0]:
                        self.estimates[name] = (bandwidth, line)

    def end(self) -> None:
        """Nothing is left open."""


def transport_class(transport: str) -> str:
    """Return the class of a transport: P2P, SHM, NET/Socket, NET/RDMA (GPU-direct), NET/host or other.

    >>> transport_class("NET/IBext/5(1)/GDRDMA")
    'NET/RDMA'
    """
    if transport.startswith("NET/"):
        if transport.startswith("NET/Socket"):
            return "NET/Socket"
        direct = "GDR" in transport or re.search(r"FasTrak|TCPX|Libfabric|OFI|gIB", transport, re.IGNORECASE)
        return "NET/RDMA" if direct else "NET/host"
    if transport.startswith(("SHM", "direct shared memory")):
        return "SHM"
    return "P2P" if transport.startswith("P2P") else "other"
