"""Collectives against measurements, and by their laws."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roofcast.data import catalogue
from roofcast.data.errors import UnknownName
from roofcast.features import collectives
from roofcast.features.collectives import (
    LIBRARIES,
    OPERATIONS,
    Fabric,
    all_gather_s,
    all_reduce_s,
    all_to_all_s,
    fabric_arrays,
    fabric_index,
    point_to_point_s,
    reduce_scatter_s,
)

GIB = float(1 << 30)
MACHINES = ("a100", "h100-sxm", "h200-sxm", "b200-sxm", "b300-sxm", "gb200", "gb300", "l40s", "rtx-pro-6000",
            "mi300x", "mi355x")  # fmt: skip
COLLECTIVES = {
    "all_reduce": all_reduce_s, "all_gather": all_gather_s, "reduce_scatter": reduce_scatter_s,
    "all_to_all": all_to_all_s,
}  # fmt: skip


def machine(name: str, library: str = "engine", faster: float = 1.0, cards: float = 1.0) -> Fabric:
    gpu = catalogue.gpu(name)
    return fabric_arrays(link=[gpu.link], link_bandwidth=gpu.link_bandwidth * faster, domain=gpu.link_domain,
                         nic_bandwidth=50e9 * cards, library=library)  # fmt: skip


def all_reduce_us(name: str, library: str, size: float, group: int) -> float:
    return 1e6 * float(all_reduce_s(size, group, machine(name, library))[0])


@pytest.mark.parametrize(("name", "library", "group", "size", "low", "high"), [
    ("b200-sxm", "engine", 8, 16384, 5.3, 8.1),
    ("h100-sxm", "engine", 8, 16384, 3.5, 5.2),  # latency did not halve from Hopper to Blackwell
    ("h200-sxm", "engine", 8, 16384, 3.5, 5.2), ("a100", "engine", 8, 16384, 6.4, 8.4),
    ("b200-sxm", "nccl", 8, 16384, 25.6, 28.4), ("h100-sxm", "nccl", 8, 16384, 16.2, 17.9),
    ("a100", "nccl", 8, 16384, 21.9, 24.2),
    ("gb200", "engine", 72, 32768, 6.0, 12.0),  # over a whole rack
    # A pair in a mesh has one link: 256 MiB took 5568 us (ROCm/aiter pull 801), 48 of its 64 GB/s.
    ("mi300x", "engine", 2, 256 * 2**20, 5457, 5679),
])  # fmt: skip
def test_an_all_reduce_takes_what_was_measured(
    name: str, library: str, group: int, size: float, low: float, high: float
) -> None:
    assert low <= all_reduce_us(name, library, size, group) <= high


@pytest.mark.parametrize(("name", "group", "gb_s"), [
    ("h100-sxm", 8, 480),  # nccl-tests on HGX H100 (NVIDIA/dgxc-benchmarking)
    ("a100", 8, 235),  # nccl-tests on HGX A100 (microsoft/superbenchmark)
    ("gb200", 8, 843),  # nccl-tests on two GB200 trays (crusoe)
    ("gb200", 72, 847),  # nccl-tests on a GB200 NVL72 rack (coreweave)
    ("mi300x", 8, 316),  # rccl-tests on 8x MI300X (hisohara/ai-scripts)
    ("mi355x", 8, 407),  # rccl-tests on 8x MI355X (OCI)
    ("h100-sxm", 16, 470),  # two boxes over InfiniBand (oci-hpc)
    ("b200-sxm", 16, 683),  # two boxes over RoCE (dstack, GCP A4)
])  # fmt: skip
def test_large_messages_reach_the_measured_bus_bandwidth(name: str, group: int, gb_s: float) -> None:
    us = all_reduce_us(name, "nccl", 8 * GIB, group)
    assert 2 * (group - 1) / group * 8 * GIB / us / 1e3 == pytest.approx(gb_s, rel=0.06)


def test_all_to_all_across_boxes_agrees_with_deepep() -> None:
    """DeepEP low-latency kernels on H800: 128 tokens x 8 experts x 7168, FP8 with scales out, BF16 back."""
    ranks, h800, copies = [16, 32, 64, 128, 256], machine("h100-sxm", faster=200 / 450), 128 * 8 * 7168.0
    for each, measured_us in ((1.04, [118, 155, 173, 192, 194]), (2.0, [195, 273, 314, 369, 360])):
        assert 1e6 * all_to_all_s(copies * each, ranks, h800) == pytest.approx(measured_us, rel=0.12)


def test_no_group_and_no_bytes_cost_nothing_and_arrays_broadcast() -> None:
    fabric = machine("h100-sxm")
    for time_of in COLLECTIVES.values():
        assert time_of(1e6, 1, fabric)[0] == time_of(0.0, 8, fabric)[0] == 0.0
    assert point_to_point_s(0.0, True, fabric)[0] == 0.0
    both = fabric_arrays(link=["nvlink4", "nvlink5"], link_bandwidth=[450e9, 900e9], domain=8,
                         nic_bandwidth=50e9, library="nccl")  # fmt: skip
    assert all_reduce_s([[1e4], [1e6], [1e8]], 8, both).shape == (3, 2)


def test_links_and_libraries_resolve_through_prefixes_and_engines_or_are_refused() -> None:
    assert fabric_index(["NVLink4-bridge"], 2, "vllm") == fabric_index(["nvlink4"], 8, "engine")
    assert fabric_index(["infinity-fabric"], 8, "rccl") == fabric_index(["xgmi"], 8, "nccl")
    assert fabric_index([""], 1, "engine") == fabric_index(["pcie5"], 8, "engine")
    box, rack = fabric_index(["nvlink5", "nvlink5"], [8, 72], "engine")
    assert box != rack
    for link, library in (("carrier-pigeon", "nccl"), ("nvlink4", "ncl")):
        with pytest.raises(UnknownName):
            fabric_index([link], 8, library)


def test_what_reaches_other_gpus_without_links_or_cards() -> None:
    """Cards on PCIe share a box; a lone GPU passes messages through its card; kernels stop at the domain."""
    assert np.isfinite(all_reduce_s(1e6, 8, machine("l40s", cards=0.0)))[0]
    lone = fabric_arrays(link=["none"], link_bandwidth=0.0, domain=8, nic_bandwidth=50e9)
    assert np.isfinite(point_to_point_s(1e6, True, lone))[0]
    assert np.isinf(all_reduce_s(1e6, 8, lone))[0]
    assert all_reduce_us("h100-sxm", "engine", 16384, 16) == all_reduce_us("h100-sxm", "nccl", 16384, 16)


def test_every_entry_has_a_source_or_a_lender() -> None:
    entries = {(name, library, operation): fabric[library][operation]
               for name, fabric in collectives.read_text()["fabrics"].items()
               for library in LIBRARIES for operation in OPERATIONS}  # fmt: skip
    assert [key for key, record in entries.items() if not record.keys() & {"source", "borrowed_from"}] == []


@settings(max_examples=200)
@given(
    st.sampled_from(MACHINES), st.sampled_from(LIBRARIES), st.sampled_from(sorted(COLLECTIVES)),
    st.floats(1.0, 1e11), st.integers(2, 160), st.floats(1.0, 1e3), st.floats(1.0, 1e3),
)  # fmt: skip
def test_more_bytes_are_never_faster_and_more_bandwidth_or_less_latency_never_slower(
    name: str, library: str, operation: str, size: float, group: int, factor: float, cards: float
) -> None:
    usual, fast = machine(name, library), machine(name, library, factor, cards)
    quick = replace(usual, alpha_scale=1 / factor, nic_alpha_s=usual.nic_alpha_s / factor)
    slack = 1 + 1e-12

    def times(fabric: Fabric, size: float) -> list[float]:
        apart = [point_to_point_s(size, crosses, fabric)[0] for crosses in (False, True)]
        return [COLLECTIVES[operation](size, group, fabric)[0], *apart]

    before = times(usual, size)
    assert 0 < before[0] < np.inf
    for less, more in ((before, times(usual, size * factor)), (times(fast, size), before)):
        assert all(a <= b * slack for a, b in zip(less, more, strict=True))
    assert all(a <= b * slack for a, b in zip(times(quick, size)[::2], before[::2], strict=True))
    # An engine falls back to the plain library.
    engine, nccl = (all_reduce_s(size, group, machine(name, each))[0] for each in LIBRARIES)
    assert engine <= nccl * slack
