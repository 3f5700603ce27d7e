"""Commands that list the catalogue and the fitted numbers: `models`, `gpus`, `platforms`, `coefficients`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .shared import Bundle, Json, fail, load, print_json, show

Find = Annotated[str, typer.Argument(help="Show only entries whose name, alias or kind holds this text.")]


def models(find: Find = "", as_json: Json = False) -> None:
    """List the models of the catalogue."""
    _list_catalogue("models", find, as_json)


def gpus(find: Find = "", as_json: Json = False) -> None:
    """List the GPUs of the catalogue: memory, bandwidth, dense peaks, one-way link rates."""
    _list_catalogue("gpus", find, as_json)


def platforms(find: Find = "", as_json: Json = False) -> None:
    """List the platforms of the catalogue."""
    _list_catalogue("platforms", find, as_json)


def coefficients(
    find: Annotated[str, typer.Argument(help="Show only those whose name or unit holds this text.")] = "",
    bundle: Bundle = None,
    as_json: Json = False,
) -> None:
    """List the fitted numbers of the baseline: value, unit, standard error, rows, bounds, prior."""
    from ..show import coefficient_rows

    _list(coefficient_rows(load(bundle).model.coefficients, find), find, as_json)


def _list_catalogue(kind: str, find: str, as_json: bool) -> None:
    from ..show import catalogue_rows

    _list(catalogue_rows(kind, find), find, as_json)


def _list(rows: list[dict[str, Any]], find: str, as_json: bool) -> None:
    """Print rows as JSON or a table; a search without a match is an error where people read it."""
    from ..show import listing

    if as_json:
        print_json(rows)
    else:
        show(listing(rows) if rows else fail(f"nothing in the catalogue holds '{find}'"))
