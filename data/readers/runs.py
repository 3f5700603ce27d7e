"""What readers share of a run: the load offered, requests that failed, what clients of vLLM's kin add up."""

from __future__ import annotations

import math
from typing import Any

from .base import ASK, Draft, Record, drop, fill, refuse, remark, setting

FEWEST_DONE = 0.9
AT_CAP = 0.9
RATE_REACHED = 0.8
UNSTEADY_WEIGHT = 0.5


def completed(draft: Draft, done: Any, asked: Any) -> None:
    """Refuse a run in which more than a tenth of the requests failed; note where some did."""
    good, wanted = setting(done), setting(asked)
    if good < FEWEST_DONE * wanted:
        refuse(draft, "failed-requests", value=good, allowed=wanted)
    elif good < wanted:
        remark(draft, "some-failed", value=good, allowed=wanted)


def in_flight(draft: Draft) -> float:
    """Return the mean number of requests in flight by Little's law, NaN where a figure is missing."""
    given = [draft.get(name, math.nan) for name in ("ttft_mean_ms", "tpot_mean_ms", "osl", "req_tput")]
    ttft, tpot, osl, rate = given
    return float(rate * draft.get("e2e_mean_ms", ttft + tpot * (osl - 1)) / 1000.0)


def load(draft: Draft, *, rate: Any = None, cap: Any = None, requests: Any = None) -> None:
    """Settle the mode from the client's settings, none or infinite where it had none.

    No rate but a cap on requests in flight: a closed loop. All requests within the cap, or neither: a burst,
    whose TTFT is the draining of its own queue; where nobody says of how many, it is dropped. A rate: an open
    loop, unless the requests in flight stood at the cap, which makes it closed. Where clearly more were
    served than the rate asks for, arrivals came in clumps and the rate is the one served.
    """
    rate, cap, requests = setting(rate), setting(cap), setting(requests)
    if 0 < rate < math.inf and in_flight(draft) >= AT_CAP * cap:
        draft.update(mode="closed-loop", concurrency=cap)
        remark(draft, "held-at-cap", value=rate)
    elif 0 < rate < math.inf:
        served = draft.get("req_tput", math.nan)
        overrun = served * RATE_REACHED > rate
        draft.update(mode="open-loop", request_rate=served if overrun else rate)
        if overrun or served < RATE_REACHED * rate:
            draft["weight"] = UNSTEADY_WEIGHT
            remark(draft, "more-came" if overrun else "fewer-served", value=rate)
    elif 0 < requests < math.inf and not 0 < cap < requests:
        draft.update(mode="offline", concurrency=requests)
    elif 0 < cap < math.inf:
        draft.update(mode="closed-loop", concurrency=cap)
    else:
        draft["mode"] = "offline"
        drop(draft, "ttft_")
        remark(draft, "burst")


def lengths(draft: Draft, record: Record) -> None:
    """Fill isl and osl from the totals of vLLM's client and its kin, over the requests that completed."""
    good = setting(record.get("completed"))
    if good > 0:
        fill(draft, record, {f"total_{way}_tokens": (f"{way[0]}sl", 1 / good) for way in ("input", "output")})


def tokens_per_step(draft: Draft, record: Record, given: Any) -> None:
    """Mark a run with speculative decoding, whose kind no client knows; else let ITL stand in for TPOT.

    The mean of inter-token latencies, between a stream's chunks over all requests, is the mean TPOT, unless
    speculation sends several tokens at a time: then it is a time per step, which is none.
    """
    accepted = setting(given)
    if accepted > 1:
        draft["spec_decode"] = draft.get("spec_decode") or ASK
        remark(draft, "tokens-per-step", value=accepted)
    elif not any(name.startswith("tpot_") for name in draft):
        fill(draft, record, {"mean_itl_ms": "tpot_mean_ms", "median_itl_ms": "tpot_p50_ms"})
        draft.update(tpot_mean_is="itl", tpot_p50_is="itl")
