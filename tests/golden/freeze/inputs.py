"""The questions that are frozen: pseudo-random requests over every column, and claims."""

from __future__ import annotations

from random import Random
from typing import Any

import pandas as pd

Values = dict[str, Any]
MODELS = (
    "llama-3.1-8b", "llama-3.3-70b", "llama-3.1-405b", "meta-llama/Llama-3.1-8B-Instruct", "qwen3-32b",
    "qwen2.5-72b", "qwen2.5-7b", "qwen3-235b-a22b", "qwen3-30b-a3b", "qwen3-coder-480b-a35b", "mixtral-8x7b",
    "deepseek-r1", "deepseek-v3.2", "deepseek-r1-0528", "deepseek-v4-pro", "gpt-oss-120b", "gpt-oss-20b",
    "kimi-k2-thinking", "glm-4.6", "glm-5", "minimax-m2.5", "llama-4-maverick", "qwen3.5-397b-a17b",
    "qwen3-next-80b-a3b", "gemma-3-27b", "nemotron-nano-9b-v2", "phi-4", "mistral-7b",
)  # fmt: skip
EXPERTS = (
    "deepseek-r1", "deepseek-v3.2", "gpt-oss-120b", "qwen3-235b-a22b", "kimi-k2-thinking", "mixtral-8x7b",
    "glm-4.6", "llama-4-maverick", "minimax-m2.5", "qwen3-30b-a3b",
)  # fmt: skip
ENGINES = (
    "vllm", "vllm", "vllm", "trtllm", "trtllm", "sglang", "sglang", "atom", "tgi", "llamacpp", "deepspeed",
    "transformers", "other", "tensorrt-llm", "nim", "dynamo-trtllm", "dynamo-sglang", "llm-d/vllm",
    "lmdeploy",
)  # fmt: skip
COMMON_GPUS = (
    "h100-sxm",
    "h200-sxm",
    "b200-sxm",
    "gb200",
    "gb300",
    "b300-sxm",
    "mi300x",
    "mi355x",
    "a100-80g",
)
COMMON_PLATFORMS = ("hgx-h100", "hgx-h200", "hgx-b200", "hgx-b300", "gb200-nvl72", "gb300-nvl72", "mi300x-8x")
PRECISIONS = ("bf16", "fp8", "fp8", "fp4", "int8", "int4", "fp16", "nvfp4", "mxfp4", "awq", "gptq")
SOURCES = (
    "inferencex-dbdump-2026-07-20", "argonne-llm-inference-bench", "trtllm-perf-overview", "rocm-atom-ci",
    "mlperf-v6.0", "aic-silicon-nvidia", "mlenergy-v3", "Anyscale-Ray-Serve", "my-own-lab",
)  # fmt: skip
LENGTHS = (1, 32, 128, 500, 1000, 1024, 2048, 4096, 8192, 16384, 32768, 100000)
MEASURED = (
    "model", "gpu", "num_gpus", "num_nodes", "engine", "date", "weight_precision", "kv_precision", "tp", "pp",
    "ep", "dp", "disagg", "prefill_gpus", "decode_gpus", "prefill_tp", "decode_tp", "prefill_workers",
    "spec_decode", "mode", "isl", "osl", "concurrency", "request_rate", "prefix_cached_frac", "source",
)  # fmt: skip
FIGURES = (
    "tpot_ms", "tok_s_per_user", "ttft_ms", "e2e_ms", "output_tok_s", "output_tok_s_per_gpu", "request_s",
    "total_tok_s", "total_tok_s_per_gpu",
)  # fmt: skip


class Names:
    """The catalogue's names, as the commands that list it print them."""

    def __init__(self, models: list[str], gpus: list[str], platforms: list[str]) -> None:
        self.models, self.gpus, self.platforms = models, gpus, platforms


def request(rng: Random, names: Names) -> Values:
    """Return one request: a machine, a layout, a load, and now and then tiers, pools or a fault."""
    kind = rng.choices(("plain", "experts", "tiers", "pools", "bare"), (40, 20, 14, 16, 10))[0]
    pool = EXPERTS if kind == "experts" or (kind in ("tiers", "pools") and rng.random() < 0.6) else MODELS
    model = rng.choice(pool) if rng.random() < 0.8 else rng.choice(names.models)
    asked: Values = {"model": model, **_machine(rng, names)}
    if kind == "bare":
        return {**asked, **_some(rng, _load(rng), 0.5)}
    asked |= _layout(rng, kind == "experts") | _load(rng) | _software(rng)
    if kind == "tiers":
        asked |= _tiers(rng)
    if kind == "pools":
        asked = _pools(rng, asked)
    return {**asked, **_fault(rng)} if rng.random() < 0.1 else asked


