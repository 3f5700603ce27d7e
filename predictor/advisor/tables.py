"""What the advisor and a sweep found, as tables and text for people."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from .recommendation import Deployment, Recommendation, Replacement

if TYPE_CHECKING:
    from rich.console import RenderableType

    from .sweep import Sweep

_RANKING = ("", "replica", "engine", "output tok/s", "TTFT ms", "TPOT ms", "hold", "$/h", "cost")
_SWEPT = {
    "concurrency": "in flight", "tok_s_per_gpu": "tok/s/GPU", "tok_s_per_user": "tok/s/user",
    "ttft_ms": "TTFT ms", "usd_per_m_output": "$/M out",
}  # fmt: skip


def recommendation_tables(r: Recommendation) -> Iterable[RenderableType]:
    """Yield the question, the ranking, the economics of the first, the crossovers and what was rejected."""
    w = r.workload
    limits = f"TTFT to {w.ttft_ms:g} ms and TPOT to {w.tpot_ms:g} ms at p{w.percentile:g}"
    asked = f"{r.model}: {w.load_text()}, {limits}, with probability {r.confidence:g} or more"
    yield Text(asked, style="bold")
    if not r.best:
        closest = "; the closest" if r.closest else ""
        yield Text(f"no deployment holds these limits{closest}: {r.limited_by}", style="red")
    shown = r.ranked or ((r.closest,) if r.closest else ())
    if shown:
        yield _table(_RANKING, 3, (_cells(d) for d in shown))
    if r.best:
        yield Text(r.reason(r.best))
        yield Text(_economics(r.best))
    for cross in r.crossovers:
        yield Text(f"{cross.direction} about {w.load_text(cross.load)}: {cross.platform}")
    platforms: dict[str, list[str]] = {}
    for platform, reason in r.rejected.items():
        platforms.setdefault(str(reason), []).append(platform)
    yield from (Text(f"not {', '.join(names)}: {reason}") for reason, names in platforms.items())
    yield from (Text(f"note: {note}") for note in r.notes)


def replacement_text(r: Replacement) -> str:
    """Return how many platforms one replaces, in one sentence."""
    return f"one {r.platform} replaces {r.value:.1f} {r.instead} ({r.lo:.1f} to {r.hi:.1f})"


def sweep_tables(sweep: Sweep, most: int = 24) -> Iterable[RenderableType]:
    """Yield what a sweep did, and its speed fronts thinned to about `most` rows."""
    yield Text(
        f"{sweep.valid:,} valid of {sweep.rows:,} configurations, {sweep.corrected:,} corrected, in "
        f"{sweep.seconds:.1f} s; parts, front.parquet and sweep.html in {sweep.folder}"
    )
    order = ["platform", "isl", "osl", "tok_s_per_user"]
    fast = sweep.front[sweep.front["on_speed_front"]].sort_values(order)
    rows = fast.iloc[:: max(1, math.ceil(len(fast) / most))].to_dict("records")
    header = ("platform", "in/out", "replica", "engine", *_SWEPT.values())
    yield _table(
        header,
        4,
        (
            (r["platform"], f"{r['isl']:g}/{r['osl']:g}", f"tp{r['tp']} {r['weight_precision']}", r["engine"],
             *(_number(r[name]) for name in _SWEPT))
            for r in rows
        ),
    )  # fmt: skip


def _table(header: Sequence[str], left: int, rows: Iterable[Sequence[str]]) -> Table:
    """Return a table whose first `left` columns are text."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(header):
        table.add_column(Text(name), justify="left" if number < left else "right")
    for row in rows:
        table.add_row(*row)
    return table


def _cells(d: Deployment) -> tuple[str, ...]:
    return (
        d.what, f"{d.layout} {d.weight_precision} x {d.replicas}", d.engine, _number(d.output_tok_s[""]),
        _number(d.ttft_ms[""]), _number(d.tpot_ms[""]), f"{d.probability:.0%}",
        f"{d.cost.usd_per_hour:,.2f}", "-" if math.isnan(d.cost_ratio) else f"{d.cost_ratio:.2f}x",
    )  # fmt: skip


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
