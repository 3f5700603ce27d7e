"""The small trained model that the tests of this folder read."""

from __future__ import annotations

from ...small_model import bundle, predictor, trained

__all__ = ["bundle", "predictor", "trained"]
