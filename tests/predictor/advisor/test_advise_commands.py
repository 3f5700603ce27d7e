"""`recommend` and `sweep` print what their library twins answer; errors are one line and exit code 2."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[[str], tuple[int, str, str]]
CHAT = "recommend --model qwen2.5-72b --users 20 --isl 2048 --osl 512"


@pytest.fixture
def advise(run: Run, bundle: Path) -> Run:
    """Run a command line on the test bundle: exit code, stdout, stderr."""
    return lambda line: run(f"{line} --bundle {bundle}")


def test_a_recommendation_is_a_table_with_its_reason(advise: Run) -> None:
    code, out, err = advise(f"{CHAT} --instead hgx-h100")
    assert (code, err) == (0, "")
    assert "holds the limits for 20 users" in " ".join(out.split())
    assert "replaces" in out


def test_json_is_alone_on_stdout(advise: Run) -> None:
    code, out, _ = advise(f"{CHAT} --price b200=40000 --mix 1000/100/1 --mix 4000/200/2 --json")
    answer = json.loads(out)
    assert code == 0
    assert answer["met"]
    assert answer["ranked"][0]["cost"]["purchase_usd"] > 0


def test_impossible_limits_are_an_answer(advise: Run) -> None:
    code, out, _ = advise(f"{CHAT} --tpot-ms 0.1")
    assert code == 0
    assert "no deployment holds these limits; the closest" in out


@pytest.mark.parametrize(
    "line",
    [
        "recommend --model qwen2.5-72b --users 0",
        "recommend --model qwen2.5-72b",
        "recommend --model qwen2.5-72b --users 5 --request-rate 2",
        "recommend --model qwenx --users 5",
        "recommend --model qwen2.5-72b --users 5 --budget-usd 10",
        "recommend --model qwen2.5-72b --users 5 --mix 10/20",
        "recommend --model qwen2.5-72b --users 5 --price b200=cheap",
        "recommend --model qwen2.5-72b --users 5 --confidence 1.5",
        "recommend --model ./nowhere/config.json --users 5",
        "sweep --model qwen2.5-72b --out s --lengths 100",
        "sweep --model qwen2.5-72b --out s --concurrency 0",
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    line: str, advise: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = advise(line)
    assert (code, out) == (2, "")
    assert err.startswith("roofcast: ")
    assert err.count("\n") == 1


def test_a_sweep_leaves_parts_fronts_and_a_chart(advise: Run, tmp_path: Path) -> None:
    options = f"--model llama-3.1-8b --platform b200 --concurrency 1 --concurrency 8 --out {tmp_path / 's'}"
    code, out, _ = advise(f"sweep {options}")
    assert code == 0
    assert "b200" in out
    names = {path.name for path in (tmp_path / "s").iterdir()}
    assert names == {"sweep.json", "part-00000.parquet", "front.parquet", "sweep.html"}
    code, out, _ = advise(f"sweep {options} --json")
    assert json.loads(out)["front"]
