"""Time of the collectives that serving pays for, by message, group, fabric and library.

Inside a scale-up domain each (fabric, library, operation) has one to three regimes, e.g. a low-latency
protocol and a bulk one, or a one-shot and a two-shot kernel. A regime is a line, and the library picks the
fastest of them:

    t = min over regimes of  alpha(n) + volume(n, bytes) / (efficiency(n) x bandwidth(n))

    alpha(n)      = alpha + alpha_per_rank x (min(n, flat_ranks) - 2)                                     [s]
    efficiency(n) = efficiency x (min(n, 8) / 8) ^ group_exponent                                         [-]
    bandwidth(n)  = one-way rate of one GPU's links; in a mesh only (n - 1) of (domain - 1) links        [B/s]

    volume(n, b)  = (n - 1) / n x b, twice that for an all-reduce; (n - 1) x b for a one-shot kernel       [B]

A minimum of lines is continuous, and monotone in bytes, bandwidth and alpha. A group larger than the domain
goes through the network card: see `_across`. The coefficients, their rows, errors and sources are in
`data/collectives.toml`. An efficiency above 1 is no error: switches that reduce in the network (NVLink SHARP)
move fewer bytes than the ring whose volume is counted here.

Sources: Thakur et al. 2005 (cost of collectives); NCCL-tests PERFORMANCE.md (volumes, bus bandwidth).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..data.errors import UnknownName, nearest_names
from .facts import BOX, Arrays, BoolArray, FloatArray

Codes = NDArray[np.intp]

LIBRARIES: Final = ("engine", "nccl")
OPERATIONS: Final = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "point_to_point")
_COLUMNS: Final = ("alpha_us", "alpha_per_rank_us", "flat_ranks", "efficiency", "group_exponent", "one_shot")
_DEFAULTS: Final = {"flat_ranks": 1e9, "group_exponent": 0.0, "one_shot": 0.0}
_REFERENCE_GROUP: Final = 8.0


@dataclass(frozen=True, kw_only=True)
class Fabric(Arrays):
    """What the messages of n deployments travel over; every field has shape (n,) or broadcasts with it.

    code: row of the coefficient table, from `fabric_index` [-]; link_bandwidth: one way, per GPU [B/s];
    domain: GPUs that reach each other without the network card [-]; nic_bandwidth: one way, per GPU, of
    whatever carries traffic out of the domain [B/s]; nic_alpha_s: latency of one hop through it [s].
    The two scales let a calibration move the fitted coefficients: alpha_scale multiplies each latency inside
    the domain, efficiency_scale each bandwidth (links and cards alike).
    """

    code: Codes
    link_bandwidth: FloatArray
    domain: FloatArray
    nic_bandwidth: FloatArray
    nic_alpha_s: FloatArray
    alpha_scale: float | FloatArray = 1.0
    efficiency_scale: float | FloatArray = 1.0


@dataclass(frozen=True, kw_only=True)
class Tables:
    """The reviewed coefficients; `inside` a domain, by operation, of shape (regimes, columns, codes).

    codes: row of each (fabric, library); mesh: one link per pair of GPUs; cards: PCIe cards; of shape
    (codes,). Between domains: latency of one hop [s], overlap norm [-], (hops, efficiency) of each regime.
    """

    codes: Mapping[tuple[str, str], int]
    mesh: BoolArray
    cards: BoolArray
    inside: Mapping[str, FloatArray]
    hop_s: float
    overlap_norm: float
    across: Mapping[str, Sequence[tuple[float, float]]]


@cache
def read_text() -> dict[str, Any]:
    """Return `data/collectives.toml` as plain dictionaries (read once; do not change it)."""
    return tomllib.loads(resources.files("roofcast.data").joinpath("collectives.toml").read_text("utf-8"))


def regimes(fabric: str, library: str, operation: str) -> list[dict[str, float]]:
    """Return the regimes of one entry of the table, following `borrowed_from` and `falls_back_to`."""
    found = read_text()["fabrics"][fabric][library][operation]
    own: list[dict[str, float]] = found.get("regimes") or regimes(*found["borrowed_from"].split("."))
    return own + (regimes(*found["falls_back_to"].split(".")) if "falls_back_to" in found else [])


@cache
def tables() -> Tables:
    """Return the coefficients as arrays (built once)."""
    fabrics, network = read_text()["fabrics"], read_text()["network"]
    keys = [(name, library) for name in fabrics for library in LIBRARIES]
    return Tables(
        codes={key: row for row, key in enumerate(keys)},
        mesh=np.array([bool(fabrics[name].get("mesh", False)) for name, _ in keys]),
        cards=np.array([name.startswith("pcie") for name, _ in keys]),
        inside={operation: _inside_table(keys, operation) for operation in OPERATIONS},
        hop_s=network["alpha_us"] * 1e-6,
        overlap_norm=network["overlap_norm"],
        across={
            operation: [(r["hops"], r["efficiency"]) for r in network["operations"][operation]["regimes"]]
            for operation in OPERATIONS
        },
    )


def _inside_table(keys: Sequence[tuple[str, str]], operation: str) -> FloatArray:
    """Lay the regimes of one operation out as (regimes, columns, codes); short rows repeat their first."""
    found = [regimes(name, library, operation) for name, library in keys]
    width = max(len(row) for row in found)
    padded = [row + row[:1] * (width - len(row)) for row in found]
    rows = [[[float((_DEFAULTS | regime)[c]) for c in _COLUMNS] for regime in row] for row in padded]
    return np.moveaxis(np.array(rows), 0, -1).copy()


@cache
def _code(link: str, rack: bool, library: str) -> int:
    """Return the table's row: of the longest prefix of the link; a rack-wide NVLink domain is its own."""
    links, libraries = read_text()["links"], read_text()["libraries"]
    wanted = link.strip().lower() or "none"
    prefixes = [prefix for prefix in links if wanted.startswith(prefix)]
    if not prefixes:
        raise UnknownName("link", link, nearest_names(wanted, links))
    if library.strip().lower() not in libraries:
        raise UnknownName("collective library", library, nearest_names(library, libraries))
    name = links[max(prefixes, key=len)]
    fabric = "nvl72" if name == "nvlink5" and rack else name
    return tables().codes[fabric, libraries[library.strip().lower()]]


