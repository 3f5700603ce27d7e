"""Every command prints what its library twin answers; expected errors are one line and an exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from roofcast.data.errors import BadStore
from roofcast.predictor import Predictor
from roofcast.predictor.predictor import ANSWER_COLUMNS

from .conftest import OPTIONS, QUESTION, Run, requests_frame

METRICS = {"family": {"tpot_ms": 0.1}}
B200 = "predict --model qwen2.5-72b --gpu b200-sxm"


@pytest.fixture
def twins(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """Stand-ins for the functions behind train and evaluate; returns what they were called with."""
    calls: dict[str, dict[str, Any]] = {}

    def twin(name: str, answer: Any) -> Any:
        def called(**options: Any) -> Any:
            calls[name] = options
            options["progress"]("fitting", 0.5)
            return answer

        return called

    trained = SimpleNamespace(bundle=Path("b"), metrics=METRICS, run_id="r1", seconds=1.25)
    monkeypatch.setattr("roofcast.training.train.train", twin("train", trained))
    monkeypatch.setattr("roofcast.training.report.evaluate", twin("evaluate", METRICS))
    return calls


def test_predict_prints_the_answer_in_words_or_as_json_alone(
    run: Run, bundle: Path, predictor: Predictor
) -> None:
    call = f"predict {OPTIONS} --bundle {bundle}"
    (code, out, err), (json_code, found, json_err) = run(call), run(f"{call} --json")
    assert (code, err) == (json_code, json_err) == (0, "")
    assert all(words in out for words in ("qwen2.5-72b on 8 x b200-sxm", "[tok/s]", "bottleneck"))
    assert json.loads(found) == predictor.predict(**QUESTION).to_dict()
    # What does not fit is an answer too.
    code, out, _ = run(f"predict --model qwen2.5-72b --gpu h100-sxm --tp 1 --bundle {bundle}")
    assert (code, "infeasible: does not fit" in out) == (0, True)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("predict --model qwen2.5-72 --gpu b200-sxm", "nearest: qwen2.5-72b"), (f"{B200} --isl inf", "isl"),
        (f"{B200} --tp 3", "tp"), (f"{B200} --tp eight", "--tp"), ("predict --modl qwen2.5-72b", "--model"),
        ("predict", "model is required"), ("predict --frame no-such-file.csv", "cannot be read as CSV"),
        ("predict --frame x.csv --model qwen2.5-72b", "drop --model"), (f"{B200} --out x.csv", "--frame"),
        ("predict --model llama-3.1-8b --gpu v100 --weight-precision fp8", "bf16 or int4"),
        ("guess", "guess"), ("models no-such-model", "nothing in the catalogue"),
    ],
)  # fmt: skip
def test_an_expected_error_is_one_line_and_exit_code_2(line: str, words: str, run: Run, bundle: Path) -> None:
    needs_bundle = line.startswith("predict") and "--bundle" not in line
    code, out, err = run(f"{line} --bundle {bundle}" if needs_bundle else line)
    assert (code, out, err.count("\n"), err[:10]) == (2, "", 1, "roofcast: ")
    assert words in err


@pytest.mark.parametrize(("line", "name"), [
    ("models Qwen/Qwen3-32B-AWQ", "qwen3-32b"), ("gpus 8xH200", "h200-sxm"),
    ("platforms '2x HGX B200'", "hgx-b200"),
])  # fmt: skip
def test_a_list_is_searched_by_what_a_request_may_say(line: str, name: str, run: Run) -> None:
    code, out, err = run(f"{line} --json")
    assert (code, err, [row["name"] for row in json.loads(out)]) == (0, "", [name])
    code, _, err = run("models qwen3-33b")
    assert code == 2
    assert "nearest: qwen3-32b" in err


def test_what_cannot_be_read_is_one_line_and_exit_code_1(run: Run) -> None:
    code, out, err = run(f"{B200} --bundle no-such-folder")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "no such bundle folder" in err


@pytest.mark.parametrize(("line", "answer"), [
    (f"predict {OPTIONS}", 0), ("predict --model qwen2.5-72b --gpu h100-sxm --tp 1", 3),
    (f"audit {OPTIONS} --tpot-ms 40", 0), (f"audit {OPTIONS} --tpot-ms 0.1", 3),
    ("recommend --model llama-3.1-8b --users 8 --platform hgx-h200", 0),
    ("recommend --model llama-3.1-8b --users 8 --platform hgx-h200 --tpot-ms 0.1", 3),
])  # fmt: skip
def test_with_check_a_no_is_exit_code_3_and_without_it_an_answer(
    line: str, answer: int, run: Run, bundle: Path
) -> None:
    line = f"{line} --bundle {bundle} --json"
    plain, checked = run(line), run(f"{line} --check")
    assert (plain[0], checked[0], checked[1:]) == (0, answer, plain[1:])


def test_with_check_files_are_judged_as_a_whole(run: Run, bundle: Path, tmp_path: Path) -> None:
    frame = requests_frame(3).assign(tpot_ms=1e-3)
    for name, rows in {"fit": frame, "one_not": frame.assign(tp=[1, 1, 3])}.items():
        rows.to_csv(tmp_path / f"{name}.csv", index=False)
    codes = [run(f"predict --frame {tmp_path / name} --check --bundle {bundle}")[0]
             for name in ("fit.csv", "one_not.csv")]  # fmt: skip
    assert codes == [0, 3]
    assert run(f"audit {tmp_path / 'fit.csv'} --check --bundle {bundle}")[0] == 3
    (tmp_path / "nothing.txt").write_text("nothing\n", encoding="utf-8")
    check = f"fabric check {tmp_path / 'nothing.txt'}"
    assert [run(check)[0], run(f"{check} --check")[0]] == [2, 3]


def test_the_version_is_the_packages(run: Run) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "roofcast.predictor", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == run("--version")[1] == f"roofcast {version('roofcast')}\n"


@pytest.mark.parametrize(("typed", "offered"), [
    ("rec", {"recommend"}), ("fabric ch", {"check"}), ("predict --kv-h", {"--kv-hot-tokens"}),
    ("predict --gpu mi35", {"mi350x", "mi355x"}), ("audit --platform dgx-sp", {"dgx-spark"}),
    ("recommend --model qwen2.5-72", {"qwen2.5-72b"}),
])  # fmt: skip
def test_the_shell_completes_commands_options_and_names(typed: str, offered: set[str]) -> None:
    line = f"roofcast {typed}"
    shell = {"_ROOFCAST_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    program = Path(sys.executable).with_name("roofcast")
    done = subprocess.run([program], env=os.environ | shell, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == offered


def test_a_file_of_requests_is_answered_row_for_row(
    run: Run, bundle: Path, predictor: Predictor, tmp_path: Path
) -> None:
    frame = requests_frame(20).assign(label="mine")
    frame.to_csv(tmp_path / "requests.csv", index=False)
    line = f"predict --frame {tmp_path / 'requests.csv'} --bundle {bundle}"
    assert run(f"{line} --out {tmp_path / 'answers.csv'}")[:2] == (0, "")
    answers = pd.read_csv(tmp_path / "answers.csv", keep_default_na=True)
    assert list(answers.columns) == [*frame.columns, *ANSWER_COLUMNS]
    assert (answers["label"] == "mine").all()
    pd.testing.assert_series_equal(answers["tpot_ms"], predictor.predict_frame(frame)["tpot_ms"])
    # Without --out it goes to stdout; a folder that is not there is one line.
    assert run(line)[1] == (tmp_path / "answers.csv").read_text(encoding="utf-8")
    assert len(json.loads(run(f"{line} --json")[1])) == 20
    code, out, err = run(f"{line} --out {tmp_path / 'no' / 'a.csv'}")
    assert (code, out, err.count("\n"), str(tmp_path / "no") in err) == (1, "", 1, True)


def test_train_hands_its_options_on(run: Run, twins: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    code, out, _ = run(f"train --out {tmp_path} --no-track --json")
    assert (code, json.loads(out)["metrics"]) == (0, METRICS)
    assert [twins["train"][name] for name in ("out", "serving", "store")] == [tmp_path, None, None]
    run("train")
    assert twins["train"]["serving"].code.is_file()


def test_evaluate_runs_the_protocols_asked_for(run: Run, twins: dict[str, dict[str, Any]]) -> None:
    assert run("evaluate --protocol family --protocol model")[:2] == (0, "family.tpot_ms: 0.1\n")
    assert twins["evaluate"]["protocols"] == ("family", "model")
    run("evaluate")
    assert len(twins["evaluate"]["protocols"]) == 5


def test_an_error_while_training_is_one_line_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(**options: Any) -> None:
        raise BadStore("benchmarks.parquet is truncated")

    monkeypatch.setattr("roofcast.training.train.train", fails)
    code, _, err = run("train")
    assert (code, "Traceback" in err) == (1, False)
    assert "roofcast: benchmarks.parquet is truncated" in err


@pytest.mark.parametrize("line", ["", "fabric"])
def test_without_a_command_the_help_is_shown(line: str, run: Run) -> None:
    code, out, err = run(line)
    assert (code, err, out[:7]) == (2, "", "Usage: ")
