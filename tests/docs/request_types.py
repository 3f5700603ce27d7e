"""The keywords of requests and claims as types, written from the table of columns."""

from __future__ import annotations

from collections.abc import Iterable

from roofcast.data.columns import ASKED, COLUMNS, Column
from roofcast.data.identity import LOAD
from roofcast.predictor.commands.options import CLAIM

# Other kinds count.
_TYPES = {"text": "str", "name": "str", "number": "float", "share": "float", "flag": "bool"}
_HEAD = '''"""The keywords of `predict`, `explain`, `curve` and `audit`, for editors and type checkers.

Written from the table of columns by `python -m tests.docs.pages`; a test compares.
"""

from __future__ import annotations

from typing import TypedDict
'''
_WIDTH = 106  # characters beside the indent
_CLASS = '''

class {name}({base}, total=False):
    """{about}"""

{fields}
'''


def _field(column: Column) -> str:
    help = column.help.replace("--", "").removesuffix(".").strip()
    kind = _TYPES.get(column.kind, "int")
    line = f"{column.name}: {kind} | None" + (f"  # {help}" if help else "")
    return "    " + (line if len(line) <= _WIDTH else f"{line[: _WIDTH - 3].rsplit(' ', 1)[0]} ...")


def _fields(columns: Iterable[Column]) -> str:
    return "\n".join(map(_field, columns))


def request_types() -> str:
    """Return the module."""
    configuration = _CLASS.format(
        name="Configuration", base="TypedDict", fields=_fields(COLUMNS[n] for n in ASKED if n not in LOAD),
        about="What is asked about, but its load; None, or nothing, means the default of a column.",
    )  # fmt: skip
    request = _CLASS.format(
        name="Request", base="Configuration", fields=_fields(COLUMNS[name] for name in LOAD),
        about="A configuration and its load.",
    )  # fmt: skip
    claim = _CLASS.format(
        name="Claim", base="Request", fields=_fields(COLUMNS[name] for name in CLAIM),
        about="A request and the figures claimed for it.",
    )  # fmt: skip
    return _HEAD + configuration + request + claim
