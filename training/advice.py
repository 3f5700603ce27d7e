"""Judge predictions as advice: would the configuration they choose have met its limit when measured?

A workload is a model shape with its lengths and requests in flight, under which several configurations were
measured; each limit that some meet and some miss is a question. Each method names the configuration of the
most output per dollar that it expects within the limit: roofcast weighs the output with the probability that
the limit holds, the others take their times at face value. Predictions come from folds that saw nothing of
the row's group.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from ..data import catalogue
from ..data.identity import two_digits
from ..data.prices import price
from .model.intervals import probability
from .splits import shape_labels
from .trust import ALPHA

# Limits [ms] as services state them; only those that divide a workload's configurations ask anything.
LIMITS = {"tpot_ms": (10.0, 15.0, 20.0, 30.0, 50.0, 100.0), "ttft_ms": (200.0, 500.0, 1000.0, 2000.0, 5000.0)}
CONFIDENCE = 0.5  # the least probability that roofcast goes for, as `Advisor.recommend` does
METHODS = {"roofcast": "blend", "baseline": "baseline", "neighbour": "neighbour", "floor": "floor"}
_PROTOCOLS = ("family", "platform")
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
    choices = pd.DataFrame(
        (
            {"protocol": protocol, "metric": metric, **choice}
            for protocol in _PROTOCOLS
            if (scores["protocol"] == protocol).any()
            for metric, group in _groups(scores[scores["protocol"] == protocol], table)
            for choice in _choices(group, metric)
        ),
        columns=["protocol", "metric", "method", "success", "promised", "regret"],
    )
    found = choices.groupby(["protocol", "metric", "method"], sort=False)
    means: pd.DataFrame = found.mean().assign(questions=found.size()).reset_index()
    return means


def usd_per_gpu_hour(gpus: pd.Series[Any]) -> pd.Series[float]:
    """Return what an hour of each GPU costs on a three-year contract [USD], NaN where no price is known."""
    prices = [(spec.gpu, price(name, "reserved")) for name, spec in catalogue.platforms().items()]
    return gpus.map({gpu: known.usd for gpu, known in prices if known}).astype(float)


def _groups(scores: pd.DataFrame, table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield, by limited metric, each workload's configurations: a row each, with every method's figures."""
    columns = ["measured", *METHODS.values(), "blend_lo", "blend_hi"]
    kept = scores.set_index("row")[[name for name in columns if name in scores]]
    parts = {metric: kept[(scores["metric"] == metric).to_numpy()] for metric in scores["metric"].unique()}
    wide = pd.concat([part.add_suffix(f"_{metric}") for metric, part in parts.items()], axis=1).reset_index()
    facts = table.iloc[wide["row"].to_numpy()].reset_index(drop=True)
    wide = wide.assign(
        setup=facts.groupby(_SETUP, dropna=False).ngroup(), shape=shape_labels(facts["model"]),
        isl=two_digits(facts["isl"].to_numpy(np.float64)), osl=two_digits(facts["osl"].to_numpy(np.float64)),
        concurrency=facts["concurrency"], usd_per_hour=usd_per_gpu_hour(facts["gpu"]) * facts["num_gpus"],
    )  # fmt: skip
    wide = wide[(facts["mode"] == "closed-loop") & wide["usd_per_hour"].notna()]
    for metric in (name for name in LIMITS if name in parts):
        known = wide.dropna(subset=[f"measured_{metric}", "measured_output_tok_s"])
        # Repeats of one configuration count as their median.
        for _, group in known.groupby([*_WORKLOAD, "setup"]).median(numeric_only=True).groupby(_WORKLOAD):
            if len(group) >= _FEWEST:
                yield metric, group


def _choices(group: pd.DataFrame, metric: str) -> Iterator[dict[str, Any]]:
    """Yield how each method's answer to each question about one workload turns out in the measurement."""
    hours, true_value = group["usd_per_hour"], group["measured_output_tok_s"] / group["usd_per_hour"]
    for limit in LIMITS[metric]:
        met = group[f"measured_{metric}"].to_numpy() <= limit
        for method, column in METHODS.items() if met.any() and not met.all() else ():
            # roofcast has probabilities; of the others a predicted time at the limit is a yes.
            enough = CONFIDENCE if method == "roofcast" else 1.0
            odds = limit / group[f"{column}_{metric}"].to_numpy(np.float64)
            if method == "roofcast":
                lower, upper = (
                    group[f"blend_{end}_{metric}"] / group[f"blend_{metric}"] for end in ("lo", "hi")
                )
                odds = probability(np.log(odds), np.log(lower.to_numpy()), np.log(upper.to_numpy()), ALPHA)
            odds = np.nan_to_num(odds, nan=0.0)
            hopeful = odds >= enough
            # A method that hopes for nothing takes what comes nearest.
            value = np.nan_to_num((group[f"{column}_output_tok_s"] / hours).to_numpy())
            weight = np.where(hopeful, np.minimum(odds, 1.0) * value, -1.0) if hopeful.any() else odds
            choice = int(weight.argmax())
            regret = 1.0 - true_value.iloc[choice] / true_value[met].max() if met[choice] else np.nan
            promised = odds[choice] if method == "roofcast" else np.nan
            yield {"method": method, "success": float(met[choice]), "promised": promised, "regret": regret}
