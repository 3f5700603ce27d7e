"""The small trained model that the tests of this folder read."""

from __future__ import annotations

from ...small_model import QUESTION, bundle, predictor, requests_frame, trained

__all__ = ["QUESTION", "bundle", "predictor", "requests_frame", "trained"]
