"""Engine settings move what they are about, by the amount that follows from what they are."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from roofcast.features.memory import memory_fit
from roofcast.features.roofline import EAGER_LAYER_S
from roofcast.features.settings import MAX_SEQUENCES, PASS_TOKENS, USABLE_SHARE

from . import questions

GIVEN = {"model": "llama-3.1-8b", "gpu": "h100-sxm", "tp": 1, "weight_precision": "bf16", "engine": "vllm",
         "isl": 1024, "osl": 256, "concurrency": 1}  # fmt: skip
ask, solve = partial(questions.ask, **GIVEN), partial(questions.solve, **GIVEN)  # type: ignore[arg-type]


def test_what_is_not_said_is_what_engines_do() -> None:
    told = {"max_num_seqs": MAX_SEQUENCES, "max_num_batched_tokens": PASS_TOKENS, "enforce_eager": False,
            "gpu_memory_utilization": USABLE_SHARE, "cpu_offload_gb": 0, "prefix_caching": "on"}  # fmt: skip
    one, other = solve(concurrency=64), solve(concurrency=64, **told)
    assert (one.tpot_s[0], one.ttft_s[0]) == (other.tpot_s[0], other.ttft_s[0])


def test_a_step_under_speculation_yields_the_tokens_accepted() -> None:
    two, four = (solve(spec_decode="mtp", accept_length=a, draft_tokens=3) for a in (2, 4))
    assert two.tpot_s[0] == pytest.approx(2 * four.tpot_s[0])
    # The accepted share of three drafts, and the token that every step yields.
    assert solve(spec_decode="mtp", accept_rate=1 / 3).tpot_s[0] == pytest.approx(two.tpot_s[0])


@pytest.mark.parametrize(("columns", "code", "column"), [
    ({"accept_length": 5, "draft_tokens": 3}, "accepts", "accept_length"),
    ({"accept_rate": 1.5}, "not-allowed", "accept_rate"),
    ({"accept_length": 2, "spec_decode": "none"}, "not-allowed", "spec_decode"),
    ({"gpu_memory_utilization": 1.2}, "not-allowed", "gpu_memory_utilization"),
    ({"enforce_eager": "perhaps"}, "unknown-word", "enforce_eager"),
    ({"max_num_seqs": 0}, "not-allowed", "max_num_seqs"),
])  # fmt: skip
def test_a_setting_that_no_engine_takes_is_a_fault(columns: Any, code: str, column: str) -> None:
    r = questions.asked(**GIVEN | columns)
    assert not r.valid[0]
    assert (code, column) in [(note.code, note.column) for note in r.notes.of(0)]


def test_a_cap_on_sequences_is_the_batch_and_the_rest_wait() -> None:
    free, capped = solve(concurrency=64), solve(concurrency=64, max_num_seqs=16)
    assert capped.batch[0] == 16
    assert capped.tpot_s[0] < free.tpot_s[0]
    assert capped.ttft_s[0] > 2 * free.ttft_s[0]


def test_smaller_passes_share_their_overhead_among_fewer_prompts() -> None:
    few, many = (solve(concurrency=64, osl=16, max_num_batched_tokens=n) for n in (1024, 16384))
    assert few.ttft_s[0] > many.ttft_s[0]


def test_the_share_of_memory_to_fill_sets_how_many_sequences_it_holds() -> None:
    each = memory_fit(ask()).sequence_bytes[0]
    half, whole = (memory_fit(ask(gpu_memory_utilization=share)) for share in (0.5, 0.9))
    more = whole.available_bytes[0] - half.available_bytes[0]
    assert more == pytest.approx(0.4 * ask().gpu.memory_bytes[0])
    assert whole.max_batch[0] - half.max_batch[0] == pytest.approx(more / (each * 1152 / 1280), abs=1)


def test_kernels_launched_one_by_one_take_the_processors_time_where_it_is_the_longer() -> None:
    assert solve(enforce_eager=True).tpot_s[0] == pytest.approx(32 * EAGER_LAYER_S, rel=0.01)
    # A step that keeps the GPU busy for longer is as it was.
    busy: Any = {"concurrency": 256, "isl": 2000}
    assert solve(**busy, enforce_eager=True).tpot_s[0] == pytest.approx(solve(**busy).tpot_s[0], rel=0.01)


def test_weights_offloaded_leave_the_memory_and_pass_the_host_link_at_every_step() -> None:
    kept, offloaded = ask(), ask(cpu_offload_gb=4)
    moved = memory_fit(kept).weight_bytes[0] - memory_fit(offloaded).weight_bytes[0]
    assert moved == 4 * 2**30
    link = offloaded.host_bandwidth[0]
    assert solve(cpu_offload_gb=4).terms["host"][0] >= moved / link
    # No more than there is.
    assert memory_fit(ask(cpu_offload_gb=400)).weight_bytes[0] == pytest.approx(0.0)


def test_a_cache_that_is_off_finds_nothing() -> None:
    off = ask(prefix_caching="off", prefix_cached_frac=0.5)
    assert off.prefix_cached_frac[0] == 0.0
    assert "cache-off" in [note.code for note in off.notes.of(0)]
    assert ask(prefix_caching="on", prefix_cached_frac=0.5).prefix_cached_frac[0] == 0.5


@pytest.mark.parametrize("value", [True, "true", "on", 1, 1.0, np.True_])
def test_a_flag_is_read_as_people_write_it(value: object) -> None:
    assert ask(enforce_eager=value).settings.eager[0]
    assert not ask(enforce_eager=None).settings.eager[0]
