"""docs/physics.md shows the coefficients that are shipped."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from roofcast.features.baseline import ENGINE_KINDS
from roofcast.features.facts import ARCHITECTURES

from .conftest import replace_or_compare

Entries = Mapping[str, Mapping[str, Any]]


def shipped() -> Entries:
    text = files("roofcast.predictor").joinpath("bundle", "coefficients.json").read_text("utf-8")
    found: Entries = json.loads(text)
    return found


def shown(entry: Mapping[str, Any]) -> str:
    return f"{entry['value']:.3g} ± {entry['standard_error']:.2g}"


def by_kind(entries: Entries, kinds: Sequence[str]) -> str:
    """Return a table with a row per coefficient and a column per architecture or engine."""
    names = dict.fromkeys(name.rpartition(".")[0] for name in sorted(entries) if name.endswith(kinds[0]))
    lines = ["| coefficient | unit | " + " | ".join(kinds) + " |", "|---|---|" + "---|" * len(kinds)]
    for name in names:
        cells = [shown(entries[f"{name}.{kind}"]) for kind in kinds]
        lines.append(f"| `{name}` | {entries[f'{name}.{kinds[0]}']['unit']} | " + " | ".join(cells) + " |")
    rows = [f"{entries[f'{next(iter(names))}.{kind}']['rows']:,}" for kind in kinds]
    return "\n".join([*lines, "| rows it was fitted to | | " + " | ".join(rows) + " |"])


def for_all(entries: Entries) -> str:
    """Return the table of the coefficients that hold everywhere."""
    lines = ["| coefficient | unit | value |", "|---|---|---|"]
    alone = {name: entry for name, entry in sorted(entries.items()) if "." not in name}
    return "\n".join([*lines, *(f"| `{n}` | {e['unit']} | {shown(e)} |" for n, e in alone.items())])


def test_the_page_shows_the_shipped_coefficients(repo_root: Path, regenerate: bool) -> None:
    entries = shipped()
    tables = (by_kind(entries, ARCHITECTURES), by_kind(entries, ENGINE_KINDS), for_all(entries))
    replace_or_compare(repo_root / "docs" / "physics.md", "coefficients", "\n\n".join(tables), regenerate)


def test_no_shipped_coefficient_lies_outside_its_bounds() -> None:
    for name, entry in shipped().items():
        assert entry["low"] - 1e-9 <= entry["value"] <= entry["high"] + 1e-9, name
