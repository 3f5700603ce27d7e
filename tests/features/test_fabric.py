"""NCCL's own time in nccl-tests' words, and a measured fabric as a value."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from roofcast.data import catalogue
from roofcast.data.errors import BadRequest
from roofcast.features.measured import MeasuredFabric
from roofcast.features.nccl import predicted_us

H100 = catalogue.gpu("h100-sxm")


def test_a_broadcast_moves_the_whole_message_of_an_all_gathers_share() -> None:
    whole, share = (predicted_us(H100, operation, 1 << 30, 8) for operation in ("broadcast", "all_gather"))
    assert whole == pytest.approx(share * 8 / 7)


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
