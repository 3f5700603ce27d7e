"""Measurements that people posted, asked in their own words: `data/posts.csv`, each with its address.

The words are the posters' (checkpoints' names, "H100", nominal lengths); no source, and no row of them is in
the table. Statistics are compared like with like.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Any

import pandas as pd

from ..data.columns import ASKED

MEASURED = {
    "tpot_ms": "TPOT", "ttft_ms": "median TTFT", "ttft_mean_ms": "mean TTFT", "output_tok_s": "output",
}  # fmt: skip
# From a frame of request columns to one of answers with `feasible` and `reason`: `Predictor.predict_frame`.
Answer = Callable[[pd.DataFrame], pd.DataFrame]
_SAID = [
    "source_ref", "notes", "model", "gpu", "num_gpus", "engine", "mode", "isl", "osl", "concurrency",
]  # fmt: skip


def posted() -> pd.DataFrame:
    """Return the posts: request columns in the posters' words, MEASURED figures, source_ref and notes."""
    with files("roofcast.data").joinpath("posts.csv").open(encoding="utf-8") as text:
        return pd.read_csv(text)


def posts_compared(answer: Answer) -> pd.DataFrame:
    """Return the posts with each figure `measured_` and `predicted_`; `reason` says why one has no answer.

    What the answers do not hold is NaN.
    """
    posts = posted()
    answers = answer(posts[[name for name in posts if name in ASKED]])
    figures = {f"measured_{name}": posts[name] for name in MEASURED}
    predicted = answers.reindex(columns=[*MEASURED])
    figures |= {f"predicted_{name}": predicted[name] for name in MEASURED}
    reason = answers["reason"].where(~answers["feasible"].astype(bool), "")
    return posts[_SAID].assign(**figures, reason=reason)


def posts_shown(figures: Sequence[Mapping[str, Any]]) -> tuple[pd.DataFrame, str]:
    """Return a table for people of `posts_compared`'s records, predicted / measured, and median errors."""
    if not figures:
        return pd.DataFrame(), "none was asked"
    frame, errors = pd.DataFrame(figures), []
    shown = pd.DataFrame({"post": [_post(row) for row in figures]})
    for name, label in MEASURED.items():
        predicted, measured = (frame[f"{kind}_{name}"].astype(float) for kind in ("predicted", "measured"))
        off = 100 * (predicted / measured - 1)
        pairs = zip(predicted, measured, off, strict=True)
        shown[label] = [f"{p:.4g}/{m:.4g} {e:+.0f}%" if e == e else None for p, m, e in pairs]
        if off.notna().any():
            errors.append(f"{label} {off.abs().median():.0f} % of {off.notna().sum()}")
    if (frame["reason"] != "").any():
        shown["no answer"] = frame["reason"].replace("", None)
    return shown, ", ".join(errors)


def _post(row: Mapping[str, Any]) -> str:
    load = f"x{row['concurrency']:g}" if row["concurrency"] else ""
    model = str(row["model"]).rpartition("/")[2]
    asked = f"{model}, {row['num_gpus']:g}x{row['gpu'].replace(' ', '-')}, {row['engine']}"
    return f"{asked}, {row['isl']:.4g}/{row['osl']:.4g}{load}"
