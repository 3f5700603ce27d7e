"""Sweeps: every valid row, resumable, pruned without loss; fronts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from roofcast.data.errors import BadRequest, UnknownName
from roofcast.predictor import Predictor
from roofcast.predictor.advisor import sweep
from roofcast.predictor.advisor.sweep import Sweeper, SweepSpace

SPACE = SweepSpace(
    model="qwen2.5-72b", platforms=("hgx-b200", "hgx-h100"), lengths=((1024.0, 256.0), (4096.0, 512.0)),
    concurrency=(1.0, 4.0, 16.0, 64.0, 256.0), boxes=(1, 2),
)  # fmt: skip
FEW = SweepSpace(model="llama-3.1-8b", platforms=("b200",), concurrency=(1.0, 2.0))


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "PART_ROWS", 500)


def _speeds(front: pd.DataFrame) -> list[tuple[str, float, float]]:
    best = front[front["on_speed_front"]]
    return sorted(zip(best["platform"], best["tok_s_per_gpu"], best["tok_s_per_user"], strict=True))


def test_a_row_is_what_the_predictor_says_of_it(predictor: Predictor) -> None:
    rows = Sweeper(predictor, SPACE).answers(SPACE.rows(np.arange(200, 400)))
    columns = ["platform", "num_gpus", "tp", "pp", "ep", "dp", "weight_precision", "kv_precision", "engine",
               "isl", "osl", "concurrency"]  # fmt: skip
    direct = predictor.predict_frame(rows[columns].assign(model="qwen2.5-72b"))
    np.testing.assert_allclose(rows["output_tok_s"], direct["output_tok_s"], rtol=1e-5)
    np.testing.assert_allclose(rows["tpot_ms_hi"], direct["tpot_ms_hi"], rtol=1e-5)


def test_no_row_of_a_front_is_beaten_in_both(predictor: Predictor, tmp_path: Path) -> None:
    found = Sweeper(predictor, SPACE).run(tmp_path / "s")
    assert found.valid <= found.rows == SPACE.size
    fast = found.front[found.front["on_speed_front"]]
    for _, group in fast.groupby(["platform", "isl", "osl"], observed=True):
        ordered = group.sort_values("tok_s_per_user")
        assert (np.diff(ordered["tok_s_per_gpu"]) <= 0).all()


def test_leaving_far_rows_uncorrected_loses_none_of_the_front(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pruned = Sweeper(predictor, SPACE).run(tmp_path / "pruned")
    monkeypatch.setattr(sweep, "REACH", 1e9)
    whole = Sweeper(predictor, SPACE).run(tmp_path / "whole")
    assert pruned.corrected < whole.corrected == whole.valid
    assert _speeds(pruned.front) == _speeds(whole.front)


def test_a_sweep_that_was_stopped_continues(predictor: Predictor, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(stage: str, done: float) -> None:
        if stage.startswith("part 2"):
            raise Stop

    folder = tmp_path / "s"
    with pytest.raises(Stop):
        Sweeper(predictor, SPACE).run(folder, stop)
    done = {path: path.stat().st_mtime_ns for path in folder.glob("part-*.parquet")}
    assert len(done) == 2
    (folder / "part-00002.tmp").write_bytes(b"half a part")
    resumed = Sweeper(predictor, SPACE).run(folder)
    assert all(path.stat().st_mtime_ns == when for path, when in done.items())
    fresh = Sweeper(predictor, SPACE).run(tmp_path / "fresh")
    pd.testing.assert_frame_equal(resumed.front, fresh.front)
    assert resumed.valid == fresh.valid


def test_another_sweeps_folder_is_refused(predictor: Predictor, tmp_path: Path) -> None:
    Sweeper(predictor, FEW).run(tmp_path)
    with pytest.raises(BadRequest, match="folder"):
        Sweeper(predictor, replace(FEW, concurrency=(1.0, 4.0))).run(tmp_path)
    retrained = Predictor(predictor.model, {**predictor.manifest, "sha256": {}})
    with pytest.raises(BadRequest, match="folder"):
        Sweeper(retrained, FEW).run(tmp_path)
    (tmp_path / "sweep.json").unlink()
    with pytest.raises(BadRequest, match="empty"):
        Sweeper(predictor, FEW).run(tmp_path)


def test_a_part_that_is_damaged_is_named(predictor: Predictor, tmp_path: Path) -> None:
    Sweeper(predictor, FEW).run(tmp_path)
    (tmp_path / "part-00000.parquet").write_bytes(b"nonsense")
    with pytest.raises(BadRequest, match="part-00000"):
        Sweeper(predictor, FEW).run(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"concurrency": (0.0,)}, BadRequest), ({"boxes": ()}, BadRequest),
        ({"spec_decode": ("medium",)}, BadRequest), ({"engines": ("vllm", "vlm")}, UnknownName),
        ({"platforms": ("mi300x-8x",), "engines": ("trtllm",)}, BadRequest),
    ],
)  # fmt: skip
def test_a_space_that_makes_no_sense_is_refused(
    wrong: dict[str, Any], error: type[Exception], predictor: Predictor
) -> None:
    """Among them one without any configuration, and an unknown engine beside a known one."""
    with pytest.raises(error):
        Sweeper(predictor, SweepSpace(model="llama-3.1-8b", **wrong))
