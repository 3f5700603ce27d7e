"""Reads and judges NCCL_DEBUG=INFO logs (and RCCL's): what carries each channel, what NCCL complained about.

Ranks share one file and tear each other's lines, so everything is searched for, not split into columns.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from ...data import catalogue
from .findings import Finding
from .machine import Machine, table
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
_SET = re.compile(r"(NCCL_\w+) set by (?:environment|system) to (\S+)")
_MULTI_NODE = re.compile(r"fabric UUID (\S+) cliqueId (\S+) state (\d+)(?: healthMask (0x[0-9a-fA-F]+))?")
_INTRA = re.compile(r"Pattern 4, .*type (\w+)/")
_ESTIMATE = re.compile(r"(\d+\.\d+)/\s*(\d+\.\d+)")
_HEADS = re.compile(r"\b(CollNetDirect|CollNetChain|NVLSTree|NVLS|Ring|Tree|PAT)\b")
_MOST = 512
_FAILURES = re.compile("fail|error|timeout|timed out|refused|closed|hardware issue|abort|unhandled")
# A library or plugin that is not there is no fault: NCCL goes on without it.
_HARMLESS = re.compile("plugin|libibverbs|libcuda|cuda library")
_OFF = {"NCCL_P2P_DISABLE": "1", "NCCL_P2P_LEVEL": "LOC"}
_FABRIC_STATES = {1: "not started", 2: "in progress"}
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

    edges: the first hop seen for each (class of transport, ends); counts: lines per class; ranks, hosts: the
    most that any line tells of, 0 where none does; settings: NCCL_ variables; fabric: (cluster, clique,
    state, health mask, line) per GPU; estimates: the tuning table's best all-reduce [GB/s] by algorithm.
    """

    tool = "NCCL log"
    edges: dict[tuple[str, str, str], Edge] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    first: Line | None = None
    ranks: int = 0
    nodes: int = 0
    hosts: set[str] = field(default_factory=set)
    rack_wide: bool = False
    nvls_off: Line | None = None
    nvls_on: Line | None = None
    intra: tuple[str, Line] | None = None
    settings: dict[str, tuple[str, Line]] = field(default_factory=dict)
    warnings: list[tuple[str, Line]] = field(default_factory=list)
    fabric: list[tuple[str, str, int, int, Line]] = field(default_factory=list)
    networks: dict[str, Line] = field(default_factory=dict)
    estimates: dict[str, tuple[float, Line]] = field(default_factory=dict)
    _algorithms: list[str] = field(default_factory=list)

    @property
    def found(self) -> bool:
        """Whether any line was NCCL's."""
        return bool(self.first or self.edges)

    def feed(self, line: Line) -> None:
        """Take one line."""
        text = line.text
        if "NCCL INFO" in text:
            self.first = self.first or line
        if " via " in text and (found := _EDGE.search(text)):
            edge = Edge(line, *found.groups())
            kind = transport_class(edge.transport)
            self.counts[kind] += 1
            if len(self.edges) < _MOST:
                self.edges.setdefault((kind, edge.source, edge.target), edge)
        elif "NCCL WARN" in text and len(self.warnings) < _MOST:
            self.warnings.append((text.split("NCCL WARN", 1)[1].strip(), line))
        elif "NCCL INFO" in text:
            self._info(text, line)

    def _info(self, text: str, line: Line) -> None:
        self._size(text)
        if _NVLS_OFF.search(text):
            self.nvls_off = self.nvls_off or line
        elif _NVLS_ON.search(text):
            self.nvls_on = self.nvls_on or line
        if (found := _SET.search(text)) and len(self.settings) < _MOST:
            self.settings.setdefault(found[1], (found[2].rstrip("."), line))
        if (found := _MULTI_NODE.search(text)) and len(self.fabric) < _MOST:
            self.fabric.append((found[1], found[2], int(found[3][:9]), int(found[4] or "0", 16), line))
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
        ranks, nodes = 0, len(self.hosts)
        if found := _RANKS.search(text):
            ranks, nodes = int(found[1][:9]), max(nodes, int((found[2] or "0")[:9]))
        elif found := _RING.search(text):
            ranks = len(found[1].split())
        elif found := _HEAD.search(text):
            # One head rank per machine.
            nodes = max(nodes, len(found[1].split()))
        self.ranks, self.nodes = max(self.ranks, ranks), max(self.nodes, nodes)
        self.rack_wide = self.rack_wide or bool(re.search(r"\bMNNVL 1\b", text))

    def _tuning(self, text: str, line: Line) -> None:
        if "Algorithm" in text:
            self._algorithms = _HEADS.findall(text)
        elif "Latency/AlgBw" in text:
            # The older head names the algorithm with each of its three protocols.
            self._algorithms = _HEADS.findall(text)[::3]
        elif "AllReduce |" in text:
            # Three protocols per algorithm: LL, LL128, Simple.
            for place, pair in enumerate(_ESTIMATE.findall(text)):
                if place // 3 < len(self._algorithms):
                    name, bandwidth = self._algorithms[place // 3], float(pair[1])
                    if bandwidth >= self.estimates.get(name, (0.0, line))[0]:
                        self.estimates[name] = (bandwidth, line)

    def judge(self, machine: Machine) -> Iterator[Finding]:
        """Judge the tuning estimates, and every hop: none over host memory or sockets."""
        card = bool(machine.gpu and machine.gpu.card)
        if self.estimates:
            yield _judge_estimates(self, card)
        yield from _faults(self, card)
        if self.edges:
            yield from _doubts(self, machine)
            counts = ", ".join(f"{kind} {count}" for kind, count in sorted(self.counts.items()))
            yield Finding("transport.direct", counts, evidence=(next(iter(self.edges.values())).line,))
        elif self.first and not self.estimates:
            yield Finding("transport.not-shown", next(iter(self.networks), ""), evidence=(self.first,))


def transport_class(transport: str) -> str:
    """Return the class of a transport: P2P, SHM, NET/Socket, NET/RDMA (GPU-direct), NET/host or other.

    >>> transport_class("NET/IBext/5(1)/GDRDMA")
    'NET/RDMA'
    """
    if transport.startswith("NET/"):
        if transport.startswith("NET/Socket"):
            return "NET/Socket"
        return "NET/RDMA" if _DIRECT.search(transport) else "NET/host"
    if transport.startswith(("SHM", "direct shared memory")):
        return "SHM"
    return "P2P" if transport.startswith("P2P") else "other"


def _faults(log: LogReader, card: bool) -> Iterator[Finding]:
    """Yield the hops, settings and complaints that are faults."""
    for edge in log.edges.values():
        if code := _edge_fault(edge, log.nodes, card):
            yield Finding(code, f"{edge.source}->{edge.target}", edge.transport, "", (edge.line,))
    for name, bad in _OFF.items():
        value, line = log.settings.get(name, ("", log.first))
        if line and value == bad and not card:
            yield Finding("transport.p2p-off", name, bad, evidence=(line,))
    for said, line in log.warnings:
        if _FAILURES.search(said.lower()) and not _HARMLESS.search(said.lower()):
            yield Finding("transport.warning", said, evidence=(line,))
    for _, _, state, mask, line in log.fabric:
        if state in _FABRIC_STATES:
            yield Finding("transport.fabric-state", value=_FABRIC_STATES[state], evidence=(line,))
        # Pairs of bits, 1 for yes: less bandwidth, route recovery, unhealthy route, access timeout.
        elif any(mask >> shift & 3 == 1 for shift in (0, 2, 4, 6)):
            yield Finding("transport.fabric-health", value=f"{mask:#x}", evidence=(line,))
    domains = {(uuid, clique) for uuid, clique, *_ in log.fabric if uuid.strip("0.")}
    if len(domains) > 1 and log.nodes == 1:
        yield Finding("transport.cliques", value=len(domains), expected=1, evidence=(log.fabric[-1][-1],))
    socket = next((line for name, line in log.networks.items() if name.startswith("Socket")), None)
    # On a rack's NVLink, machines reach each other without any network.
    edges = log.edges.values()
    over_links = log.rack_wide or any(e.crosses_nodes and e.transport.startswith("P2P") for e in edges)
    if socket and log.nodes > 1 and not over_links and not any("NET" in kind for kind in log.counts):
        yield Finding("transport.sockets-between", value=log.nodes, evidence=(socket,))


def _edge_fault(edge: Edge, nodes: int, card: bool) -> str:
    kind = transport_class(edge.transport)
    if kind == "SHM" and not card:
        return "transport.host-memory"
    if kind == "NET/Socket":
        return "transport.sockets"
    if kind.startswith("NET/") and (nodes == 1 or edge.crosses_nodes is False):
        return "transport.network-inside"
    return "transport.no-gpudirect" if kind == "NET/host" and "NET/IB" in edge.transport and not card else ""


def _doubts(log: LogReader, machine: Machine) -> Iterator[Finding]:
    """Yield what keeps a log without faults from being healthy."""
    gpu = machine.gpu
    # NCCL reads over NVLink ("/read") on Ampere alone, which has no in-switch reduction (NVLS).
    ampere = any(edge.transport.endswith("/read") for edge in log.edges.values())
    reduces = gpu.registers if gpu else not ampere
    # NVLS needs more than two GPUs of one NVLink domain.
    if log.nvls_off and not log.nvls_on and reduces and log.ranks != 2:
        yield Finding("transport.nvls-off", evidence=(log.nvls_off,))
    if log.intra and log.intra[0] not in ("NVL", "LOC") and not (gpu and gpu.card):
        yield Finding("transport.ring-type", value=log.intra[0], expected="NVL", evidence=(log.intra[1],))
    if set(log.counts) <= {"other"}:
        first = next(iter(log.edges.values()))
        yield Finding("transport.other", value=first.transport, evidence=(first.line,))


def _judge_estimates(log: LogReader, card: bool) -> Finding:
    """Judge NCCL's own estimates: is the best all-reduce that of NVLink, of PCIe, or of sockets?"""
    name, (best, line) = max(log.estimates.items(), key=lambda item: item[1][0])
    gpus = catalogue.gpus().values()
    pcie = max(gpu.pcie_bandwidth for gpu in gpus) / 1e9
    without_switch = max(gpu.link_bandwidth for gpu in gpus if gpu.link in ("nvlink2", "nvlink3")) / 1e9
    reduces = any(log.estimates[a][0] for a in ("NVLS", "NVLSTree") if a in log.estimates)
    code = "tuning.nvlink"
    if best < table()["collective"]["card_healthy_share"] * pcie:
        code = "tuning.host-memory"
    elif best < pcie and not card:
        code = "tuning.pcie"
    elif best > without_switch and not reduces:
        code = "tuning.nvls-off"
    return Finding(code, name, best, pcie, (line,))
