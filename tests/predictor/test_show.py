"""What people see: tables that are whole, the catalogue as rows, a drawing that loads nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from roofcast.data import catalogue
from roofcast.data.errors import BadRequest
from roofcast.predictor import Prediction, Predictor
from roofcast.predictor.explain import Explanation
from roofcast.predictor.pictures import draw
from roofcast.predictor.show import show

from .conftest import Run


def test_a_table_in_a_pipe_is_not_cut(
    prediction: Prediction, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    show(prediction)
    assert "…" not in capsys.readouterr().out


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
