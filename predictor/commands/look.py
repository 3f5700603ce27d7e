"""Commands that list the catalogue and the fitted numbers: `models`, `gpus`, `platforms`, `coefficients`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .shared import Bundle, Json, fail, load, print_json, show

Find = Annotated[str, typer.Argument(help="Show only entries whose name, alias or kind holds this text.")]


def models(find: Find = "", as_json: Json = False) -> None:
    """List the models of the catalogue."""
    from ..show import model_rows

    _list(model_rows(find), find, as_json)


def gpus(find: Find = "", as_json: Json = False) -> None:
    """List the GPUs of the catalogue: memory, bandwidth, dense peaks, one-way link rates."""
    from ..show import gpu_rows

    _list(gpu_rows(find), find, as_json)


def platforms(find: Find = "", as_json: Json = False) -> None:
    """List the platforms of the catalogue."""
    from ..show import platform_rows

    _list(platform_rows(find), find, as_json)


def coefficients(
    find: Annotated[str, typer.Argument(help="Show only those whose name or unit holds this text.")] = "",
    bundle: Bundle = None,
    as_json: Json = False,
) -> None:
    """List the fitted numbers of the baseline: value, unit, standard error, rows, bounds, prior."""
    from ..show import coefficient_rows

    _list(coefficient_rows(load(bundle).model.coefficients, find), find, as_json)


def _list(rows: list[dict[str, Any]], find: str, as_json: bool) -> None:
    """Print rows as JSON or a table; a search without a match is an error where people read it."""
    if as_json:
        print_json(rows)
    elif not rows:
        fail(f"nothing in the catalogue holds '{find}'")
    else:
        from ..show import listing

        show(listing(rows))