def _some(rng: Random, values: Values, share: float) -> Values:
    return {name: value for name, value in values.items() if rng.random() < share}


def _machine(rng: Random, names: Names) -> Values:
    if rng.random() < 0.4:
        return {"platform": rng.choice(COMMON_PLATFORMS if rng.random() < 0.7 else names.platforms)}
    return {"gpu": rng.choice(COMMON_GPUS if rng.random() < 0.7 else names.gpus)}


def _layout(rng: Random, experts: bool) -> Values:
    tp, pp = rng.choice((1, 2, 4, 8, 8, 16)), rng.choices((1, 2, 4), (90, 8, 2))[0]
    copies = rng.choices((1, 2, 4), (75, 15, 10))[0]
    asked: Values = {"tp": tp, "num_gpus": tp * pp * copies}
    if pp > 1:
        asked["pp"] = pp
    if experts:
        asked |= _some(rng, {"ep": rng.choice((1, 2, tp, tp)), "dp": rng.choice((1, 2, tp, tp))}, 0.6)
    elif rng.random() < 0.05:
        asked["dp"] = 2
    if rng.random() < 0.15:
        asked["num_nodes"] = rng.choice((1, 2, 2, 4))
    for name in ("tp", "num_gpus"):
        if rng.random() < 0.12:
            del asked[name]
    return asked


def _load(rng: Random) -> Values:
    asked: Values = _some(rng, {"isl": rng.choice(LENGTHS), "osl": rng.choice(LENGTHS[:-3])}, 0.93)
    if rng.random() < 0.3:
        asked |= {"isl": rng.randint(10, 20000), "osl": rng.randint(2, 4000)}
    in_flight = rng.choice((1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, rng.randint(1, 3000)))
    rate = round(10 ** rng.uniform(-1.5, 2.0), 3)
    mode = rng.choices(
        ("", "closed-loop", "static-batch", "open-loop", "offline", "server"), (25, 25, 15, 15, 10, 10)
    )[0]
    if mode:
        asked["mode"] = mode
    if mode in ("closed-loop", "static-batch") or (mode == "" and rng.random() < 0.7):
        asked["concurrency"] = in_flight
    elif mode in ("open-loop", "server") or (mode == "" and rng.random() < 0.6):
        asked["request_rate"] = rate
        asked |= _some(rng, {"concurrency": in_flight}, 0.15)
    elif rng.random() < 0.5:
        asked["concurrency"] = in_flight
    if rng.random() < 0.15:
        asked["prefix_cached_frac"] = rng.choice((0, 0.25, 0.5, 0.9, 1.0))
    return asked


def _software(rng: Random) -> Values:
    date = f"20{rng.choice((24, 25, 25, 26, 26))}-{rng.randint(1, 12):02d}"
    return (
        _some(rng, {"engine": rng.choice(ENGINES)}, 0.75)
        | _some(rng, {"weight_precision": rng.choice(PRECISIONS)}, 0.6)
        | _some(rng, {"kv_precision": rng.choice(("bf16", "fp8", "fp8", "fp4", "int8"))}, 0.3)
        | _some(rng, {"date": date + rng.choice(("", "-15"))}, 0.4)
        | _some(rng, {"engine_version": rng.choice(("0.11.0", "1.2.0rc4"))}, 0.1)
        | _some(
            rng,
            {"spec_decode": rng.choice(("none", "mtp", "mtp", "eagle", "eagle3", "draft", "medusa"))},
            0.2,
        )
        | _some(rng, {"source": rng.choice(SOURCES)}, 0.35)
    )


def _tiers(rng: Random) -> Values:
    asked: Values = {}
    if rng.random() < 0.6:
        asked["kv_hot_tokens"] = rng.choice((0, 256, 1024, 8192, 1e6))
        asked |= _some(rng, {"kv_reread_every": rng.choice((0, 1, 4, 16))}, 0.7)
    if rng.random() < 0.5:
        asked |= {"prefix_tier": rng.choice(("hbm", "host", "grace", "cpu")), "prefix_cached_frac": 0.6}
    if rng.random() < 0.4:
        asked["experts_resident_frac"] = rng.choice((0, 0.25, 0.5, 0.9, 1.0))
    return asked | _some(rng, {"host_bandwidth_gb_s": 200, "host_memory_gb": rng.choice((32, 480))}, 0.2)


def _pools(rng: Random, asked: Values) -> Values:
    """Return the request with prefill and decode apart; what is not said of the pools is assumed."""
    pools = {"prefill_gpus": rng.choice((1, 2, 4, 8, 16)), "decode_gpus": rng.choice((1, 2, 4, 8, 16, 32))}
    degrees = {
        f"{pool}_{name}": rng.choice((1, 2, 4, 8))
        for pool in ("prefill", "decode")
        for name in ("tp", "ep", "dp")
    }
    if rng.random() < 0.7:
        asked.pop("num_gpus", None)
        return asked | {"disagg": 1} | pools | _some(rng, degrees, 0.25)
    return asked | {"disagg": 1} | _some(rng, {**pools, "prefill_workers": 2, "decode_workers": 1}, 0.4)


