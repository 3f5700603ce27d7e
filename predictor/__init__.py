"""The answers: predictions with intervals and their breakdown, from Python and from the command line.

    from roofcast.predictor import Predictor

Names are loaded when first used: importing this package imports nothing else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..training.model.bundle import load_bundle, save_bundle
    from .prediction import Prediction
    from .predictor import Predictor

__all__ = ["Prediction", "Predictor", "load_bundle", "save_bundle"]

_HOME = {
    "Prediction": ".prediction",
    "Predictor": ".predictor",
    "load_bundle": "..training.model.bundle",
    "save_bundle": "..training.model.bundle",
}


def __getattr__(name: str) -> object:
    """Load a public name from its module."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(_HOME[name], __name__), name)
    globals()[name] = value
    return value
