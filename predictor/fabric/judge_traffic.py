"""Judges what programs saw: NCCL's transports and nccl-tests tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...data import catalogue
from .expected import MODELLED, Expectation, Part, bus_gb_s, part_of, predicted_us, table
from .nccl_log import Edge, LogReader, transport_class
from .nccl_tests import Table, Timing
from .reading import Evidence
from .verdict import DEGRADED, HEALTHY, UNKNOWN, Check, CheckMaker, Found

_LOG = "NCCL_DEBUG=INFO NCCL_DEBUG_SUBSYS=INIT,GRAPH,P2P,NET all_reduce_perf -b 16K -e 1G -f 2"
_TESTS = "all_reduce_perf -b 16K -e 8G -f 2 (one process per GPU)"
_MIB = 1048576
_FAILURES = (
    "fail",
    "error",
    "timeout",
    "timed out",
    "refused",
    "closed",
    "hardware issue",
    "abort",
    "unhandled",
)
# A library or plugin that is not there is no fault: NCCL goes on without it.
_HARMLESS = ("plugin", "libibverbs", "libcuda", "cuda library")
_OFF = {"NCCL_P2P_DISABLE": "1", "NCCL_P2P_LEVEL": "LOC"}
_FABRIC_STATES = {1: "not started", 2: "in progress"}


def judge_log(log: LogReader, expected: Expectation) -> list[Check]:
    """Judge an NCCL log: every hop over NVLink or GPU-direct network, nothing over host memory or sockets."""
    checks = []
    if log.estimates:
        checks.append(_judge_estimates(log, expected))
    faults = _log_faults(log, expected)
    check = CheckMaker("transport", expected.known, next_command=_LOG)
    wanted = "P2P inside a machine, GPU-direct network between machines"
    counts = ", ".join(f"{kind} {count}" for kind, count in sorted(log.counts.items())) or "no channel lines"
    if faults:
        text = "; ".join(dict.fromkeys(text for text, _ in faults[:4]))
        why = "the slowest hop sets the rate of the whole ring"
        checks.append(check(DEGRADED, text, wanted, why, [line for _, line in faults]))
        return checks
    if not log.edges:
        if not log.estimates and log.first:
            missing = 'lines "Channel ... via ..."'
            found = "no channel lines" + (f", network {next(iter(log.networks))}" if log.networks else "")
            checks.append(
                check(UNKNOWN, found, wanted, "what carries data is not shown", [log.first], missing=missing)
            )
        return checks
    unclear = _log_doubts(log, expected)
    lines = [next(iter(log.edges.values())).evidence]
    if unclear:
        text, line, missing = unclear
        checks.append(
            check(UNKNOWN, text, wanted, "a slower path than built, or built so", [line], missing=missing)
        )
    else:
        checks.append(check(HEALTHY, counts, wanted, "every hop shown is direct", lines))
    return checks


def _log_faults(log: LogReader, expected: Expectation) -> Found:
    """Return the hops, settings and complaints that are faults."""
    cards = bool(expected.part and expected.part.card)
    faults = [found for edge in log.edges.values() if (found := _edge_fault(edge, log, cards))]
    for name, bad in _OFF.items():
        value, line = log.settings.get(name, ("", None))
        if line and value == bad and not cards:
            faults.append((f"{name}={value}: peer access is switched off", line))
    faults += [(w.text.split("NCCL WARN", 1)[1].strip(), w) for w in log.warnings if _complains(w)]
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


def _complains(line: Evidence) -> bool:
    said = line.text.split("NCCL WARN", 1)[1].lower()
    return any(word in said for word in _FAILURES) and not any(word in said for word in _HARMLESS)


def _log_doubts(log: LogReader, expected: Expectation) -> tuple[str, Evidence, str] | None:
    """Return what keeps a log without faults from being healthy: text, line and what is missing."""
    part = expected.part
    # NCCL reads over NVLink ("/read") on Ampere alone, which has no in-switch reduction (NVLS).
    ampere = any(edge.transport.endswith("/read") for edge in log.edges.values())
    reduces = part.registers if part else not ampere
    # NVLS needs more than two GPUs of one NVLink domain.
    if log.nvls_off and not log.nvls_on and reduces and log.ranks != 2:
        return "NVLS is off", log.nvls_off, "" if part else "the GPU's name: by design before Hopper"
    if log.intra and log.intra[0] not in ("NVL", "LOC") and not (part and part.card):
        return (
            f"rings are of type {log.intra[0]}, not NVL",
            log.intra[1],
            "the GPU's name: by design for PCIe cards",
        )
    if set(log.counts) <= {"other"}:
        first = next(iter(log.edges.values()))
        return f"transport {first.transport}", first.evidence, "a transport that is known"
    return None


def _judge_estimates(log: LogReader, expected: Expectation) -> Check:
    """Judge NCCL's own estimates: is the best all-reduce that of NVLink, of PCIe, or of sockets?"""
    check = CheckMaker("tuning", expected.known, next_command=_TESTS)
    name, (best, line) = max(log.estimates.items(), key=lambda item: item[1][0])
    gpus = catalogue.gpus().values()
    pcie = max(gpu.pcie_bandwidth for gpu in gpus) / 1e9
    without_switch = max(gpu.link_bandwidth for gpu in gpus if gpu.link in ("nvlink2", "nvlink3")) / 1e9
    found = f"best all-reduce {name} {best:g} GB/s"
    wanted = f"over {pcie:g} GB/s where there is NVLink"
    slowest = table()["collective"]["card_healthy_share"] * pcie
    if best < slowest:
        return check(DEGRADED, found, wanted, "host memory or sockets, not GPU to GPU", [line])
    if best < pcie and not (expected.part and expected.part.card):
        missing = "the GPU's name: PCIe cards reach no more"
        return check(UNKNOWN, found, wanted, "PCIe rates", [line], missing=missing)
    reduces = max((log.estimates[a][0] for a in ("NVLS", "NVLSTree") if a in log.estimates), default=0.0)
    if best > without_switch and not reduces:
        return check(
            UNKNOWN,
            found,
            "NVLS above 0",
            "NVLS is off on a switched fabric",
            [line],
            missing="why NVLS is off",
        )
    return check(HEALTHY, found, wanted, "NVLink rates", [line])