def _fault(rng: Random) -> Values:
    """Return what no engine starts, or what nothing is known of."""
    faults: tuple[Values, ...] = (
        {"model": "lama-3.1-8b"}, {"model": "no-such-model"}, {"model": None},
        {"gpu": "h10-sxm", "platform": None},
        {"gpu": "a100-80g", "platform": "hgx-b200"}, {"gpu": None, "platform": None},
        {"tp": 7, "num_gpus": 7},
        {"pp": 500, "num_gpus": 4000}, {"isl": 3e6}, {"isl": -5}, {"osl": 0}, {"concurrency": 0},
        {"request_rate": -1}, {"weight_precision": "fp3"}, {"engine": "vlm"}, {"mode": "sometimes"},
        {"prefix_cached_frac": 1.5}, {"tp": 2.5}, {"num_gpus": 1, "tp": 8}, {"dp": 3, "tp": 8},
        {"kv_reread_every": 4, "kv_hot_tokens": None},
        {"experts_resident_frac": 0.5, "model": "llama-3.1-8b"},
        {"mode": "open-loop", "request_rate": None, "concurrency": None}, {"date": "soon"},
        {"spec_decode": "luck"},
        {"weight_precision": "fp8", "gpu": "v100", "platform": None}, {"prefix_tier": "tape"},
    )  # fmt: skip
    return rng.choice(faults)


def requests(count: int, seed: int, names: Names) -> list[Values]:
    """Return many requests, the same for the same seed; a value that is None is not said."""
    rng = Random(seed)
    made = [request(rng, names) for _ in range(count)]
    return [{name: value for name, value in asked.items() if value is not None} for asked in made]


def measured(count: int, seed: int, table: pd.DataFrame) -> list[Values]:
    """Return the requests behind some measured rows: of all the table, so that they lie in its support."""
    rows = table.sort_values("row_id").sample(count, random_state=seed).astype(object).to_dict("records")
    found = [{name: row[name] for name in MEASURED} for row in rows]
    return [{k: v for k, v in row.items() if v != "" and not pd.isna(v)} for row in found]


def claims(asked: list[Values], answers: list[Values], seed: int) -> list[Values]:
    """Return a claim per request: its predicted or floor's figures, times factors that vary the verdict."""
    rng, made = Random(seed), []
    for place, (given, found) in enumerate(zip(asked, answers, strict=True)):
        given = {name: value for name, value in given.items() if name != "source"}
        figures = {
            name: _figure(rng, name, given, found)
            for name in rng.sample(FIGURES, rng.choices((1, 2, 3, 9), (45, 35, 15, 5))[0])
        }
        if place % 40 == 7:
            figures[next(iter(figures))] = rng.choice((0, -3, "fast"))
        made.append({"file": "all", **given, **figures})
    return made


def _figure(rng: Random, name: str, given: Values, found: Values) -> float:
    answer = {"tok_s_per_user": "tpot_ms", "request_s": "output_tok_s"}.get(
        name, name.removesuffix("_per_gpu")
    )
    level = rng.choices(("", "floor_", "baseline_"), (6, 3, 1))[0]
    value = found.get(f"{level}{answer}", 50.0)
    factor = rng.choice((1.0, 1.0, 1.1, 0.9, 1.3, 0.7, 2.0, 0.5, 10.0, 0.1, 100.0))
    if name == "tok_s_per_user":
        return float(1e3 / value * factor)
    scale = float(given.get("num_gpus", 1)) if name.endswith("per_gpu") else 1.0
    scale = float(given.get("osl", 1024)) if name == "request_s" else scale
    return float(value * factor / (scale if scale > 0 else 1.0))


def gaps(made: list[Values]) -> list[Values]:
    """Return claims in files that lack columns: request columns, the model, every figure."""
    lacking: dict[str, tuple[str, ...]] = {
        "no load": ("mode", "concurrency", "request_rate"),
        "no layout": ("tp", "pp", "ep", "dp", "num_gpus", "num_nodes"),
        "no model": ("model",),
        "no machine": ("gpu", "platform"),
        "no lengths": ("isl", "osl"),
        "no figure": FIGURES,
    }
    out = []
    for place, (file, without) in enumerate(lacking.items()):
        rows = made[place * 10 : place * 10 + 10]
        out += [{**{k: v for k, v in row.items() if k not in without}, "file": file} for row in rows]
    mixed = made[60:75]
    return out + [{**row, "file": "lengths of a mix", "length_kind": "dataset"} for row in mixed]