def fabric_index(link: Sequence[str], domain: ArrayLike, library: str) -> Codes:
    """Return the coefficient table's row of each (link, domain), shape (n,).

    link: names as in the GPU catalogue ("nvlink4", "infinity-fabric", "pcie5", ...), shape (n,); domain: GPUs
    of the scale-up domain, shape (n,) or a number; library: "engine" (the serving engine's own kernels, in
    CUDA graphs), "nccl", or an engine's name. Raises UnknownName for a link or library that the table lacks.
    """
    racks = np.broadcast_to(np.asarray(domain, dtype=np.float64) > BOX, (len(link),))
    return np.array([_code(str(a), bool(rack), library) for a, rack in zip(link, racks, strict=True)])


def domain_of(code: Codes, domain: FloatArray) -> FloatArray:
    """Return the GPUs that reach each other without a network card: PCIe cards of one host are a box."""
    return np.maximum(domain, np.where(tables().cards[code], BOX, 1.0))


def fabric_arrays(
    *,
    link: Sequence[str],
    link_bandwidth: FloatArray | float,
    domain: FloatArray | float,
    nic_bandwidth: FloatArray | float,
    library: str = "engine",
) -> Fabric:
    """Return the `Fabric` of n deployments.

    link, library: as for `fabric_index`, which may raise UnknownName; link_bandwidth, nic_bandwidth: one way
    per GPU [B/s]; domain: GPUs per scale-up domain [-]. The engines' latencies are those of the best version;
    the middle of the versions lies at the table's `typical_alpha_scale`.

    >>> fabric = fabric_arrays(link=["nvlink4"], link_bandwidth=450e9, domain=8, nic_bandwidth=50e9)
    >>> bool(3e-6 < all_reduce_s(16384, 8, fabric)[0] < 6e-6)
    True
    """
    code, one = fabric_index(link, domain, library), np.ones(len(link))
    return Fabric(
        code=code,
        link_bandwidth=one * link_bandwidth,
        domain=domain_of(code, one * domain),
        nic_bandwidth=one * nic_bandwidth,
        nic_alpha_s=one * tables().hop_s,
    )


