"""What each part of the model is worth: leave it out, predict the same held-out rows, compare.

A variant changes one thing: columns that are learned from, the target, the weight of the correction, the
seed, or whose rows are learned from. All are fitted on the same folds with the same baseline coefficients
(calibrated anew where rows are left out) and compared on the same rows. The standard error of a difference
comes from a bootstrap over the protocol's groups, for rows of one group err together (Efron 1979).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..data.files import replace_text
from ..data.progress import Progress, silent
from ..data.store import BenchmarkStore
from ..features.baseline import Estimate, baseline
from ..features.coefficients import Coefficients
from ..features.facts import FloatArray
from ..features.frame import feature_columns
from . import crossfit, splits
from .ablate_page import FULL, RESEEDED, SOURCE, page
from .calibrate import calibrate
from .learner import Sample, Settings, fit, learning_frame, measured_seconds, sample_of
from .model.model import CORRECTED
from .model.support import STRATA
from .tune import physics_digest

FOLDS = 3
NEAREST = "configuration"
PROTOCOLS = (NEAREST, "family", "model")
Cells = dict[str, dict[str, float]]
LEAST_SHARE = 0.01
_DRAWS = 200
# Finds "v0.6.1", "sglang:v0.5.9-cu130", "atom0.1.3", "Neuron 2.18"; not the versions of ROCm or TensorRT.
_VERSION = r"(?:^|[v:/-]|Neuron |transformers |gaudi |atom)(\d+)\.(\d+)(?:\.(\d+))?"


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One change to what is learned; `without`: feature columns, `weight`: of the correction, not learned.

    siblings: whether the set-up's own measured rows are asked.
    """

    without: tuple[str, ...] = ()
    baseline_target: bool = True
    weight: float | None = None
    version: bool = False
    siblings: bool = True
    seed: int = 0

    def frame(
        self, sample: Sample, base: Estimate
    ) -> tuple[FloatArray, tuple[str, ...], Mapping[str, FloatArray]]:
        """Return features, names and targets as `learning_frame` does, changed."""
        matrix, names, target = learning_frame(sample, base)
        kept = [i for i, name in enumerate(names) if name not in self.without]
        matrix, names = matrix[:, kept], tuple(names[i] for i in kept)
        if self.version:
            matrix = np.column_stack([matrix, version_number(sample.table)])
            names = (*names, "engine_version")
        if not self.baseline_target:
            with np.errstate(all="ignore"):
                target = {name: np.log(seconds) for name, seconds in measured_seconds(sample, base).items()}
        return matrix, names, target


def version_number(table: pd.DataFrame) -> FloatArray:
    """Return engine versions as numbers that grow with each release, shape (rows,), NaN where not named.

    >>> version_number(pd.DataFrame({"engine_version": ["v0.6.1", "0.19", "nightly"]})).tolist()
    [0.0601, 0.19, nan]
    """
    parts = table["engine_version"].astype(str).str.extract(_VERSION).astype(np.float64)
    number: FloatArray = (parts[0] + parts[1] / 1e2 + parts[2].fillna(0.0) / 1e4).to_numpy()
    return number


def physics_names(sample: Sample) -> tuple[str, ...]:
    """Return the features that move when the estimates of the physics do."""
    base = baseline(sample.requests, Coefficients())
    # Each by another factor, so that no quotient of two stays where it was.
    moved = replace(
        base, ttft_s=base.ttft_s * 3, tpot_s=base.tpot_s * 5, e2e_s=base.e2e_s * 7, batch=base.batch * 11,
        burst_s=base.burst_s * 13, max_batch=base.max_batch * 17,
        terms={name: seconds * 19 for name, seconds in base.terms.items()},
    )  # fmt: skip
    low = replace(sample.floor, ttft_s=sample.floor.ttft_s * 23, tpot_s=sample.floor.tpot_s * 29)
    before = feature_columns(sample.requests, sample.floor, base)
    after = feature_columns(sample.requests, low, moved)
    return tuple(name for name in before if not np.allclose(before[name], after[name], equal_nan=True))


