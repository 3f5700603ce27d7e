"""Every command prints what its library twin answers; expected errors are one line and exit code 2."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from roofcast.data.errors import BadStore
from roofcast.predictor import Predictor
from roofcast.predictor.predictor import ANSWER_COLUMNS

from .conftest import OPTIONS, QUESTION, Run, requests_frame


@pytest.fixture
def twins(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """Stand-ins for the functions behind train and evaluate; returns what they were called with."""
    calls: dict[str, dict[str, Any]] = {}

    def train(**options: Any) -> SimpleNamespace:
        calls["train"] = options
        options["progress"]("fitting", 0.5)
        return SimpleNamespace(
            bundle=Path("b"), metrics={"family": {"tpot_ms": 0.1}}, run_id="r1", seconds=1.25
        )

    def evaluate(**options: Any) -> dict[str, Any]:
        calls["evaluate"] = options
        options["progress"]("family", 1.0)
        return {"family": {"tpot_ms": 0.1}}

    monkeypatch.setattr("roofcast.training.train.train", train)
    monkeypatch.setattr("roofcast.training.report.evaluate", evaluate)
    return calls


def test_predict_prints_the_answer_in_words(run: Run, bundle: Path) -> None:
    code, out, err = run(f"predict {OPTIONS} --bundle {bundle}")
    assert (code, err) == (0, "")
    for words in (
        "qwen2.5-72b on 8 x b200-sxm",
        "[tok/s]",
        "90 % interval",
        "learned correction",
        "bottleneck",
    ):
        assert words in out


def test_predict_prints_json_and_nothing_else(run: Run, bundle: Path, predictor: Predictor) -> None:
    code, out, err = run(f"predict {OPTIONS} --bundle {bundle} --json")
    assert (code, err) == (0, "")
    assert json.loads(out) == predictor.predict(**QUESTION).to_dict()


@pytest.mark.parametrize("gpu", ["h100-sxm", "h200-sxm", "mi300x"])
def test_gpt_oss_is_answered_in_four_bits_unless_another_precision_is_given(
    gpu: str, run: Run, bundle: Path
) -> None:
    line = f"predict --model gpt-oss-120b --gpu {gpu} --tp 1 --concurrency 8 --bundle {bundle} --json"
    (code, out, _), (_, explicit, _) = run(line), run(f"{line} --weight-precision mxfp4")
    assumed, given = json.loads(out), json.loads(explicit)
    assert (code, assumed["weight_precision"], assumed["feasible"]) == (0, "fp4", True)
    assert assumed["tpot_ms"] == given["tpot_ms"]


def test_a_deployment_that_does_not_fit_is_an_answer(run: Run, bundle: Path) -> None:
    code, out, _ = run(
        f"predict --model qwen2.5-72b --gpu h100-sxm --tp 1 --weight-precision bf16 --bundle {bundle}"
    )
    assert code == 0
    assert "infeasible: does not fit" in out


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("predict --model qwen2.5-72 --gpu b200-sxm", "nearest: qwen2.5-72b"),
        ("predict --model qwen2.5-72b --gpu b200-smx", "nearest: b200-sxm"),
        ("predict --model qwen2.5-72b --gpu b200-sxm --isl 0", "isl"),
        ("predict --model qwen2.5-72b --gpu b200-sxm --osl -4", "osl"),
        ("predict --model qwen2.5-72b --gpu b200-sxm --isl inf", "isl"),
        ("predict --model qwen2.5-72b --gpu b200-sxm --tp 3", "tp"),
        ("predict --model qwen2.5-72b --gpu b200-sxm --tp eight", "--tp"),
        ("predict --modl qwen2.5-72b", "--model"),
        ("predict", "model is required"),
        ("predict --frame no-such-file.csv", "cannot be read as CSV"),
        ("predict --frame x.csv --model qwen2.5-72b", "drop --model"),
        ("predict --model qwen2.5-72b --gpu b200-sxm --out x.csv", "--frame"),
        ("predict --model llama-3.1-8b --gpu v100 --weight-precision fp8", "bf16 or int4"),
        ("predict --model qwen2.5-72b --bundle no-such-folder", "no such bundle folder"),
        ("guess", "guess"),
        ("models no-such-model", "nothing in the catalogue"),
    ],
)
def test_an_expected_error_is_one_line_and_exit_code_2(line: str, words: str, run: Run, bundle: Path) -> None:
    needs_bundle = line.startswith("predict") and "--bundle" not in line
    code, out, err = run(f"{line} --bundle {bundle}" if needs_bundle else line)
    assert (code, out) == (2, "")
    assert err.startswith("roofcast: ")
    assert err.count("\n") == 1
    assert words in err


def test_a_file_of_requests_is_answered_row_for_row(
    run: Run, bundle: Path, predictor: Predictor, tmp_path: Path
) -> None:
    frame = requests_frame(20).assign(label="mine")
    frame.to_csv(tmp_path / "requests.csv", index=False)
    code, out, _ = run(
        f"predict --frame {tmp_path / 'requests.csv'} --out {tmp_path / 'answers.csv'} --bundle {bundle}"
    )
    assert (code, out) == (0, "")
    answers = pd.read_csv(tmp_path / "answers.csv", keep_default_na=True)
    assert list(answers.columns) == [*frame.columns, *ANSWER_COLUMNS]
    assert (answers["label"] == "mine").all()
    wanted = predictor.predict_frame(frame)
    pd.testing.assert_series_equal(answers["tpot_ms"], wanted["tpot_ms"])


def test_a_folder_that_is_not_there_is_one_line(run: Run, bundle: Path, tmp_path: Path) -> None:
    requests_frame(1).to_csv(tmp_path / "requests.csv", index=False)
    line = f"predict --frame {tmp_path / 'requests.csv'} --out {tmp_path / 'no' / 'a.csv'} --bundle {bundle}"
    code, out, err = run(line)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert str(tmp_path / "no") in err


@pytest.mark.parametrize("as_json", [False, True])
def test_a_file_of_requests_goes_to_stdout_without_out(
    as_json: bool, run: Run, bundle: Path, tmp_path: Path
) -> None:
    path = tmp_path / "requests.csv"
    requests_frame(3).to_csv(path, index=False)
    code, out, _ = run(f"predict --frame {path} --bundle {bundle}{' --json' if as_json else ''}")
    assert code == 0
    if as_json:
        assert [row["feasible"] for row in json.loads(out)]
    else:
        assert out.splitlines()[0].endswith("support,feasible,reason")
        assert len(out.splitlines()) == 4


def test_train_hands_its_options_on(run: Run, twins: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    code, out, _ = run(f"train --out {tmp_path} --no-track --json")
    assert code == 0
    assert json.loads(out)["metrics"] == {"family": {"tpot_ms": 0.1}}
    assert twins["train"]["out"] == tmp_path
    assert twins["train"]["serving"] is None
    assert twins["train"]["store"] is None
    run("train")
    assert twins["train"]["serving"].code.is_file()


def test_evaluate_runs_the_protocols_asked_for(run: Run, twins: dict[str, dict[str, Any]]) -> None:
    code, out, _ = run("evaluate --protocol family --protocol model")
    assert code == 0
    assert out == "family.tpot_ms: 0.1\n"
    assert twins["evaluate"]["protocols"] == ("family", "model")
    run("evaluate")
    assert len(twins["evaluate"]["protocols"]) == 5


def test_an_error_while_training_is_one_line_too(
    run: Run, twins: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(**options: Any) -> None:
        raise BadStore("benchmarks.parquet is truncated")

    monkeypatch.setattr("roofcast.training.train.train", fails)
    code, _, err = run("train")
    assert code == 2
    assert "roofcast: benchmarks.parquet is truncated" in err
    assert "Traceback" not in err


def test_without_a_command_the_help_is_shown(run: Run) -> None:
    code, out, err = run("")
    assert code == 2
    assert "predict" in out + err
    assert "Traceback" not in out + err
