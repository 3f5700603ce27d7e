"""A measured fabric: fitted from a table or link counts, written, read, and felt by many GPUs alone."""

from __future__ import annotations

import json
import math
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

H100 = "NVIDIA H100 80GB HBM3"
ASKED: dict[str, Any] = {
    "model": "qwen2.5-32b", "gpu": "h100-sxm", "weight_precision": "fp8", "isl": 1024, "osl": 256,
    "concurrency": 32,
}  # fmt: skip


def table(times: dict[int, float]) -> str:
    """Return an nccl-tests table of eight processes: microseconds by bytes."""
    lines = [f"#  Rank {n} Group 0 Pid {n} on host device {n} [0x0{n}] {H100}" for n in range(8)]
    lines += ["#  size  count  type  redop  root  time  algbw  busbw #wrong"]
    for size, time in times.items():
        rate = size / time * 1e-3
        lines.append(f" {size} {size // 4} float sum -1 {time:.3f} {rate:.2f} {rate * 1.75:.2f} 0")
    return "\n".join(lines) + "\n# Out of bounds values : 0 OK\n"


def measured_of(path: Path, text: str) -> tuple[MeasuredFabric, dict[str, Any]]:
    path.write_text(text)
    return measure([item for item in read_paths([path]) if isinstance(item, Capture)])


def healthy(size: int) -> float:
    part = gpu_of(H100)
    assert part is not None
    assert part.spec is not None
    return predicted_us(part.spec, "all_reduce", size, 8)


SIZES = [1 << n for n in range(12, 34)]


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load()


def test_a_healthy_table_measures_as_the_model_predicts(tmp_path: Path) -> None:
    fabric, fit = measured_of(tmp_path / "t", table({size: healthy(size) for size in SIZES}))
    assert fabric.gpu == "h100-sxm"
    assert fabric.alpha_scale == pytest.approx(1.0, rel=0.01)
    assert fabric.bandwidth_scale == pytest.approx(1.0, rel=0.01)
    assert len(fit["sizes"]) == len(SIZES)


def test_slow_links_and_late_starts_are_told_apart(tmp_path: Path) -> None:
    slow, _ = measured_of(tmp_path / "t", table({s: healthy(s) * (10 if s > 1 << 24 else 1) for s in SIZES}))
    late, _ = measured_of(tmp_path / "t", table({s: healthy(s) * (3 if s <= 1 << 16 else 1) for s in SIZES}))
    assert slow.bandwidth_scale == pytest.approx(0.1, rel=0.01)
    assert slow.alpha_scale == pytest.approx(1.0, rel=0.01)
    assert late.alpha_scale == pytest.approx(3.0, rel=0.01)
    assert late.bandwidth_scale == pytest.approx(1.0, rel=0.01)


@pytest.mark.parametrize(("lost", "scale"), [(0, 1.0), (1, 17 / 18), (9, 0.5), (18, 64 / 450)])
def test_lost_links_leave_their_share_and_at_worst_pcie(lost: int, scale: float, tmp_path: Path) -> None:
    links = "".join(f" Link {n}: " + ("<inactive>\n" if n < lost else "26.562 GB/s\n") for n in range(18))
    fabric, _ = measured_of(tmp_path / "t", f"GPU 0: {H100} (UUID: GPU-1)\n{links}")
    assert fabric.bandwidth_scale == pytest.approx(scale)


def test_nothing_measured_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="an nccl-tests table"):
        measured_of(tmp_path / "t", "hello\n")


def test_a_written_fabric_is_read_back(tmp_path: Path) -> None:
    fabric = MeasuredFabric(gpu="h100-sxm", alpha_scale=1.5, bandwidth_scale=0.25, source="a table")
    write_measured(tmp_path / "measured.json", fabric, {"notes": []})
    assert MeasuredFabric.load(tmp_path / "measured.json") == fabric
    assert [path.name for path in tmp_path.iterdir()] == ["measured.json"]


def test_a_slow_fabric_slows_eight_gpus_and_leaves_one_as_it_is(predictor: Predictor) -> None:
    fabric = MeasuredFabric(gpu="h100-sxm", bandwidth_scale=0.1, source="a table")
    for tp in (1, 8):
        nominal = predictor.predict(tp=tp, num_gpus=tp, **ASKED)
        here = predictor.predict(tp=tp, num_gpus=tp, fabric=fabric, **ASKED)
        assert nominal.feasible
        assert here.floor == nominal.floor
        if tp == 1:
            assert (here.tpot_ms, here.ttft_ms, here.output_tok_s) == (
                nominal.tpot_ms, nominal.ttft_ms, nominal.output_tok_s,
            )  # fmt: skip
        else:
            # The learned correction is the healthy machine's: the baseline's ratio is carried in full.
            ratio = here.baseline["tpot_ms"] / nominal.baseline["tpot_ms"]
            assert ratio > 1.2
            assert here.tpot_ms / nominal.tpot_ms == pytest.approx(ratio)
            assert here.ttft_ms > nominal.ttft_ms
            assert here.output_tok_s < nominal.output_tok_s
        assert "fabric as measured: a table" in here.reason


def test_a_slower_link_or_a_later_start_is_never_faster_and_a_healthy_fabric_changes_nothing(
    predictor: Predictor,
) -> None:
    scales = [1.0, 0.5, 0.2, 0.05]
    slow = [MeasuredFabric(gpu="h100-sxm", bandwidth_scale=scale) for scale in scales]
    late = [MeasuredFabric(gpu="h100-sxm", alpha_scale=1.0 / scale) for scale in scales]
    for fabrics in (slow, late):
        times = [predictor.predict(tp=8, fabric=fabric, **ASKED).tpot_ms for fabric in fabrics]
        assert times == sorted(times)
        assert times[0] == predictor.predict(tp=8, **ASKED).tpot_ms


def test_another_gpus_fabric_is_refused(predictor: Predictor) -> None:
    with pytest.raises(BadRequest, match="a fabric measured on h100-sxm"):
        predictor.predict(fabric=MeasuredFabric(gpu="b200-sxm"), **ASKED)


def test_a_frame_is_slowed_on_the_measured_gpu_alone(predictor: Predictor, tmp_path: Path) -> None:
    path = tmp_path / "measured.json"
    write_measured(path, MeasuredFabric(gpu="h100-sxm", bandwidth_scale=0.1), {})
    assert json.loads(path.read_text())["schema"] == 1
    frame = pd.DataFrame([{**ASKED, "tp": 8}, {**ASKED, "gpu": "b200-sxm", "tp": 8}, {**ASKED, "tp": 1}])
    ratio = predictor.predict_frame(frame, fabric=path).tpot_ms / predictor.predict_frame(frame).tpot_ms
    assert ratio[0] > 1.2
    assert ratio[1] == 1.0
    assert math.isnan(ratio[2]) or ratio[2] == 1.0
