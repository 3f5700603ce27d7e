"""The names that requests come under: our own columns, and what engines and their benchmarks call them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from ..data.columns import ASKED, COLUMNS, SPELLED
from ..data.errors import BadRequest, UnknownName, nearest_names
from ..data.vocabulary import printed_precision

if TYPE_CHECKING:
    import pandas as pd

_NEAR = 0.8  # likeness of a misspelt column to the one that is meant
# vLLM's --dtype is that of the arithmetic: 16 bits say nothing of how the weights are stored.
_OF_ARITHMETIC = "dtype"


def request_of(request: Mapping[str, Any], also: Sequence[str] = ()) -> dict[str, Any]:
    """Return a request under the names of ASKED; of several spellings the first that holds a value counts.

    Raises UnknownName for a name that is no column, no spelling of one and not in `also`.

    >>> request_of({"tensor_parallel_size": 8, "dtype": "bfloat16", "tp": None})
    {'tp': 8, 'weight_precision': None}
    """
    for name in request:
        if name not in ASKED and name not in SPELLED and name not in also:
            raise UnknownName("request column", name, nearest_names(name, (*also, *ASKED, *SPELLED)))
    found: dict[str, Any] = {}
    for column, given in _by_column(request).items():
        values = (_told(name, request[name]) for name in given)
        found[column] = next((value for value in values if value is not None), None)
    return found


def frame_of(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame whose request columns have the names of ASKED; others stay as they are.

    Raises BadRequest for a column given twice.
    """
    for name in frame.columns:
        if name in ASKED and list(frame.columns).count(name) > 1:
            raise BadRequest("frame", name, "each request column at most once")
    spelled = [name for name in frame.columns if name in SPELLED]
    if not spelled:
        return frame
    columns: dict[str, Any] = {}
    for column, given in _by_column([*frame.columns]).items():
        first, *rest = (frame[name].map(lambda value, name=name: _told(name, value)) for name in given)
        for other in rest:
            first = first.where(first.notna(), other)
        columns[column] = first
    return frame.drop(columns=spelled).assign(**columns)


def _by_column(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the given names by the column that they say, its own name first."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(SPELLED.get(name, name), []).append(name)
    for column, given in found.items():
        if len(given) > 1:
            given.sort(key=(column, *COLUMNS[column].spellings).index)
    return found


def _told(name: str, value: Any) -> Any:
    sixteen = name == _OF_ARITHMETIC and printed_precision(str(value)) in ("bf16", "")
    return None if sixteen else value


def near_misses(names: Iterable[Hashable]) -> Iterator[str]:
    """Yield what to say of each name that is no column's but looks like a request column's.

    >>> list(near_misses(["concurency", "ttft_ms", "note"]))
    ["column 'concurency' is not read; nearest: concurrency"]
    """
    for name in names:
        if isinstance(name, str) and name not in COLUMNS and name not in SPELLED:
            near = get_close_matches(name.lower(), (*ASKED, *SPELLED), 1, _NEAR)
            if near:
                yield f"column '{name}' is not read; nearest: {near[0]}"
