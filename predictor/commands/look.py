"""Commands that list the catalogue: `models`, `gpus`, `platforms`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .shared import Json, fail, print_json, show

Find = Annotated[str, typer.Argument(help="Show only entries whose name, alias or kind holds this text.")]


def models(find: Find = "", as_json: Json = False) -> None:
    """List the models of the catalogue."""
    from ..show import model_rows

    list_rows(model_rows(find), find, as_json)


def gpus(find: Find = "", as_json: Json = False) -> None:
    """List the GPUs of the catalogue: memory, bandwidth, dense peaks, one-way link rates."""
    from ..show import gpu_rows

    list_rows(gpu_rows(find), find, as_json)


def platforms(find: Find = "", as_json: Json = False) -> None:
    """List the platforms of the catalogue."""
    from ..show import platform_rows

    list_rows(platform_rows(find), find, as_json)


def list_rows(rows: list[dict[str, Any]], find: str, as_json: bool) -> None:
    """Print rows as JSON or a table; a search without a match is an error where people read it."""
    if as_json:
        print_json(rows)
    elif not rows:
        fail(f"nothing in the catalogue holds '{find}'")
    else:
        from ..show import listing

        show(listing(rows))
