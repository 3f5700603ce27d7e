"""A measured fabric as a value: what is none is refused, and so is a scale that no machine has."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from roofcast.data.errors import BadRequest
from roofcast.features.measured import MeasuredFabric


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 9}', None])
def test_what_is_no_measured_fabric_is_refused(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "measured.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadRequest, match="roofcast fabric check --measured"):
        MeasuredFabric.load(path)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, "1", None])
def test_an_impossible_scale_is_refused(value: Any) -> None:
    with pytest.raises(BadRequest, match="bandwidth_scale"):
        MeasuredFabric(gpu="h100-sxm", bandwidth_scale=value)
