"""The options that describe one configuration and claims about it: declared once, shared by commands."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Annotated, Any

import typer

from ...data import catalogue
from ...data.columns import COLUMNS, REQUEST_COLUMNS, TABLE
from ...data.vocabulary import ENGINES, MODES, PRECISIONS, SPECULATION, TIERS
from .shared import Count, Number, Text

Option = tuple[Any, str]
_KINDS: dict[str, Any] = {
    "text": Text, "name": Text, "count": Count, "degree": Text, "number": Number, "share": Number,
    "flag": bool,
}  # fmt: skip
# What a shell offers for the value of an option.
_OFFERED: dict[str, Callable[[], Iterable[str]]] = {
    "model": catalogue.models, "gpu": catalogue.gpus, "platform": catalogue.platforms,
    "engine": lambda: ENGINES, "weight_precision": lambda: PRECISIONS, "kv_precision": lambda: PRECISIONS,
    "spec_decode": lambda: SPECULATION, "mode": lambda: MODES, "prefix_tier": lambda: TIERS,
}  # fmt: skip
REQUEST: dict[str, Option] = {
    name: (_KINDS[COLUMNS[name].kind], COLUMNS[name].described) for name in REQUEST_COLUMNS
}
CLAIM: dict[str, Option] = {
    column.name: (Number, f"Claimed {column.help}.")
    for column in TABLE
    if column.role == "measured" and column.help
}


def completion(name: str) -> Callable[[str], list[str]] | None:
    """Return what completes an option's value in a shell: the names that begin like it; None for no names."""

    def offered(incomplete: str) -> list[str]:
        return [value for value in _OFFERED[name]() if value.startswith(incomplete.lower())]

    return offered if name in _OFFERED else None


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
            given = typer.Option(*names, help=help, autocompletion=completion(name))
            option: Any = Annotated[kind, given]
            parameters.append(inspect.Parameter(name, named, default=default, annotation=option))
        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
        parameters += [parameter.replace(kind=named) for parameter in own]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return give
