"""What people see: tables that are whole, the catalogue as rows, a drawing that loads nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from roofcast.data import catalogue
from roofcast.data.errors import BadRequest
from roofcast.predictor import Prediction, Predictor
from roofcast.predictor.advisor import Advisor, Workload
from roofcast.predictor.audit import audit
from roofcast.predictor.explain import Explanation
from roofcast.predictor.pictures import draw
from roofcast.predictor.show import number, show

from .conftest import OPTIONS, QUESTION, Run


def test_a_table_in_a_pipe_is_not_cut(
    prediction: Prediction, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    show(prediction)
    assert "…" not in capsys.readouterr().out


@pytest.mark.parametrize(("line", "last"), [
    (f"predict {OPTIONS}", "support"), (f"explain {OPTIONS} --against gpu=h200-sxm", "this / other"),
    (f"audit {OPTIONS} --output-tok-s 12345 --ttft-ms 1e7 --tpot-ms 123456", "impossible"),
    ("gpus", "tdp w"), ("models", "1,048,576"), ("platforms", "120,000"), ("coefficients", "prior"),
    ("recommend --model deepseek-r1 --users 5000 --ttft-ms 300 --tpot-ms 12", "gb200-superchip"),
    ("sweep --model llama-3.1-8b --platform gb200-superchip --engine vllm --out {out}", "tok/s/user"),
])  # fmt: skip
def test_on_80_columns_nothing_is_wider_and_nothing_is_cut(
    line: str, last: str, run: Run, tmp_path: Path
) -> None:
    code, out, _ = run(line.format(out=tmp_path), width=80)
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out
    assert last in out


def test_the_request_line_says_copies_bursts_and_large_numbers_in_full(run: Run) -> None:
    asked = "predict --model llama-3.1-8b --gpu 8xh100-sxm --tp 2"
    assert "(4 x tp2)" in run(f"{asked} --concurrency 64")[1]
    assert "2000000 at once" in run(f"{asked} --arrival burst --concurrency 2e6")[1]
    loads = run(f"{asked} --concurrency 16384".replace("predict", "curve"))[1]
    assert "16384" in loads
    assert "e+" not in loads


def test_the_usual_percentiles_are_said_once(run: Run) -> None:
    out = run(f"predict {OPTIONS}")[1]
    assert "gaps between tokens:" in out
    assert "% of requests" not in out


def test_what_is_assumed_of_a_claim_is_said_once(run: Run) -> None:
    out = run("audit --model llama-3.1-8b --gpu h100-sxm --concurrency 8 --tpot-ms 9 --e2e-ms 9999")[1]
    assert out.count("engine assumed vllm") == 1


def test_a_table_of_any_width_shows_every_figure(prediction: Prediction, run: Run) -> None:
    rows = json.loads(run("gpus --json")[1])
    for width in (60, 80, 200):
        out = run("gpus", width=width)[1]
        assert all(number(row["memory_gb_s"]) in out and row["link"] in out for row in rows)


def test_results_are_pages_and_frames(
    prediction: Prediction, explanation: Explanation, predictor: Predictor
) -> None:
    assert prediction.to_frame().to_dict("records")[0]["tpot_ms"] == prediction.tpot_ms
    assert explanation.to_frame()["tpot_ms"].sum() == pytest.approx(prediction.tpot_ms)
    findings = audit(predictor, **QUESTION, tpot_ms=40, output_tok_s=50)
    assert list(findings.to_frame()["figure"]) == [finding.figure for finding in findings]
    advised = Advisor(predictor).recommend(Workload(model="llama-3.1-8b", users=8, platforms=("hgx-h200",)))
    frame = advised.to_frame()
    assert (len(frame), frame["platform"][0]) == (len(advised.ranked), "hgx-h200")
    assert frame["ttft_ms_lo"][0] <= frame["ttft_ms"][0] <= frame["ttft_ms_hi"][0]
    for result, words in ((prediction, "bottleneck"), (explanation, "nearest measured rows"),
                          (findings, "plausible"), (advised, "tok/s")):  # fmt: skip
        page = result._repr_html_()
        assert (page[:5], words in page, "…" in page) == ("<pre>", True, False)


def listed(run: Run, line: str) -> list[str]:
    code, out, _ = run(f"{line} --json")
    rows: list[dict[str, Any]] = json.loads(out)
    assert code == 0
    return [row["name"] for row in rows]


@pytest.mark.parametrize(
    ("command", "part", "name"),
    [
        ("models", "qwen2.5", "qwen2.5-72b"),
        ("gpus", "HOPPER", "h100-sxm"),
        ("platforms", "nvl72", "gb200-nvl72"),
    ],
)
def test_a_listing_shows_the_whole_catalogue_or_a_part_or_nothing(
    command: str, part: str, name: str, run: Run
) -> None:
    assert listed(run, command) == list(getattr(catalogue, command)())
    assert name in (found := listed(run, f"{command} {part}"))
    assert len(found) < 30
    assert name in run(f"{command} {part}")[1]
    assert listed(run, f"{command} no-such") == []


def test_coefficients_are_listed(predictor: Predictor, bundle: Path, run: Run) -> None:
    line = f"coefficients --bundle {bundle}"
    assert listed(run, line) == list(predictor.model.coefficients.entries)
    assert {name.partition(".")[2] for name in listed(run, f"{line} hopper")} == {"hopper"}
    assert "share of peak" in run(f"{line} hopper")[1]


def test_the_drawing_is_one_file_that_loads_nothing_or_an_error(
    explanation: Explanation, tmp_path: Path
) -> None:
    for name in ("why.png", "why.svg", "why.html"):
        draw(explanation, tmp_path / name)
        assert len(content := (tmp_path / name).read_bytes()) > 10_000
    assert (b"<svg" in content, b"src=" in content) == (True, False)
    for name in ("why.pdf", "no-such-folder/why.png"):
        with pytest.raises(BadRequest, match="plot"):
            draw(explanation, tmp_path / name)
