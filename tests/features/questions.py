"""What tests of the physics share: requests by keyword, coefficients by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from roofcast.features.baseline import Estimate, baseline
from roofcast.features.coefficients import Coefficients
from roofcast.features.facts import FloatArray
from roofcast.features.request import Requests, normalise


def ask(**columns: Any) -> Requests:
    """Return one valid request."""
    r = normalise({name: [value] for name, value in columns.items()})
    assert r.valid[0], r.reason[0]
    return r


def solve(coefficients: Coefficients | None = None, **columns: Any) -> Estimate:
    """Return the baseline of one request, of the priors unless told."""
    return baseline(ask(**columns), coefficients or Coefficients())


def with_values(**values: float) -> Coefficients:
    """Return the priors with some values changed; a double underscore stands for the dot in a name."""
    entries = dict(Coefficients().entries)
    for name, value in values.items():
        known = name.replace("__", ".")
        entries[known] = replace(entries[known], value=value)
    return Coefficients(entries=entries)


def one(value: float) -> FloatArray:
    """Return an array of one number."""
    return np.array([float(value)])
