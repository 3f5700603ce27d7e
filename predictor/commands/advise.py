"""Commands that choose for the user: `recommend`, `sweep`."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .shared import Bundle, Json, Many, Number, Text, fail, load, print_json, progress_bar, show

if TYPE_CHECKING:
    from ..advisor import Economics

Model = Annotated[
    str, typer.Option(help="Name, alias, Hugging Face id, config.json or a size: 300b, 1t-a32b.")
]
Only = Annotated[Many, typer.Option(help="Consider only this; may repeat.")]
Basis = Annotated[Text, typer.Option(help="How it is paid: own, rent, reserve [default: own]")]
Years = Annotated[Number, typer.Option(help="Years of amortisation [default: 4]")]
Other = Annotated[Number, typer.Option(help="Other costs of owning per year, share of price [default: 0.1]")]
Power = Annotated[Number, typer.Option(help="Price of electricity [default: 0.08]")]
Pue = Annotated[Number, typer.Option(help="Power at the meter over that of the platform [default: 1.3]")]
Used = Annotated[Number, typer.Option(help="Share of the hours that the load is there [default: 1]")]
Prices = Annotated[Many, typer.Option(help="Purchase price, such as hgx-b200=300000; may repeat.")]
Rents = Annotated[Many, typer.Option(help="USD per GPU and hour, such as b200=4.5; may repeat.")]


def recommend(
    model: Model,
    users: Annotated[Number, typer.Option(help="Users with a request in flight each.")] = None,
    request_rate: Annotated[Number, typer.Option(help="Requests per second, instead of users.")] = None,
    isl: Annotated[Number, typer.Option(help="New tokens in per request [default: 1024]")] = None,
    osl: Annotated[Number, typer.Option(help="Tokens out per request [default: 1024]")] = None,
    mix: Annotated[
        Many, typer.Option(help="Kind of request isl/osl/share, instead of isl and osl; may repeat.")
    ] = None,
    context: Annotated[Number, typer.Option(help="Tokens that a user's conversation holds in all.")] = None,
    prefix_cached_frac: Annotated[Number, typer.Option(help="Share of the prompt common to all.")] = None,
    ttft_ms: Annotated[Number, typer.Option(help="Limit of the first token [default: 2000]")] = None,
    tpot_ms: Annotated[Number, typer.Option(help="Limit per output token [default: 50]")] = None,
    percentile: Annotated[Number, typer.Option(help="Of the requests within limits [default: 90]")] = None,
    confidence: Annotated[float, typer.Option(help="Least probability that the limits hold.")] = 0.5,
    budget_usd: Annotated[Number, typer.Option(help="Most to pay for the purchase.")] = None,
    budget_usd_per_hour: Annotated[Number, typer.Option(help="Most to pay per hour.")] = None,
    platform: Only = None,
    engine: Only = None,
    weight_precision: Only = None,
    instead: Annotated[
        Text, typer.Option(help="Say how many of this platform the best one replaces.")
    ] = None,
    basis: Basis = None,
    amortisation_years: Years = None,
    other_share: Other = None,
    usd_per_kwh: Power = None,
    pue: Pue = None,
    utilisation: Used = None,
    price: Prices = None,
    rent: Rents = None,
    bundle: Bundle = None,
    as_json: Json = False,
) -> None:
    """Recommend the cheapest deployment that carries a workload within its limits."""
    given = {name: value for name, value in locals().items() if value is not None}
    from ..advisor import Advisor, Workload
    from ..advisor.tables import recommendation_tables, replacement_text

    kinds = [_numbers("mix", text, 3, "isl/osl/share, such as 2000/300/0.7") for text in mix or ()]
    workload = Workload(
        **_options(Workload, given) | {"mix": tuple(kinds)},
        platforms=tuple(platform or ()),
        engines=tuple(engine or ()),
        weight_precisions=tuple(weight_precision or ()),
    )
    advisor = Advisor.load(bundle, _economics(given))
    answer = advisor.recommend(workload, confidence)
    replaced = advisor.replaces(answer.best.platform, instead, workload) if instead and answer.best else None
    if as_json:
        print_json(answer.to_dict() | ({"replaces": vars(replaced)} if replaced else {}))
        return
    for part in recommendation_tables(answer):
        show(part)
    if replaced:
        typer.echo(replacement_text(replaced))


def _options(kind: type[Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return the options that are fields of a dataclass."""
    return {field.name: given[field.name] for field in fields(kind) if field.name in given}


def _economics(given: dict[str, Any]) -> Economics:
    from ..advisor import Economics

    return Economics(
        **_options(Economics, given),
        purchase_usd=_overrides("price", given.get("price", ())),
        usd_per_gpu_hour=_overrides("rent", given.get("rent", ())),
    )


def _overrides(option: str, texts: list[str]) -> dict[str, float]:
    out = {}
    for text in texts:
        name, _, value = text.partition("=")
        out[name] = _number(value, f"--{option} {text} is not allowed: platform=USD")
    return out


def _numbers(option: str, text: str, count: int, form: str) -> tuple[float, ...]:
    """Return the numbers that an option holds between slashes; another count or a word ends the command."""
    wrong = f"--{option} {text} is not allowed: {form}"
    numbers = tuple(_number(part, wrong) for part in text.split("/"))
    return numbers if len(numbers) == count else fail(wrong)


def _number(text: str, wrong: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    return value if math.isfinite(value) else fail(wrong)


def sweep(
    model: Model,
    out: Annotated[Path, typer.Option(help="Folder for the parts, the fronts and the chart.")],
    platform: Only = None,
    engine: Only = None,
    weight_precision: Only = None,
    lengths: Annotated[Many, typer.Option(help="Tokens isl/osl; may repeat. [default: 1024/1024]")] = None,
    concurrency: Annotated[
        list[float] | None,
        typer.Option(help="Requests in flight; may repeat. [default: 1 to 1024, doubling]"),
    ] = None,
    boxes: Annotated[list[int] | None, typer.Option(help="Boxes; may repeat. [default: 1]")] = None,
    spec_decode: Annotated[Many, typer.Option(help="Speculation; may repeat. [default: none]")] = None,
    measured: Annotated[bool, typer.Option(help="Show measured points in the chart.")] = True,
    basis: Basis = None,
    bundle: Bundle = None,
    as_json: Json = False,
) -> None:
    """Predict every valid configuration, and draw the Pareto fronts; continues where it was stopped."""
    from ..advisor.chart import measured_points, write_chart
    from ..advisor.sweep import Sweeper, SweepSpace
    from ..advisor.tables import sweep_tables

    optional: dict[str, Any] = {
        "lengths": [_numbers("lengths", text, 2, "isl/osl, such as 2048/512") for text in lengths or ()],
        "concurrency": concurrency,
        "boxes": boxes,
        "spec_decode": spec_decode,
    }
    space = SweepSpace(
        model=model, platforms=tuple(platform or ()), engines=tuple(engine or ()),
        weight_precisions=tuple(weight_precision or ()),
        **{name: tuple(values) for name, values in optional.items() if values},
    )  # fmt: skip
    sweeper = Sweeper(load(bundle), space, _economics({"basis": basis} if basis else {}))
    with progress_bar(as_json) as progress:
        found = sweeper.run(out, progress)
    write_chart(found, space, out / "sweep.html", measured_points(space) if measured else None)
    if as_json:
        print_json(found.to_dict())
        return
    for table in sweep_tables(found):
        show(table)
