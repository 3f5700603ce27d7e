"""`python -m pytest tests/benchmarks --regenerate` writes the figures to their pages."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from ..markdown import markdown_table

TABLE = re.compile(r"^\| what \| measured \|.*\n(?:\|.*\n)+", re.MULTILINE)
Record = Callable[[str, tuple[str, ...], dict[str, tuple[str, ...]], int], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--regenerate", action="store_true", help="write the measured figures to their pages")


@pytest.fixture(scope="session")
def on_record(request: pytest.FixtureRequest, repo_root: Path) -> Record:
    """Write the figures into their page's table if asked and all are there; their names must be in it."""

    def check(
        page: str, heads: tuple[str, ...], figures: dict[str, tuple[str, ...]], all_of_them: int
    ) -> None:
        path = repo_root / "docs" / page
        text = path.read_text(encoding="utf-8")
        if request.config.getoption("--regenerate") and len(figures) == all_of_them:
            table = markdown_table(heads, [[name, *each] for name, each in figures.items()])
            text = TABLE.sub(lambda _: f"{table.strip()}\n", text, count=1)
            path.write_text(text, encoding="utf-8")
        found = TABLE.search(text)
        assert found
        assert [name for name in figures if name not in found[0]] == []

    return check
