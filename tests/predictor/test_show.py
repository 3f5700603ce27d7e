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
from roofcast.predictor.show import draw, show

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


@pytest.mark.parametrize("command", ["models", "gpus", "platforms"])
def test_a_listing_shows_the_whole_catalogue(command: str, run: Run) -> None:
    assert listed(run, command) == list(getattr(catalogue, command)())


@pytest.mark.parametrize(("line", "name"), [("models qwen2.5", "qwen2.5-72b"), ("gpus HOPPER", "h100-sxm")])
def test_a_listing_can_be_narrowed_down_to_nothing(line: str, name: str, run: Run) -> None:
    assert name in (names := listed(run, line))
    assert len(names) < 30
    assert name in run(line)[1]
    assert listed(run, f"{line.split()[0]} no-such") == []


def test_coefficients_are_listed(predictor: Predictor, bundle: Path, run: Run) -> None:
    line = f"coefficients --bundle {bundle}"
    assert listed(run, line) == list(predictor.model.coefficients.entries)
    assert {name.partition(".")[2] for name in listed(run, f"{line} hopper")} == {"hopper"}
    assert "share of peak" in run(f"{line} hopper")[1]


@pytest.mark.parametrize("name", ["why.png", "why.svg", "why.html"])
def test_the_drawing_is_one_file_that_loads_nothing(
    name: str, explanation: Explanation, tmp_path: Path
) -> None:
    draw(explanation, tmp_path / name)
    content = (tmp_path / name).read_bytes()
    assert len(content) > 10_000
    if name.endswith("html"):
        assert (b"<svg" in content, b"src=" in content) == (True, False)


@pytest.mark.parametrize("name", ["why.pdf", "no-such-folder/why.png"])
def test_an_unwritable_drawing_is_an_error(name: str, explanation: Explanation, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="plot"):
        draw(explanation, tmp_path / name)
