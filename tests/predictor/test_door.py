"""The predictor's door: names as engines have them, doubts about columns, and what is said of an answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from roofcast.data.columns import ASKED, SPELLED
from roofcast.data.errors import BadRequest, UnknownName
from roofcast.predictor import Predictor
from roofcast.predictor.door import frame_of, request_of

from .conftest import QUESTION, Run

LAUNCHED: dict[str, Any] = {
    "model": "qwen2.5-72b", "gpu": "b200-sxm", "num_gpus": 8, "tensor_parallel_size": 8,
    "quantization": "nvfp4", "dtype": "bfloat16", "engine": "trtllm", "input_len": 2048,
    "output_len": 512, "max_concurrency": 32, "num_prompts": 320, "kv_cache_dtype": "auto",
}  # fmt: skip


def test_a_request_in_an_engines_own_words_is_the_same_request(predictor: Predictor, run: Run) -> None:
    want = predictor.predict(**QUESTION)
    assert predictor.predict(**LAUNCHED).to_dict() == want.to_dict()
    frame = predictor.predict_frame(pd.DataFrame([LAUNCHED]))
    assert frame["tpot_ms"].tolist() == [pytest.approx(want.tpot_ms)]


def test_the_command_line_takes_engines_options(predictor: Predictor, bundle: Path, run: Run) -> None:
    words = {k: v for k, v in LAUNCHED.items() if k not in ("dtype", "num_prompts")}
    line = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in words.items())
    code, out, err = run(f"predict {line} --bundle {bundle} --json")
    assert (code, err, json.loads(out)) == (0, "", predictor.predict(**QUESTION).to_dict())


def test_no_spelling_is_another_columns_name() -> None:
    assert not set(SPELLED) & set(ASKED)
    assert set(SPELLED.values()) <= set(ASKED)


def test_of_several_spellings_the_columns_own_comes_first() -> None:
    both = {"num_prompts": 1000, "max_concurrency": 8}
    assert request_of(both) == {"concurrency": 8}
    assert request_of(both | {"concurrency": 4}) == {"concurrency": 4}
    assert request_of(both | {"max_concurrency": None}) == {"concurrency": 1000}
    frame = frame_of(pd.DataFrame([both, both | {"max_concurrency": None}]))
    assert frame.to_dict("list") == {"concurrency": [8, 1000]}
    with pytest.raises(UnknownName, match="nearest: tensor_parallel_size"):
        request_of({"tensor_parallel_sizes": 8})


def test_a_column_of_a_frame_that_looks_misspelt_is_named_and_others_are_not(
    predictor: Predictor, bundle: Path, run: Run, tmp_path: Path
) -> None:
    frame = pd.DataFrame([QUESTION]).rename(columns={"concurrency": "concurency"})
    words = "column 'concurency' is not read; nearest: concurrency"
    with pytest.warns(UserWarning, match=words):
        predictor.predict_frame(frame)
    frame.to_csv(tmp_path / "asked.csv", index=False)
    code, _, err = run(f"predict --frame {tmp_path / 'asked.csv'} --bundle {bundle}")
    assert (code, err) == (0, f"roofcast: {words}\n")
    predictor.predict_frame(pd.DataFrame([QUESTION | {"label": 1, "ttft_ms": 3, "notes": ""}]))


def test_all_that_is_said_of_an_answer_stands_as_codes_with_values_too(predictor: Predictor) -> None:
    found = predictor.predict(model="qwen2.5-72b", gpu="h100-sxm", ep=8, tp=2, num_gpus=3, date="2099-01")
    assert "; ".join(map(str, found.notes)) == found.reason
    said = {(note.code, note.about.get("column")): note.about for note in found.notes}
    assert said["assumed", "concurrency"]["value"] == 32
    assert said["idle", "num_gpus"] == {"column": "num_gpus", "value": 1, "limit": 3}
    assert {("no-experts-to-spread", "ep"), ("future", "date")} <= set(said)
    assert "idle:num_gpus" in found.to_dict()["notes"].split()
    tight = predictor.predict(model="qwen2.5-72b", gpu="h100-sxm", tp=1)
    assert tight.notes[0].code == "too-large"
    assert tight.notes[0].about["tp"] == 2


@pytest.mark.parametrize(("percent", "nearest"), [(0.95, "95"), (0.999, "99.9"), (0, ""), (100, "")])
def test_a_percentile_is_per_cent(percent: float, nearest: str, predictor: Predictor) -> None:
    with pytest.raises(BadRequest, match=f"nearest: {nearest}" if nearest else "per cent"):
        predictor.predict(**QUESTION, percentiles=(percent,))


def test_an_engine_of_one_vendor_is_refused_on_others_naming_those_that_run(predictor: Predictor) -> None:
    with pytest.raises(BadRequest, match="NVIDIA GPUs alone; here vllm, sglang"):
        predictor.predict(model="llama-3.1-8b", gpu="mi300x", engine="trtllm")


def test_stages_of_unequal_size_are_answered_by_the_largest(predictor: Predictor) -> None:
    asked = {"model": "deepseek-r1", "gpu": "h200-sxm", "tp": 8, "concurrency": 64}
    one, two = predictor.predict(**asked), predictor.predict(**asked, pp=2, num_gpus=16)
    assert two.feasible
    assert one.output_tok_s < two.output_tok_s < 2 * one.output_tok_s
