"""What people see: results and the catalogue as tables, an explanation as a drawing.

`show(value)` prints a prediction, an explanation, a comparison, findings or a table; no answer needs it.
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
from ..data.columns import ANSWERS, COLUMNS, FIGURES
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
_LABELS = {name: name.replace("_", " ") for name in TERMS}
_TIMES = ("per output token [ms]", "first token [ms]")
_SUPPORT = {
    "in": "this setup was measured, perhaps at another load",
    "near": "model and GPU were measured, in another setup or apart",
    "far": "model, GPU or memory tier was never measured: the answer rests on physics",
}
_DRAWINGS = (".png", ".svg", ".html")


def show(value: Any) -> None:
    """Print a result, a table or text on stdout, uncut where stdout is a pipe."""
    parts, console = _PARTS.get(type(value)), Console(highlight=False)
    width, unbounded = console.width, console.options.update(width=1000)
    for part in parts(value) if parts else (value,):
        # A pipe has no width: a table is cut for people, never for the next program.
        if isinstance(part, Table) and not console.is_terminal:
            console.width = max(width, console.measure(part, options=unbounded).maximum)
        console.print(part)
        console.width = width


def _prediction(p: Prediction) -> Iterable[RenderableType]:
    yield Text(request_line(p.request), style="bold")
    if not p.feasible:
        yield Text(f"infeasible: {p.reason}", style="red")
        return
    yield from _answers_and_terms(p)
    lines = [
        f"{percent:g} % of requests: first token within {number(times['ttft_ms'])} ms, "
        f"{number(times['tpot_ms'])} ms per token; of single gaps: {number(times['itl_ms'])} ms"
        for percent, times in p.percentiles.items()
    ]
    if p.goodput_request_s == p.goodput_request_s:
        limits = (f"{k[:4].upper()} within {number(v)} ms" for k, v in p.request.items() if "_limit_" in k)
        good = p.goodput_request_s / p.request_s if p.request_s else 0.0
        low, high = number(p.goodput_request_s_lo), number(p.goodput_request_s_hi)
        lines.append(
            f"goodput: {number(p.goodput_request_s)} requests/s ({low} to {high}), {good:.0%} of all, with "
            + " and ".join(limits)
        )
    share = f"{p.bottleneck_share:.0%} of the baseline's time per token"
    lines.append(f"bottleneck: {_LABELS[p.bottleneck]} ({share})")
    lines.append(f"support: {p.support} ({_SUPPORT[p.support]})")
    yield from map(Text, [*lines, f"note: {p.reason}"] if p.reason else lines)


def request_line(r: Mapping[str, Any]) -> str:
    """Return the request in one line, as it was understood."""
    layout = " ".join(f"{name}{r[name]}" for name in ("tp", "pp", "ep", "dp") if r[name] > 1 or name == "tp")
    layout += f", {r['prefill_gpus']} prefill + {r['decode_gpus']} decode" if r["disagg"] else ""
    speculation = "" if r["spec_decode"] == "none" else f", speculation {r['spec_decode']}"
    rate = r["request_rate"]
    load = f"{rate:g} requests/s" if rate == rate else f"concurrency {r['concurrency']:g}"
    return (
        f"{r['model']} on {r['num_gpus']} x {r['gpu']} ({layout}), {r['engine']}, weights "
        f"{r['weight_precision']}, KV {r['kv_precision']}{speculation}, {r['mode']}: {r['isl']:g} tokens in, "
        f"{r['osl']:g} out, {load}"
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
    # Where nothing lies in host memory, the term is not shown.
    shown = [name for name in TERMS if name != "host_memory" or p.terms[name] or p.ttft_terms[name]]
    rows = ((_LABELS[name], f"{p.terms[name]:.2f}", f"{p.ttft_terms[name]:.1f}") for name in shown)
    yield _table(("where the time goes", *_TIMES), rows)


def _explanation(e: Explanation) -> Iterable[RenderableType]:
    yield Text(request_line(e.prediction.request), style="bold")
    yield from _answers_and_terms(e.prediction)
    times = {"tpot": "a token", "ttft": "first token", "e2e": "end to end"}
    parts = [e.corrections[name] for name in times]
    groups = dict.fromkeys(group for part in parts for group in part.groups)
    rows = [(group, *(f"{part.groups.get(group, 1.0):.2f}" for part in parts)) for group in groups]
    rows.append(("together", *(f"{part.factor:.2f}" for part in parts)))
    yield _table(("the correction multiplies by", *times.values()), rows)
    moved = ((fact, *(f"{by[name]:+.2f}" for name in FIGURES)) for fact, by in e.sensitivity.items())
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
    terms = ((_LABELS[k], f"{c.terms[k]:+.2f}", f"{c.ttft_terms[k]:+.1f}") for k in TERMS)
    yield _table(("this - other", *_TIMES), terms)
    yield Text(f"- {c.reason}.")


def _findings(findings: Sequence[Finding]) -> Iterable[RenderableType]:
    heads = ("figure", "claimed", "verdict", "floor", "baseline", "predicted", "90 % interval")
    table = _table(heads, ((
        f.figure, number(f.claimed), f.verdict, *map(number, (f.bound, f.baseline, f.predicted)),
        f"{number(f.predicted_lo)} to {number(f.predicted_hi)}",
    ) for f in findings))  # fmt: skip
    table.collapse_padding = True
    yield table
    yield from (Text(f"- {f.figure} is {f.verdict}: {f.reason}.") for f in findings)


_PARTS: dict[type, Callable[[Any], Iterable[RenderableType]]] = {
    Prediction: _prediction, Explanation: _explanation, Comparison: _comparison, list: _findings,
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


def draw(explanation: Explanation, path: Path) -> None:
    """Draw terms, levels and elasticities to a .png, .svg or .html file (one that loads nothing else).

    Raises BadRequest for another suffix or a folder that is not there.
    """
    from matplotlib.figure import Figure

    if path.suffix not in _DRAWINGS:
        raise BadRequest("plot", str(path), f"a file ending in {', '.join(_DRAWINGS)}")
    if not path.parent.is_dir():
        raise BadRequest("plot", str(path), "a file in a folder that exists")
    p, figure = explanation.prediction, Figure(figsize=(11, 4.2), layout="constrained")
    title, panels = request_line(p.request), figure.subplots(1, 3)
    figure.suptitle(title, fontsize=9)
    colours = ["tab:blue"] * len(TERMS) + ["tab:green", "tab:orange", "tab:gray"]
    times = (("tpot_ms", "time per output token [ms]", p.terms), ("ttft_ms", _TIMES[1], p.ttft_terms))
    for axis, (name, label, terms) in zip(panels, times, strict=False):
        bars = {text: terms[term] for term, text in _LABELS.items()}
        bars |= {"predicted": getattr(p, name), "baseline": p.baseline[name], "floor": p.floor[name]}
        axis.barh([*bars], [*bars.values()], color=colours)
        axis.set_xlabel(label)
    moved = [values["tpot_ms"] for values in explanation.sensitivity.values()]
    panels[-1].barh([*explanation.sensitivity], moved, color="tab:purple")
    panels[-1].set_xlabel("elasticity of a token [-]")
    for axis in panels:
        axis.invert_yaxis()
    if path.suffix != ".html":
        figure.savefig(path, dpi=150)
        return
    figure.savefig(drawing := io.StringIO(), format="svg")
    svg, head = drawing.getvalue(), html.escape(title)
    sentences = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in explanation.sentences)
    page = f'<!doctype html><meta charset="utf-8"><title>{head}</title><h1>{head}</h1><ul>{sentences}</ul>'
    path.write_text(f"{page}{svg[svg.index('<svg') :]}\n", encoding="utf-8")
