"""Tables for people: a prediction, a catalogue listing, a report of training or evaluation (rich)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from .prediction import ANSWERS, TERMS

if TYPE_CHECKING:
    from rich.console import RenderableType

    from .prediction import Prediction

_TITLES = {
    "output_tok_s": "output [tok/s]",
    "total_tok_s": "input + output [tok/s]",
    "ttft_ms": "time to first token [ms]",
    "tpot_ms": "time per output token [ms]",
    "e2e_ms": "end to end [ms]",
}
_SUPPORT = {
    "in": "this setup was measured, perhaps at another load",
    "near": "model and GPU were measured, in another setup or apart",
    "far": "model or GPU was never measured: the answer rests on physics",
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
        value, low, high = (getattr(prediction, f"{name}{bound}") for bound in ("", "_lo", "_hi"))
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
        table.add_row(
            name.replace("_", " "), f"{prediction.terms[name]:.2f}", f"{prediction.ttft_terms[name]:.1f}"
        )
    return table


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
