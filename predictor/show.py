"""What people see: results and the catalogue as tables, an explanation as a drawing.

`show(value)` prints a prediction, an explanation, a comparison or a table; nothing here is needed to answer.
"""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..data import catalogue
from ..data.columns import ANSWERS, BOUNDS, COLUMNS, FIGURES
from ..data.errors import BadRequest
from ..data.prices import price
from ..features.coefficients import Coefficients
from .explain import Comparison, Explanation
from .neighbours import Neighbour
from .prediction import TERMS, Prediction

if TYPE_CHECKING:
    from rich.console import RenderableType

    from .audit import Finding

_TITLES = {name: f"{COLUMNS[name].label} [{COLUMNS[name].unit}]" for name in ANSWERS}
_SHORT = dict(zip(FIGURES, ("TPOT", "TTFT", "output"), strict=True))
_SUPPORT = {
    "in": "this setup was measured, perhaps at another load",
    "near": "model and GPU were measured, in another setup or apart",
    "far": "model, GPU or memory tier was never measured: the answer rests on physics",
}
_DRAWINGS = (".png", ".svg", ".html")
_UNBOUNDED = 1000


def show(value: Any) -> None:
    """Print a result, a table or text on stdout, uncut where stdout is a pipe."""
    parts = _PARTS.get(type(value))
    console = Console(highlight=False)
    width, unbounded = console.width, console.options.update(width=_UNBOUNDED)
    for part in parts(value) if parts else (value,):
        # A pipe has no width: a table is cut for people, never for the next program.
        if isinstance(part, Table) and not console.is_terminal:
            console.width = max(width, console.measure(part, options=unbounded).maximum)
        console.print(part)
        console.width = width


def _prediction(p: Prediction) -> Iterable[RenderableType]:
    """Yield the request, the answers or why there are none, the terms, the percentiles and the notes."""
    yield Text(request_line(p.request), style="bold")
    if not p.feasible:
        yield Text(f"infeasible: {p.reason}", style="red")
        return
    yield from _answers_and_terms(p)
    for percent, times in p.percentiles.items():
        ttft, tpot, itl = (number(times[name]) for name in ("ttft_ms", "tpot_ms", "itl_ms"))
        yield Text(
            f"{percent:g} % of requests: first token within {ttft} ms, {tpot} ms per token; "
            f"of single gaps: {itl} ms"
        )
    share = f"({p.bottleneck_share:.0%} of the baseline's time per token)"
    yield Text(f"bottleneck: {p.bottleneck.replace('_', ' ')} {share}")
    yield Text(f"support: {p.support} ({_SUPPORT[p.support]})")
    if p.reason:
        yield Text(f"note: {p.reason}")


def request_line(request: Mapping[str, Any]) -> str:
    """Return the request in one line, as it was understood."""
    degrees = ("tp", "pp", "ep", "dp")
    layout = " ".join(f"{name}{request[name]}" for name in degrees if request[name] > 1 or name == "tp")
    spec = "" if request["spec_decode"] == "none" else f", speculation {request['spec_decode']}"
    pools = (
        f", {request['prefill_gpus']} prefill + {request['decode_gpus']} decode" if request["disagg"] else ""
    )
    rate = request["request_rate"]
    load = f"{rate:g} requests/s" if rate == rate else f"concurrency {request['concurrency']:g}"
    return (
        f"{request['model']} on {request['num_gpus']} x {request['gpu']} ({layout}{pools}), "
        f"{request['engine']}, weights {request['weight_precision']}, KV {request['kv_precision']}{spec}, "
        f"{request['mode']}: {request['isl']:g} tokens in, {request['osl']:g} out, {load}"
    )


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for place, name in enumerate(columns):
        table.add_column(Text(name), justify="right" if place else "left", no_wrap=True)
    return table


def _answers_and_terms(p: Prediction) -> Iterable[Table]:
    answers = _table("", "predicted", "90 % interval", "baseline", "floor")
    for name in ANSWERS:
        value, low, high = (number(getattr(p, f"{name}{bound}")) for bound in BOUNDS)
        levels = number(p.baseline[name]), number(p.floor[name])
        answers.add_row(Text(_TITLES[name]), value, f"{low} to {high}", *levels)
    yield answers
    terms = _table("where the time goes", "per output token [ms]", "first token [ms]")
    for name in TERMS:
        if name != "host_memory" or p.terms[name] or p.ttft_terms[name]:  # else nothing lies there
            terms.add_row(name.replace("_", " "), f"{p.terms[name]:.2f}", f"{p.ttft_terms[name]:.1f}")
    yield terms


