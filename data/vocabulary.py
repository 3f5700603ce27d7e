"""Every name of an engine, a precision, a mode and the like, and what else it is called.

GPUs, platforms and models are named by their catalogues. The order of the names is their code in arrays and
in trained models: append, never reorder.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Generic, Self, TypeVar


@dataclass(frozen=True, kw_only=True)
class Term:
    """One name: its spellings are stored as it; its variants ("eagle3" is an eagle) only answered as it."""

    name: str
    spellings: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Precision(Term):
    """A number format: bits; bytes stored per weight and per KV value, group scales included."""

    bits: int
    weight_bytes: float
    kv_bytes: float


@dataclass(frozen=True, kw_only=True)
class Engine(Term):
    """A serving engine: vendors of the GPUs it is proposed for; whether it has coefficients of its own.

    spreads: it runs attention data parallelism and shares experts out; nvidia_only: it runs on nothing else.
    """

    vendors: tuple[str, ...] = ()
    calibrated: bool = True
    spreads: bool = False
    nvidia_only: bool = False


T = TypeVar("T", bound=Term)
_NEAR_MISS = 0.8  # of difflib's ratio: "vlm" is a typing error, "xllm" another engine


def _fold(text: str) -> str:
    return re.sub(r"[\W_]+", "", text.lower())


class Vocabulary(tuple[str, ...], Generic[T]):
    """The terms of one kind: a tuple of their names, in the order of their codes."""

    terms: tuple[T, ...]
    _spelled: dict[str, str]
    _variants: dict[str, str]
    _folded: dict[str, str]

    def __new__(cls, *terms: T) -> Self:
        """Return the names of the terms, which are kept beside them."""
        names = super().__new__(cls, (term.name for term in terms))
        names.terms = terms
        names._spelled = {word: term.name for term in terms for word in (term.name, *term.spellings)}
        names._variants = {word: term.name for term in terms for word in term.variants}
        names._folded = {_fold(word): name for word, name in (names._variants | names._spelled).items()}
        return names

    def term(self, name: str) -> T:
        """Return the term of a name. Raises ValueError for any other."""
        return self.terms[self.index(name)]

    def find(self, text: str) -> str:
        """Return the name that answers for `text` in any letter case, with any separators, "" if none does.

        >>> ENGINES.find("TensorRT LLM"), ENGINES.find("nim"), PRECISIONS.find("NVFP4"), ENGINES.find("x")
        ('trtllm', 'trtllm', 'fp4', '')
        """
        return self._folded.get(_fold(text), "")

    def spells(self, text: str) -> bool:
        """Return whether `text` spells a name, and is no variant that is only answered as one."""
        return _fold(text) in map(_fold, self._spelled)

    def near(self, text: str) -> tuple[str, ...]:
        """Return the names that `text` may have missed by a letter or two, best first.

        >>> ENGINES.near("sglnag"), ENGINES.near("exllama")
        (('sglang',), ())
        """
        close = get_close_matches(_fold(text), self._folded, cutoff=_NEAR_MISS)
        return tuple(dict.fromkeys(self._folded[word] for word in close))

    def stored(self, text: str) -> str:
        """Return what a stored row says for `text`: the name it spells, else the text itself."""
        return self._spelled.get(text.lower(), text)


# Group scales included: NVFP4 has one FP8 scale per 16 weights, INT4 one FP16 scale per 128.
PRECISIONS = Vocabulary(
    Precision(name="bf16", bits=16, weight_bytes=2.0, kv_bytes=2.0, spellings=("fp16",)),
    Precision(name="fp8", bits=8, weight_bytes=1.0, kv_bytes=1.0),
    Precision(name="fp4", bits=4, weight_bytes=0.5625, kv_bytes=0.5625,
              spellings=("nvfp4", "mxfp4", "fp4/fp8 native")),
    Precision(name="int8", bits=8, weight_bytes=1.0, kv_bytes=1.0),
    Precision(name="int4", bits=4, weight_bytes=0.53, kv_bytes=0.5625, spellings=("awq", "gptq")),
    Precision(name="fp32", bits=32, weight_bytes=4.0, kv_bytes=4.0),
)  # fmt: skip
MXFP4_WEIGHT_BYTES = 0.53125  # one 8-bit scale per 32 weights
ENGINES = Vocabulary(
    # NVIDIA Dynamo routes to any of three engines: of a plain "dynamo" the most common is meant.
    Engine(name="vllm", vendors=("nvidia", "amd"), spellings=("llm-d/vllm", "1cat-vllm", "vllm-tpu"),
           spreads=True, variants=("llm-d", "dynamo-vllm", "dynamo", "ai-dynamo", "nvidia-dynamo")),
    Engine(name="trtllm", vendors=("nvidia",), nvidia_only=True, spreads=True,
           spellings=("tensorrt-llm", "trt-llm"),
           variants=("nim", "nvidia-nim", "dynamo-trtllm", "tensorrt", "trt")),
    Engine(name="sglang", vendors=("nvidia", "amd"), spreads=True, spellings=("sgl",),
           variants=("dynamo-sglang",)),
    Engine(name="atom", spreads=True, variants=("vllm-atom", "sglang-atom")),
    Engine(name="tgi", spellings=("tgis", "text-generation-inference", "huggingface-tgi", "hf-tgi")),
    Engine(name="llamacpp", spellings=("llama.cpp", "llama-server"),
           variants=("ollama", "lm-studio", "koboldcpp", "ik-llama.cpp", "llama-cpp-python")),
    Engine(name="deepspeed", spellings=("deepspeed-mii",), variants=("deepspeed-fastgen",), calibrated=False),
    Engine(name="transformers", variants=("hf-transformers", "huggingface-transformers")),
    Engine(name="other", variants=("lmdeploy", "transformers-neuronx", "ktransformers", "optimum-habana",
                                   "llmboost", "qserve", "quarot", "rtp-llm")),
)  # fmt: skip
MODES = Vocabulary(
    *(Term(name=name) for name in ("static-batch", "closed-loop", "open-loop", "offline", "server"))
)
SPECULATION = Vocabulary(
    Term(name="none"), Term(name="mtp", spellings=("eagle/mtp",)),
    Term(name="eagle", variants=("eagle3", "medusa")), Term(name="draft"),
)  # fmt: skip
ARRIVALS = Vocabulary(
    Term(name="steady", spellings=("closed",)), Term(name="burst", spellings=("inf", "all-at-once")),
    Term(name="poisson", spellings=("random",)), Term(name="constant", spellings=("uniform", "fixed")),
)  # fmt: skip
TIERS = Vocabulary(Term(name="hbm"), Term(name="host", spellings=("grace", "cpu")))
# A flag as people write it; a number is one only where it is no degree.
SWITCHES = Vocabulary(
    Term(name="off", spellings=("false", "no"), variants=("0", "0.0")),
    Term(name="on", spellings=("true", "yes"), variants=("1", "1.0")),
)  # fmt: skip
LAYOUTS = Vocabulary(Term(name="best"), Term(name="given"))
LENGTH_KINDS = ("fixed", "uniform", "dataset")
# By name: what the lengths given are multiplied by to be means, and 1 - shortest / longest.
_LENGTH_SPREADS = {
    "fixed": (1.0, 0.0), "uniform": (1.0, 0.2), "dataset": (1.0, 1.0), "inferencex": (0.9, 0.2),
}  # fmt: skip
_RANGE = re.compile(r"(\d*\.?\d+)\s*(?:-|to|\.\.)\s*(\d*\.?\d+)")
STATISTICS = ("p50", "mean")
TPOT_KINDS = ("tpot", "itl")

# What tools print, first match first: all of the text for a precision, part of it for an engine. GGUF's
# blocks of 1 to 5 bits count as 4, those of 6 and 8 as 8.
_PRINTED_PRECISIONS = (
    (r"fp32|float32|float", "fp32"),
    (r"bf16|fp16|bfloat16|float16|half", "bf16"),
    (r"(nv|mx)?fp4|fp4_e2m1|modelopt_fp4|w4a8_mxfp4_fp8|mxfp4_.*", "fp4"),
    (r"fp8.*|.*_fp8|float8.*|fp8_e4m3|modelopt", "fp8"),
    (r"(int8|w8a8|w8a16|gptq[-_]?int8|8[-_]?bit|(ud-)?i?q[678]_).*|q8", "int8"),
    (r"(int4|awq|gptq|w4a16|w4a8|w4afp8|4[-_]?bit|nf4|(ud-)?i?q[1-5]_).*|q4", "int4"),
)
_PRINTED_ENGINES = (
    (r"sglang.*atom|atom.*sglang", "sglang-atom"),
    (r"vllm.*atom|atom.*vllm", "vllm-atom"),
    (r"sglang|sgl\b", "sglang"),
    (r"vllm", "vllm"),
    (r"tensorrt|\btrt", "trtllm"),
    (r"text.generation.inference", "tgi"),
    (r"llama.?cpp|llama.?server", "llamacpp"),
    *((rf"\b{name}", name) for name in ("atom", "tgi", "lmdeploy", "deepspeed", "transformers", "nim")),
)
_UNQUANTISED = ("none", "auto", "null", "no_quant", "")


def length_spread(text: str) -> tuple[float, float] | None:
    """Return what the lengths given are multiplied by to be means, and 1 - shortest / longest; None: unknown.

    A name of LENGTH_KINDS means that the lengths given are means; "inferencex" and a number, a client's range
    ratio r, that they are drawn evenly from r to 1 of the lengths given (0 and 1: all alike); two numbers are
    the ends of such a range.

    >>> length_spread("inferencex") == length_spread("0.8") == length_spread("0.8-1"), length_spread("x")
    (True, None)
    """
    lower = text.strip().lower()
    if lower in _LENGTH_SPREADS:
        return _LENGTH_SPREADS[lower]
    ends = _RANGE.fullmatch(lower)
    try:
        least, most = (float(ends[1]), float(ends[2])) if ends else (float(lower) or 1.0, 1.0)
    except ValueError:
        return None
    known = 0.0 <= least <= most and most > 0.0
    return ((least + most) / 2.0, round(1.0 - least / most, 9)) if known else None  # 1 - 0.8 is 0.2


def printed_precision(text: str) -> str:
    """Return the name of a number format as tools print it: "" for none stated, else the text itself.

    >>> printed_precision("w4a8_mxfp4_fp8"), printed_precision("auto"), printed_precision("q4_K_M")
    ('fp4', '', 'int4')
    """
    lower = text.lower()
    if lower in _UNQUANTISED:
        return ""
    return next((name for pattern, name in _PRINTED_PRECISIONS if re.fullmatch(pattern, lower)), lower)


def precision_named(text: str) -> str | None:
    """Return the number format that a text means, None where it leaves it open ("auto"), "" for no format.

    >>> precision_named("NVFP4"), precision_named("Q4_K_M"), precision_named("auto"), precision_named("fp3")
    ('fp4', 'int4', None, '')
    """
    printed = printed_precision(text)
    return PRECISIONS.find(text) or (PRECISIONS.find(printed) if printed else None)


def printed_engine(text: str) -> str:
    """Return the stored name of the engine that a tool prints, "" where the text names none.

    >>> printed_engine("TensorRT-LLM 1.2"), printed_engine("sgl-router"), printed_engine("?")
    ('trtllm', 'sglang', '')
    """
    lower = text.lower()
    return next((name for pattern, name in _PRINTED_ENGINES if re.search(pattern, lower)), "")


def engine_named(text: str) -> tuple[str, str]:
    """Return the engine that answers for a text, "" where none does, and the version stated beside its name.

    >>> engine_named("vLLM 0.9.1"), engine_named("vllm/vllm-openai:v0.10"), engine_named("llama-server")
    (('vllm', '0.9.1'), ('vllm', '0.10'), ('llamacpp', ''))
    """
    if name := ENGINES.find(text):
        return name, ""
    stated = re.search(r"[\s=:@(_-]v?(\d+\.\w+[^\s)]*)", text.lower())
    bare = text[: stated.start()] if stated else text
    return ENGINES.find(bare) or ENGINES.find(printed_engine(bare)), stated[1] if stated else ""