def variants(sample: Sample) -> dict[str, Variant]:
    """Return all variants but those of the source families, by what the page calls them."""
    physics = physics_names(sample)
    return {
        FULL: Variant(),
        RESEEDED: Variant(seed=1),
        "without physics features": Variant(without=physics),
        "without baseline target": Variant(baseline_target=False),
        "without measured siblings": Variant(siblings=False),
        "without blend": Variant(weight=1.0),
        "without all three": Variant(without=physics, baseline_target=False, weight=1.0),
        "without the learned correction": Variant(weight=0.0),
        "neither date nor engine version": Variant(without=("months",)),
        "engine version in place of the date": Variant(without=("months",), version=True),
        "engine version beside the date": Variant(version=True),
    }


def families(table: pd.DataFrame, least: float) -> list[str]:
    """Return the source families that hold a share of `least` of the rows or more, largest first."""
    share = table["source_family"].value_counts(normalize=True)
    return [str(name) for name in share.index[share >= least]]


def _piece(
    sample: Sample,
    identity: str,
    rows: splits.Fold,
    tried: tuple[Variant, ...],
    settings: Settings,
) -> dict[Variant, dict[str, Any]]:
    """Fit the variants on one fold and return what each says of the tested rows; run in a worker process."""
    learnt, held = sample.take(rows[0]), sample.take(rows[1])
    coefficients = calibrate(learnt.table, seed=settings.seed, max_evaluations=settings.calibration_steps)
    out, fits = {}, {}
    for variant in tried:
        whole = replace(variant, siblings=True)
        if whole not in fits:
            own = replace(settings, seed=settings.seed + variant.seed, threads=1)
            fits[whole] = fit(learnt, own, coefficients, variant.frame, held.requests)
        fitted = fits[whole]
        if not variant.siblings:
            fitted = replace(fitted, siblings=fitted.siblings.none())
        told = crossfit.answers(fitted, learnt, held, variant.frame)
        if not variant.baseline_target:
            told |= {f"raw_{name}": told[f"raw_{name}"] - np.log(told[f"base_{name}"]) for name in CORRECTED}
        out[variant] = told | {"matrix": np.empty((len(held.table), 0))}  # only intervals need it
    return out


def _medians(error: FloatArray, group: NDArray[np.intp], counts: NDArray[np.intp]) -> FloatArray:
    """Return the median error of each draw, shape (draws,); counts: of each group, shape (draws, groups)."""
    order = np.argsort(error)
    weight = counts[:, group[order]].cumsum(axis=1)
    medians: FloatArray = error[order][(weight >= 0.5 * weight[:, -1:]).argmax(axis=1)]
    return medians


def compare(full: pd.DataFrame, other: pd.DataFrame, groups: Mapping[str, pd.Series[Any]]) -> Cells:
    """Compare two frames of `crossfit.point_scores` on the rows that both answer, by "protocol/metric".

    groups: by protocol, the group of each row_id. Figures are median absolute percentage errors [%].
    """
    out: Cells = {}
    both = full.merge(other.drop(columns="measured"), on=["row_id", "protocol", "metric"])
    both = both[(both[["measured", "blend_x", "blend_y"]] > 0).all(axis=1)]  # without the unanswered
    for key, part in both.groupby(both["protocol"] + "/" + both["metric"], sort=False):
        error = {name: 100 * np.abs(part[f"blend_{name}"] / part["measured"] - 1).to_numpy() for name in "xy"}
        group, names = pd.factorize(groups[str(key).split("/")[0]].loc[part["row_id"]])
        counts = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), _DRAWS)
        drawn = _medians(error["y"], group, counts) - _medians(error["x"], group, counts)
        whole = {name: float(np.median(values)) for name, values in error.items()}
        out[str(key)] = {
            "rows": len(part), "error": whole["y"], "difference": whole["y"] - whole["x"],
            "standard_error": float(drawn.std()),
        }  # fmt: skip
    return out


