"""The rows of the table asked as their sources state them, by models that saw nothing of their group.

A measured row says what was run; who asks knows what its source says: nominal lengths, a layout that is half
stated, a checkpoint's name, and nothing of who measured. The same out-of-fold models answer both, so that the
difference is the price of the question's words alone (see `data.stated`). Statistics are compared like with
like.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..data.columns import ROLES
from ..data.stated import SPREAD, as_stated
from ..features.baseline import floor
from ..features.request import Requests, normalise
from .crossfit import Records
from .fit import Sample
from .metrics import METRICS, NAMES
from .trust import fold_scores, learn_trust

PROTOCOL = "configuration"
# Which columns take the source's words: all of them, and each kind alone.
TERMS: Mapping[str, Sequence[str]] = {
    "stated": ROLES, "lengths": ("load",), "layout": ("layout", "pool"), "subject": ("subject",),
    "bare": ROLES,
}  # fmt: skip
_LEFT_OUT = {"bare": (SPREAD,)}  # what is not told in those terms, though the source does
RATIO_TARGET = 1.3  # wanted: at most, of the error as stated to the error aligned
E2E = "e2e_ms"
_FEW = 8  # names that are listed
_SAME = 1e-9  # of a logarithm: nothing was asked otherwise
_SETTLED_MODES = ("closed-loop", "static-batch", "offline")  # where end-to-end time follows from throughput
_SHOWN = {
    "all": "as stated: all rows", "asked otherwise": "as stated: rows so asked otherwise",
    "lengths": "lengths and load alone", "layout": "layout alone",
    "subject": "names, precision, speculation, date alone",
    "bare": "as stated, but not how lengths spread",
}  # fmt: skip
# A frame of request columns to requests: `normalise`, or what settles more of them first.
Ask = Callable[[pd.DataFrame], Requests]


def reworded(sample: Sample, ask: Ask = normalise) -> list[Sample]:
    """Return the sample's rows, row for row, in the words of each of TERMS."""
    samples = []
    for name, roles in TERMS.items():
        asked = as_stated(sample.table, roles)
        requests = ask(asked.drop(columns=[*_LEFT_OUT.get(name, ())], errors="ignore"))
        samples.append(Sample(table=sample.table, requests=requests, floor=floor(requests)))
    return samples


def stated_scores(records: Sequence[Records], answered: Sequence[Records]) -> pd.DataFrame:
    """Return a row per table row and metric of PROTOCOL: measured, `aligned`, and what each of TERMS gave.

    records: of all protocols; answered: of `reworded`'s samples under PROTOCOL. The blend of a fold is
    learned from the records of all other rows. NaN where there is no answer.
    """
    own = next(one for one in records if one.protocol == PROTOCOL)
    parts = []
    for fold in np.unique(own.fold):
        here = np.flatnonzero(own.fold == fold)
        trust = learn_trust(records, own.rows[here], bounds=False)
        frames = {
            name: _with_e2e(one.take(here), pd.concat(fold_scores(one.take(here), trust)))
            for name, one in zip(("aligned", *TERMS), (own, *answered), strict=True)
        }
        keys = ["row", "metric"]
        aligned = frames["aligned"].rename(columns={"blend": "aligned"})
        for name in TERMS:
            aligned = aligned.join(frames[name].set_index(keys)["blend"].rename(name), on=keys)
        parts.append(aligned[[*keys, "measured", "aligned", *TERMS]])
    scores = pd.concat(parts, ignore_index=True)
    families = own.sample.table["source_family"].to_numpy()
    return scores.assign(source_family=families[scores["row"]])


def _with_e2e(part: Records, scores: pd.DataFrame) -> pd.DataFrame:
    """Return the scores, and those of end-to-end time [ms]: of throughput, by Little's law."""
    output = scores[(scores["metric"] == "output_tok_s") & scores["mode"].isin(_SETTLED_MODES)]
    tokens = pd.Series(part.in_flight * part.held.requests.osl, index=part.rows)
    measured = pd.Series(part.held.table[E2E].to_numpy(), index=part.rows)
    seconds = tokens.reindex(output["row"]).to_numpy() / output["blend"]
    whole = output.assign(
        metric=E2E, measured=measured.reindex(output["row"]).to_numpy(), blend=1e3 * seconds
    )
    return pd.concat([scores, whole[whole["measured"].notna()]])


