"""The registered MLflow model, as code: a bundle folder served by the Predictor (`mlflow models serve`).

Input: a frame with any subset of the request columns; output: `Predictor.predict_frame` of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc.model import PythonModel


class RoofcastModel(PythonModel):
    """The Predictor behind MLflow's pyfunc interface."""

    def load_context(self, context: Any) -> None:
        """Load the bundle that was logged with the model."""
        # Absolute: MLflow runs this file outside the package. Late: logging it needs no predictor.
        from roofcast.predictor import Predictor

        self.predictor = Predictor.load(Path(context.artifacts["bundle"]))

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Answer row for row, in the input's index."""
        return self.predictor.predict_frame(model_input)


mlflow.models.set_model(RoofcastModel())
