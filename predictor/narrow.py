"""Tables on narrow terminals: denser, folded, in parts, so that no figure is ever cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

UNBOUNDED = 10_000  # characters


def widths(console: Console, part: RenderableType) -> tuple[int, int]:
    """Return the widths [characters] of the longest word and of the longest line."""
    measured = console.measure(part, options=console.options.update(width=UNBOUNDED))
    return measured.minimum, measured.maximum


def fitting(table: Table, console: Console, room: int) -> Iterator[Table]:
    """Yield a table whole if it has room, else denser, folded at blanks, and in parts by its first column."""
    if widths(console, table)[1] <= room:
        yield table
        return
    least, most = [], []
    for column in table.columns:
        words, lines = zip(*(widths(console, cell) for cell in (column.header, *column.cells)), strict=True)
        most.append(column.width or max(lines))
        least.append(most[-1] if column.width or column.no_wrap else max(words))
    groups: list[list[int]] = []
    for at in range(1, len(least)):
        if not groups or _total(least, (*groups[-1], at)) > room:
            groups.append([0])
        groups[-1].append(at)
    rows = list(zip(*(column.cells for column in table.columns), strict=True))
    for group in groups:
        piece = Table(box=table.box, pad_edge=False, padding=0)
        spare = max(room - _total(least, group), 0)
        for at in group:
            column, more = table.columns[at], min(most[at] - least[at], spare)
            spare -= more
            piece.add_column(column.header, justify=column.justify, width=least[at] + more)
        for row in rows:
            piece.add_row(*(row[at] for at in group))
        yield piece


def _total(least: Sequence[int], group: Sequence[int]) -> int:
    """Return the width of a table of these columns: one character between two and at either edge."""
    return sum(least[at] + 1 for at in group) + 1
