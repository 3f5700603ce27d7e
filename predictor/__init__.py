"""The answers: predictions with intervals and their breakdown, from Python and from the command line.

    from roofcast.predictor import Predictor, predict

Names are loaded when first used: importing this package imports nothing else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .prediction import Prediction
    from .predictor import Predictor, predict

__all__ = ["Prediction", "Predictor", "predict"]
_HOMES = {"Prediction": "prediction", "Predictor": "predictor", "predict": "predictor"}


def __getattr__(name: str) -> object:
    """Load a public name from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