def all_reduce_s(message_bytes: ArrayLike, group: ArrayLike, fabric: Fabric) -> FloatArray:
    """Return the seconds to sum a message of `message_bytes` [B] held by each of `group` GPUs."""
    return _collective_s("all_reduce", message_bytes, group, fabric)


def all_gather_s(message_bytes: ArrayLike, group: ArrayLike, fabric: Fabric) -> FloatArray:
    """Return the seconds to give each of `group` GPUs the whole of `message_bytes` [B, the result]."""
    return _collective_s("all_gather", message_bytes, group, fabric)


def reduce_scatter_s(message_bytes: ArrayLike, group: ArrayLike, fabric: Fabric) -> FloatArray:
    """Return the seconds to sum `message_bytes` [B, the input of each GPU] and keep one shard each."""
    return _collective_s("reduce_scatter", message_bytes, group, fabric)


def all_to_all_s(message_bytes: ArrayLike, group: ArrayLike, fabric: Fabric) -> FloatArray:
    """Return the seconds for each GPU to spread `message_bytes` [B] over the group, itself too.

    Across domains the share for the same domain goes over the links while the rest goes through the card.
    """
    return _collective_s("all_to_all", message_bytes, group, fabric)


def point_to_point_s(message_bytes: ArrayLike, crosses_domain: ArrayLike, fabric: Fabric) -> FloatArray:
    """Return the time in seconds to send `message_bytes` [B] from one GPU to another.

    crosses_domain: whether the receiver lies outside the scale-up domain (boolean, shape (n,)).
    """
    size, crosses, code = np.broadcast_arrays(
        np.asarray(message_bytes, dtype=np.float64), np.asarray(crosses_domain, dtype=np.bool_), fabric.code
    )
    pair, (hops, efficiency) = np.full(size.shape, 2.0), tables().across["point_to_point"][0]
    with np.errstate(divide="ignore", invalid="ignore"):
        inside, start = (
            _inside("point_to_point", s, pair, fabric, code) for s in (size, np.zeros(size.shape))
        )
        moved = size / (fabric.nic_bandwidth * fabric.efficiency_scale) / efficiency
    outside = start + hops * fabric.nic_alpha_s + moved
    return np.where(size > 0.0, np.where(crosses, outside, inside), 0.0)


def _collective_s(operation: str, message_bytes: ArrayLike, group: ArrayLike, fabric: Fabric) -> FloatArray:
    """Return the time of one operation, inside or across domains; 0 for a group of one or no bytes."""
    size, ranks, domain, code = np.broadcast_arrays(
        np.asarray(message_bytes, dtype=np.float64),
        np.asarray(group, dtype=np.float64),
        fabric.domain,
        fabric.code,
    )
    used = (ranks > 1.0) & (size > 0.0)
    if used.all():
        return _between(operation, size, ranks, domain, code, fabric)
    time, rows = np.zeros(size.shape), np.nonzero(used)
    if len(rows[0]):
        parts = {name: np.broadcast_to(value, size.shape)[rows] for name, value in vars(fabric).items()}
        time[rows] = _between(operation, size[rows], ranks[rows], domain[rows], code[rows], Fabric(**parts))
    return time


