from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from roofcast.data.store import BenchmarkStore
from roofcast.predictor import Predictor
from roofcast.predictor.commands.learn import serving
from roofcast.training import crossfit, trust
from roofcast.training.fit import Settings, sample_of
from roofcast.training.model.times import TAILS, TREES
from roofcast.training.posts import posted
from roofcast.training.report import evaluate
from roofcast.training.train import TrainResult, train

QUICK = Settings(trees=dict.fromkeys(TREES, 15), threads=1, calibration_steps=2)
REQUEST = {"model": "llama-3.3-70b", "gpu": "h200-sxm", "tp": 4, "concurrency": 32.0}


@pytest.fixture(scope="module")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    table = BenchmarkStore().load().sample(1500, random_state=2)
    path = tmp_path_factory.mktemp("store") / "table.parquet"
    table.to_parquet(path, index=False)
    return path


@pytest.fixture(scope="module")
def trained(small_store: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROOFCAST_MLRUNS", str(small_store.parent))
        out = tmp_path_factory.mktemp("out") / "bundle"
        protocols = ("configuration", "platform")
        return train(serving=serving(), store=small_store, out=out, settings=QUICK, protocols=protocols)


def test_a_training_writes_a_bundle_that_predicts_and_is_the_champion(
    trained: TrainResult, small_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROOFCAST_MLRUNS", str(small_store.parent))
    here, there = (
        Predictor.load(b).predict(**REQUEST) for b in (trained.bundle, "models:/roofcast@champion")
    )
    assert 0 < here.tpot_ms_lo < here.tpot_ms < here.tpot_ms_hi
    assert here.to_dict() == there.to_dict()


def test_a_training_reports_error_and_coverage_by_protocol(trained: TrainResult) -> None:
    assert {"configuration/tpot_ms", "platform/output_tok_s"} <= set(trained.metrics)
    for figures in trained.metrics.values():
        assert 0 < figures["blend_median_ape"] < 200
        assert 0.6 < figures["coverage"] <= 1


@pytest.fixture(scope="module")
def records(small_store: Path) -> crossfit.Records:
    sample = sample_of(BenchmarkStore(small_store).load())
    return crossfit.cross_fit(sample, ["family"], QUICK, n_folds=2)[0]


def test_a_percentile_that_nobody_measured_is_as_sure_as_its_median(records: crossfit.Records) -> None:
    unknown = dict.fromkeys(TAILS, np.full(len(records.rows), np.nan))
    taught = trust.learn_trust([replace(records, measured_s={**records.measured_s, **unknown})])
    assert {name: taught.intervals[name] for name in TAILS} == {
        name: taught.intervals[of] for name, (of, _) in TAILS.items()
    }


def test_records_cover_every_row_once_and_the_interval_of_a_fold_knows_nothing_of_its_rows(
    records: crossfit.Records,
) -> None:
    np.testing.assert_array_equal(np.sort(records.rows), np.arange(len(records.sample.table)))
    left = records.rows[records.fold == 0]
    honest = trust.learn_trust([records], left)
    poisoned = records.measured_s["tpot"].copy()
    poisoned[records.fold == 0] *= 1000.0
    changed = replace(records, measured_s={**records.measured_s, "tpot": poisoned})
    again, every = trust.learn_trust([changed], left), trust.learn_trust([records])
    assert (again.blend, again.intervals) == (honest.blend, honest.intervals)
    for name, spread in again.spreads.items():
        assert spread.model_to_string() == honest.spreads[name].model_to_string()
    assert trust.learn_trust([changed]).intervals != every.intervals


def test_an_evaluation_writes_the_report_and_the_plots(small_store: Path, tmp_path: Path) -> None:
    figures = evaluate(
        store=small_store, out=tmp_path, protocols=("configuration", "family"), settings=QUICK, n_folds=2,
        answer=Predictor.load().predict_frame,
    )  # fmt: skip
    written = {p.name for p in tmp_path.iterdir()}
    assert {"accuracy.md", "accuracy.json", "predicted_against_measured.png", "residuals.png"} <= written
    assert "fingerprint" in str(figures)
    assert {"mean TTFT", "TTFT p99"} <= set(
        re.findall(r"^\| family +\| (.+?) +\|", (tmp_path / "accuracy.md").read_text(), re.M)
    )
    assert {row["value"] for row in figures["stated"]} >= {"all", "asked otherwise", "lengths", "layout"}
    assert len(figures["posts"]) == len(posted())
    assert pd.read_json(tmp_path / "accuracy.json", typ="series") is not None