def ablate_sample(
    sample: Sample,
    *,
    protocols: Sequence[str] = PROTOCOLS,
    settings: Settings | None = None,
    n_folds: int = FOLDS,
    least: float = LEAST_SHARE,
    cache: Path | None = None,
    identity: str = "",
    progress: Progress = silent,
) -> dict[str, Cells]:
    """Return `compare`'s figures of every variant, then of every source family left out (name after SOURCE).

    least: share of the rows that a source must hold to be left out. cache: folder of finished pieces, found
    again where `identity`, rows and settings are the same.
    """
    settings, table = settings or Settings(), sample.table
    tried, origin = variants(sample), table["source_family"].to_numpy(str)
    distinct = tuple(dict.fromkeys(replace(variant, weight=None) for variant in tried.values()))
    sources = families(table, least)
    folds = {p: splits.protocol_folds(table, p, n_folds, settings.seed) for p in protocols}
    # What a source is worth to setups that are in training anyway is not asked.
    far = [p for p in protocols if p != NEAREST] or list(protocols)
    keys = [("", p) for p in protocols] + [(family, p) for family in sources for p in far]
    tasks = [(key, (train[origin[train] != key[0]], test)) for key in keys for train, test in folds[key[1]]]
    piece = joblib.Memory(cache, verbose=0).cache(_piece, ignore=["sample"])
    done = joblib.Parallel(n_jobs=crossfit.WORKERS, return_as="generator")(
        joblib.delayed(piece)(sample, identity, rows, (Variant(),) if key[0] else distinct, settings)
        for key, rows in tasks
    )
    parts: dict[tuple[str, str], list[dict[Variant, dict[str, Any]]]] = {key: [] for key in keys}
    for number, ((key, _), part) in enumerate(zip(tasks, done, strict=True)):
        parts[key].append(part)
        progress(f"{key[1]}: {'without ' + key[0] if key[0] else 'variants'}", (number + 1) / len(tasks))

    def scores(family: str, variant: Variant, among: Sequence[str]) -> pd.DataFrame:
        records = []
        for p in among:
            told = [part[replace(variant, weight=None)] for part in parts[family, p]]
            one = crossfit.records_of(sample, p, [test for _, test in folds[p]], told)
            records.append(one.take(np.flatnonzero(origin[one.rows] != family)))
        if variant.weight is None:
            return crossfit.point_scores(records)
        return crossfit.point_scores(records, dict.fromkeys(CORRECTED, dict.fromkeys(STRATA, variant.weight)))

    groups = {p: pd.Series(splits.group_labels(table, p), index=table["row_id"]) for p in protocols}
    full, full_far = scores("", Variant(), protocols), scores("", Variant(), far)
    out = {name: compare(full, scores("", variant, protocols), groups) for name, variant in tried.items()}
    without = {SOURCE + name: scores(name, Variant(), far) for name in sources}
    return out | {name: compare(full_far, left, groups) for name, left in without.items()}


def ablate(
    *,
    store: Path | None = None,
    out: Path = Path("docs"),
    protocols: Sequence[str] = PROTOCOLS,
    least: float = LEAST_SHARE,
    cache: Path | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Measure all variants on the table in `store`, write ablations.md to `out` and return the figures."""
    settings = Settings()
    table, fingerprint = BenchmarkStore(store).snapshot()
    sample = sample_of(table)
    physics = physics_digest(sample)
    figures = ablate_sample(
        sample, protocols=protocols, settings=settings, least=least, cache=cache, progress=progress,
        identity=f"{fingerprint} {physics}",
    )  # fmt: skip
    facts = {
        "rows": f"{len(sample.table):,}",
        "folds": f"{FOLDS} per protocol",
        "trees": ", ".join(f"{count} ({name})" for name, count in settings.trees.items()),
        "fingerprint of the table": fingerprint,
        "digest of the physics": physics,
    }
    judged = "" if tuple(protocols) == PROTOCOLS else "".join(f" --protocol {p}" for p in protocols)
    share = sample.table["source_family"].value_counts(normalize=True)
    text = page(
        figures, facts, command=f"roofcast ablate{judged} --least {least:g} --out {out}", draws=_DRAWS,
        physics=physics_names(sample), versions=float(np.isfinite(version_number(sample.table)).mean()),
        shares={name: float(share[name]) for name in families(sample.table, least)}, least=least,
    )  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    replace_text(out / "ablations.md", text)
    return {"page": str(out / "ablations.md"), "fingerprint": fingerprint, "variants": figures}
