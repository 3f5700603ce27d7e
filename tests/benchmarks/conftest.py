"""`python -m pytest tests/benchmarks --regenerate` writes the figures to their pages."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--regenerate", action="store_true", help="write the measured figures to their pages")


@pytest.fixture(scope="session")
def regenerate(request: pytest.FixtureRequest) -> bool:
    """Whether the figures are to be written."""
    return bool(request.config.getoption("--regenerate"))
