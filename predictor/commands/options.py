"""The options that describe one configuration and claims about it: declared once, shared by commands."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Annotated, Any

import typer

from ...data.columns import COLUMNS, REQUEST_COLUMNS, TABLE
from .shared import Count, Number, Text

Option = tuple[Any, str]
_KINDS: dict[str, Any] = {
    "text": Text, "name": Text, "count": Count, "degree": Text, "number": Number, "share": Number,
    "flag": bool,
}  # fmt: skip
REQUEST: dict[str, Option] = {
    name: (_KINDS[COLUMNS[name].kind], COLUMNS[name].described) for name in REQUEST_COLUMNS
}
CLAIM: dict[str, Option] = {
    column.name: (Number, f"Claimed {column.help}.")
    for column in TABLE
    if column.role == "measured" and column.help
}


def takes(options: Mapping[str, Option]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command these options before its own; its first argument maps those that were given."""

    def give(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def run(**values: Any) -> None:
            asked = {name: values.pop(name) for name in options}
            command({k: v for k, v in asked.items() if v is not None and v is not False}, **values)

        # An argument comes before the options in any case; all are passed by name.
        named, parameters = inspect.Parameter.KEYWORD_ONLY, []
        for name, (kind, help) in options.items():
            # A switch has one name: without it typer adds a --no- twin.
            default, names = (False, [f"--{name}"]) if kind is bool else (None, [])
            option: Any = Annotated[kind, typer.Option(*names, help=help)]
            parameters.append(inspect.Parameter(name, named, default=default, annotation=option))
        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
        parameters += [parameter.replace(kind=named) for parameter in own]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return give