def _between(
    operation: str, size: FloatArray, ranks: FloatArray, domain: FloatArray, code: Codes, fabric: Fabric
) -> FloatArray:
    """Return the time of one operation among two GPUs or more."""
    local = np.minimum(ranks, domain)
    # The engines' own kernels stop at the domain's edge: beyond it the whole group runs on NCCL.
    plain = code - code % len(LIBRARIES) + LIBRARIES.index("nccl")
    code = np.where(ranks > domain, plain, code)
    share = np.where(operation == "all_to_all", local / np.maximum(ranks, 1.0), 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        time = np.where(local > 1.0, _inside(operation, size * share, local, fabric, code), 0.0)
        if np.any(ranks > domain):
            time = np.where(ranks > domain, _across(operation, size, ranks, local, time, fabric), time)
    return time


def _inside(operation: str, size: FloatArray, ranks: FloatArray, fabric: Fabric, code: Codes) -> FloatArray:
    """Return the fastest regime's time within one domain, in seconds; `ranks` >= 2 where it is used."""
    n = np.maximum(ranks, 2.0)
    peers = np.where(tables().mesh[code], (n - 1.0) / np.maximum(fabric.domain - 1.0, n - 1.0), 1.0)
    bandwidth = fabric.link_bandwidth * fabric.efficiency_scale * peers
    once = np.ones_like(n) if operation == "point_to_point" else (n - 1.0) / n
    shared = 2.0 * once if operation == "all_reduce" else once
    spread = np.log(np.minimum(n, _REFERENCE_GROUP) / _REFERENCE_GROUP)
    best = np.full(size.shape, np.inf)
    for regime in tables().inside[operation]:
        alpha, per_rank, flat, efficiency, exponent, one_shot = regime[:, code]
        volume = size * np.where(one_shot > 0.0, n - 1.0, shared)
        latency = (alpha + per_rank * (np.minimum(n, flat) - 2.0)) * 1e-6 * fabric.alpha_scale
        moved = volume / (efficiency * np.exp(exponent * spread) * bandwidth)
        best = np.minimum(best, latency + np.where(volume > 0.0, moved, 0.0))
    return best


def _across(
    operation: str,
    size: FloatArray,
    ranks: FloatArray,
    local: FloatArray,
    inside: FloatArray,
    fabric: Fabric,
) -> FloatArray:
    """Return the time of a group that spans domains, in seconds.

    t = min over regimes of  hops x steps x nic_alpha + (inside^p + card^p)^(1/p): the work inside and the
    card's transfer are pipelined, so they overlap in part (p = 1: not at all, p = infinity: perfectly).
    steps = log2 of the number of domains (a tree), 1 for an all-to-all. An all-reduce is a reduce-scatter
    inside, an all-reduce of the shards between, an all-gather inside.
    """
    domains = ranks / local
    steps = np.where(operation == "all_to_all", 1.0, np.ceil(np.log2(np.maximum(domains, 2.0)) - 1e-9))
    once = (ranks - local) / ranks if operation == "all_to_all" else (domains - 1.0) / domains / local
    volume = size * (2.0 * once if operation == "all_reduce" else once)
    ideal = volume / (fabric.nic_bandwidth * fabric.efficiency_scale)
    best = np.full(size.shape, np.inf)
    for hops, efficiency in tables().across[operation]:
        overlapped = _overlapped(inside, ideal / efficiency, tables().overlap_norm)
        best = np.minimum(best, hops * steps * fabric.nic_alpha_s + overlapped)
    return best


def _overlapped(first: FloatArray, second: FloatArray, norm: float) -> FloatArray:
    """Return (first^p + second^p)^(1/p), scaled by the larger so that no power under- or overflows."""
    larger = np.maximum(first, second)
    ratio = np.where(np.isfinite(larger), np.minimum(first, second) / np.maximum(larger, 1e-30), 0.0)
    return larger * (1.0 + ratio**norm) ** (1.0 / norm)
