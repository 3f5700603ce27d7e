"""What people see: results and the catalogue as tables.

`show(value)` prints a prediction, a curve, an explanation, a comparison, findings or a table, `page` writes
it as HTML for a notebook; no answer needs either.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..data import catalogue
from ..data.columns import ANSWERS, COLUMNS, FIGURES
from ..data.prices import price
from ..features.coefficients import Coefficients
from ..training.model.times import PERCENTS
from .explain import Comparison, Explanation
from .layouts import layout_name
from .load_axis import AT_RATE, IN_FLIGHT
from .load_curve import Curve, LargestLoad
from .narrow import UNBOUNDED, fitting, widths
from .neighbours import CLOSE_LENGTHS, Neighbour
from .prediction import TERMS, Prediction

if TYPE_CHECKING:
    from rich.console import RenderableType

    from .audit import Finding

_TITLES = {name: f"{COLUMNS[name].label} [{COLUMNS[name].unit}]" for name in ANSWERS}
_SHORT = dict(zip(FIGURES, ("TPOT", "TTFT", "output", "mean TTFT"), strict=True))
LABELS = {name: name.replace("_", " ") for name in TERMS}
_UNITS = {IN_FLIGHT: ("in flight", "held at once"), AT_RATE: ("requests/s", "sustained")}
_CURVE = ("output_tok_s", "ttft_ms", "tpot_ms")
TIMES = ("per output token [ms]", "first token [ms]")
_SUPPORT = {
    "in": "this setup was measured, perhaps at another load",
    "near": "model and GPU were measured, in another setup or apart",
    "far": "model, GPU or memory tier was never measured: the answer rests on physics",
}
_PAGE_WIDTH = 110  # characters


def show(*values: Any) -> None:
    """Print results, tables or text on stdout; a table wider than the terminal in parts, never cut."""
    console = Console(highlight=False)
    # A pipe has no width unless somebody says so: a table is folded for people, not for the next program.
    bounded = console.is_terminal or "COLUMNS" in os.environ
    _print(console, values, console.width if bounded else UNBOUNDED)


def page(*values: Any) -> str:
    """Return results as HTML, as `show` prints them: what a notebook draws."""
    # Nothing goes to the notebook by itself: what is recorded is returned.
    nowhere: dict[str, Any] = {"file": io.StringIO(), "force_jupyter": False, "record": True}
    console = Console(**nowhere, width=_PAGE_WIDTH, highlight=False)
    _print(console, values, _PAGE_WIDTH)
    return console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")


def _print(console: Console, values: Iterable[Any], room: int) -> None:
    width = console.width
    for value in values:
        parts = next((draw for kind, draw in _PARTS.items() if isinstance(value, kind)), None)
        for part in parts(value) if parts else (value,):
            for piece in fitting(part, console, room) if isinstance(part, Table) else (part,):
                table = isinstance(piece, Table)
                console.width = max(width, widths(console, piece)[1]) if table else width
                console.print(piece)
    console.width = width


def _prediction(p: Prediction) -> Iterable[RenderableType]:
    yield Text(request_line(p.request), style="bold")
    if not p.feasible:
        yield Text(f"infeasible: {p.reason}", style="red")
        return
    yield from _answers_and_terms(p)
    # The table has the usual percentiles of both times, but not those of single gaps.
    lines = [
        f"{percent:g} % of requests: first token within {number(times['ttft_ms'])} ms, "
        f"{number(times['tpot_ms'])} ms per token"
        for percent, times in p.percentiles.items()
        if percent not in PERCENTS
    ]
    if p.percentiles:
        gaps = (f"{number(times['itl_ms'])} ms (p{percent:g})" for percent, times in p.percentiles.items())
        lines.append(f"gaps between tokens: {', '.join(gaps)}")
    if p.goodput_request_s == p.goodput_request_s:
        limits = (f"{k[:4].upper()} within {number(v)} ms" for k, v in p.request.items() if "_limit_" in k)
        good = p.goodput_request_s / p.request_s if p.request_s else 0.0
        low, high = number(p.goodput_request_s_lo), number(p.goodput_request_s_hi)
        lines.append(
            f"goodput: {number(p.goodput_request_s)} requests/s ({low} to {high}), {good:.0%} of all, with "
            + " and ".join(limits)
        )
    share = f"{p.bottleneck_share:.0%} of the baseline's time per token"
    lines.append(f"bottleneck: {LABELS[p.bottleneck]} ({share})")
    lines.append(f"support: {p.support} ({_SUPPORT[p.support]})")
    yield from map(Text, [*lines, f"note: {p.reason}"] if p.reason else lines)


def request_line(r: Mapping[str, Any]) -> str:
    """Return the request in one line, as it was understood."""
    copies = 1 if r["disagg"] else r["replicas"]
    layout = layout_name(r["tp"], r["pp"], r["ep"], r["dp"], copies)
    layout += f", {r['prefill_gpus']} prefill + {r['decode_gpus']} decode" if r["disagg"] else ""
    speculation = "" if r["spec_decode"] == "none" else f", speculation {r['spec_decode']}"
    rate = r.get("request_rate", math.nan)
    flying = plain(r.get("concurrency", math.nan))
    load = f"{flying} at once" if r["arrival"] == "burst" else f"concurrency {flying}"
    load = f"{plain(rate)} requests/s" if rate == rate else load
    load = load if "concurrency" in r else "at every load"
    return (
        f"{r['model']} on {r['num_gpus']} x {r['gpu']} ({layout}), {r['engine']}, weights "
        f"{r['weight_precision']}, KV {r['kv_precision']}{speculation}, {r['mode']}: "
        f"{plain(r['isl'])} tokens in, {plain(r['osl'])} out, {load}"
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[RenderableType]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for at, head in enumerate(heads):
        table.add_column(Text(head), justify="right" if at else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def _answers_and_terms(p: Prediction) -> Iterable[Table]:
    heads = ("", "predicted", "90 % interval", "baseline", "floor")
    yield _table(heads, ((
        Text(_TITLES[name]), number(getattr(p, name)),
        f"{number(getattr(p, f'{name}_lo'))} to {number(getattr(p, f'{name}_hi'))}",
        number(p.baseline[name]), number(p.floor[name]),
    ) for name in ANSWERS))  # fmt: skip
    shown = shown_terms(p.terms, p.ttft_terms)
    rows = ((LABELS[name], f"{p.terms[name]:z.2f}", f"{p.ttft_terms[name]:z.1f}") for name in shown)
    yield _table(("where the time goes", *TIMES), rows)


def shown_terms(*terms: Mapping[str, float]) -> list[str]:
    """Return the terms that are shown: that of host memory where something lies there."""
    return [name for name in TERMS if name != "host_memory" or any(each[name] for each in terms)]


def _explanation(e: Explanation) -> Iterable[RenderableType]:
    yield Text(request_line(e.prediction.request), style="bold")
    yield from _answers_and_terms(e.prediction)
    times = {"tpot": "a token", "ttft": "first token", "e2e": "end to end"}
    parts = [e.corrections[name] for name in times]
    groups = dict.fromkeys(group for part in parts for group in part.groups)
    rows = [(group, *(f"{part.groups.get(group, 1.0):.2f}" for part in parts)) for group in groups]
    rows.append(("together", *(f"{part.factor:.2f}" for part in parts)))
    yield _table(("the correction multiplies by", *times.values()), rows)
    moved = ((fact, *(f"{by[name]:+z.2f}" for name in FIGURES)) for fact, by in e.sensitivity.items())
    yield _table(("1 % more changes [%]", *_SHORT.values()), moved)
    yield Text("nearest measured rows:")
    yield from (Text(f"- {line}") for line in (*map(_neighbour, e.neighbours), *e.sentences))


def _neighbour(row: Neighbour) -> str:
    """Return one measured row in a line: its figures, in what it differs, who measured it."""
    stated = {name: value for name, value in row.measured.items() if value is not None}
    figures = ", ".join(f"{_SHORT[k]} {number(value)} {COLUMNS[k].unit}" for k, value in stated.items())
    differs = ", ".join(f"{k} {number(v) if isinstance(v, float) else v}" for k, v in row.differs.items())
    setup = f"but {differs}" if differs else "the same setup"
    return f"{figures}; {setup} ({row.source}, {row.date or 'no date'}, {row.row_id})"


def _comparison(c: Comparison) -> Iterable[RenderableType]:
    yield Text(f"against {request_line(c.second.request)}", style="bold")
    yield _table(("", "this", "other", "this / other"), (
        (Text(_TITLES[k]), *map(number, (getattr(c.first, k), getattr(c.second, k), c.ratios[k])))
        for k in ANSWERS
    ))  # fmt: skip
    shown = shown_terms(c.first.terms, c.first.ttft_terms, c.second.terms, c.second.ttft_terms)
    terms = ((LABELS[k], f"{c.terms[k]:+z.2f}", f"{c.ttft_terms[k]:+z.1f}") for k in shown)
    yield _table(("this - other", *TIMES), terms)
    yield Text(f"- {c.reason}.")


def _curve(c: Curve, whole: bool = True) -> Iterable[RenderableType]:
    yield Text(request_line(c.request), style="bold")
    if not c.feasible:
        yield Text(f"infeasible: {c.reason}", style="red")
        return
    # A short table leaves out the middles between powers of two.
    points = [p for p in c.points if whole or p[c.over] == c.most or math.log2(p[c.over]) % 1.0 == 0.0]
    yield _loads(c, "90 %\ninterval", ("KV\n[GB]", "free\n[GB]"), ((
        p[c.over], [(short(p[k]), f"{short(p[f'{k}_lo'])}-{short(p[f'{k}_hi'])}") for k in _CURVE],
        (short(p["kv_bytes"] / 1e9), short(p["free_bytes"] / 1e9)),
    ) for p in points))  # fmt: skip
    if c.measured and whole:
        newest = {row.load: row for row in sorted(c.measured, key=lambda row: row.date)}
        found = {load: (newest[load].measured, c.at(load)) for load in sorted(newest)}
        yield _loads(c, "pre-\ndicted", ("measured",), (
            (load, [(short(here[k] or math.nan), short(there[k])) for k in _CURVE], (newest[load].date,))
            for load, (here, there) in found.items()
        ))  # fmt: skip
        sources = sorted({row.source for row in newest.values()})
        yield Text(f"measured by {', '.join(sources)}, tokens in and out within {CLOSE_LENGTHS - 1:.0%}")
    yield from map(Text, curve_lines(c))
    yield Text(f"support: {c.support} ({_SUPPORT[c.support]})")
    if c.reason:
        yield Text(f"note: {c.reason}")


def _loads(
    c: Curve, beside: str, last: Sequence[str],
    rows: Iterable[tuple[float, Sequence[tuple[str, str]], Sequence[str]]],
) -> Table:  # fmt: skip
    """Return a table of loads: three figures with something beside each, then what else there is."""
    figures = (f"{_SHORT[k]}\n[{COLUMNS[k].unit}]" for k in _CURVE)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    first = "in\nflight" if c.over == IN_FLIGHT else "requ.\n[1/s]"
    for head in (first, *chain.from_iterable((figure, beside) for figure in figures), *last):
        table.add_column(Text(head), justify="right", no_wrap=True)
    for load, cells, rest in rows:
        table.add_row(plain(load, 4), *chain.from_iterable(cells), *rest)
    return table


def curve_lines(c: Curve) -> tuple[str, str]:
    """Return where throughput saturates and what memory and engine hold, of a curve that has loads."""
    knee, gb = c.at(c.saturation or c.most), {k: f"{v / 1e9:.3g} GB" for k, v in c.memory.items()}
    (unit, most), output = _UNITS[c.over], number(knee["output_tok_s"])
    return (
        f"saturation: {plain(c.saturation or c.most, 4)} {unit} give {output} tok/s, 95 % of the most; "
        f"{plain(c.most, 4)} {unit} are {most}",
        f"memory per GPU: {gb['available_bytes']} for weights ({gb['weights_bytes']}) and KV "
        f"({gb['sequence_bytes']} per request of full length)",
    )


def largest_line(found: LargestLoad) -> str:
    """Return which load holds which limits, and what breaks first."""
    names = {name: f"{_SHORT[name]} p{found.percentile:g}" for name in found.limits}
    asked = " and ".join(f"{names[name]} to {limit:g} ms" for name, limit in found.limits.items())
    times = ", ".join(f"{names[name]} {number(time)} ms" for name, time in found.times.items())
    if found.load is None:
        missed = "it does not fit" if found.limited_by == "memory" else f"the least of any load is {times}"
        return f"no load holds {asked}: {missed}"
    unit, most = _UNITS[found.over]
    low, high = (plain(load, 4) if load else "none" for load in (found.load_lo, found.load_hi))
    by = f"no more are {most}" if found.limited_by == "capacity" else f"more breaks {names[found.limited_by]}"
    return (
        f"largest load with {asked}: {plain(found.load, 4)} {unit} (90 % interval {low} to {high}); "
        f"there {times}; {by}"
    )


def _largest(found: LargestLoad) -> Iterable[RenderableType]:
    yield Text(largest_line(found), style="bold" if found.load else "red")


def _findings(findings: Sequence[Finding]) -> Iterable[RenderableType]:
    heads = ("figure", "claimed", "verdict", "floor", "baseline", "predicted", "90 % interval")
    yield _table(heads, ((
        f.figure, number(f.claimed), f.verdict, *map(number, (f.bound, f.baseline, f.predicted)),
        f"{number(f.predicted_lo)} to {number(f.predicted_hi)}",
    ) for f in findings))  # fmt: skip
    yield from (Text(f"- {f.figure} is {f.verdict}: {f.reason}.") for f in findings)
    yield from (Text(f"note: {assumed}") for assumed in dict.fromkeys(f.assumed for f in findings) if assumed)


def show_short(curve: Curve) -> None:
    """Print a curve with a line for each power of two, and how to ask for one load."""
    for part in _curve(curve, whole=False):
        show(part)
    if curve.feasible:
        show(Text("one load: --concurrency N or --request-rate R; the whole curve: roofcast curve"))


_PARTS: dict[type, Callable[[Any], Iterable[RenderableType]]] = {
    Prediction: _prediction, Curve: _curve, LargestLoad: _largest, Explanation: _explanation,
    Comparison: _comparison, list: _findings,
}  # fmt: skip


def listing(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return rows, all with the same names, as a table; numbers to the right."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    for name, first in rows[0].items():
        heads = name.split("_")
        width = max(map(len, (*heads, *(_cell(row[name]) for row in rows))))
        table.add_column(" ".join(heads), justify="left" if isinstance(first, str) else "right", width=width)
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    return table


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return number(value) if value else "-"
    return str(value) or "-"


def number(value: float) -> str:
    """Write a number with about four digits, "-" for none.

    >>> number(12345.6), number(123.44), number(1.2344), number(float("nan"))
    ('12,346', '123.4', '1.234', '-')
    """
    if value != value:
        return "-"
    size = abs(value)
    whole = size >= 1000 or (float(value).is_integer() and size < 1e15)
    return f"{value:,.{0 if whole else 1 if size >= 100 else 2 if size >= 10 else 3}f}"


def plain(value: float, digits: int = 6) -> str:
    """Write a number with so many digits, all of a large one.

    >>> plain(921.6), plain(1048576.0), plain(5.1149, 4), plain(18432.2, 4)
    ('921.6', '1048576', '5.115', '18432')
    """
    return f"{value:.0f}" if value >= 10.0**digits else f"{value:.{digits}g}"


def short(value: float) -> str:
    """Write a number with three digits in at most five characters, "-" for none.

    >>> short(123456.0), short(12345.6), short(1234.5), short(12.345), short(float("nan"))
    ('123k', '12.3k', '1234', '12.3', '-')
    """
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= 10.0 * size:
            return f"{value / size:.{0 if value >= 100.0 * size else 1}f}{unit}"
    return "-" if value != value else f"{value:.{0 if value >= 99.95 else 1 if value >= 9.995 else 2}f}"


# By command: what it lists, what else of an entry is searched, and a row of its table.
_LISTED: dict[str, tuple[Callable[[], Mapping[str, Any]], str, Callable[[Any], dict[str, Any]]]] = {
    "models": (catalogue.models, "family", lambda model: {
        "name": model.name, "params_b": round(model.params_total / 1e9, 1),
        "active_b": round(model.params_active / 1e9, 1), "layers": model.n_layers, "d_model": model.d_model,
        "heads": model.n_heads, "kv_heads": model.n_kv_heads, "attention": model.attention,
        "experts": model.n_experts, "weights": model.native_weight_precision,
        "max_tokens": model.max_position,
    }),
    "gpus": (catalogue.gpus, "architecture", lambda gpu: {
        "name": gpu.name, "architecture": gpu.architecture, "memory_gb": round(gpu.memory_bytes / 1e9),
        "memory_gb_s": round(gpu.memory_bandwidth / 1e9),
        **{f"{p}_tflops": round(gpu.flops.get(p, 0.0) / 1e12) for p in ("bf16", "fp8", "fp4")},
        "link": gpu.link, "link_gb_s": round(gpu.link_bandwidth / 1e9), "tdp_w": round(gpu.tdp_w),
    }),
    "platforms": (catalogue.platforms, "gpu", lambda box: {
        "name": box.name, "gpu": box.gpu, "num_gpus": box.num_gpus, "domain": box.scale_up_domain,
        "link_gb_s": round(box.link_bandwidth / 1e9), "host_memory_gb": round(box.host_memory_bytes / 1e9),
        "c2c_gb_s": round(box.c2c_bandwidth / 1e9), "nic_gb_s": round(box.nic_bandwidth / 1e9),
        "power_w": round(box.power_w),
        "price_usd": round(bought.usd) if (bought := price(box.name, "purchase")) else 0,
    }),
}  # fmt: skip


def catalogue_rows(kind: str, text: str = "") -> list[dict[str, Any]]:
    """Return the "models", "gpus" or "platforms" whose name, alias or kind holds `text`, in short."""
    entries, also, row = _LISTED[kind]
    return [row(e) for e in entries().values() if _holds(text, e.name, *e.aliases, getattr(e, also))]


def coefficient_rows(coefficients: Coefficients, text: str = "") -> list[dict[str, Any]]:
    """Return the coefficients whose name or unit holds `text`: value, standard error, rows, bounds, prior."""
    columns = ("value", "unit", "standard_error", "rows", "low", "high", "prior")
    found = {k: entry for k, entry in coefficients.entries.items() if _holds(text, k, entry.unit)}
    return [{"name": k, **{name: getattr(entry, name) for name in columns}} for k, entry in found.items()]


def _holds(text: str, *names: str) -> bool:
    return text.strip().lower() in "\n".join(names).lower()
