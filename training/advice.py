"""Judge predictions as advice: would the configuration they choose have kept its promise when measured?

A workload is a model shape with its lengths and requests in flight, under which several configurations were
measured. Each limit that some of them meet and some miss is a question. A method answers with the
configuration that it expects to give the most output per dollar within the limit: roofcast weighs the output
with the probability that the limit holds, among those where that is as likely as not; the others take their
times at face value. The measurement says whether that was right. All predictions come from folds that saw
nothing of the row's group.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..data import catalogue
from ..data.identity import two_digits
from ..data.prices import price
from ..features.facts import FloatArray
from .model.intervals import probability
from .splits import shape_labels
from .trust import ALPHA

# Limits [ms] as services state them; only those that divide a workload's configurations ask anything.
LIMITS = {"tpot_ms": (10.0, 15.0, 20.0, 30.0, 50.0, 100.0), "ttft_ms": (200.0, 500.0, 1000.0, 2000.0, 5000.0)}
CONFIDENCE = 0.5  # the least probability that roofcast goes for, as `Advisor.recommend` does
METHODS = {"roofcast": "blend", "baseline": "baseline", "neighbour": "neighbour", "floor": "floor"}
PROTOCOLS = ("family", "platform")
_FEWEST = 3  # configurations per workload
_WORKLOAD = ["shape", "isl", "osl", "concurrency"]
_SETUP = [
    "gpu", "num_gpus", "engine", "weight_precision", "tp", "pp", "ep", "dp", "disagg", "prefill_gpus",
    "decode_gpus", "spec_decode",
]  # fmt: skip


def advice_tables(scores: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Return how good each method's advice was, one row per protocol, limited metric and method.

    scores: `trust.all_scores`; table: the sample's table, which the scores' `row` points into. Columns:
    questions, `success` [share of the choices that met the limit in the measurement], `promised` [mean of the
    probability that roofcast gave its choices; NaN for the others], and `regret` [over the successes, mean
    share that the choice falls short of the best one's output per dollar].
    """
    rows = []
    for protocol in (p for p in PROTOCOLS if (scores["protocol"] == p).any()):
        wide = _wide(scores[scores["protocol"] == protocol], table)
        for metric in (m for m in LIMITS if f"measured_{m}" in wide):
            choices = pd.DataFrame(
                _choices(wide, metric), columns=["method", "success", "promised", "regret"]
            )
            found = choices.groupby("method", sort=False).mean()
            found.insert(0, "questions", choices["method"].value_counts())
            rows.append(found.reset_index().assign(protocol=protocol, metric=metric))
    joined: pd.DataFrame = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()
    return joined


def usd_per_gpu_hour(gpus: pd.Series[Any]) -> pd.Series[float]:
    """Return what an hour of each GPU costs on a three-year contract [USD], NaN where no price is known."""
    prices = [(spec.gpu, price(name, "reserved")) for name, spec in catalogue.platforms().items()]
    return gpus.map({gpu: known.usd for gpu, known in prices if known}).astype(float)


def _wide(scores: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Return one row per measured row of a closed loop: set-up, workload, and every method's figures."""
    columns = ["measured", "blend", "blend_lo", "blend_hi", "baseline", "floor", "neighbour"]
    parts = [
        here.set_index("row")[[c for c in columns if c in here]].add_suffix(f"_{metric}")
        for metric, here in scores.groupby("metric")
    ]
    wide = pd.concat(parts, axis=1).reset_index()
    facts = table.iloc[wide["row"].to_numpy()].reset_index(drop=True)
    wide = wide.assign(
        setup=facts.groupby(_SETUP, dropna=False).ngroup(), shape=shape_labels(facts["model"]),
        isl=two_digits(facts["isl"].to_numpy(np.float64)), osl=two_digits(facts["osl"].to_numpy(np.float64)),
        concurrency=facts["concurrency"], usd_per_hour=usd_per_gpu_hour(facts["gpu"]) * facts["num_gpus"],
    )  # fmt: skip
    kept: pd.DataFrame = wide[(facts["mode"] == "closed-loop") & wide["usd_per_hour"].notna()]
    return kept


def _choices(wide: pd.DataFrame, metric: str) -> Iterator[tuple[str, float, float, float]]:
    """Yield each method's answer to each question: method, success, what was promised, regret."""
    known = wide[wide[f"measured_{metric}"].notna() & wide["measured_output_tok_s"].notna()]
    # Repeats of one configuration count as their median.
    folded = known.groupby([*_WORKLOAD, "setup"]).median(numeric_only=True)
    for _, group in folded.groupby(_WORKLOAD):
        for limit in LIMITS[metric] if len(group) >= _FEWEST else ():
            met = group[f"measured_{metric}"].to_numpy() <= limit
            if met.any() and not met.all():
                yield from (_choice(group, metric, limit, met, method) for method in METHODS)


def _choice(
    group: pd.DataFrame, metric: str, limit: float, met: NDArray[np.bool_], method: str
) -> tuple[str, float, float, float]:
    """Return how the choice of one method turns out in the measurement."""
    hours = group["usd_per_hour"].to_numpy()
    value = np.nan_to_num(group[f"{METHODS[method]}_output_tok_s"].to_numpy() / hours)
    odds, enough = _odds(group, metric, limit, method)
    hopeful = odds >= enough
    # A method that hopes for nothing takes what comes nearest.
    weight = np.minimum(odds, 1.0) * value if hopeful.any() else odds
    choice = int(np.where(hopeful | ~hopeful.any(), weight, -1.0).argmax())
    true_value = group["measured_output_tok_s"].to_numpy() / hours
    regret = 1.0 - true_value[choice] / true_value[met].max() if met[choice] else np.nan
    return method, float(met[choice]), float(odds[choice]) if method == "roofcast" else np.nan, regret


def _odds(group: pd.DataFrame, metric: str, limit: float, method: str) -> tuple[FloatArray, float]:
    """Return each configuration's odds of meeting the limit, and how much of them is wanted.

    roofcast has probabilities; of the others a predicted time at the limit is a yes.
    """
    if method != "roofcast":
        return np.nan_to_num(limit / group[f"{method}_{metric}"].to_numpy(), nan=0.0), 1.0
    middle = group[f"blend_{metric}"]
    lower, upper, room = (
        np.log((edge / middle).to_numpy(np.float64))
        for edge in (group[f"blend_lo_{metric}"], group[f"blend_hi_{metric}"], limit)
    )
    return np.nan_to_num(probability(room, lower, upper, ALPHA)), CONFIDENCE
