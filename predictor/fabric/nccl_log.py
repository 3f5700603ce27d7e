"""Reads and judges NCCL_DEBUG=INFO logs (and RCCL's): what carries each channel, what NCCL complained about.

Ranks share one file and tear each other's lines, so everything is searched for, not split into columns.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from ...data import catalogue
from .expected import Expectation, table
from .reading import Evidence
from .verdict import DEGRADED, FULL_RUN, HEALTHY, LOGGED_RUN, UNKNOWN, Check, CheckMaker, Found

_EDGE = re.compile(
    r"(?:Channel|Ring) \d+(?:/\d+)? ?: (\d+)\[(\w+)\] -> (\d+)\[(\w+)\](?: \[(?:send|receive)\])? via "
    r"(direct shared memory|\S+(?: (?:pointer|Libfabric)\S*)?)"
)
_RANKS = re.compile(r"\bn[Rr]anks (\d+)(?: nNodes (\d+) localRanks \d)?")
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
_FAILURES = re.compile("fail|error|timeout|timed out|refused|closed|hardware issue|abort|unhandled")
# A library or plugin that is not there is no fault: NCCL goes on without it.
_HARMLESS = re.compile("plugin|libibverbs|libcuda|cuda library")
_OFF = {"NCCL_P2P_DISABLE": "1", "NCCL_P2P_LEVEL": "LOC"}
_FABRIC_STATES = {1: "not started", 2: "in progress"}


class Edge(NamedTuple):
    """One hop between ranks: where first seen, which, on which devices as printed, over what."""

    evidence: Evidence
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
    most that any line tells of, 0 where none does; settings: NCCL_ variables; fabric: (cluster, clique,
    state, health mask, line) per GPU; estimates: the tuning table's best all-reduce [GB/s] by algorithm.
    """

    tool = "NCCL log"
    edges: dict[tuple[str, str, str], Edge] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
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

    @property
    def found(self) -> bool:
        """Whether any line was NCCL's."""
        return bool(self.first or self.edges)

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
        edge = Edge(line, *found.groups())
        kind = transport_class(edge.transport)
        self.counts[kind] += 1
        if len(self.edges) < _MOST:
            self.edges.setdefault((kind, edge.source, edge.target), edge)

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
        if found := _RANKS.search(text):
            ranks, nodes = int(found[1][:9]), int((found[2] or "0")[:9])
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

    def judge(self, expected: Expectation) -> list[Check]:
        """Judge the tuning estimates, and every hop: none over host memory or sockets."""
        tuning = [_judge_estimates(self, expected)] if self.estimates else []
        return tuning + _judge_transport(self, expected)


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


def _judge_transport(log: LogReader, expected: Expectation) -> list[Check]:
    """Return the check of the hops; none where the log shows estimates alone."""
    wanted = "P2P inside a machine, GPU-direct network between machines"
    check = CheckMaker("transport", expected.known, wanted=wanted, next_command=LOGGED_RUN)
    if faults := _faults(log, expected):
        return [check.of(DEGRADED, faults, "the slowest hop sets the rate of the whole ring")]
    if not log.edges:
        if log.estimates or not log.first:
            return []
        found = "no channel lines" + (f", network {next(iter(log.networks))}" if log.networks else "")
        missing = 'lines "Channel ... via ..."'
        return [check(UNKNOWN, found, "what carries data is not shown", log.first, missing=missing)]
    if doubt := _doubt(log, expected):
        found, line, missing = doubt
        return [check(UNKNOWN, found, "a slower path than built, or built so", line, missing=missing)]
    counts = ", ".join(f"{kind} {count}" for kind, count in sorted(log.counts.items()))
    return [check(HEALTHY, counts, "every hop shown is direct", next(iter(log.edges.values())).evidence)]


