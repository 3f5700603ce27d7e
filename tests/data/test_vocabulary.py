"""Names and their spellings: each leads to one name, and codes never move."""

from __future__ import annotations

from collections import Counter

import pytest

from roofcast.data.vocabulary import (
    ENGINES,
    MODES,
    PRECISIONS,
    SPECULATION,
    TIERS,
    checkpoint_precision,
    printed_engine,
    printed_precision,
)

ALL = (ENGINES, MODES, PRECISIONS, SPECULATION, TIERS)


@pytest.mark.parametrize("vocabulary", ALL, ids=lambda v: v[0])
def test_a_word_means_one_thing(vocabulary: object) -> None:
    words = [w for term in vocabulary.terms for w in (term.name, *term.spellings, *term.variants)]  # type: ignore[attr-defined]
    assert max(Counter(words).values()) == 1
    assert [word for word in words if word != word.lower()] == []


def test_codes_are_those_of_trained_models() -> None:
    """The engine, the mode and the precision are numbers in the trees: a new name goes to the end."""
    assert ENGINES.names[:9] == (
        "vllm", "trtllm", "sglang", "atom", "tgi", "llamacpp", "deepspeed", "transformers", "other",
    )  # fmt: skip
    assert MODES.names[:5] == ("static-batch", "closed-loop", "open-loop", "offline", "server")
    assert PRECISIONS.names[:6] == ("bf16", "fp8", "fp4", "int8", "int4", "fp32")
    assert SPECULATION.names[:4] == ("none", "mtp", "eagle", "draft")


@pytest.mark.parametrize(
    ("vocabulary", "text", "name", "stored"),
    [
        (ENGINES, "TensorRT-LLM", "trtllm", "trtllm"),
        (ENGINES, "nim", "trtllm", "nim"),
        (ENGINES, "lmdeploy", "other", "lmdeploy"),
        (ENGINES, "nobody", "", "nobody"),
        (PRECISIONS, "NVFP4", "fp4", "fp4"),
        (PRECISIONS, "fp16", "bf16", "bf16"),
        (SPECULATION, "eagle3", "eagle", "eagle3"),
        (TIERS, "Grace", "host", "host"),
    ],
)
def test_spellings_are_stored_under_their_name_and_variants_under_their_own(
    vocabulary: object, text: str, name: str, stored: str
) -> None:
    assert (vocabulary.find(text), vocabulary.stored(text)) == (name, stored)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("function", "text", "name"),
    [
        (printed_precision, "modelopt_fp4", "fp4"),
        (printed_precision, "float8_e4m3fn", "fp8"),
        (printed_precision, "compressed-tensors", "compressed-tensors"),
        (printed_precision, "none", ""),
        (checkpoint_precision, "RedHatAI/Llama-3.3-70B-quantized.w8a8", "int8"),
        (checkpoint_precision, "Qwen/Qwen3-32B-FP8", "fp8"),
        (checkpoint_precision, "Qwen/Qwen3-32B", ""),
        (printed_engine, "vLLM (ATOM plugin)", "vllm-atom"),
        (printed_engine, "TensorRT 10", "trtllm"),
    ],
)
def test_what_tools_print_is_read(function: object, text: str, name: str) -> None:
    assert function(text) == name  # type: ignore[operator]