def _explanation(explanation: Explanation) -> Iterable[RenderableType]:
    """Yield terms and levels, the correction, what moves the answer, the nearest rows and the sentences."""
    yield Text(request_line(explanation.prediction.request), style="bold")
    yield from _answers_and_terms(explanation.prediction)
    times = {"tpot": "a token", "ttft": "first token", "e2e": "end to end"}
    parts = [explanation.corrections[name] for name in times]
    table = _table("the correction multiplies by", *times.values())
    for group in dict.fromkeys(group for part in explanation.corrections.values() for group in part.groups):
        table.add_row(group, *(f"{part.groups.get(group, 1.0):.2f}" for part in parts))
    table.add_row("together", *(f"{part.factor:.2f}" for part in parts))
    yield table
    table = _table("1 % more changes [%]", *(_SHORT[name] for name in FIGURES))
    for fact, moved in explanation.sensitivity.items():
        table.add_row(fact, *(f"{moved[name]:+.2f}" for name in FIGURES))
    yield table
    yield Text("nearest measured rows:")
    yield from (Text(f"- {_neighbour(row)}") for row in explanation.neighbours)
    yield from (Text(f"- {sentence}") for sentence in explanation.sentences)


def _neighbour(row: Neighbour) -> str:
    """Return one measured row in a line: its figures, in what it differs, who measured it."""
    stated = {name: value for name, value in row.measured.items() if value is not None}
    figures = ", ".join(f"{_SHORT[k]} {number(value)} {COLUMNS[k].unit}" for k, value in stated.items())
    differs = ", ".join(f"{k} {number(v) if isinstance(v, float) else v}" for k, v in row.differs.items())
    setup = f"but {differs}" if differs else "the same setup"
    return f"{figures}; {setup} ({row.source}, {row.date or 'no date'}, {row.row_id})"


def _comparison(comparison: Comparison) -> Iterable[RenderableType]:
    """Yield two predictions side by side, the difference term by term, and its largest reason."""
    yield Text(f"against {request_line(comparison.second.request)}", style="bold")
    table = _table("", "this", "other", "this / other")
    for name in ANSWERS:
        values = (getattr(comparison.first, name), getattr(comparison.second, name), comparison.ratios[name])
        table.add_row(Text(_TITLES[name]), *map(number, values))
    yield table
    table = _table("this - other", "per output token [ms]", "first token [ms]")
    for name in TERMS:
        terms = f"{comparison.terms[name]:+.2f}", f"{comparison.ttft_terms[name]:+.1f}"
        table.add_row(name.replace("_", " "), *terms)
    yield table
    yield Text(f"- {comparison.reason}.")


_PARTS: dict[type, Callable[[Any], Iterable[RenderableType]]] = {
    Prediction: _prediction,
    Explanation: _explanation,
    Comparison: _comparison,
}


def show_findings(findings: Sequence[Finding]) -> None:
    """Print the audit of one claim: a row per figure, and each verdict's reason."""
    table = _table("figure", "claimed", "verdict", "floor", "baseline", "predicted", "90 % interval")
    table.collapse_padding = True
    for f in findings:
        numbers = map(number, (f.bound, f.baseline, f.predicted))
        interval = f"{number(f.predicted_lo)} to {number(f.predicted_hi)}"
        table.add_row(f.figure, number(f.claimed), f.verdict, *numbers, interval)
    for part in (table, *(Text(f"- {f.figure} is {f.verdict}: {f.reason}.") for f in findings)):
        show(part)


