"""The keywords of requests and claims as types, written from the table of columns."""

from __future__ import annotations

from collections.abc import Iterable

from roofcast.data.columns import ASKED, COLUMNS, Column
from roofcast.predictor.commands.options import CLAIM

# Other kinds count.
_TYPES = {"text": "str", "name": "str", "number": "float", "share": "float", "flag": "bool"}
_HEAD = '''"""The keywords of `predict`, `explain` and `audit`, so that editors and type checkers know them.

Written from the table of columns by `python -m tests.docs.pages`; a test compares.
"""

from __future__ import annotations

from typing import TypedDict
'''
_CLASS = '''

class {name}({base}, total=False):
    """{about}"""

{fields}
'''


def _field(column: Column) -> str:
    help = column.help.replace("--", "").removesuffix(".").strip()
    kind = _TYPES.get(column.kind, "int")
    return f"    {column.name}: {kind} | None" + (f"  # {help}" if help else "")


def _fields(columns: Iterable[Column]) -> str:
    return "\n".join(map(_field, columns))


def request_types() -> str:
    """Return the module."""
    request = _CLASS.format(
        name="Request", base="TypedDict", fields=_fields(COLUMNS[name] for name in ASKED),
        about="What is asked about one configuration; None, or nothing, means the default of a column.",
    )  # fmt: skip
    claim = _CLASS.format(
        name="Claim", base="Request", fields=_fields(COLUMNS[name] for name in CLAIM),
        about="A request and the figures claimed for it.",
    )  # fmt: skip
    return _HEAD + request + claim