def judge_tests(run: Table, expected: Expectation) -> Check:
    """Judge one nccl-tests table: right results, a rate and a latency that fit the machine."""
    check = CheckMaker("collective", expected.known, next_command=_LOG)
    wanted = "rows with right results"
    wrong = [row for row in run.rows if row.wrong]
    if run.crash or run.failed or wrong:
        lines = [line for line in (run.crash, run.failed) if line] + [row.evidence for row in wrong[:3]]
        found = "the run failed" if run.crash else f"wrong results at {len(wrong)} message size(s)"
        return check(DEGRADED, found, wanted, "a fabric that corrupts or drops data", lines)
    if not run.rows:
        if run.header:
            why = "the run hung or was stopped before its first message"
            return check(DEGRADED, "a header and no row", wanted, why, [run.header])
        return check(
            UNKNOWN, "no table", wanted, "nothing was measured", [run.first], missing="the table's rows"
        )
    if run.size == 1 or (run.ranks == 0 and run.gpus_per_process == 1 and run.size < 2):
        why = "one rank moves nothing: its rates mean nothing"
        return check(
            UNKNOWN, "one rank", "two or more ranks", why, [run.first], missing="a run over all GPUs"
        )
    if run.size < 2 or run.operation not in MODELLED:
        missing = "the device list" if run.size < 2 else "an all_reduce_perf run"
        return check(
            UNKNOWN, f"{run.operation}", wanted, "not a table to judge by", [run.first], missing=missing
        )
    named = {part.link: part for name in sorted(run.names) if (part := part_of(name))}
    part = next(iter(named.values()), expected.part) if len(named) < 2 else None
    return _judge_rate(check, run, part)


def _judge_rate(check: CheckMaker, run: Table, part: Part | None) -> Check:
    rows = [row for row in run.rows if row.bytes > 0]
    if not rows:
        return check(
            UNKNOWN, "no message", "rows", "nothing was sent", [run.first], missing="messages above 0 bytes"
        )
    best = max(rows, key=lambda row: row.bus_gb_s)
    limits = table()["collective"]
    dip = _dip(rows, limits["dip_share"], limits["dip_bytes"])
    if part and part.card and not _has_bridge(part, best):
        least = limits["card_healthy_share"] * part.pcie_gb_s
        found = f"{best.bus_gb_s:g} GB/s"
        status = HEALTHY if best.bus_gb_s >= least or best.bytes < _MIB else DEGRADED
        return check(
            status, found, f"{least:g} GB/s or more over PCIe", "by design without NVLink", [best.evidence]
        )
    if part is None or part.spec is None:
        return _judge_unnamed(check, run, best, dip)
    last = max(rows, key=lambda row: (row.bytes, row.bus_gb_s))
    if last.bytes <= limits["dip_bytes"]:
        return _judge_latency(check, run, part, rows)
    share, wanted = _share(run, part, rows)
    spans = run.size / max(part.spec.link_domain, 1)
    healthy, degraded = _limits(spans, last.bytes, run.operation)
    found = f"{best.bus_gb_s:g} GB/s at {best.bytes} B over {run.size} GPUs, {share:.2f} of the prediction"
    expected = f"{wanted:.0f} GB/s, {healthy:g} of it or more"
    slow = _latency_factor(run, part, rows)
    if share < degraded or (dip and spans <= 1.0):
        why = (
            "the rate falls as messages grow"
            if dip and share >= degraded
            else "far under the class of this fabric"
        )
        return check(DEGRADED, found, expected, why, [best.evidence, *([dip.evidence] if dip else [])])
    if share < healthy or dip or slow > limits["latency_degraded_factor"]:
        why = (
            f"small messages take {slow:.0f} times the prediction"
            if share >= healthy
            else "slower than the class"
        )
        missing = (
            "the network: cards per GPU and their rate" if spans > 1.0 else "a second run, and its NCCL log"
        )
        return check(UNKNOWN, found, expected, why, [best.evidence], missing=missing)
    if not run.ended and not run.cut and 0 < last.bytes * 2 <= run.max_bytes:
        missing = f"the rows up to {run.max_bytes} B"
        return check(
            UNKNOWN,
            found + ", then nothing",
            expected,
            "hung, stopped or cut",
            [last.evidence],
            missing=missing,
        )
    return check(HEALTHY, found, expected, "the rate of this fabric", [best.evidence])


