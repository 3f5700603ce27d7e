"""What platforms cost to buy and to rent, read from prices.toml: each with its range, date and source."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

KINDS = ("purchase", "on-demand", "reserved", "ownership")


@dataclass(frozen=True, kw_only=True)
class Price:
    """One price: `usd` in use, `low` and `high` of the offers read.

    purchase: USD for the whole platform; on-demand, reserved (three years), ownership (a cost model by
    others): USD per GPU and hour.
    """

    platform: str
    kind: str
    usd: float
    low: float
    high: float
    date: str
    source: str
    note: str = ""


@cache
def prices() -> tuple[Price, ...]:
    """Return all prices in the file's order (read once)."""
    with files(__package__).joinpath("prices.toml").open("rb") as stream:
        return tuple(Price(**row) for row in tomllib.load(stream)["price"])


def price(platform: str, kind: str) -> Price | None:
    """Return the price of a platform in one of KINDS, or None where none was read."""
    return next((p for p in prices() if p.platform == platform and p.kind == kind), None)
