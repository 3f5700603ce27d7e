"""In which month a version of an engine came out, however people write the version."""

from __future__ import annotations

from itertools import pairwise

import pytest

from roofcast.data import releases
from roofcast.data.releases import released
from roofcast.data.store import BenchmarkStore


@pytest.mark.parametrize(("engine", "version", "month", "name"), [
    ("vllm", "v0.9.1", "2025-06", "vllm 0.9.1"),
    ("", "0.8.5.post1", "2025-05", "vllm 0.8.5.post1"),
    ("vllm", "0.11.2.dev358+g1234567", "2025-11", "vllm 0.11.2"),
    ("vllm", "0.14.0rc3.dev30+gb026cf14e.d20260212.rocm700", "2026-01", "vllm 0.14.0"),
    ("vllm", "0.20.1+transformers-5.8.1", "2026-05", "vllm 0.20.1"),
    ("vllm", "0.10", "2025-07", "vllm 0.10.0"),
    ("TensorRT-LLM", "1.2.0rc3", "2025-11", "trtllm 1.2.0rc3"),
    ("trtllm", "1.2.0rc6.post2", "2025-12", "trtllm 1.2.0rc6"),
    ("sglang", "0.5.0rc", "2025-08", "sglang 0.5.0rc0"),
    ("sglang", "rocm/sgl-dev:sglang-0.5.7-rocm700-mi35x-mori-fp4-0122", "2026-01", "sglang 0.5.7"),
    ("atom", "rocm/atom:rocm7.1.1-ubuntu24.04-pytorch2.9-atom0.1.1-MI350x", "2026-01", "atom 0.1.1"),
    ("other", "lmdeploy 0.1.0 (turbomind)", "2023-12", "lmdeploy 0.1.0"),
    ("tgi", "3.3.4", "2025-06", "tgi 3.3.4"),
    ("llama.cpp", "b6969", "2025-11", "llamacpp b6969"),
    ("llama-server", "0.1.2-dev (build 10507, commit 95c409c13)", "2026-08", "llamacpp 10507"),
    ("trtllm", "TensorRT 10.13", "2025-07", "tensorrt 10.13.0"),
    ("trtllm", "0.8.1.post2", "2026-01", "dynamo 0.8.1"),
    ("sglang", "nvcr.io/nvidia/ai-dynamo/sglang-runtime:0.7.0", "2025-11", "dynamo 0.7.0"),
    ("dynamo 0.8.1", "dynamo 0.8.1", "2026-01", "dynamo 0.8.1"),
    ("vllm", "nvcr.io/nvidia/vllm:25.09-py3", "2025-09", "nvcr.io/nvidia/vllm:25.09-py3"),
    ("sglang", "nightly-dev-20260216-d3bae71e", "2026-02", "nightly-dev-20260216-d3bae71e"),
    ("sglang", "main (2026-06-11)", "2026-06", "main (2026-06-11)"),
])  # fmt: skip
def test_versions_are_dated_as_people_write_them(engine: str, version: str, month: str, name: str) -> None:
    found = released(engine, version)
    assert found
    assert (found.month, found.name, found.exact) == (month, name, True)


def test_an_x_means_the_middle_of_its_series() -> None:
    found = released("sglang", "0.5.x")
    assert found
    assert "2025-10" <= found.month <= "2026-02"


@pytest.mark.parametrize(("engine", "version", "name"), [
    ("vllm", "0.9.7", "vllm 0.9.2"), ("vllm", "0.99.0", "vllm 0.28.0"),
    ("trtllm", "1.3.0rc18", "trtllm 1.3.0rc15"),
])  # fmt: skip
def test_an_unknown_version_is_the_nearest_known_below_and_marked_so(
    engine: str, version: str, name: str
) -> None:
    found = released(engine, version)
    assert found
    assert (found.name, found.exact) == (name, False)


@pytest.mark.parametrize(("engine", "version"), [
    *(("vllm", text) for text in ("latest", "nightly", "main", "11b6af52", "nightly-5b8c30d62b754b57")),
    ("vllm", "7.0.0"),
    ("sglang", "0.0.0.dev1+g631db6c75"), ("sglang", "PR #25820"), ("atom", "commit 4181e42491"),
    ("nim", "1.8.0"), ("ollama", "0.9.1"), ("transformers-neuronx", "Neuron 2.18.0"), ("vlm", "0.9.1"),
])  # fmt: skip
def test_what_is_no_release_of_a_known_engine_has_no_month(engine: str, version: str) -> None:
    assert released(engine, version) is None


@pytest.mark.parametrize("owner", releases.known_engines())
def test_later_versions_came_out_later(owner: str) -> None:
    found = releases.releases(owner)
    final = [release.month for key, release in found.items() if key[1] == releases.FINAL]
    assert final == sorted(final)
    for (low, early), (high, late) in pairwise(found.items()):
        assert low[0] != high[0] or early.month <= late.month, (early, late)


def test_nothing_was_measured_before_it_came_out() -> None:
    rows = BenchmarkStore().load()
    first = rows[rows["engine_version"] != ""].groupby(["engine", "engine_version"])["date"].min()
    found = {pair: released(*pair) for pair in first.index}
    assert [pair for pair, release in found.items() if release and release.month > first[pair][:7]] == []
    assert sum(release is not None for release in found.values()) > 0.8 * len(found)
