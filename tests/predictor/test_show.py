"""What people see: tables that are whole, the catalogue as rows, a drawing that loads nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from roofcast.data import catalogue
from roofcast.data.errors import BadRequest
from roofcast.predictor import Predictor
from roofcast.predictor.explain import Explanation
from roofcast.predictor.show import coefficient_rows, draw, show

from .conftest import QUESTION, Run


def test_a_table_in_a_pipe_is_not_cut(
    predictor: Predictor, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    show(predictor.predict(**QUESTION))
    assert "…" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "known"),
    [("models", catalogue.models), ("gpus", catalogue.gpus), ("platforms", catalogue.platforms)],
)
def test_a_listing_shows_the_whole_catalogue(command: str, known: Callable[[], Any], run: Run) -> None:
    code, out, _ = run(f"{command} --json")
    assert code == 0
    assert [row["name"] for row in json.loads(out)] == list(known())


@pytest.mark.parametrize(("line", "name"), [("models qwen2.5", "qwen2.5-72b"), ("gpus HOPPER", "h100-sxm")])
def test_a_listing_can_be_narrowed(line: str, name: str, run: Run) -> None:
    _, out, _ = run(f"{line} --json")
    assert 0 < len(json.loads(out)) < 30
    assert name in [row["name"] for row in json.loads(out)]
    _, table, _ = run(line)
    assert name in table


def test_a_listing_without_a_match_is_an_empty_list_in_json(run: Run) -> None:
    code, out, _ = run("gpus no-such-gpu --json")
    assert (code, json.loads(out)) == (0, [])


def test_coefficients_are_listed_with_all_that_is_known_of_them(
    predictor: Predictor, bundle: Path, run: Run
) -> None:
    entries = predictor.model.coefficients
    assert [row["name"] for row in coefficient_rows(entries)] == list(entries.entries)
    (row,) = coefficient_rows(entries, "weight_bandwidth.HOPPER")
    assert {"name", *(f.name for f in fields(entries.entries[row["name"]]))} == set(row)
    _, table, _ = run(f"coefficients hopper --bundle {bundle}")
    assert "share of peak" in table
    _, out, _ = run(f"coefficients hopper --bundle {bundle} --json")
    assert {row["name"].partition(".")[2] for row in json.loads(out)} == {"hopper"}


@pytest.mark.parametrize("name", ["why.png", "why.svg", "why.html"])
def test_the_drawing_is_one_file_that_loads_nothing(
    name: str, explanation: Explanation, tmp_path: Path
) -> None:
    draw(explanation, tmp_path / name)
    content = (tmp_path / name).read_bytes()
    assert len(content) > 10_000
    if name.endswith("html"):
        text = content.decode()
        assert explanation.sentences[0].split(":")[0] in text
        assert "src=" not in text
        assert "<svg" in text


@pytest.mark.parametrize("name", ["why.pdf", "no-such-folder/why.png"])
def test_an_unwritable_drawing_is_an_error(name: str, explanation: Explanation, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="plot"):
        draw(explanation, tmp_path / name)
