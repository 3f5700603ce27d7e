"""The keywords of requests and claims as types, written from the table of columns."""

from __future__ import annotations

from collections.abc import Iterable

from roofcast.data.columns import ASKED, COLUMNS, Column
from roofcast.predictor.commands.options import CLAIM

_TYPES = {"text": "str", "name": "str", "count": "int", "number": "float", "share": "float", "flag": "bool"}
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


def _fields(columns: Iterable[Column]) -> str:
    lines = (
        (f"    {c.name}: {_TYPES[c.kind]} | None", c.help.replace("--", "").removesuffix(".").strip())
        for c in columns
    )
    return "\n".join(f"{line}  # {help}" if help else line for line, help in lines)


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
