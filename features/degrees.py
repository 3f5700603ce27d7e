"""How the GPUs of a request are laid out: degrees as engines write them, in one meaning; one pool or two."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..data.columns import POOL_COLUMNS
from ..data.vocabulary import ENGINES, LAYOUTS, SWITCHES
from .cells import Rows, default
from .facts import BoolArray, Facts, FloatArray, IntArray

_ASSUMED_TP = (2.0, 4.0, 8.0)
_VLLM = ENGINES.index("vllm")


def layout_of(
    rows: Rows, model: Facts, engine: IntArray, platform_gpus: FloatArray, disagg: BoolArray
) -> dict[str, Any]:
    """Fill num_gpus, tp, pp, ep and dp from what is given; open where nothing is, and a search may choose."""
    tp, pp, dp = (rows.number(name, whole=True) for name in ("tp", "pp", "dp"))
    ep, shared_out = _expert_degree(rows, model)
    searched = rows.word("layout", LAYOUTS) != LAYOUTS.index("given")
    searched &= np.isnan(tp) & np.isnan(pp) & np.isnan(ep) & np.isnan(dp) & ~disagg & ~shared_out
    pp = default(pp, 1.0)
    given = rows.number("num_gpus", whole=True)
    prefill, decode = (rows.number(f"{pool}_gpus", whole=True) for pool in ("prefill", "decode"))
    given = np.where(np.isnan(given), prefill + decode, given)
    num = np.where(np.isnan(given), platform_gpus, given)
    one = np.where(disagg, default(prefill, decode), np.nan)  # of two pools that are alike unless told
    num = np.where(np.isnan(num), 2.0 * one, num)
    assumed, gpus_open = np.isnan(tp), np.isnan(num) & searched
    experts = np.where(model.is_moe > 0, default(ep, 1.0), 1.0)
    room = np.where(np.isnan(num), experts, np.maximum(num // pp, 1.0))
    tp = np.where(assumed, _widest(model, room), tp)
    rows.note(assumed & ~searched & rows.valid & (tp > 1), "assumed-from-gpus", "tp")
    counted, ep = ~np.isnan(ep), default(ep, 1.0)
    # A dense model has no experts to share: its dp are copies, whether counted inside tp or beside it.
    copies = (model.is_moe == 0) & (dp > 1.0)
    rows.note(copies, "copies", "dp")
    num = np.where(copies & np.isnan(num), tp * pp * dp, num)
    each = np.where(copies, dp, 1.0)
    inside = copies & (tp * pp * dp > num) & (tp % each == 0)
    tp = np.where(inside, tp / each, tp)
    dp = np.where(inside | (copies & (tp * pp * dp <= num)), 1.0, dp)
    # Engines write attention groups that share experts as dp beside tp: tp 1, dp 8 is one copy on 8 GPUs, and
    # with vLLM, whose ep is a switch, so is tp 4, dp 2; or as ep alone, wider than tp.
    wide = (model.is_moe > 0) & (ep > tp) & (default(dp, 1.0) == 1.0) & (ep % tp == 0)
    wide &= np.isnan(num) | (ep * pp <= num)
    dp = np.where(wide, ep / tp, dp)
    wider = wide | (dp > tp)
    whole = ((engine == _VLLM) & ~counted) | (ep == tp * dp)
    beside = (model.is_moe > 0) & (dp > 1.0) & (wider | whole)
    beside &= np.isnan(num) | (wider & (tp * dp * pp <= num)) | (tp * dp * pp == num)
    rows.note(beside, "spread-experts", "dp")
    tp = np.where(beside, tp * dp, tp)
    ep = np.where(shared_out, tp, ep)
    num = np.where(np.isnan(num), tp * pp, num)
    dp = default(dp, 1.0)
    spread = (dp == 1.0) & (model.n_heads % np.maximum(tp, 1.0) != 0) & (model.is_moe > 0) & (tp <= num)
    rows.note(spread, "attention-dp", "dp")
    dp = np.where(spread, tp, dp)
    rows.note(rows.valid & (dp > tp), "replicas", "dp")
    degrees = {"num_gpus": num, "tp": tp, "pp": pp, "ep": ep, "dp": dp}
    return degrees | {"layout_open": searched, "gpus_open": gpus_open}


def _widest(model: Facts, room: FloatArray) -> FloatArray:
    """Return the widest tp that is assumed: of 8, 4, 2, 1 what the GPUs and the attention heads allow."""
    tp = np.ones_like(room)
    for degree in _ASSUMED_TP:
        tp = np.where((degree <= room) & (model.n_heads % degree == 0), degree, tp)
    return tp


def split_in_pools(rows: Rows) -> BoolArray:
    """Return where prefill and decode have GPUs of their own: as told, else where a pool is described."""
    split, told = rows.flag("disagg")
    for name in ("prefill_gpus", "decode_gpus", *POOL_COLUMNS):
        implied = ~told & ~split & ~np.isnan(rows.number(name, whole=True))
        rows.note(implied, "implied", "disagg", limit=name)
        split = split | implied
    return split


def _expert_degree(rows: Rows, model: Facts) -> tuple[FloatArray, BoolArray]:
    """Return ep, NaN where it is no number, and where it is on: all GPUs of a copy share the experts."""
    codes, words = rows.text("ep")
    switches = np.array([SWITCHES.stored(word) for word in words])[codes]
    ep, shared_out = rows.number("ep", whole=True, words=np.isin(switches, SWITCHES)), switches == "on"
    dense = (model.is_moe == 0) & (shared_out | (ep > 1.0))
    rows.note(dense, "no-experts-to-spread", "ep")
    return np.where(dense, 1.0, ep), shared_out & ~dense


def pools_of(
    rows: Rows, model: Facts, layout: dict[str, FloatArray], disagg: BoolArray
) -> dict[str, FloatArray]:
    """Lay out the prefill and decode pools; rows without disaggregation use the one layout for both."""
    num, tp, pp, ep, dp = (layout[name] for name in ("num_gpus", "tp", "pp", "ep", "dp"))

    def pool(name: str, missing: FloatArray | float, together: FloatArray) -> FloatArray:
        """Return a pool's column where pools exist, `missing` where not given, `together` elsewhere."""
        return np.where(disagg, default(rows.number(name, whole=True), missing), together)

    rest = num - rows.number("decode_gpus", whole=True)
    prefill = pool("prefill_gpus", np.maximum(default(rest, num // 2), 1.0), num)
    decode = np.maximum(pool("decode_gpus", num - prefill, num), 1.0)

    def within(name: str, wanted: FloatArray, room: FloatArray) -> FloatArray:
        """Return a degree that a pool has the GPUs for."""
        narrow = disagg & (wanted > room)
        known = ~np.isnan(rows.number("tp", whole=True)) | ~np.isnan(rows.number(name, whole=True))
        fits = np.where(model.n_heads % np.maximum(room, 1.0) == 0, room, _widest(model, room))
        fits = np.where(narrow, fits, wanted)
        rows.note(narrow & known, "narrowed", name, wanted, fits)
        return fits

    decode_tp = within("decode_tp", pool("decode_tp", tp, tp), decode)
    prefill_tp = within("prefill_tp", pool("prefill_tp", np.minimum(decode_tp, prefill), tp), prefill)
    rows.note(disagg & (prefill + decode != num), "pools", "num_gpus")
    halved = np.isnan(rows.number("prefill_gpus")) & np.isnan(rest)
    rows.note(disagg & halved, "assumed-half", "prefill_gpus")
    shared = pool("decode_ep", ep, ep)
    rows.note((shared > decode_tp) & (shared == ep), "narrowed", "ep", shared, decode_tp)
    return {
        "num_gpus": np.where(disagg, prefill + decode, num), "tp": decode_tp, "pp": pp,
        "ep": np.minimum(shared, decode_tp),
        "dp": np.minimum(pool("decode_dp", dp, dp), decode_tp),
        "replicas": np.maximum(np.floor(decode / (decode_tp * pp)), 1.0),
        "prefill_gpus": prefill, "prefill_tp": prefill_tp,
        "prefill_ep": np.minimum(pool("prefill_ep", 1.0, ep), prefill_tp),
        "prefill_dp": np.minimum(pool("prefill_dp", 1.0, dp), prefill_tp),
        "prefill_workers": np.where(disagg, np.maximum(np.floor(prefill / prefill_tp), 1.0), 1.0),
    }  # fmt: skip
