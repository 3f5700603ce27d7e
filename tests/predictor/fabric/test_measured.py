"""A measured fabric: fitted from a table or link counts, written, read, and felt by many GPUs alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from roofcast.data.errors import BadRequest
from roofcast.data.fabric_parts import gpu_of
from roofcast.features.measured import MeasuredFabric
from roofcast.features.nccl import predicted_us
from roofcast.predictor import Predictor
from roofcast.predictor.fabric.capture import Capture, read_paths
from roofcast.predictor.fabric.check import measure, write_measured

from .test_captures import H100, status, table

ASKED: dict[str, Any] = {
    "model": "qwen2.5-32b", "gpu": "h100-sxm", "weight_precision": "fp8", "isl": 1024, "osl": 256,
    "concurrency": 32,
}  # fmt: skip
SIZES = [1 << n for n in range(12, 34)]


def measured_of(folder: Path, text: str) -> MeasuredFabric:
    (folder / "capture").write_text(text)
    return measure([item for item in read_paths([folder / "capture"]) if isinstance(item, Capture)])[0]


def healthy(size: int) -> float:
    part = gpu_of(H100)
    assert part is not None
    assert part.spec is not None
    return predicted_us(part.spec, "all_reduce", size, 8)


@pytest.mark.parametrize(
    ("slower", "bandwidth", "alpha"),
    [(lambda size: 1, 1.0, 1.0), (lambda size: 10 if size > 1 << 24 else 1, 0.1, 1.0),
     (lambda size: 3 if size <= 1 << 16 else 1, 1.0, 3.0)],
    ids=["healthy", "slow links", "late starts"],
)  # fmt: skip
def test_slow_links_and_late_starts_are_told_apart(
    slower: Callable[[int], int], bandwidth: float, alpha: float, tmp_path: Path
) -> None:
    rates = [(size, size / (healthy(size) * slower(size)) * 1e-3 * 1.75) for size in SIZES]
    fabric = measured_of(tmp_path, table(H100, 8, rates))
    assert fabric.gpu == "h100-sxm"
    assert (fabric.bandwidth_scale, fabric.alpha_scale) == pytest.approx((bandwidth, alpha), rel=0.01)


@pytest.mark.parametrize(("lost", "scale"), [(0, 1.0), (1, 17 / 18), (9, 0.5), (18, 64 / 450)])
def test_lost_links_leave_their_share_and_at_worst_pcie(lost: int, scale: float, tmp_path: Path) -> None:
    links = status(H100, 1, 18, 26.562, gpu0=range(lost))
    assert measured_of(tmp_path, links).bandwidth_scale == pytest.approx(scale)


def test_nothing_measured_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="an nccl-tests table"):
        measured_of(tmp_path, "hello\n")


def test_a_written_fabric_is_read_back(tmp_path: Path) -> None:
    fabric = MeasuredFabric(gpu="h100-sxm", alpha_scale=1.5, bandwidth_scale=0.25, source="a table")
    write_measured(tmp_path / "measured.json", fabric, {"notes": []})
    assert MeasuredFabric.load(tmp_path / "measured.json") == fabric
    assert json.loads((tmp_path / "measured.json").read_text())["schema"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["measured.json"]


def test_a_slow_fabric_slows_eight_gpus_and_leaves_one_as_it_is(shipped: Predictor) -> None:
    fabric = MeasuredFabric(gpu="h100-sxm", bandwidth_scale=0.1, source="a table")
    (nominal, here), (one, one_here) = (
        [shipped.predict(tp=tp, num_gpus=tp, fabric=given, **ASKED) for given in (None, fabric)]
        for tp in (8, 1)
    )
    assert (one_here.tpot_ms, one_here.ttft_ms) == (one.tpot_ms, one.ttft_ms)
    # The learned correction is the healthy machine's: the baseline's ratio is carried in full, but for what
    # makes the answers agree.
    ratio = here.baseline["tpot_ms"] / nominal.baseline["tpot_ms"]
    assert ratio > 1.2
    assert here.tpot_ms / nominal.tpot_ms == pytest.approx(ratio, rel=0.02)
    assert (here.ttft_ms > nominal.ttft_ms, here.floor == nominal.floor) == (True, True)
    assert "fabric as measured: a table" in here.reason


@pytest.mark.parametrize(
    "fabrics",
    [[{"bandwidth_scale": scale} for scale in (1.0, 0.5, 0.2, 0.05)],
     [{"alpha_scale": scale} for scale in (1.0, 2.0, 5.0, 20.0)]],
)  # fmt: skip
def test_a_slower_link_or_a_later_start_is_never_faster_and_a_healthy_fabric_changes_nothing(
    fabrics: list[dict[str, float]], shipped: Predictor
) -> None:
    given = [MeasuredFabric(gpu="h100-sxm", **scales) for scales in fabrics]
    times = [shipped.predict(tp=8, fabric=fabric, **ASKED).tpot_ms for fabric in given]
    assert times == sorted(times)
    assert times[0] == shipped.predict(tp=8, **ASKED).tpot_ms


def test_another_gpus_fabric_is_refused_for_one_request_and_left_out_of_a_frame(
    shipped: Predictor, tmp_path: Path
) -> None:
    slow, path = MeasuredFabric(gpu="h100-sxm", bandwidth_scale=0.1), tmp_path / "measured.json"
    other = {**ASKED, "gpu": "b200-sxm", "tp": 8}
    with pytest.raises(BadRequest, match="a fabric measured on b200-sxm"):
        shipped.predict(fabric=slow, **other)
    write_measured(path, slow, {})
    frame = pd.DataFrame([{**ASKED, "tp": 8}, other, {**ASKED, "tp": 1}])
    ratio = shipped.predict_frame(frame, fabric=path).tpot_ms / shipped.predict_frame(frame).tpot_ms
    assert (ratio[0] > 1.2, ratio[1], ratio[2]) == (True, 1.0, 1.0)
