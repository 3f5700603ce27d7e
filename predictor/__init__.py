"""The answers: predictions with intervals and their breakdown, from Python and from the command line.

    from roofcast.predictor import Predictor

Names are loaded when first used: importing this package imports nothing else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .prediction import Prediction
    from .predictor import Predictor

__all__ = ["Prediction", "Predictor"]


def __getattr__(name: str) -> object:
    """Load a public name from the module that is named like it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{name.lower()}", __name__), name)
