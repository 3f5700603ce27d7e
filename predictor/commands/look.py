"""Commands that list the catalogue and the fitted numbers: `models`, `gpus`, `platforms`, `coefficients`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ...data.errors import BadRequest, UnknownName
from .shared import Bundle, Json, fail, load, print_json, show

if TYPE_CHECKING:
    from ..predictor import Predictor

Find = Annotated[str, typer.Argument(help="Show only entries whose name, alias or kind holds this text.")]


def models(find: Find = "", as_json: Json = False) -> None:
    """List the models of the catalogue."""
    _list("models", find, as_json)


def gpus(find: Find = "", as_json: Json = False) -> None:
    """List the GPUs of the catalogue: memory, bandwidth, dense peaks, one-way link rates."""
    _list("gpus", find, as_json)


def platforms(find: Find = "", as_json: Json = False) -> None:
    """List the platforms of the catalogue."""
    _list("platforms", find, as_json)


def coefficients(
    find: Annotated[str, typer.Argument(help="Show only those whose name or unit holds this text.")] = "",
    bundle: Bundle = None,
    as_json: Json = False,
) -> None:
    """List the fitted numbers of the baseline: value, unit, standard error, rows, bounds, prior."""
    _list("coefficients", find, as_json, load(bundle))


def _named(kind: str, text: str, quiet: bool) -> str:
    """Return the entry that a request's text means, "" for none. Raises UnknownName with what is near."""
    from ...data.hardware import resolve_hardware
    from ...data.sizes import resolve_model

    try:
        if kind == "models":
            return resolve_model(text).name
        found = resolve_hardware(text, kind.removesuffix("s"))
    except (BadRequest, UnknownName) as error:
        if quiet or not getattr(error, "nearest", ()):
            return ""
        raise
    return found.gpu if kind == "gpus" else found.platform


def _list(kind: str, find: str, as_json: bool, predictor: Predictor | None = None) -> None:
    """Print rows as JSON or a table; a search without a match is an error where people read it."""
    from ..show import catalogue_rows, coefficient_rows, listing

    rows = coefficient_rows(predictor.model.coefficients, find) if predictor else catalogue_rows(kind, find)
    if not (rows or predictor):
        named = _named(kind, find, quiet=as_json)
        rows = [row for row in catalogue_rows(kind, named) if row["name"] == named]
    if as_json:
        print_json(rows)
    else:
        show(listing(rows) if rows else fail(f"nothing in the catalogue holds '{find}'"))
