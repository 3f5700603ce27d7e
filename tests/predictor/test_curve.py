"""The load curve: each load as predict answers it, the knee, the load that limits allow, what people see."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from roofcast.data.columns import BOUNDS
from roofcast.data.errors import BadRequest
from roofcast.predictor import Predictor
from roofcast.predictor.advisor import Workload
from roofcast.predictor.advisor.outcomes import outcomes
from roofcast.predictor.load_curve import Curve
from roofcast.predictor.prediction import BOUNDED

from .conftest import Run

DENSE: dict[str, Any] = {"model": "llama-3.3-70b", "gpu": "h200-sxm", "tp": 4, "weight_precision": "fp8"}
MOE: dict[str, Any] = {
    "model": "deepseek-r1", "gpu": "b200-sxm", "tp": 8, "num_gpus": 8, "engine": "sglang",
    "weight_precision": "fp8", "isl": 1024, "osl": 1024,
}  # fmt: skip
SMALL: dict[str, Any] = {"model": "llama-3.1-8b", "gpu": "l40s", "tp": 1, "isl": 2000, "osl": 200}
RATES: dict[str, Any] = {"model": "gpt-oss-120b", "gpu": "h100-sxm", "tp": 2, "rates": "auto"}
BATCHES: dict[str, Any] = {"model": "qwen3-32b", "gpu": "mi300x", "tp": 1, "mode": "static-batch"}
TOO_LARGE: dict[str, Any] = {"model": "qwen2.5-72b", "gpu": "h100-sxm", "tp": 1, "weight_precision": "bf16"}
FITTING = (DENSE, MOE, SMALL, RATES, BATCHES)
LIMITS: tuple[dict[str, float], ...] = (
    {"ttft_ms": 500.0}, {"tpot_ms": 50.0}, {"ttft_ms": 2000.0, "tpot_ms": 25.0, "percentile": 99.0},
)  # fmt: skip
each = pytest.mark.parametrize("question", FITTING, ids=lambda q: f"{q['model']}-{q['gpu']}")


def options(question: dict[str, Any]) -> str:
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in question.items())


def column(curve: Curve, name: str) -> np.ndarray[Any, Any]:
    return np.array(curve.columns[name])


@pytest.fixture(scope="module")
def curve(shipped: Predictor) -> Curve:
    return shipped.curve(**MOE)


@each
def test_each_load_is_answered_as_predict_answers_it(question: dict[str, Any], shipped: Predictor) -> None:
    found = shipped.curve(**question)
    load = {"mode": found.request["mode"], "concurrency": None}
    request = {k: v for k, v in question.items() if k != "rates"}
    for point in (found.points[0], found.points[len(found.points) // 2], found.at(found.saturation or 1.0)):
        one = shipped.predict(**{**request, **load, found.over: point[found.over]})
        assert [point[name] for name in BOUNDED] == pytest.approx([getattr(one, name) for name in BOUNDED])


@each
def test_throughput_grows_to_saturation_and_hardly_beyond(
    question: dict[str, Any], shipped: Predictor
) -> None:
    """Within 15 %: the learned correction wavers where measured loads lie apart."""
    found = shipped.curve(**question)
    rate, loads = column(found, "output_tok_s"), column(found, found.over)
    knee = int(np.searchsorted(loads, found.saturation))
    assert rate[: knee + 1].max() <= rate[knee] * 1.001
    assert (rate[1 : knee + 1] >= 0.85 * np.maximum.accumulate(rate)[:knee]).all()
    assert rate[knee:].max() <= rate[knee] / 0.95 * 1.02
    assert loads[knee] <= found.most
    assert found.points[-1][found.over] >= 0.95 * found.saturation


@each
@pytest.mark.parametrize("limits", LIMITS, ids=str)
def test_the_largest_load_holds_its_limits_and_the_next_one_does_not(
    question: dict[str, Any], limits: dict[str, float], shipped: Predictor
) -> None:
    found = shipped.curve(**question)
    held = found.largest(**limits)
    loads, limit = column(found, found.over), held.limits
    if held.load is None:
        assert held.times[held.limited_by] > limit[held.limited_by]
        return
    assert all(held.times[name] <= limit[name] for name in limit)
    assert (held.load_lo or 0.0) <= held.load <= (held.load_hi or np.inf)
    after = loads[loads > held.load]
    if held.limited_by == "capacity":
        assert not len(after) or found.at(after[0])["served"] == 0.0
    else:
        name = "users_" + held.limited_by.replace("_ms", f"_p{held.percentile:g}_ms")
        assert found.at(after[0])[name] > limit[held.limited_by]


@each
def test_wider_limits_never_hold_less(question: dict[str, Any], shipped: Predictor) -> None:
    found = shipped.curve(**question)
    for name in ("ttft_ms", "tpot_ms"):
        held = [found.largest(**{name: 2.0**k, "percentile": 95.0}).load or 0.0 for k in range(18)]
        assert held == sorted(held)
        assert held[-1] > 0.0
    loose, strict = (found.largest(ttft_ms=800.0, percentile=p).load or 0.0 for p in (50.0, 99.0))
    assert strict <= loose


def test_users_meet_the_percentiles_that_the_advisor_holds_them_to(shipped: Predictor) -> None:
    found = shipped.curve(**DENSE, isl=1024, osl=1024, concurrency=(4, 64), percentiles=(75, 99))
    frame = pd.DataFrame([{**DENSE, "num_gpus": 4, "engine": "vllm"}] * 2)
    for percent in (75.0, 99.0):
        asked = Workload(model="llama-3.3-70b", users=4, isl=1024, osl=1024, percentile=percent)
        met = outcomes(shipped.model, frame, asked, np.array([4.0, 64.0]))
        for times, name in zip(met.times_ms, ("ttft", "tpot"), strict=True):
            points = [point[f"users_{name}_p{percent:g}_ms"] for point in found.points]
            np.testing.assert_allclose(points, times[0], rtol=1e-6)


@each
def test_weights_kv_and_what_is_free_fill_the_memory(question: dict[str, Any], shipped: Predictor) -> None:
    found = shipped.curve(**question)
    kv, free = column(found, "kv_bytes"), column(found, "free_bytes")
    whole = found.memory["weights_bytes"] + kv + free
    np.testing.assert_allclose(whole, found.memory["available_bytes"], rtol=1e-9)
    assert (np.diff(kv) >= -1e-6 * kv[1:]).all()
    assert found.memory["weights_bytes"] + found.memory["sequence_bytes"] == found.memory["needed_bytes"]


def test_measured_rows_are_those_of_the_same_set_up(curve: Curve, shipped: Predictor) -> None:
    assert len(curve.measured) > 20
    assert {row.differs.get("engine", "sglang") for row in curve.measured} == {"sglang"}
    assert not {"gpu", "model", "num_gpus", "tp", "mode"} & {n for row in curve.measured for n in row.differs}
    loads = [row.load for row in curve.measured]
    assert (loads == sorted(loads), len(set(loads)) > 4) == (True, True)
    tpots = [(row.load, row.measured["tpot_ms"]) for row in curve.measured]
    ratios = [curve.at(load)["tpot_ms"] / tpot for load, tpot in tpots if tpot]
    assert np.median(np.abs(np.log(ratios))) < 0.2
    assert shipped.curve(**MOE, measured=False).measured == ()
    assert shipped.curve(**{**MOE, "engine": "tgi"}).measured == ()


def test_loads_are_numbers_or_a_range_and_the_rest_is_answered_all_the_same(shipped: Predictor) -> None:
    auto = shipped.curve(**SMALL, measured=False)

    def loads(**asked: Any) -> list[float]:
        found = shipped.curve(**SMALL, measured=False, **asked)
        if found.over == auto.over:
            assert (found.saturation, found.largest(tpot_ms=60)) == (
                auto.saturation,
                auto.largest(tpot_ms=60),
            )
        return [point[found.over] for point in found.points]

    assert loads(concurrency=[5, 1, 5]) == loads(concurrency="1,5") == [1.0, 5.0]
    assert loads(concurrency="3-12") == [3.0, 4.0, 6.0, 8.0, 12.0]
    assert loads(concurrency=7) == [7.0]
    assert loads(rates=(0.5, 2)) == loads(request_rate="0.5,2") == [0.5, 2.0]
    assert loads(rates="0.5-2") == [0.5, 0.75, 1.0, 1.5, 2.0]
    assert shipped.curve(**SMALL, measured=False, mode="open-loop").over == "request_rate"


def test_requests_come_as_they_are_said_to(shipped: Predictor) -> None:
    def asked(**how: Any) -> Curve:
        return shipped.curve(**SMALL, measured=False, **how)

    for how in (
        {"concurrency": (8,)},
        {"rates": (0.5,)},
        {"arrival": "burst"},
        {"rates": (2,), "arrival": "constant"},
    ):
        found = asked(**how)
        came = {"mode": found.request["mode"], "arrival": found.request["arrival"]}
        point = found.points[-1]
        one = shipped.predict(**SMALL, **came, **{found.over: point[found.over]})
        assert (one.ttft_ms, one.output_tok_s) == pytest.approx((point["ttft_ms"], point["output_tok_s"]))
    assert asked(max_concurrency=(3, 4)).points == asked(concurrency=(3, 4)).points


def test_with_check_the_exit_code_says_whether_it_fits_and_a_load_holds(run: Run) -> None:
    for line, code in (
        (f"curve {options(SMALL)}", 0), (f"curve {options(SMALL)} --tpot-ms 60", 0),
        (f"curve {options(SMALL)} --tpot-ms 0.1", 3), (f"curve {options(TOO_LARGE)} --json", 3),
        (f"predict {options(TOO_LARGE)}", 3),
    ):  # fmt: skip
        assert run(f"{line} --check")[0] == code


def test_a_load_beyond_what_is_held_is_answered_but_holds_nothing(shipped: Predictor) -> None:
    found = shipped.curve(**SMALL, concurrency=(1, 100_000))
    assert [point["served"] for point in found.points] == [1.0, 0.0]
    assert found.largest(ttft_ms=1e12).load == np.floor(found.most)
    assert found.largest(ttft_ms=1e12).limited_by == "capacity"


def test_a_curve_is_a_value_and_a_frame(curve: Curve, shipped: Predictor) -> None:
    assert copy.deepcopy(curve) == curve == shipped.curve(**MOE)
    assert json.loads(json.dumps(curve.to_dict()))["points"] == curve.points
    frame = curve.to_frame()
    assert list(frame["concurrency"]) == [point["concurrency"] for point in curve.points]
    assert all(f"tpot_ms{bound}" in frame for bound in BOUNDS)


def test_what_does_not_fit_is_an_answer_with_the_bytes(shipped: Predictor, run: Run, tmp_path: Path) -> None:
    found = shipped.curve(**TOO_LARGE)
    assert (found.feasible, found.points, found.saturation) == (False, [], None)
    assert found.memory["needed_bytes"] > found.memory["available_bytes"] > 0.0
    assert found.largest(ttft_ms=1e9).limited_by == "memory"
    files = f"--out {tmp_path / 'c.csv'} --plot {tmp_path / 'c.html'}"
    code, out, err = run(f"curve {options(TOO_LARGE)} --tpot-ms 50 {files}")
    assert (code, err) == (0, "")
    shown = out.replace("\n", " ").replace("  ", " ")
    assert all(words in shown for words in ("needs 146.1 GB", "78.2 GB available", "it does not fit"))
    assert (tmp_path / "c.csv").read_text().count("\n") == 1
    assert "needs 146.1 GB" in (tmp_path / "c.html").read_text()
    assert run(f"curve {options(TOO_LARGE)} --plot")[0] == 0
    assert json.loads(run(f"curve {options(TOO_LARGE)} --json")[1])["feasible"] is False


@pytest.mark.parametrize("question", [*FITTING, {**DENSE, "rates": "1,2,500"}], ids=str)
def test_the_tables_fit_80_columns(
    question: dict[str, Any], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = run(f"curve {options(question)} --plot -")
    assert (code, err) == (0, "")
    rows = [line for line in out.splitlines() if "──" in line or "⠀" in line or "interval" in line]
    assert max(map(len, rows)) <= 80
    assert all(words in out for words in ("saturation: ", "memory per GPU: ", "support: ", "dotted"))


def test_limits_that_hold_and_limits_that_never_do_are_said(run: Run, curve: Curve) -> None:
    asked = f"curve {options(MOE)} --ttft-ms 500 --tpot-ms 50 --percentile 99"
    held = curve.largest(ttft_ms=500.0, tpot_ms=50.0, percentile=99.0)
    assert f"{held.load:g} in flight (90 % interval" in run(asked)[1].replace("\n", " ")
    assert json.loads(run(f"{asked} --json")[1])["largest"]["load"] == held.load
    assert "no load holds TPOT p90 to 1 ms: the least" in run(f"curve {options(MOE)} --tpot-ms 1")[1]
    assert json.loads(run(f"curve {options(MOE)} --tpot-ms 1 --json")[1])["largest"]["load"] is None
    # A limit of goodput is one for the loads, too.
    assert run(f"curve {options(MOE)} --tpot-limit-ms 1 --json --check")[0] == 3
    assert curve.largest(ttft_ms=400.0, percentile=90.0).load is not None
    with pytest.raises(BadRequest, match="one of the curve's, 50, 90"):
        curve.largest(ttft_ms=400.0, percentile=97.0)


def test_the_curve_goes_to_files(run: Run, tmp_path: Path, curve: Curve) -> None:
    for name in ("c.png", "c.svg", "c.html"):
        assert run(f"curve {options(MOE)} --ttft-ms 900 --plot {tmp_path / name}")[0] == 0
        assert len(content := (tmp_path / name).read_bytes()) > 10_000
    assert (b"<svg" in content, b"src=" in content) == (True, False)
    for name in ("c.csv", "c.json"):
        assert run(f"curve {options(MOE)} --out {tmp_path / name}")[0] == 0
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "c.csv"), curve.to_frame())
    assert json.loads((tmp_path / "c.json").read_text()) == json.loads(json.dumps(curve.to_dict()))


def test_predict_without_a_load_shows_the_curve_and_with_one_a_point(run: Run, shipped: Predictor) -> None:
    code, out, _ = run(f"predict {options(DENSE)}")
    assert (code, "--concurrency N or --request-rate R" in out, "saturation: " in out) == (0, True, True)
    found = json.loads(run(f"predict {options(DENSE)} --json")[1])
    assert found == json.loads(json.dumps(shipped.curve(**DENSE).to_dict()))
    for load in ("--concurrency 8", "--request-rate 1", "--mode offline"):
        assert "time per output token" in run(f"predict {options(DENSE)} {load}")[1]
    assert shipped.predict(**DENSE).feasible


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--concurrency 1,x", "a range (1-64)"), ("--rates 5-1", "numbers (1,2,8)"),
        ("--concurrency 0", "each from 0.5"), ("--concurrency 4 --rates 3", "either concurrency or rates"),
        ("--mode offline", "closed-loop or static-batch"), ("--rates 1 --mode static-batch", "open-loop"),
        ("--arrival poisson", "steady or burst"), ("--rates 1 --arrival burst", "poisson or constant"),
        ("--percentile 95", "add --ttft-ms or --tpot-ms"), ("--ttft-ms -3", "a number above 0"),
        ("--ttft-ms 3 --percentile 101", "below 100"), ("--out x.pdf", ".csv or .json"),
        ("--plot x.pdf", ".png, .svg, .html"), ("--plot --json", "name a file"), ("--tp 3", "heads"),
        ("--out no-such-folder/x.csv", "no-such-folder"), ("--plot no-such-folder/x.png", "that exists"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(line: str, words: str, run: Run) -> None:
    code, out, err = run(f"curve --model llama-3.1-8b --gpu h100 {line}")
    assert (code, out, err.count("\n"), err[:10]) == (1 if "x.csv" in line else 2, "", 1, "roofcast: ")
    assert words in err


def test_a_curve_without_measured_rows_needs_no_pandas() -> None:
    code = (
        "import sys; from roofcast.predictor import Predictor\n"
        "Predictor.load().curve(model='llama-3.1-8b', gpu='l40s', measured=False).to_dict()\n"
        "sys.exit('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
