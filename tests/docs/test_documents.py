"""The documents' commands work, their generated parts are up to date, and their names are the program's."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from roofcast.predictor.fabric import check, report_json
from roofcast.predictor.fabric.findings import FINDINGS

from ..imports import graph, modules
from .pages import PARTS, ROOT, Part, run

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s#]+)[^)]*\)")
# Minutes long, endless, or in need of a registry: their options are parsed, nothing is run.
HEAVY = {"train", "evaluate", "tune", "retrain", "rollback", "ui"}


def _blocks(document: Path, language: str) -> list[str]:
    return [body for found, body in FENCE.findall(document.read_text(encoding="utf-8")) if found == language]


def _calls(document: Path) -> Iterator[list[str]]:
    """Yield the arguments of each roofcast call in a document's shell lines, without pipes."""
    prompted = re.findall(r"^\$ (.*(?:\\\n.*)*)", "".join(_blocks(document, "console")), re.MULTILINE)
    for line in "\n".join([*prompted, *_blocks(document, "sh")]).replace("\\\n", " ").splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars=True)
        words.whitespace_split = True  # a comma is part of a word
        for cuts, part in groupby(words, lambda word: set(word) <= set("|&;<>()")):
            call = list(part)
            if not cuts and PurePosixPath(call[0]).name == "roofcast":
                yield call[1:]


CALLS = [
    pytest.param(call, id=f"{document.name}: {shlex.join(call)}")
    for document in DOCUMENTS
    for call in _calls(document)
]


@pytest.mark.parametrize("arguments", CALLS)
def test_a_documented_command_works(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import typer.main

    from roofcast.predictor.cli import app

    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    monkeypatch.chdir(tmp_path)
    if arguments[0] in HEAVY and "--help" not in arguments:
        group: Any = typer.main.get_command(app)
        group.commands[arguments[0]].make_context(arguments[0], arguments[1:])
    else:
        done = run(arguments, tmp_path)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["README.md", "docs/predict.md", "docs/curve.md", "docs/explain.md"])
def test_the_documented_python_runs(name: str, tmp_path: Path) -> None:
    code = "".join(_blocks(ROOT / name, "python"))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, text=True, capture_output=True)
    assert (done.returncode, bool(code)) == (0, True), done.stderr


def test_the_first_two_commands_set_up_from_a_clean_clone_and_run() -> None:
    for command, runs in zip(
        _blocks(DOCUMENTS[0], "sh"), ("roofcast predict", "python -m pytest"), strict=False
    ):
        assert command.startswith(
            'python3 -m venv .venv && .venv/bin/pip install -q -e ".[dev]" && .venv/bin/'
        )
        assert f".venv/bin/{runs}" in command


def test_the_reading_order_uses_nothing_before_it_is_read() -> None:
    text = DOCUMENTS[0].read_text(encoding="utf-8").partition("## Reading the code")[2]
    rooms = re.findall(r"^\d\. \*\*(.*?)\*\*(.*?)(?=^\d\.|^$)", text, re.MULTILINE | re.DOTALL)
    order = [
        f"roofcast.{room.replace('/', '.')}.{name}"
        for room, names in rooms
        for name in re.findall(r"`(\w+)`", names)
    ]
    assert len(order) > 20
    used = graph(modules(ROOT))
    assert set(order) <= set(used)
    assert not [(name, later) for i, name in enumerate(order) for later in order[i:] if later in used[name]]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_links_only_to_what_exists(document: Path) -> None:
    links = LINK.findall(document.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link and not link.startswith("mailto:")]
    assert not [link for link in local if not (document.parent / link).exists()]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: f"{part.page} {part.name}".strip())
def test_a_generated_part_is_up_to_date(part: Part) -> None:
    if not part.makeable:
        pytest.skip(f"no collected sources at {part.needs}; set ROOFCAST_SHARED")
    text = (ROOT / part.page).read_text(encoding="utf-8")
    assert text == part.in_place(text), "python -m tests.docs.pages rewrites it"


def test_the_fabric_page_names_every_check_and_every_field_of_the_json(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "fabric.md").read_text(encoding="utf-8")
    (tmp_path / "links").write_text("GPU 0: NVIDIA B200 (UUID: GPU-1)\n Link 0: <inactive>\n")
    found = report_json(check([tmp_path]))
    checks = {finding["check"] for finding in FINDINGS.values()} - {"file", "platform"}
    names = [*checks, *found, *found["checks"][0], *found["files"][0]]
    assert not [name for name in names if f"`{name}`" not in text and f"`{name}[]`" not in text]
