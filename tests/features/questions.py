"""What tests of the physics share: requests by keyword (`partial` sets defaults), coefficients by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from roofcast.features.baseline import Estimate, baseline
from roofcast.features.coefficients import Coefficients
from roofcast.features.facts import FloatArray
from roofcast.features.request import Requests, normalise


def asked(**columns: Any) -> Requests:
    """Return one request, valid or not."""
    return normalise({name: [value] for name, value in columns.items()})


def ask(**columns: Any) -> Requests:
    """Return one valid request."""
    r = asked(**columns)
    assert r.valid[0], r.reason[0]
    return r


def solve(coefficients: Coefficients | None = None, **columns: Any) -> Estimate:
    """Return the baseline of one request, of the priors unless told."""
    return baseline(ask(**columns), coefficients or Coefficients())


def with_values(values: dict[str, float]) -> Coefficients:
    """Return the priors with some values changed."""
    entries = Coefficients().entries
    return Coefficients(entries={**entries, **{n: replace(entries[n], value=v) for n, v in values.items()}})


def one(value: float) -> FloatArray:
    """Return an array of one number."""
    return np.array([float(value)])
