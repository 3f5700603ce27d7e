"""The documents' commands work, and the README opens with the two that matter."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s#]+)[^)]*\)")
# Minutes long, endless, or in need of a registry: their options are parsed, nothing is run.
HEAVY = {"train", "evaluate", "tune", "retrain", "rollback", "ui"}
WIDTH = "100"


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


def _roofcast(arguments: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": WIDTH, "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"}
    environment.pop("FORCE_COLOR", None)
    return subprocess.run(
        [sys.executable, "-m", "roofcast.predictor", *arguments],
        cwd=directory,
        env=environment,
        text=True,
        encoding="utf-8",
        capture_output=True,
    )


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
    done = _roofcast(arguments, workplace)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["README.md", "docs/predict.md", "docs/explain.md"])
def test_the_documented_python_runs(name: str, tmp_path: Path) -> None:
    code = "".join(_blocks(ROOT / name, "python"))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, text=True, capture_output=True)
    assert (done.returncode, bool(code)) == (0, True), done.stderr


def test_the_first_command_sets_up_and_prints_the_prediction() -> None:
    first = _blocks(DOCUMENTS[0], "sh")[0]
    assert first.startswith("python3 -m venv .venv &&")
    assert 'pip install -q -e ".[dev]"' in first
    assert {"qwen2.5-72b", "hgx-b200"} <= set(_split(first.replace("\\\n", " "))[-1])


def test_the_second_command_sets_up_and_runs_the_tests() -> None:
    second = _blocks(DOCUMENTS[0], "sh")[1]
    assert second.startswith("python3 -m venv .venv &&")
    assert 'pip install -q -e ".[dev]"' in second
    assert ".venv/bin/python -m pytest" in second


def test_the_readme_shows_what_the_first_command_prints(regenerate: bool, tmp_path: Path) -> None:
    (call,) = _split(_blocks(DOCUMENTS[0], "sh")[0].replace("\\\n", " "))
    done = _roofcast(call, tmp_path)
    assert done.returncode == 0, done.stderr
    printed = "".join(f"{line.rstrip()}\n" for line in done.stdout.strip("\n").splitlines())
    shown = _blocks(DOCUMENTS[0], "text")[0]
    if regenerate:
        text = DOCUMENTS[0].read_text(encoding="utf-8")
        DOCUMENTS[0].write_text(
            text.replace(f"```text\n{shown}```", f"```text\n{printed}```", 1), encoding="utf-8"
        )
    else:
        assert shown == printed


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_links_only_to_what_exists(document: Path) -> None:
    links = LINK.findall(document.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link and not link.startswith("mailto:")]
    assert not [link for link in local if not (document.parent / link).exists()]
