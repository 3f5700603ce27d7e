"""Captures built here, one fault or design at a time, and those of real machines: their verdicts."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from roofcast.data import fabric_parts
from roofcast.predictor.fabric import Finding, Report, check, report_json
from roofcast.predictor.fabric.findings import EXIT_CODES, FINDINGS, FileReport

Matrix = Sequence[Sequence[int | str]]
Judge = Callable[..., Report]
GIB = 1 << 30
CUBE: Matrix = fabric_parts.table()["designs"]["cube"]


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    def of_text(text: str, platform: str | None = None) -> Report:
        (tmp_path / "capture").write_text(text)
        return check([tmp_path / "capture"], platform)

    return of_text


def full(gpus: int, links: int | str) -> Matrix:
    return [[links] * gpus] * gpus


def changed(matrix: Matrix, pairs: dict[tuple[int, int], int | str]) -> Matrix:
    both = pairs | {(j, i): value for (i, j), value in pairs.items()}
    return [[both.get((i, j), k) for j, k in enumerate(row)] for i, row in enumerate(matrix)]


def one_gpu(matrix: Matrix, gpu: int, value: int | str) -> Matrix:
    return changed(matrix, {(gpu, j): value for j in range(len(matrix)) if j != gpu})


def cube(gpus: int = 8) -> Matrix:
    return [[k or "PHB" for k in row[:gpus]] for row in CUBE[:gpus]]


def groups(sizes: Sequence[int], links: int | str, between: str = "SYS") -> Matrix:
    owner = [g for g, size in enumerate(sizes) for _ in range(size)]
    return [[links if a == b else between for b in owner] for a in owner]


def sockets(gpus: int) -> Matrix:
    return groups([gpus // 2] * 2, "NODE")


def lines(*parts: str) -> str:
    return "\n".join(parts) + "\n"


def topo(matrix: Matrix, *, nics: int = 0, header: bool = True) -> str:
    gpus = len(matrix)
    names = [f"GPU{i}" for i in range(gpus)] + [f"NIC{i}" for i in range(nics)]
    rows = [["", *names, "CPU Affinity", "NUMA Affinity", "GPU NUMA ID"]] if header else []
    for i, row in enumerate(matrix):
        cells = [" X " if i == j else (f"NV{k}" if isinstance(k, int) else k) for j, k in enumerate(row)]
        cells += ["PIX" if i == nic else "NODE" for nic in range(nics)]
        rows.append([f"GPU{i}", *cells, "0-47", str(2 * i // gpus), "", "N/A"])
    return lines(*map("\t".join, rows))


def status(name: str, gpus: int, links: int, rate: float, **down: Sequence[int]) -> str:
    """down: inactive links by GPU, such as gpu3=[7]."""
    rows = []
    for gpu in range(gpus):
        off = down.get(f"gpu{gpu}", down.get("all", ()))
        rows += [f"GPU {gpu}: {name} (UUID: GPU-0000000{gpu})"]
        rows += [f"\t Link {n}: {'<inactive>' if n in off else f'{rate} GB/s'}" for n in range(links)]
    return lines(*rows)


def counters(name: str, **values: str) -> str:
    rows = [f"\t Link 0: {k.replace('_', ' ')}: {v}" for k, v in values.items()]
    return lines(f"GPU 0: {name} (UUID: GPU-00)", *rows)


def fabric(state: str, status: str, name: str = "", more: str = "") -> str:
    gpu = f"GPU 00000000:19:00.0\n    Product Name   : {name}\n" if name else ""
    said = f"        State    : {state}\n        Status   : {status}\n{more}"
    return f"{gpu}    Fabric\n{said}    Processes : None\n"


def said(text: str) -> str:
    return f"host:7:7 [0] NCCL INFO {text}\n"


def hops(*edges: tuple[str, str, str], before: str = "") -> str:
    return before + "".join(said(f"Channel 00/0 : {a} -> {b} via {transport}") for a, b, transport in edges)


def table(
    name: str, gpus: int, rates: Sequence[tuple[int, float]], *, hosts: int = 1, devices: bool = True,
    wrong: int = 0, footer: bool = True,
) -> str:  # fmt: skip
    factor = 2.0 * (gpus - 1) / gpus or 1.0
    top = max((size for size, _ in rates), default=GIB)
    rows = [f"# nThread 1 nGpus 1 minBytes 8 maxBytes {top} step: 2(factor) validation: 1"]
    for rank in range(gpus if devices else 0):
        place = f"on node{rank * hosts // gpus} device {rank % (gpus // hosts)} [0x{rank:02x}]"
        rows.append(f"#  Rank {rank:2} Group  0 Pid {100 + rank} {place} {name}")
    rows.append("#  size  count  type  redop  root  time  algbw  busbw #wrong  time  algbw  busbw #wrong")
    for size, rate in rates:
        time = round(size * factor / rate * 1e-3, 2)
        part = f"{time} {size / time * 1e-3:.2f} {size / time * 1e-3 * factor:.2f} {wrong}"
        rows.append(f"  {size}  {size // 4}  float  sum  -1  {part}  {part}")
    return lines(*rows, *(["# Out of bounds values : 0 OK"] if footer else []))


def numa(cores: Sequence[int], memory: Sequence[int], gpus: dict[int, int], nodes: int) -> str:
    rows = [f"available: {nodes} nodes (0-{nodes - 1})"]
    for n in range(nodes):
        size = memory[n] if n < len(memory) else gpus.get(n, 0)
        rows += [f"node {n} cpus: " + " ".join(map(str, range(cores[n] if n < len(cores) else 0)))]
        rows += [f"node {n} size: {size} MB", f"node {n} free: 1 MB"]
    rows += ["node distances:", "node  " + "  ".join(map(str, range(nodes)))]
    rows += [f" {n}:  " + "  ".join("10" if n == m else "40" for m in range(nodes)) for n in range(nodes)]
    return lines(*rows)


H100, A100, CARD = "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB", "NVIDIA L40S"
B200, GB200 = "NVIDIA B200", "NVIDIA GB200"
NO_LINKS = "NVML: Unable to retrieve NVLink information as all links are inActive\n"
HBM = 188416
GRACE = ([72, 72], [489000, 489100])
LOCAL, PEER = ("0[0]", "1[1]"), ("7[7]", "8[0]")
SOCKET = said("Using network Socket")

HEALTHY = {
    "links that an export version lacks": status("NVIDIA A800-SXM4-80GB", 8, 12, 25.0, all=(8, 9, 10, 11)),
    "registered, as a query": "name, fabric.state, fabric.status\nNVIDIA B200, Completed, Success\n",
    "a lone GPU, whose links lead nowhere": topo([[0]]) + f"GPU 0: {H100} (UUID: GPU-1)\n{NO_LINKS}",
    "small messages alone": table(H100, 8, [(1 << 14, 1.6), (1 << 17, 10.0), (1 << 20, 50.0)]),
    "rates of Infinity Fabric": table("AMD Instinct MI300X", 8, [(GIB, 300), (8 * GIB, 315)]),
    "bridged cards": status("NVIDIA H100 PCIe", 2, 18, 26.562, all=(4, 5, 10, 11, 16, 17)),
    "old counters": counters(H100, Replay_Errors="0", Recovery_Errors="0", CRC_Errors="0"),
    "cards without bridge": status("NVIDIA GeForce RTX 3090", 2, 4, 14.062, all=range(4)),
    "the class without a name": table("", 8, [(GIB, 450), (8 * GIB, 480)], devices=False),
    "rack over NVLink": hops((*LOCAL, "P2P/MNNVL"), (*PEER, "P2P/MNNVL"), before=SOCKET),
    "Grace with MIG": numa(*GRACE, {2: 90000, 3: 90000, 10: HBM, 18: HBM, 26: HBM}, 34),
    "rates of NVLink 2": table("Tesla V100-SXM2-32GB", 8, [(GIB, 120), (8 * GIB, 130)]),
    "Grace with GPU memory": numa(*GRACE, {2: HBM, 10: HBM, 18: HBM, 26: HBM}, 34), "one GPU": topo([[0]]),
    "GPU-direct network": hops((*LOCAL, "P2P/CUMEM"), (*PEER, "NET/IB/0/GDRDMA")), "DGX-2": topo(full(16, 6)),
    "superchip alone": f"GPU 0: NVIDIA GH200 480GB (UUID: GPU-1)\n{NO_LINKS}",
    "peer to peer": hops((*LOCAL, "P2P/CUMEM"), ("1[1]", "0[0]", "P2P/IPC")),
    "four machines": table(H100, 32, [(GIB, 380), (8 * GIB, 400)], hosts=4), "hybrid cube mesh": topo(cube()),
    "bus ids for devices": hops(("0[1b000]", "1[1c000]", "P2P/IPC/read")),
    "rates of NVLink 4": table(H100, 8, [(GIB, 450), (8 * GIB, 478)]), "A100 board of four": topo(full(4, 4)),
    "rates of NVLink 3": table(A100, 8, [(GIB, 220), (8 * GIB, 232)]), "Grace with CDMM": numa(*GRACE, {}, 2),
    "rates of cards": table(CARD, 8, [(GIB, 12), (8 * GIB, 12)]), "eight GPUs on NVSwitch": topo(full(8, 18)),
    "registered": fabric("Completed", "Success", "NVIDIA H200"), "no header": topo(full(8, 18), header=False),
    "a pair and a stranger": topo(groups([2, 1], 6, "NODE")), "a tray of four": topo(full(4, 18), nics=4),
    "two sockets": numa([48, 48], [515000, 516000], {}, 2), "flattened virtual machine": topo(full(8, "PHB")),
    "no need to register": fabric("N/A", "N/A", A100), "half the links by export rule": topo(full(8, 8)),
    "cards of two sockets": topo(sockets(4)), "all links": status(H100, 8, 18, 26.562),
    "POWER9 trios": topo(groups([3, 3], 2)), "a corner of the cube": topo(cube(4)),
    "two of a board": topo(full(2, 18)),
    "new counters": counters(B200, Tx_packets="12", FEC_Errors_0="36140749276", Symbol_Errors="0",
                             Effective_BER="15e-255", Raw_BER_Lane_0="2061"),
    "a library that is not there": hops((*LOCAL, "P2P/CUMEM"))
                                   + "host:7:7 [0] x.cc:1 NCCL WARN Failed to open libibverbs.so\n",
}  # fmt: skip
DEGRADED = {
    "unhealthy route": fabric("Completed", "Success", GB200, "    Health\n          Route Unhealthy: True\n"),
    "registering, as a query": f"index, name, fabric.state, fabric.status\n0, {GB200}, In Progress, N/A\n",
    "a collective hung": "[Rank 3] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=1)\n",
    "NCCL complains": hops((*LOCAL, "P2P/CUMEM")) + "host:7:7 [0] x.cc:1 NCCL WARN Cuda failure 1\n",
    "out of bounds": table(H100, 8, [(8 * GIB, 478)]).replace("values : 0 OK", "values : 8 FAILED"),
    "GPU off the bus": "Unable to determine the device handle for GPU0000:CB:00.0: Unknown Error\n",
    "two machines at socket rates": table(H100, 16, [(GIB, 8), (8 * GIB, 9)], hosts=2),
    "link slow": status(A100, 8, 12, 25.0).replace("Link 3: 25.0", "Link 3: 12.5", 1),
    "host memory": hops((*LOCAL, "P2P/CUMEM"), ("1[1]", "2[2]", "SHM/direct/direct")),
    "host memory, old words": said("Ring 00 : 0[0] -> 1[1] via direct shared memory"),
    "rate falls": table(B200, 8, [(1 << 26, 400), (1 << 27, 150), (8 * GIB, 790)]),
    "network without GPUDirect": hops((*LOCAL, "P2P/CUMEM"), (*PEER, "NET/IB/0")),
    "part of a bridge": status("NVIDIA A100 80GB PCIe", 2, 12, 25, all=range(4)),
    "no reduction in the switch": table(H100, 8, [(GIB, 340), (8 * GIB, 365)]),
    "a GPU of a tray gone": topo(full(3, 18)).replace("\t0\t\tN/A", "\t0\t2"),
    "unequal pairs": topo(changed(groups([2, 2], 12, "NODE"), {(2, 3): 10})),
    "small messages slow": table(H100, 8, [(1 << 14, 0.2), (1 << 20, 4.0)]),
    "symbol errors": counters(B200, FEC_Errors_0="361", Symbol_Errors="4"), "one GPU gone": topo(full(7, 18)),
    "recoveries": counters(H100, Replay_Errors="0", Recovery_Errors="3"),
    "GPU memory missing": numa(*GRACE, {2: HBM, 10: HBM, 18: HBM}, 34),
    "no link of a module": f"GPU 2: {B200} (UUID: GPU-2)\n{NO_LINKS}", "bridge lost links": topo(full(2, 10)),
    "a tenth of the rate": table(H100, 8, [(GIB, 48), (8 * GIB, 48)]),
    "network inside a machine": hops((*LOCAL, "NET/IB/0/GDRDMA")), "all GPUs lost a link": topo(full(8, 17)),
    "one row short": topo(full(8, 18)).replace("NV18", "NV17", 1), "sockets": hops((*LOCAL, "NET/Socket/0")),
    "one pair short": topo(changed(full(8, 18), {(1, 2): 16})), "registering": fabric("In Progress", "N/A"),
    "one GPU off NVLink": topo(one_gpu(full(8, 12), 0, "SYS")), "slow card": table(CARD, 8, [(8 * GIB, 1)]),
    "cube lost a pair": topo(changed(cube(), {(0, 1): "PHB"})), "hung": table(B200, 4, [], footer=False),
    "wrong values": table(H100, 8, [(8 * GIB, 478)], wrong=3),
    "one GPU lost a link": topo(one_gpu(full(8, 18), 3, 17)),
    "cube lost a link": topo(changed(cube(), {(0, 3): 1})),
    "link inactive": status(H100, 8, 18, 26.562, gpu3=[7]),
    "registration failed": fabric("Completed", "Failure"),
    "not registered": fabric("Not Started", "N/A", H100), "bit errors": counters(B200, Effective_BER="15e-9"),
    "memory missing": numa([48, 48], [257000, 0], {}, 2),
    "outside the rack": fabric("Completed", "Success", GB200,
                               "        ClusterUUID : 00000000-0000-0000-0000-000000000000\n"),
    "two machines over sockets": hops((*LOCAL, "P2P/CUMEM"), before=SOCKET
                                      + said("comm 0x1 rank 0 nRanks 16 nNodes 2 localRanks 8 localRank 0")),
    "peer access switched off": hops((*LOCAL, "P2P/CUMEM"))
                                + said("NCCL_P2P_DISABLE set by environment to 1"),
    "fabric not ready": hops((*LOCAL, "P2P/CUMEM"))
                        + said("MNNVL busId 0x51000 fabric UUID 0.0 cliqueId 0x0 state 2 healthMask 0x0"),
    "less bandwidth in the mask": hops((*LOCAL, "P2P/CUMEM"))
                        + said("MNNVL busId 0x51000 fabric UUID 0.0 cliqueId 0x0 state 3 healthMask 0x1"),
}  # fmt: skip
UNKNOWN = {
    "stopped early": table(H100, 8, [(GIB, 450)], footer=False).replace("maxBytes 1", "maxBytes 9"),
    "NVLS off, no name": hops((*LOCAL, "P2P/CUMEM"), before=said("0 nvls channels")), "no capture": "hello\n",
    "between the classes": table("", 8, [(GIB, 340), (8 * GIB, 350)], devices=False),
    "a slower network": table(A100, 16, [(GIB, 60), (8 * GIB, 70)], hosts=2),
    "one bridge of two": topo(changed(full(4, "SYS"), {(0, 1): 12})), "three of a tray": topo(full(3, 18)),
    "eight cards beside network cards": topo(sockets(8), nics=8), "memory not on line": numa(*GRACE, {}, 34),
    "eight cards or a dead board": topo(full(8, "SYS")), "cut after five links": status(H100, 1, 5, 26.562),
    "a list of GPUs": f"GPU 0: {H100} (UUID: GPU-1)\n", "not registered, no name": fabric("N/A", "N/A"),
    "no channel lines": said("Using network IB"), "one rank": table(H100, 1, [(GIB, 260)]),
}  # fmt: skip
CASES = [
    pytest.param(wanted, text, id=f"{wanted}: {name}")
    for wanted, cases in (("healthy", HEALTHY), ("degraded", DEGRADED), ("unknown", UNKNOWN))
    for name, text in cases.items()
]


@pytest.mark.parametrize(("wanted", "text"), CASES)
def test_a_capture_gets_its_verdict(wanted: str, text: str, judge: Judge) -> None:
    verdict = judge(text)
    assert verdict.status == wanted, report_json(verdict)
    for row in report_json(verdict)["checks"]:
        assert all(row[name] for name in ("found", "expected", "why", "evidence"))
        assert row["status"] == "healthy" or row["next_command"]
        assert row["status"] != "unknown" or row["missing"]


@pytest.mark.parametrize(
    ("text", "platform", "wanted"),
    [
        *((topo(matrix), "hgx-h100", "degraded") for matrix in (full(8, "PHB"), full(7, 18), sockets(8))),
        (topo(full(8, 12)), "hgx-h100", "degraded"), (topo(full(8, 12)), "hgx-a100", "healthy"),
        (topo(sockets(8)), "l40s-8x", "healthy"), (topo(full(4, 18)), "gb200-nvl72", "healthy"),
        (topo(full(4, 4)), "hgx-a100", "unknown"), (hops((*LOCAL, "SHM/direct")), "l40s-8x", "healthy"),
        (f"GPU 0: {H100} (UUID: GPU-1)\n" + topo(full(8, "SYS")), None, "degraded"),
        ("GPU 0: NVIDIA A10G (UUID: GPU-1)\n" + topo(full(8, "SYS")), None, "healthy"),
    ],
)  # fmt: skip
def test_a_platform_or_a_name_in_the_capture_settles_what_it_leaves_open(
    text: str, platform: str | None, wanted: str, judge: Judge
) -> None:
    assert judge(text, platform).status == wanted


def test_the_wrong_platform_is_said_to_be_wrong(judge: Judge) -> None:
    findings = judge(status(A100, 8, 12, 25.0), "hgx-b200").files[0].findings
    assert [f.subject for f in findings if f.code == "platform.other"] == [A100]


def test_evidence_quotes_file_line_and_text(judge: Judge) -> None:
    fault, _ = judge(status(H100, 8, 18, 26.562, gpu3=[7])).files[0].findings
    assert (fault.code, fault.subject) == ("link-status.inactive", "GPU3 link 7")
    (line,) = fault.evidence
    assert Path(line.file).name == "capture"
    assert (line.number, line.text.strip()) == (3 * 19 + 9, "Link 7: <inactive>")


def test_several_captures_in_one_file_are_each_judged(judge: Judge) -> None:
    found = judge("$ topo -m\n" + topo(full(8, 18)) + "\n$ date\n" + status(H100, 8, 18, 26.562, gpu0=[1]))
    checks = report_json(found)["checks"]
    assert {c["check"]: c["status"] for c in checks} == {"topology": "healthy", "link-status": "degraded"}


def test_a_header_or_a_row_wrapped_over_two_lines_is_one(judge: Judge) -> None:
    wrapped = "\tGPU0\tGPU1\tGPU2\tGPU3\tGPU4\nGPU5\tGPU6\tGPU7\tCPU Affinity\n"
    assert judge(wrapped + topo(one_gpu(full(8, 18), 7, 17), header=False)).status == "degraded"
    assert judge(wrapped + topo(full(8, 18), header=False)).status == "healthy"
    assert judge(topo(full(8, 18)).replace("NV18\tNV18\t0-47", "NV18\n\tNV18\t0-47")).status == "healthy"


@pytest.mark.parametrize("code", FINDINGS)
def test_each_finding_has_a_status_and_words_for_its_values(code: str) -> None:
    file = FileReport(file="f", findings=(Finding(code, "GPU0", 1.0, 2.0),))
    shown = report_json(Report(platform="", gpus=(), files=(file,)))
    assert shown["status"] in EXIT_CODES
    assert "{" not in shown["reason"] + "".join(check["expected"] for check in shown["checks"])


def test_the_collected_captures_get_their_indexs_verdicts(shared_root: Path) -> None:
    folder, counts = shared_root / "fabric", Counter[tuple[str, str]]()
    for row in csv.DictReader((folder / "INDEX.csv").read_text(encoding="utf-8").splitlines()):
        counts[row["verdict"], check([folder / row["file"]]).status] += 1
    for wanted in ("healthy", "degraded"):
        asked = sum(n for (verdict, _), n in counts.items() if verdict == wanted)
        assert counts[wanted, wanted] >= 0.95 * asked > 0
    assert not counts["degraded", "healthy"]
    whole = check([folder])
    assert (whole.status, len(whole.gpus) > 1) == ("degraded", True)
