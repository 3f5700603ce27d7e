"""Tables for people: a prediction, a catalogue listing, a report of training or evaluation (rich)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from .prediction import ANSWERS, BOUNDS, MOVED, PERCENTILES, TERMS

if TYPE_CHECKING:
    from rich.console import RenderableType

    from .audit import Finding
    from .explain import Comparison, Explanation
    from .neighbours import Neighbour
    from .prediction import Prediction

_TITLES = {
    "output_tok_s": "output [tok/s]",
    "total_tok_s": "input + output [tok/s]",
    "ttft_ms": "time to first token [ms]",
    "tpot_ms": "time per output token [ms]",
    "e2e_ms": "end to end [ms]",
}
_WORDS = {"tpot_ms": "TPOT", "ttft_ms": "TTFT", "output_tok_s": "output"}
_UNITS = {"tpot_ms": "ms", "ttft_ms": "ms", "output_tok_s": "tok/s"}
_SUPPORT = {
    "in": "this setup was measured, perhaps at another load",
    "near": "model and GPU were measured, in another setup or apart",
    "far": "model, GPU or memory tier was never measured: the answer rests on physics",
}
_LAYOUT = ("tp", "pp", "ep", "dp")


def prediction_tables(prediction: Prediction) -> Iterable[RenderableType]:
    """Yield the parts of a prediction: the request, the answers or why there are none, and the terms."""
    yield Text(request_line(prediction.request), style="bold")
    if not prediction.feasible:
        yield Text(f"infeasible: {prediction.reason}", style="red")
        return
    yield _answers(prediction)
    yield _terms(prediction)
    if prediction.origin is not None:
        for percent in PERCENTILES:
            tail = prediction.percentile(percent)
            yield Text(
                f"{percent} % of requests: first token within {_number(tail['ttft_ms'])} ms, "
                f"{_number(tail['tpot_ms'])} ms per token; of single gaps: {_number(tail['itl_ms'])} ms"
            )
    yield Text(
        f"bottleneck: {prediction.bottleneck.replace('_', ' ')} "
        f"({prediction.bottleneck_share:.0%} of the baseline's time per token)"
    )
    yield Text(f"support: {prediction.support} ({_SUPPORT[prediction.support]})")
    if prediction.reason:
        yield Text(f"note: {prediction.reason}")


def request_line(request: Mapping[str, Any]) -> str:
    """Return the request in one line, as it was understood."""
    layout = " ".join(f"{name}{request[name]}" for name in _LAYOUT if request[name] > 1 or name == "tp")
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
    for number, name in enumerate(columns):
        table.add_column(Text(name), justify="right" if number else "left", no_wrap=True)
    return table


def _answers(prediction: Prediction) -> Table:
    table = _table("", "predicted", "90 % interval", "baseline", "floor")
    for name in ANSWERS:
        value, low, high = (getattr(prediction, f"{name}{bound}") for bound in BOUNDS)
        table.add_row(
            Text(_TITLES[name]),
            _number(value),
            f"{_number(low)} to {_number(high)}",
            _number(prediction.baseline[name]),
            _number(prediction.floor[name]),
        )
    return table


def _terms(prediction: Prediction) -> Table:
    table = _table("where the time goes", "per output token [ms]", "first token [ms]")
    for name in TERMS:
        if name == "host_memory" and not prediction.terms[name] and not prediction.ttft_terms[name]:
            continue  # nothing lies there
        table.add_row(
            name.replace("_", " "), f"{prediction.terms[name]:.2f}", f"{prediction.ttft_terms[name]:.1f}"
        )
    return table


def explanation_tables(explanation: Explanation) -> Iterable[RenderableType]:
    """Yield the parts of an explanation: terms and levels, correction, what moves it, neighbours, words."""
    prediction = explanation.prediction
    yield Text(request_line(prediction.request), style="bold")
    yield _answers(prediction)
    yield _terms(prediction)
    names = {"tpot": "a token", "ttft": "first token", "e2e": "end to end"}
    groups = dict.fromkeys(group for part in explanation.corrections.values() for group in part.groups)
    table = _table("the correction multiplies by", *names.values())
    for group in groups:
        table.add_row(group, *(f"{explanation.corrections[n].groups.get(group, 1.0):.2f}" for n in names))
    table.add_row("together", *(f"{explanation.corrections[n].factor:.2f}" for n in names))
    yield table
    yield _sensitivity(explanation)
    yield Text("nearest measured rows:")
    yield from (_neighbour(near) for near in explanation.neighbours)
    for sentence in explanation.sentences:
        yield Text(f"- {sentence}")


def _sensitivity(explanation: Explanation) -> Table:
    table = _table("1 % more changes [%]", *(_WORDS[name] for name in MOVED))
    for fact, moved in explanation.sensitivity.items():
        table.add_row(fact, *(f"{moved[name]:+.2f}" for name in MOVED))
    return table


def _neighbour(near: Neighbour) -> Text:
    """Return one measured row in a line: its figures, in what it differs, who measured it."""
    figures = (f"{_WORDS[k]} {_number(v)} {_UNITS[k]}" for k, v in near.measured.items() if v is not None)
    differs = ", ".join(f"{k} {_number(v) if isinstance(v, float) else v}" for k, v in near.differs.items())
    setup = f"but {differs}" if differs else "the same setup"
    return Text(f"- {', '.join(figures)}; {setup} ({near.source}, {near.date or 'no date'}, {near.row_id})")


def comparison_tables(comparison: Comparison) -> Iterable[RenderableType]:
    """Yield two predictions side by side, the difference term by term, and its largest reason."""
    first, second = comparison.first, comparison.second
    yield Text(f"against {request_line(second.request)}", style="bold")
    table = _table("", "this", "other", "this / other")
    for name in ANSWERS:
        ratio = _number(comparison.ratios[name])
        table.add_row(
            Text(_TITLES[name]), _number(getattr(first, name)), _number(getattr(second, name)), ratio
        )
    yield table
    table = _table("this - other", "per output token [ms]", "first token [ms]")
    for name in TERMS:
        terms = comparison.terms[name], comparison.ttft_terms[name]
        table.add_row(name.replace("_", " "), f"{terms[0]:+.2f}", f"{terms[1]:+.1f}")
    yield table
    yield Text(f"- {comparison.reason}.")


def findings_table(findings: Sequence[Finding]) -> RenderableType:
    """Return the audit of one claim: a row per figure, and each verdict's reason."""
    table = _table("figure", "claimed", "verdict", "floor", "baseline", "predicted", "90 % interval")
    table.collapse_padding = True
    for f in findings:
        numbers = (_number(value) for value in (f.bound, f.baseline, f.predicted))
        interval = f"{_number(f.predicted_lo)} to {_number(f.predicted_hi)}"
        table.add_row(f.figure, _number(f.claimed), f.verdict, *numbers, interval)
    reasons = (Text(f"- {f.figure} is {f.verdict}: {f.reason}.") for f in findings)
    return Group(table, *reasons)


def listing(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return catalogue rows, all with the same names, as a table; numbers to the right."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    for name, first in rows[0].items():
        words = name.split("_")
        width = max(len(word) for word in (*words, *(_cell(row[name]) for row in rows)))
        table.add_column(" ".join(words), justify="left" if isinstance(first, str) else "right", width=width)
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    return table


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return _number(value) if value else "-"
    return str(value) or "-"


def _number(value: float) -> str:
    """Write a number with about four digits: 12,345 or 123.4 or 1.234."""
    if value != value:
        return "-"
    size = abs(value)
    if float(value).is_integer() and size < 1e15:
        return f"{value:,.0f}"
    decimals = 0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 10 else 3
    return f"{value:,.{decimals}f}"
