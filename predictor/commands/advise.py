"""Commands that choose for the user: `recommend`, `sweep`."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...data.columns import COLUMNS
from .options import Option, completion, takes
from .shared import Bundle, Check, Json, Many, Number, Text, end, fail, load, print_json, progress_bar, show

if TYPE_CHECKING:
    from ..advisor import Economics

_ISL, _OSL = (f"{COLUMNS[name].default:g}" for name in ("isl", "osl"))
WORKLOAD: dict[str, Option] = {
    "users": (Number, "Users with a request in flight each."),
    "request_rate": (Number, "Requests per second, instead of users."),
    "isl": (Number, f"New tokens in per request [default: {_ISL}]"),
    "osl": (Number, COLUMNS["osl"].described),
    "mix": (Many, "Kind of request isl/osl/share, instead of isl and osl; may repeat."),
    "context": (Number, "Tokens that a user's conversation holds in all."),
    "prefix_cached_frac": (Number, "Share of the prompt common to all."),
    "ttft_ms": (Number, "Limit of the first token [default: 2000]"),
    "tpot_ms": (Number, "Limit per output token [default: 50]"),
    "percentile": (Number, "Of the requests within limits [default: 90]"),
    "budget_usd": (Number, "Most to pay for the purchase."),
    "budget_usd_per_hour": (Number, "Most to pay per hour."),
}
ECONOMICS: dict[str, Option] = {
    "basis": (Text, "How it is paid: own, rent, reserve [default: own]"),
    "amortisation_years": (Number, "Years of amortisation [default: 4]"),
    "other_share": (Number, "Other costs of owning per year, share of price [default: 0.1]"),
    "usd_per_kwh": (Number, "Price of electricity [default: 0.08]"),
    "pue": (Number, "Power at the meter over that of the platform [default: 1.3]"),
    "utilisation": (Number, "Share of the hours that the load is there [default: 1]"),
    "price": (Many, "Purchase price, such as hgx-b200=300000; may repeat [default: the catalogue's]"),
    "rent": (Many, "USD per GPU and hour, such as b200=4.5; may repeat [default: the catalogue's]"),
}
# Those that name what is considered, by the field that holds them.
ONLY = {"platform": "platforms", "engine": "engines", "weight_precision": "weight_precisions"}
CHOICES: dict[str, Option] = dict.fromkeys(ONLY, (Many, "Consider only this; may repeat [default: all]"))
INSTEAD: dict[str, Option] = {"instead": (Text, "Say how many of this platform the best one replaces.")}
SWEPT: dict[str, Option] = {
    "lengths": (Many, f"Tokens isl/osl; may repeat. [default: {_ISL}/{_OSL}]"),
    "concurrency": (list[float] | None, "Requests in flight; may repeat. [default: 1 to 1024, doubling]"),
    "boxes": (list[int] | None, "Boxes; may repeat. [default: 1]"),
    "spec_decode": (Many, "Speculation; may repeat. [default: none]"),
}
NAMED = "Name, alias, Hugging Face id, config.json or a size: 300b, 1t-a32b."
Model = Annotated[str, typer.Option(help=NAMED, autocompletion=completion("model"))]


@takes(WORKLOAD | CHOICES | ECONOMICS | INSTEAD)
def recommend(
    given: dict[str, Any],
    model: Model,
    confidence: Annotated[float, typer.Option(help="Least probability that the limits hold.")] = 0.5,
    check: Check = False,
    bundle: Bundle = None,
    as_json: Json = False,
) -> None:
    """Recommend the cheapest deployment that carries a workload within its limits."""
    from ..advisor import Advisor, Workload
    from ..advisor.tables import recommendation_tables

    limits = {name: given[name] for name in WORKLOAD if name in given}
    limits["mix"] = _numbers(given, "mix", 3, "isl/osl/share, such as 2000/300/0.7")
    workload = Workload(model=model, **limits, **_only(given))
    advisor = Advisor.load(bundle, _economics(given))
    answer = advisor.recommend(workload, confidence)
    instead, best = given.get("instead"), answer.best
    replaced = advisor.replaces(best.platform, instead, workload) if instead and best else None
    if as_json:
        print_json(answer.to_dict() | ({"replaces": vars(replaced)} if replaced else {}))
    else:
        show(*recommendation_tables(answer))
        if replaced:
            typer.echo(str(replaced))
    end(check, best is not None)


@takes(CHOICES | SWEPT | {"basis": ECONOMICS["basis"]})
def sweep(
    given: dict[str, Any],
    model: Model,
    out: Annotated[Path, typer.Option(help="Folder for the parts, the fronts and the chart.")],
    measured: Annotated[bool, typer.Option(help="Show measured points in the chart.")] = True,
    bundle: Bundle = None,
    as_json: Json = False,
) -> None:
    """Predict every valid configuration, and draw the Pareto fronts; continues where it was stopped."""
    from ..advisor.sweep import Sweeper, SweepSpace
    from ..advisor.tables import measured_points, sweep_tables, write_chart

    swept = {name: tuple(given[name]) for name in SWEPT if given.get(name)}
    if "lengths" in swept:
        swept["lengths"] = _numbers(given, "lengths", 2, "isl/osl, such as 2048/512")
    space = SweepSpace(model=model, **swept, **_only(given))
    sweeper = Sweeper(load(bundle), space, _economics(given))
    with progress_bar(as_json) as progress:
        found = sweeper.run(out, progress)
    write_chart(found, space, out / "sweep.html", measured_points(space) if measured else None)
    if as_json:
        print_json(found.to_dict())
        return
    show(*sweep_tables(found))


def _only(given: dict[str, Any]) -> dict[str, Any]:
    return {field: tuple(given.get(name) or ()) for name, field in ONLY.items()}


def _economics(given: dict[str, Any]) -> Economics:
    from ..advisor import Economics

    prices: dict[str, dict[str, float]] = {"price": {}, "rent": {}}
    for option, by_platform in prices.items():
        for text in given.get(option, ()):
            name, _, value = text.partition("=")
            by_platform[name] = _number(value, f"--{option} {text} is not allowed: platform=USD")
    own = {f.name: given[f.name] for f in fields(Economics) if f.name in given}
    return Economics(**own, purchase_usd=prices["price"], usd_per_gpu_hour=prices["rent"])


def _numbers(given: dict[str, Any], option: str, count: int, form: str) -> tuple[tuple[float, ...], ...]:
    """Return the `count` numbers that each value of an option holds between slashes, or end the command."""
    found = []
    for text in given.get(option, ()):
        wrong = f"--{option} {text} is not allowed: {form}"
        found.append(tuple(_number(part, wrong) for part in text.split("/")))
        if len(found[-1]) != count:
            fail(wrong)
    return tuple(found)


def _number(text: str, wrong: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    return value if math.isfinite(value) else fail(wrong)
