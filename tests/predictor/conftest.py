"""What the predictor's tests share: a small trained model, and the command line in this process."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable

import pytest

from roofcast.predictor import Prediction, Predictor, cli
from roofcast.predictor.explain import Explanation

from ..small_model import QUESTION, bundle, predictor, requests_frame, trained

__all__ = ["OPTIONS", "QUESTION", "Run", "bundle", "predictor", "requests_frame", "run", "trained"]

OPTIONS = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in QUESTION.items())
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def shipped() -> Predictor:
    return Predictor.load()


@pytest.fixture(scope="module")
def prediction(predictor: Predictor) -> Prediction:
    return predictor.predict(**QUESTION)


@pytest.fixture(scope="module")
def explanation(predictor: Predictor) -> Explanation:
    return predictor.explain(**QUESTION)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command line so many characters wide: exit code, stdout, stderr."""

    def call(line: str, width: int = 100) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["roofcast", *shlex.split(line)])
        monkeypatch.setenv("COLUMNS", str(width))
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return call
