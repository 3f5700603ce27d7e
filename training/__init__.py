"""The learning: splits, fitting, calibration, evaluation and the tracking of each training run."""