def _share(run: Table, part: Part, rows: Sequence[Timing]) -> tuple[float, float]:
    """Return the best share of the predicted rate among the largest messages, and that prediction [GB/s]."""
    largest = max(row.bytes for row in rows)
    shares = []
    for row in rows:
        if row.bytes * 4 >= largest:
            time = predicted_us(part, run.operation, row.bytes, run.size)
            wanted = bus_gb_s(run.operation, row.bytes, run.size, time)
            shares.append((row.bus_gb_s / wanted, wanted))
    return max(shares)


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


def _dip(rows: Sequence[Timing], share: float, least: int) -> Timing | None:
    """Return the first large message whose rate falls under `share` of the best smaller one's."""
    best = 0.0
    for row in sorted(rows, key=lambda row: row.bytes):
        if row.bytes >= least:
            if row.bus_gb_s < share * best:
                return row
            best = max(best, row.bus_gb_s)
    return None


def _has_bridge(part: Part, best: Timing) -> bool:
    return bool(part.bridge_links and part.spec) and best.bus_gb_s > part.pcie_gb_s


def _latency_factor(run: Table, part: Part, rows: Sequence[Timing]) -> float:
    """Return measured over predicted time of the small messages, their median; 0 without any."""
    small = [row for row in rows if row.bytes <= table()["collective"]["small_bytes"]]
    predicted = [predicted_us(part, run.operation, row.bytes, run.size) for row in small]
    return float(np.median([row.time_us / p for row, p in zip(small, predicted, strict=True) if p] or [0.0]))


def _judge_latency(check: CheckMaker, run: Table, part: Part, rows: Sequence[Timing]) -> Check:
    """Judge a table of small messages by its latency alone."""
    limits = table()["collective"]
    factor = max(_latency_factor(run, part, rows), 1.0 / max(_share(run, part, rows)[0], 1e-9))
    predicted = predicted_us(part, run.operation, rows[0].bytes, run.size)
    found = (
        f"{rows[0].time_us:g} us at {rows[0].bytes} B over {run.size} GPUs, {factor:.1f} times the prediction"
    )
    wanted = f"{predicted:.0f} us, up to {limits['latency_healthy_factor']:g} times as much"
    why = "the latency of small messages; they say little of the rate"
    if factor <= limits["latency_healthy_factor"]:
        return check(HEALTHY, found, wanted, why, [rows[0].evidence])
    status = DEGRADED if factor > limits["latency_degraded_factor"] else UNKNOWN
    return check(
        status, found, wanted, why, [rows[0].evidence], missing="larger messages", next_command=_TESTS
    )


def _judge_unnamed(check: CheckMaker, run: Table, best: Timing, dip: Timing | None) -> Check:
    """Judge a table without GPU names: healthy only where the rate is that of some NVLink platform."""
    classes: dict[str, float] = {}
    for platform in catalogue.platforms().values():
        part = next(
            (p for e in table()["parts"] if e.get("gpu") == platform.gpu and (p := part_of_entry(e))), None
        )
        is_amd = catalogue.gpus()[platform.gpu].vendor == "amd"
        if part and part.spec and platform.scale_up_domain > 1 and is_amd == run.rccl:
            time = predicted_us(part, run.operation, best.bytes, run.size, platform.nic_bandwidth)
            if time:
                classes[platform.name] = best.bus_gb_s / bus_gb_s(run.operation, best.bytes, run.size, time)
    healthy, _ = _limits(1.0, best.bytes, run.operation)
    fits = sorted(
        (abs(np.log(share)), name) for name, share in classes.items() if healthy <= share <= 1.0 / healthy
    )
    found = f"{best.bus_gb_s:g} GB/s at {best.bytes} B over {run.size} GPUs"
    settled = best.bytes >= table()["collective"]["settled_bytes"]
    if fits and settled and not dip:
        return check(
            HEALTHY, found, "the rate of an NVLink platform", f"the class of {fits[0][1]}", [best.evidence]
        )
    missing = "the GPU's name: the device list or --platform"
    return check(
        UNKNOWN, found, "the rate of a known platform", "fits none", [best.evidence], missing=missing
    )


def part_of_entry(entry: dict[str, object]) -> Part | None:
    """Return the part of one entry of the table."""
    return part_of(str(entry["gpu"]).split("-")[0])
