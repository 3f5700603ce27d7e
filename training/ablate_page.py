"""The page of the ablations: `ablate`'s figures as markdown, with one sentence of reading per row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .metrics import NAMES
from .report_markdown import markdown_table

Cells = Mapping[str, Mapping[str, float]]
FULL, RESEEDED, SOURCE = "full model", "full model, another seed", "source "
_INTRODUCTION = """\
What is each part of the model worth? Written by `{command}`: leave it out, predict the same held-out rows
on the same folds, compare. Under `configuration` the very set-up at this load was not learned from, under
`family` no row of the GPU, model and engine, under `model` none of the model's shape.

{facts}

Errors are median absolute percentage errors. A difference is the variant's error less the full model's,
in points: **plus is worse than the full model**, so what was left out helps. ± is one standard error,
from {draws} bootstrap draws of whole groups, for rows of one group err together. Bold is beyond noise:
beyond two standard errors and beyond what another seed does; the rest counts as nothing. Of so many
comparisons a few are bold by chance. The full model of this page learns how far to trust its correction
from these protocols and folds alone, so its errors are not quite those of [accuracy.md](accuracy.md)."""
_PARTS = """\
All variants go through the same blend, learned anew for each; the floor and Little's law stay. *Physics
features* are the {count} columns that move when the baseline's estimates do; the request and the facts of
model and GPU remain. *Without measured siblings* leaves other loads of the same set-up to the trees.
*Without baseline target* learns log(measured) in place of log(measured / baseline).
*Without blend* applies the whole correction everywhere. *Engine version* is its number (0.6.1 as 0.0601),
which {versions:.0f} % of the rows name; the date is a feature of the full model."""
_SOURCES = """\
Each source of {least:g} % of the rows or more is left out of calibration, boosters and blend. Judged
are the rows of the others, under the protocols that hold out more than a setup: what a source teaches about
its own setups is not counted."""


def page(
    figures: Mapping[str, Cells],
    facts: Mapping[str, str],
    *,
    command: str,
    draws: int,
    physics: Sequence[str],
    versions: float,
    shares: Mapping[str, float],
    least: float,
) -> str:
    """Return the page of `ablate_sample`'s figures.

    facts: lines of what was run; draws: of the bootstrap; physics: names of features; versions: share of the
    rows that name an engine version; shares: of the rows, by source family left out; least: such share.
    """
    listed = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    parts = {name: cells for name, cells in figures.items() if not name.startswith(SOURCE)}
    sources = {f"{name} ({100 * share:.1f} %)": figures[SOURCE + name] for name, share in shares.items()}
    noise, full = figures[RESEEDED], figures[FULL]
    absolute = [FULL, *(f"{cell['error']:.2f} %" for cell in full.values()), "The reference."]
    rows = [_row(name, cells, noise) for name, cells in parts.items() if name != FULL]
    header = ["", *(f"{_name(key)}, {int(cell['rows']):,} rows" for key, cell in full.items()), "reading"]
    judged = next(iter(sources.values()), full)
    short = ["left out (share of rows)", *map(_name, judged), "reading"]
    sections = [
        "# Ablations",
        _INTRODUCTION.format(command=command, facts=listed, draws=draws),
        "## Parts of the model",
        _PARTS.format(count=len(physics), versions=100 * versions),
        markdown_table(header, [absolute, *rows]),
        "## Sources of measurements",
        _SOURCES.format(least=100 * least),
        markdown_table(short, [_row(name, cells, noise) for name, cells in sources.items()]),
        "## The physics features",
        ", ".join(f"`{name}`" for name in physics) + ".",
    ]
    return "\n\n".join(sections) + "\n"


def _name(key: str) -> str:
    protocol, metric = key.split("/")
    return f"{NAMES[metric]} ({protocol})"


def _beyond_noise(cell: Mapping[str, float], reseeded: Mapping[str, float]) -> bool:
    return abs(cell["difference"]) > max(2 * cell["standard_error"], abs(reseeded["difference"]))


def _row(name: str, cells: Cells, noise: Cells) -> list[str]:
    shown = []
    for key, cell in cells.items():
        text = f"{cell['difference']:+.2f}"
        bold = f"**{text}**" if _beyond_noise(cell, noise[key]) else text
        shown.append(f"{bold} ± {cell['standard_error']:.2f}")
    return [name, *shown, reading(cells, noise)]


def reading(cells: Cells, noise: Cells) -> str:
    """Say in a sentence what becomes worse and what better, of what is beyond noise."""
    real = {key: cell["difference"] for key, cell in cells.items() if _beyond_noise(cell, noise[key])}
    parts = []
    for word, sign in (("Worse", 1.0), ("Better", -1.0)):
        named = [_name(key) for key, difference in real.items() if sign * difference > 0]
        whole = "every figure" if len(named) == len(cells) else ", ".join(named)
        parts += [f"{word} in {whole}."] if named else []
    return " ".join(parts) or "Nothing beyond noise."