def _faults(log: LogReader, expected: Expectation) -> Found:
    """Return the hops, settings and complaints that are faults."""
    cards = bool(expected.part and expected.part.card)
    faults = [found for edge in log.edges.values() if (found := _edge_fault(edge, log, cards))]
    for name, bad in _OFF.items():
        if name in log.settings and log.settings[name][0] == bad and not cards:
            faults.append((f"{name}={bad}: peer access is switched off", log.settings[name][1]))
    warnings = [(line.text.split("NCCL WARN", 1)[1].strip(), line) for line in log.warnings]
    faults += [(said, line) for said, line in warnings if _complains(said.lower())]
    for _, _, state, mask, line in log.fabric:
        if state in _FABRIC_STATES:
            faults.append((f"fabric registration {_FABRIC_STATES[state]}", line))
        # Pairs of bits, 1 for yes: less bandwidth, route recovery, unhealthy route, access timeout.
        elif any(mask >> shift & 3 == 1 for shift in (0, 2, 4, 6)):
            faults.append((f"fabric health mask {mask:#x}", line))
    domains = {(uuid, clique) for uuid, clique, *_ in log.fabric if uuid.strip("0.")}
    if len(domains) > 1 and log.nodes == 1:
        faults.append(("GPUs of one machine are in different fabric cliques", log.fabric[-1][-1]))
    socket = next((line for name, line in log.networks.items() if name.startswith("Socket")), None)
    # On a rack's NVLink, machines reach each other without any network.
    over_links = log.rack_wide or any(
        e.crosses_nodes and e.transport.startswith("P2P") for e in log.edges.values()
    )
    if socket and log.nodes > 1 and not over_links and not any("NET" in kind for kind in log.counts):
        faults.append((f"{log.nodes} machines over network Socket", socket))
    return faults


def _edge_fault(edge: Edge, log: LogReader, cards: bool) -> tuple[str, Evidence] | None:
    hop = f"{edge.source}->{edge.target} via {edge.transport}"
    crosses = False if log.nodes == 1 else edge.crosses_nodes
    if transport_class(edge.transport) == "SHM":
        return None if cards else (f"{hop}: through host memory", edge.evidence)
    if edge.transport.startswith("NET/Socket"):
        return f"{hop}: TCP sockets", edge.evidence
    if edge.transport.startswith("NET/") and crosses is False:
        return f"{hop}: two GPUs of one machine over the network card", edge.evidence
    if edge.transport.startswith("NET/IB") and "GDR" not in edge.transport and not cards:
        return f"{hop}: without GPUDirect RDMA", edge.evidence
    return None


def _complains(said: str) -> bool:
    return bool(_FAILURES.search(said)) and not _HARMLESS.search(said)


def _doubt(log: LogReader, expected: Expectation) -> tuple[str, Evidence, str] | None:
    """Return what keeps a log without faults from being healthy: text, line and what is missing."""
    part = expected.part
    # NCCL reads over NVLink ("/read") on Ampere alone, which has no in-switch reduction (NVLS).
    ampere = any(edge.transport.endswith("/read") for edge in log.edges.values())
    reduces = part.registers if part else not ampere
    # NVLS needs more than two GPUs of one NVLink domain.
    if log.nvls_off and not log.nvls_on and reduces and log.ranks != 2:
        return "NVLS is off", log.nvls_off, "" if part else "the GPU's name: by design before Hopper"
    if log.intra and log.intra[0] not in ("NVL", "LOC") and not (part and part.card):
        missing = "the GPU's name: by design for PCIe cards"
        return f"rings are of type {log.intra[0]}, not NVL", log.intra[1], missing
    if set(log.counts) <= {"other"}:
        first = next(iter(log.edges.values()))
        return f"transport {first.transport}", first.evidence, "a transport that is known"
    return None


def _judge_estimates(log: LogReader, expected: Expectation) -> Check:
    """Judge NCCL's own estimates: is the best all-reduce that of NVLink, of PCIe, or of sockets?"""
    name, (best, line) = max(log.estimates.items(), key=lambda item: item[1][0])
    gpus = catalogue.gpus().values()
    pcie = max(gpu.pcie_bandwidth for gpu in gpus) / 1e9
    without_switch = max(gpu.link_bandwidth for gpu in gpus if gpu.link in ("nvlink2", "nvlink3")) / 1e9
    wanted = f"over {pcie:g} GB/s where there is NVLink"
    check = CheckMaker("tuning", expected.known, wanted=wanted, next_command=FULL_RUN)
    found = f"best all-reduce {name} {best:g} GB/s"
    if best < table()["collective"]["card_healthy_share"] * pcie:
        return check(DEGRADED, found, "host memory or sockets, not GPU to GPU", line)
    if best < pcie and not (expected.part and expected.part.card):
        return check(UNKNOWN, found, "PCIe rates", line, missing="the GPU's name: PCIe cards reach no more")
    reduces = any(log.estimates[a][0] for a in ("NVLS", "NVLSTree") if a in log.estimates)
    if best > without_switch and not reduces:
        why, missing = "NVLS is off on a switched fabric", "why NVLS is off"
        return check(UNKNOWN, found, why, line, wanted="NVLS above 0", missing=missing)
    return check(HEALTHY, found, "NVLink rates", line)
