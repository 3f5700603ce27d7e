"""Names and their spellings: each leads to one name, and codes never move."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from roofcast.data import vocabulary
from roofcast.data.vocabulary import ENGINES, MODES, PRECISIONS, SPECULATION, TIERS


@pytest.mark.parametrize("words", [ENGINES, MODES, PRECISIONS, SPECULATION, TIERS], ids=lambda v: v[0])
def test_a_word_means_one_thing(words: Any) -> None:
    found = [word for term in words.terms for word in (term.name, *term.spellings, *term.variants)]
    assert max(Counter(found).values()) == 1
    assert [word for word in found if word != word.lower()] == []


def test_codes_are_those_of_trained_models() -> None:
    """The engine, the mode and the precision are numbers in the trees: a new name goes to the end."""
    for words, first in (
        (ENGINES, "vllm trtllm sglang atom tgi llamacpp deepspeed transformers other"),
        (MODES, "static-batch closed-loop open-loop offline server"),
        (PRECISIONS, "bf16 fp8 fp4 int8 int4 fp32"), (SPECULATION, "none mtp eagle draft"),
    ):  # fmt: skip
        assert " ".join(words).startswith(first)


@pytest.mark.parametrize(("words", "text", "name", "stored"), [
    (ENGINES, "TensorRT-LLM", "trtllm", "trtllm"), (ENGINES, "nim", "trtllm", "nim"),
    (ENGINES, "lmdeploy", "other", "lmdeploy"), (ENGINES, "nobody", "", "nobody"),
    (PRECISIONS, "NVFP4", "fp4", "fp4"), (PRECISIONS, "fp16", "bf16", "bf16"),
    (SPECULATION, "eagle3", "eagle", "eagle3"), (TIERS, "Grace", "host", "host"),
])  # fmt: skip
def test_spellings_are_stored_under_their_name_and_variants_under_their_own(
    words: Any, text: str, name: str, stored: str
) -> None:
    assert (words.find(text), words.stored(text)) == (name, stored)


@pytest.mark.parametrize(("function", "text", "name"), [
    ("printed_precision", "modelopt_fp4", "fp4"), ("printed_precision", "float8_e4m3fn", "fp8"),
    ("printed_precision", "compressed-tensors", "compressed-tensors"), ("printed_precision", "none", ""),
    ("printed_precision", "Q4_K_M", "int4"), ("printed_precision", "q8_0", "int8"),
    ("printed_engine", "vLLM (ATOM plugin)", "vllm-atom"), ("printed_engine", "TensorRT 10", "trtllm"),
])  # fmt: skip
def test_what_tools_print_is_read(function: str, text: str, name: str) -> None:
    assert getattr(vocabulary, function)(text) == name
