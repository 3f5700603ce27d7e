"""`recommend` and `sweep` print what their library twins answer; errors are one line and exit code 2."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

Run = Callable[[str], tuple[int, str, str]]
CHAT = "recommend --model qwen2.5-72b --users 20 --isl 2048 --osl 512"


@pytest.fixture
def advise(run: Run, bundle: Path) -> Run:
    """Run a command line on the test bundle: exit code, stdout, stderr."""
    return lambda line: run(f"{line} --bundle {bundle}")


@pytest.mark.parametrize(
    ("options", "shown"),
    [("--instead hgx-h100", "replaces"), ("--tpot-ms 0.1", "no deployment holds these limits; the closest")],
)
def test_a_recommendation_is_a_table_and_sentences(options: str, shown: str, advise: Run) -> None:
    """Impossible limits are an answer."""
    code, out, err = advise(f"{CHAT} {options}")
    assert (code, err) == (0, "")
    assert shown in out
    assert ("holds the limits for 20 users" in " ".join(out.split())) == ("instead" in options)


def test_json_is_alone_on_stdout(advise: Run) -> None:
    code, out, _ = advise(f"{CHAT} --price b200=40000 --mix 1000/100/1 --mix 4000/200/2 --json")
    answer = json.loads(out, parse_constant=pytest.fail)
    assert (code, answer["met"]) == (0, True)
    assert answer["ranked"][0]["cost"]["purchase_usd"] > 0


def test_a_rate_that_one_box_carries_buys_one_box(run: Run) -> None:
    """The shipped model's answer: prompts in prefill are not requests that find no room in the batch."""
    line = "recommend --model llama-3.1-8b --request-rate 40 --isl 1875 --osl 175 --platform hgx-h100"
    code, out, err = run(f"{line} --percentile 99 --ttft-ms 300 --json")
    assert (code, err) == (0, "")
    best = json.loads(out)["ranked"][0]
    assert (best["platform"], best["boxes"], best["gpus"]) == ("hgx-h100", 1, 8)
    assert best["ttft_ms"]["value"] <= 300


def test_a_mix_at_a_rate_costs_between_its_kinds_and_at_most_twice_at_twice_the_rate(run: Run) -> None:
    line = "recommend --model llama-3.1-8b --platform hgx-h100 --percentile 99 --ttft-ms 1000 --json"

    def boxes(rate: float, kinds: str) -> float:
        code, out, err = run(f"{line} --request-rate {rate:g} {kinds}")
        assert (code, err) == (0, "")
        return float(json.loads(out)["ranked"][0]["boxes"])

    mix = "--mix 500/100/3 --mix 6000/400/1"
    short, mixed, long = (boxes(320, kinds) for kinds in ("--isl 500 --osl 100", mix, "--isl 6000 --osl 400"))
    assert short < mixed < 0.5 * long
    assert mixed < boxes(640, mix) <= 2 * mixed


@pytest.mark.parametrize(
    "line",
    [
        "recommend --model qwen2.5-72b --users 0", "recommend --model qwen2.5-72b",
        f"{CHAT} --request-rate 2", f"{CHAT} --budget-usd 10", f"{CHAT} --mix 10/20",
        f"{CHAT} --price b200=cheap", f"{CHAT} --confidence 1.5", "recommend --model qwenx --users 5",
        "recommend --model ./nowhere/config.json --users 5",
        "sweep --model qwen3-0.6b --out s --lengths 100", "sweep --model qwen3-0.6b --out s --concurrency 0",
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_exit_code_2(
    line: str, advise: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = advise(line)
    assert (code, out) == (2, "")
    assert err.startswith("roofcast: ")
    assert err.count("\n") == 1


CONFIG = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 30,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "torch_dtype": "bfloat16",
}  # fmt: skip


@pytest.mark.parametrize(
    ("model", "name", "measured"),
    [
        ("deepseek-r1", "deepseek-r1", True), ("qwen3-0.6b", "qwen3-0.6b", False),
        ("Qwen/Qwen3-0.6B-FP8", "qwen3-0.6b", False), ("own-model", "own-model", False),
        ("own-model/config.json", "own-model", False), ("300b", "300b", False),
        ("29b-a3b", "29b-a3b", False),
    ],
)  # fmt: skip
def test_whatever_names_a_model_can_be_swept(
    model: str, name: str, measured: bool, advise: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With rows of the benchmark table to lay over the chart, and without any."""
    monkeypatch.chdir(tmp_path)
    Path("own-model").mkdir()
    Path("own-model/config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    line = f"sweep --model {model} --platform hgx-b200 --engine vllm --concurrency 4 --concurrency 64 --out s"
    code, out, err = advise(line)
    assert (code, err.strip()) == (0, "")
    assert "hgx-b200" in out
    names = {path.name for path in Path("s").iterdir()}
    assert names == {"sweep.json", "part-00000.parquet", "front.parquet", "sweep.html"}
    rows, front = (pd.read_parquet(Path("s") / file) for file in ("part-00000.parquet", "front.parquet"))
    assert set(rows["concurrency"]) == {4.0, 64.0}
    assert (rows["output_tok_s"] > 0).all()
    assert 0 < len(front) <= len(rows)
    page = (Path("s") / "sweep.html").read_text(encoding="utf-8")
    assert f"{name}: fronts over all configurations" in page
    assert 'src="http' not in page
    assert ('"name":"hgx-b200, measured"' in page) == measured


def test_a_sweep_shows_measured_points_at_the_lengths_that_have_some(advise: Run, tmp_path: Path) -> None:
    """One of the two menus' entries has no row near it; --no-measured leaves out the others too."""
    line = "sweep --model deepseek-r1 --platform hgx-b200 --lengths 1024/1024 --lengths 7/9 --concurrency 8"
    points = []
    for folder, option in (("with", ""), ("without", "--no-measured")):
        code, _, err = advise(f"{line} --out {tmp_path / folder} {option}")
        assert (code, err.strip()) == (0, "")
        page = (tmp_path / folder / "sweep.html").read_text(encoding="utf-8")
        points.append(page.count('"name":"hgx-b200, measured"'))
    assert points == [1, 0]


def test_a_sweep_in_which_nothing_fits_is_an_empty_front(advise: Run, tmp_path: Path) -> None:
    code, out, err = advise(f"sweep --model 1t --platform b200 --concurrency 1 --out {tmp_path / 's'}")
    assert (code, err.strip()) == (0, "")
    assert "0 valid of" in out
    assert pd.read_parquet(tmp_path / "s" / "front.parquet").empty
