"""docs/cli.md is the program's own help, word for word."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

HEADER = """\
# Command line

Each command's own help. A test compares this file with the program; after changing an option, rewrite it with

    python -m pytest tests/docs/test_cli_reference.py --regenerate
"""
WIDTH = 100


def _walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    yield name, command
    for part, child in getattr(command, "commands", {}).items():
        yield from _walk(child, f"{name} {part}")


def _help(name: str, command: Any) -> str:
    command.rich_markup_mode = None  # plain text: rich draws boxes as wide as the terminal
    context = command.context_class(command, info_name=name, terminal_width=WIDTH)
    return "".join(f"{line.rstrip()}\n" for line in command.get_help(context).strip().splitlines())


def _reference() -> str:
    import typer.main

    from roofcast.predictor.cli import app

    commands = _walk(typer.main.get_command(app), "roofcast")
    sections = [f"\n## {name}\n\n```text\n{_help(name, command)}```\n" for name, command in commands]
    return HEADER + "".join(sections)


def test_the_reference_is_the_programs_help(repo_root: Path, regenerate: bool) -> None:
    path = repo_root / "docs" / "cli.md"
    if regenerate:
        path.parent.mkdir(exist_ok=True)
        path.write_text(_reference(), encoding="utf-8")
    assert path.read_text(encoding="utf-8") == _reference()


def test_every_option_says_what_it_is() -> None:
    import typer.main

    from roofcast.predictor.cli import app

    commands = _walk(typer.main.get_command(app), "roofcast")
    silent = [
        f"{name} {option.name}"
        for name, command in commands
        for option in command.params
        if option.name not in {"help", "install_completion", "show_completion"}
        and not getattr(option, "help", None)
    ]
    assert not silent