def stated_figures(scores: pd.DataFrame) -> pd.DataFrame:
    """Return median errors [%] by part of the rows, aligned and asked in other words, of `stated_scores`.

    Columns: part, value, metric, rows, unanswered, aligned, asked, ratio. Parts: "rows", all of them and
    those that the source's words ask otherwise; "terms", what each of TERMS costs the rows that it changes;
    "source_family", of those that the source's words ask otherwise.
    """
    with np.errstate(invalid="ignore"):
        moved = np.abs(np.log(scores[list(TERMS)].div(scores["aligned"], axis=0)))
    other = {name: ~(moved[name] < _SAME) for name in TERMS}
    differing = scores[other["stated"]]
    parts = [("rows", "all", scores, "stated"), ("rows", "asked otherwise", differing, "stated")]
    parts += [("terms", name, scores[other[name]], name) for name in list(TERMS)[1:]]
    parts += [("source_family", str(k), rows, "stated") for k, rows in differing.groupby("source_family")]
    tables = [_errors(rows, name).assign(part=part, value=value) for part, value, rows, name in parts]
    found = pd.concat(tables, ignore_index=True)
    return found[["part", "value", "metric", "rows", "unanswered", "aligned", "asked", "ratio"]]


def _errors(scores: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the errors by metric, of rows that are answered both ways."""
    silent = ~np.isfinite(scores[name])
    both = scores[~silent]
    errors = {
        k: 100 * (both[v] / both["measured"] - 1).abs() for k, v in (("aligned", "aligned"), ("asked", name))
    }
    grouped = both[["metric"]].assign(**errors).groupby("metric")
    unanswered = scores[silent].groupby("metric").size()
    out = grouped.median().assign(rows=grouped.size())
    out["unanswered"] = unanswered.reindex(out.index, fill_value=0)
    figures: pd.DataFrame = out.assign(ratio=out["asked"] / out["aligned"]).reset_index()
    return figures


def stated_shown(figures: Sequence[Mapping[str, Any]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return tables for people of `stated_figures`' records: overall and by term; source families far off.

    A cell holds the error aligned, the error so asked, and their ratio, bold where it is above RATIO_TARGET.
    """
    if not figures:
        return pd.DataFrame(), pd.DataFrame()
    frame = pd.DataFrame(figures)
    metrics = [name for name in (*METRICS, E2E) if name in set(frame["metric"])]
    frame = frame[frame["metric"].isin(metrics)]
    found: dict[str, list[dict[str, Any]]] = {"terms": [], "source_family": []}
    for (part, value), rows in frame.groupby(["part", "value"], sort=False):
        cells = {row["metric"]: _cell(row) for row in rows.to_dict("records")}
        counts = {"figures": rows["rows"].sum(), "unanswered": rows["unanswered"].sum()}
        shown = {"asked": _SHOWN.get(str(value), value), **counts}
        named = {NAMES.get(name, "end to end"): cells.get(name) for name in metrics}
        found["terms" if part == "rows" else str(part)].append(shown | named)
    far = set(frame.loc[(frame["ratio"] > RATIO_TARGET) & frame["metric"].isin(METRICS), "value"])
    families = [row for row in found["source_family"] if row["asked"] in far]
    return pd.DataFrame(found["terms"]), pd.DataFrame(families)


def _cell(row: Mapping[Any, Any]) -> str:
    mark = "**" if row["ratio"] > RATIO_TARGET else ""
    return f"{row['aligned']:.1f}/{row['asked']:.1f} ({mark}{row['ratio']:.2f}{mark})"


def names_shown(names: Mapping[str, Any]) -> str:
    """Return in words how many rows' models are known by the names that their sources write."""
    if not names:
        return "none"
    unknown = names["unknown"]
    share = 1.0 - sum(rows for _, rows in unknown) / max(names["rows"], 1)
    most = ", ".join(f"{name} ({rows:,})" for name, rows in unknown[:_FEW])
    text = f"of {names['rows']:,} rows under {names['names']} names {share:.1%}"
    return f"{text}; of the others most are {most}" if most else text
