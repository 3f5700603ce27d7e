"""A recommendation as tables for people."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from .recommendation import Deployment, Recommendation, Replacement

if TYPE_CHECKING:
    from rich.console import RenderableType

    from .sweep import Sweep

_COLUMNS = ("", "replica", "engine", "output tok/s", "TTFT ms", "TPOT ms", "hold", "$/h", "cost")


def recommendation_tables(r: Recommendation) -> Iterable[RenderableType]:
    """Yield the question, the ranking, the economics of the first, the crossovers and what was rejected."""
    w = r.workload
    yield Text(
        f"{r.model}: {w.load_text()}, TTFT to {w.ttft_ms:g} ms and TPOT to {w.tpot_ms:g} ms at "
        f"p{w.percentile:g}, with probability {r.confidence:g} or more",
        style="bold",
    )
    shown = r.ranked or ((r.closest,) if r.closest else ())
    if not r.ranked:
        yield Text(
            f"no deployment holds these limits{'; the closest' if r.closest else ''}: {r.limited_by}",
            style="red",
        )
    if shown:
        yield _ranking(shown)
    if r.best:
        yield Text(r.reason(r.best))
        yield Text(_economics(r.best))
    for cross in r.crossovers:
        yield Text(f"{cross.direction} about {w.load_text(cross.load)}: {cross.platform}")
    reasons: dict[str, list[str]] = {}
    for rejected in r.rejected:
        reasons.setdefault(str(rejected.reason), []).append(rejected.platform)
    for reason, platforms in reasons.items():
        yield Text(f"not {', '.join(platforms)}: {reason}")
    for note in r.notes:
        yield Text(f"note: {note}")


def replacement_text(r: Replacement) -> str:
    """Return how many platforms one replaces, in one sentence."""
    return f"one {r.platform} replaces {r.value:.1f} {r.instead} ({r.lo:.1f} to {r.hi:.1f})"


def _ranking(deployments: Iterable[Deployment]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(_COLUMNS):
        table.add_column(Text(name), justify="right" if number > 2 else "left")
    for d in deployments:
        table.add_row(
            d.what, f"{d.layout} {d.weight_precision} x {d.replicas}", d.engine, _number(d.output_tok_s[""]),
            _number(d.ttft_ms[""]), _number(d.tpot_ms[""]), f"{d.probability:.0%}",
            f"{d.cost.usd_per_hour:,.2f}", "-" if math.isnan(d.cost_ratio) else f"{d.cost_ratio:.2f}x",
        )  # fmt: skip
    return table


def _economics(d: Deployment) -> str:
    c = d.cost
    return (
        f"90 % intervals: output {_range(d.output_tok_s)} tok/s, TTFT {_range(d.ttft_ms)} ms, TPOT "
        f"{_range(d.tpot_ms)} ms; batch {d.batch:,.3g} per replica; limited by {d.bottleneck}; support "
        f"{d.support}\nbought for ${c.purchase_usd:,.0f} (${_number(c.usd_per_tok_s)} per tok/s); per "
        f"million tokens ${_number(c.usd_per_m_output)} out ({_number(c.usd_per_m_output_lo)} to "
        f"{_number(c.usd_per_m_output_hi)}), ${_number(c.usd_per_m_total)} in and out; "
        f"{_number(c.tokens_per_joule)} tokens per joule; owning beats renting above "
        f"{c.break_even_utilisation:.0%} of the hours"
    )


def _range(values: Mapping[str, float]) -> str:
    return f"{_number(values[''])} ({_number(values['_lo'])} to {_number(values['_hi'])})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


_SWEPT = ("concurrency", "tok_s_per_gpu", "tok_s_per_user", "ttft_ms", "usd_per_m_output")


def sweep_tables(sweep: Sweep, most: int = 24) -> Iterable[RenderableType]:
    """Yield what a sweep did, and its speed fronts thinned to about `most` rows."""
    yield Text(
        f"{sweep.valid:,} valid of {sweep.rows:,} configurations, {sweep.corrected:,} corrected, in "
        f"{sweep.seconds:.1f} s; parts, front.parquet and sweep.html in {sweep.folder}"
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    counted = ("in flight", "tok/s/GPU", "tok/s/user", "TTFT ms", "$/M out")
    for number, name in enumerate(("platform", "in/out", "replica", "engine", *counted)):
        table.add_column(Text(name), justify="right" if number > 3 else "left")
    fast = sweep.front[sweep.front["on_speed_front"]].sort_values(
        ["platform", "isl", "osl", "tok_s_per_user"]
    )
    for row in fast.iloc[:: max(1, math.ceil(len(fast) / most))].to_dict("records"):
        table.add_row(
            row["platform"], f"{row['isl']:g}/{row['osl']:g}", f"tp{row['tp']} {row['weight_precision']}",
            row["engine"], *(_number(row[name]) for name in _SWEPT),
        )  # fmt: skip
    yield table