def listing(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return rows, all with the same names, as a table; numbers to the right."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    for name, first in rows[0].items():
        heads = name.split("_")
        width = max(len(text) for text in (*heads, *(_cell(row[name]) for row in rows)))
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
    if float(value).is_integer() and size < 1e15:
        return f"{value:,.0f}"
    decimals = 0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 10 else 3
    return f"{value:,.{decimals}f}"


def model_rows(text: str = "") -> list[dict[str, Any]]:
    """Return the models whose name, alias or family holds `text`, with their shape in short."""
    return [
        {
            "name": spec.name, "params_b": round(spec.params_total / 1e9, 1),
            "active_b": round(spec.params_active / 1e9, 1), "layers": spec.n_layers, "d_model": spec.d_model,
            "heads": spec.n_heads, "kv_heads": spec.n_kv_heads, "attention": spec.attention,
            "experts": spec.n_experts, "weights": spec.native_weight_precision,
            "max_tokens": spec.max_position,
        }
        for spec in catalogue.models().values()
        if _holds(text, spec.name, *spec.aliases, spec.family)
    ]  # fmt: skip


def gpu_rows(text: str = "") -> list[dict[str, Any]]:
    """Return the GPUs whose name, alias or architecture holds `text`, with memory, rates and dense peaks."""
    return [
        {
            "name": spec.name, "architecture": spec.architecture, "memory_gb": round(spec.memory_bytes / 1e9),
            "memory_gb_s": round(spec.memory_bandwidth / 1e9),
            **{f"{p}_tflops": round(spec.flops.get(p, 0.0) / 1e12) for p in ("bf16", "fp8", "fp4")},
            "link": spec.link, "link_gb_s": round(spec.link_bandwidth / 1e9), "tdp_w": round(spec.tdp_w),
        }
        for spec in catalogue.gpus().values()
        if _holds(text, spec.name, *spec.aliases, spec.architecture)
    ]  # fmt: skip


def platform_rows(text: str = "") -> list[dict[str, Any]]:
    """Return the platforms whose name, alias or GPU holds `text`, with size, fabric and host memory."""
    return [
        {
            "name": spec.name, "gpu": spec.gpu, "num_gpus": spec.num_gpus, "domain": spec.scale_up_domain,
            "link_gb_s": round(spec.link_bandwidth / 1e9),
            "host_memory_gb": round(spec.host_memory_bytes / 1e9),
            "c2c_gb_s": round(spec.c2c_bandwidth / 1e9), "nic_gb_s": round(spec.nic_bandwidth / 1e9),
            "power_w": round(spec.power_w), "price_usd": round(bought.usd) if bought else 0,
        }
        for spec in catalogue.platforms().values()
        for bought in (price(spec.name, "purchase"),)
        if _holds(text, spec.name, *spec.aliases, spec.gpu)
    ]  # fmt: skip


def coefficient_rows(coefficients: Coefficients, text: str = "") -> list[dict[str, Any]]:
    """Return the coefficients whose name or unit holds `text`: value, standard error, rows, bounds, prior."""
    columns = ("value", "unit", "standard_error", "rows", "low", "high", "prior")
    return [
        {"name": name, **{column: getattr(entry, column) for column in columns}}
        for name, entry in coefficients.entries.items()
        if _holds(text, name, entry.unit)
    ]


def _holds(text: str, *names: str) -> bool:
    return text.strip().lower() in "\n".join(names).lower()


def draw(explanation: Explanation, path: Path) -> None:
    """Draw terms, levels and elasticities to a .png, .svg or .html file (one that loads nothing else).

    Raises BadRequest for another suffix or a folder that is not there.
    """
    from matplotlib.figure import Figure

    if path.suffix not in _DRAWINGS:
        raise BadRequest("plot", str(path), f"a file ending in {', '.join(_DRAWINGS)}")
    if not path.parent.is_dir():
        raise BadRequest("plot", str(path), "a file in a folder that exists")
    p = explanation.prediction
    title = request_line(p.request)
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    figure.suptitle(title, fontsize=9)
    *panels, last = figure.subplots(1, 3)
    times = (
        ("tpot_ms", "time per output token [ms]", p.terms),
        ("ttft_ms", "first token [ms]", p.ttft_terms),
    )
    for axis, (name, label, terms) in zip(panels, times, strict=True):
        levels = {"predicted": getattr(p, name), "baseline": p.baseline[name], "floor": p.floor[name]}
        bars = {term.replace("_", " "): terms[term] for term in TERMS} | levels
        colours = ["tab:blue"] * len(TERMS) + ["tab:green", "tab:orange", "tab:gray"]
        axis.barh([*bars], [*bars.values()], color=colours)
        axis.set_xlabel(label)
    moved = {fact: values["tpot_ms"] for fact, values in explanation.sensitivity.items()}
    last.barh([*moved], [*moved.values()], color="tab:purple")
    last.set_xlabel("elasticity of a token [-]")
    for axis in figure.axes:
        axis.invert_yaxis()
    if path.suffix != ".html":
        figure.savefig(path, dpi=150)
        return
    drawing = io.StringIO()
    figure.savefig(drawing, format="svg")
    svg = drawing.getvalue()
    head = html.escape(title)
    sentences = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in explanation.sentences)
    path.write_text(
        f'<!doctype html><meta charset="utf-8"><title>{head}</title><h1>{head}</h1>'
        f"<ul>{sentences}</ul>{svg[svg.index('<svg') :]}\n",
        encoding="utf-8",
    )
