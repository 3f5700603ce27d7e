"""`--help` is the reference of the command line: each command's, as a user sees it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from roofcast.data.columns import COLUMNS, REQUEST_COLUMNS, TIER_COLUMNS
from roofcast.predictor.cli import app
from roofcast.training.retrain import MARGIN

WIDTH = 80


def walk(command: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from walk(child, *path, name)


def words(text: object) -> str:
    """Return a text without spaces: lines break at blanks and at hyphens."""
    return "".join(str(text).split())


COMMANDS = [pytest.param(p, c, id=" ".join(("roofcast", *p))) for p, c in walk(typer.main.get_command(app))]


@pytest.mark.parametrize(("path", "command"), COMMANDS)
def test_the_help_fits_and_says_of_every_option_what_it_is_and_its_default(
    path: tuple[str, ...], command: Any
) -> None:
    done, short = (
        CliRunner().invoke(app, [*path, option], terminal_width=WIDTH, color=False)
        for option in ("--help", "-h")
    )
    assert done.exit_code == 0
    assert short.output == done.output
    assert max(map(len, done.output.splitlines())) <= WIDTH
    for option in command.params:
        if option.name != "help":
            assert option.help
            assert words(option.help) in words(done.output)
            if option.default not in (None, False, True, "", ()):
                assert words(f"[default: {option.default}") in words(done.output)
    for name in (*REQUEST_COLUMNS, *TIER_COLUMNS) if path == ("predict",) else ():
        if COLUMNS[name].asked:
            assert words(COLUMNS[name].described) in words(done.output), name
    if path == ("retrain",):
        assert words(f"[default: {MARGIN}]") in words(done.output)
