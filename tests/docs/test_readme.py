"""The documents' commands work, and the README opens with the two that matter."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from ..imports import graph, modules
from .pages import run

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s#]+)[^)]*\)")
# Minutes long, endless, or in need of a registry: their options are parsed, nothing is run.
HEAVY = {"train", "evaluate", "tune", "retrain", "rollback", "ui"}


def _blocks(document: Path, *languages: str) -> list[str]:
    text = document.read_text(encoding="utf-8") if document.exists() else ""
    return [body for language, body in FENCE.findall(text) if language in languages]


def _lines(document: Path) -> list[str]:
    """Return a document's shell lines, continuations joined; of a session only what follows its prompts."""
    sessions = "".join(_blocks(document, "console")).replace("\\\n", " ")
    prompted = [line[2:] for line in sessions.splitlines() if line.startswith("$ ")]
    return prompted + "".join(_blocks(document, "sh")).replace("\\\n", " ").splitlines()


def _split(line: str) -> list[list[str]]:
    """Return the arguments of each roofcast call in a shell line, without pipes and redirections."""
    calls: list[list[str]] = [[]]
    for word in shlex.shlex(line, posix=True, punctuation_chars=True):
        if set(word) <= set("|&;<>()"):
            calls.append([])
        else:
            calls[-1].append(word)
    return [call[1:] for call in calls if call and PurePosixPath(call[0]).name == "roofcast"]


CALLS = [
    pytest.param(call, id=f"{document.name}: {shlex.join(call)}")
    for document in DOCUMENTS
    for line in _lines(document)
    for call in _split(line)
]


def _parse(arguments: list[str]) -> None:
    """Parse a command's arguments without running it; a bad option or value raises."""
    import typer.main

    from roofcast.predictor.cli import app

    group: Any = typer.main.get_command(app)
    group.commands[arguments[0]].make_context(arguments[0], arguments[1:])


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A directory to write in, with copies of the files that documents name."""
    for folder in ("docs", "examples"):
        if (ROOT / folder).is_dir():
            shutil.copytree(ROOT / folder, tmp_path / folder)
    return tmp_path


@pytest.mark.parametrize("arguments", CALLS)
def test_a_documented_command_works(
    arguments: list[str], workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if arguments[0] in HEAVY and "--help" not in arguments:
        monkeypatch.chdir(workplace)
        _parse(arguments)
        return
    done = run(arguments, workplace)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["README.md", "docs/predict.md", "docs/explain.md"])
def test_the_documented_python_runs(name: str, tmp_path: Path) -> None:
    code = "".join(_blocks(ROOT / name, "python"))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, text=True, capture_output=True)
    assert (done.returncode, bool(code)) == (0, True), done.stderr


@pytest.mark.parametrize(("place", "runs"), [(0, "roofcast predict"), (1, "python -m pytest")])
def test_the_first_two_commands_set_up_from_a_clean_clone_and_run(place: int, runs: str) -> None:
    command = _blocks(DOCUMENTS[0], "sh")[place]
    assert command.startswith('python3 -m venv .venv && .venv/bin/pip install -q -e ".[dev]" && .venv/bin/')
    assert f".venv/bin/{runs}" in command


def test_the_reading_order_uses_nothing_before_it_is_read() -> None:
    found = modules(ROOT)
    text = DOCUMENTS[0].read_text(encoding="utf-8").partition("## Reading the code")[2]
    order = [
        f"roofcast.{room.replace('/', '.')}.{name}"
        for room, names in re.findall(r"^\d\. \*\*(.*?)\*\*(.*?)(?=^\d\.|^$)", text, re.MULTILINE | re.DOTALL)
        for name in re.findall(r"`(\w+)`", names)
    ]
    assert len(order) > 20
    assert set(order) <= set(found)
    used = graph(found)
    assert not [(name, later) for i, name in enumerate(order) for later in order[i:] if later in used[name]]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_links_only_to_what_exists(document: Path) -> None:
    links = LINK.findall(document.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link and not link.startswith("mailto:")]
    assert not [link for link in local if not (document.parent / link).exists()]
