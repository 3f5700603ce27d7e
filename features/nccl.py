"""The time that plain NCCL takes for a collective on a healthy machine, as nccl-tests measures it."""

from __future__ import annotations

from typing import Final

from ..data import catalogue
from ..data.specs import GpuSpec
from .collectives import collective_s, fabric_arrays

# Operations that are modelled, by the one that runs like them: a chain from one root is half a ring.
MODELLED: Final = {
    "all_reduce": "all_reduce",
    "all_gather": "all_gather",
    "reduce_scatter": "reduce_scatter",
    "all_to_all": "all_to_all",
    "broadcast": "all_gather",
    "reduce": "reduce_scatter",
}


def predicted_us(gpu: GpuSpec, operation: str, size: int, ranks: int, nic_bandwidth: float = 0.0) -> float:
    """Return the microseconds of one of the `MODELLED` operations over two ranks or more.

    size: bytes as nccl-tests counts them (the whole result of an all-gather); nic_bandwidth: one way per GPU
    [B/s], that of the first platform with this GPU unless given.
    """
    built = (p.nic_bandwidth for p in catalogue.platforms().values() if p.gpu == gpu.name)
    fabric = fabric_arrays(
        link=[gpu.link],
        link_bandwidth=gpu.link_bandwidth,
        domain=gpu.link_domain,
        nic_bandwidth=nic_bandwidth or next(filter(None, built), 50e9),
        library="nccl",
    )
    time_s = collective_s(MODELLED[operation], float(size), float(ranks), fabric)[0]
    # From or to one root, the whole message moves where the other operation moves (n - 1) / n of it.
    return float(time_s) * 1e6 * (ranks / (ranks - 1) if operation in ("broadcast", "reduce") else 1.0)
