"""The one feature frame of training and serving: physics and request columns as a float matrix.

Change anything here and raise FRAME_VERSION: a bundle trained on another version is refused.
"""

from __future__ import annotations

import numpy as np

from .baseline import Estimate
from .facts import FloatArray
from .request import Requests

FRAME_VERSION = 3
STATISTICS = ("median", "mean", "p90", "p99")
_ASKED = ("statistic", "log_over_median")  # the last columns: which of STATISTICS is asked for
_TERMS = ("weights", "kv", "compute", "communication", "launch", "queue")
_LOG_MODEL = ("params_total", "params_active", "d_model", "n_layers", "n_heads", "kv_values", "n_experts")
_LOG_GPU = ("bandwidth", "memory_bytes", "link_bandwidth", "peak_bf16")


def _logs(columns: dict[str, FloatArray]) -> dict[str, FloatArray]:
    """Return the logarithm of each column under its own name; one call for all."""
    return dict(zip(columns, np.log(np.maximum(np.array(list(columns.values())), 1e-9)), strict=True))


def feature_columns(r: Requests, floor: Estimate, base: Estimate) -> dict[str, FloatArray]:
    """Return the features by name, each of shape (n,), in the order of the matrix's columns.

    Physics first: logarithms of the baseline's answers and the share of each term, then the request, then
    facts of model and GPU. Names of models and GPUs never enter: only what they are made of.
    """
    out = _logs({"log_tpot": base.tpot_s, "log_ttft": base.ttft_s, "log_e2e": base.cycle_s})
    least = _logs({"tpot": floor.tpot_s, "ttft": floor.ttft_s})
    out["log_tpot_over_floor"] = out["log_tpot"] - least["tpot"]
    out["log_ttft_over_floor"] = out["log_ttft"] - least["ttft"]
    out["log_floor_prefill"] = least["ttft"]
    tpot, ttft = np.maximum(base.tpot_s, 1e-9), np.maximum(base.ttft_s, 1e-9)
    out |= {f"share_{name}": base.terms[name] / tpot for name in _TERMS}
    out |= {f"ttft_share_{name}": base.terms[f"ttft_{name}"] / ttft for name in _TERMS if name != "kv"}
    sizes = {
        "isl": r.isl, "osl": r.osl, "concurrency": base.concurrency, "batch": base.batch,
        "in_flight_per_gpu": base.concurrency / r.num_gpus, "num_gpus": r.num_gpus,
        "batch_of_max": base.batch / np.maximum(base.max_batch, 1.0),
        "in_flight_of_max": base.concurrency / r.replicas / np.maximum(base.max_batch, 1.0),
        "queued_prompt_tokens": base.concurrency / r.replicas * r.isl,
        "isl_over_osl": r.isl / r.osl,
        "burst": base.burst_s, "burst_over_decode": base.burst_s / (r.osl * base.tpot_s),
    }  # fmt: skip
    tokens = base.batch * np.maximum(r.model.experts_per_token, 1.0)
    sizes |= {
        "batch_per_group": base.batch / r.dp,
        "tokens_per_expert": tokens / np.maximum(r.model.n_experts, 1.0),
        "weights_per_gpu": r.model.params_total / r.tp, "active_per_gpu": r.model.params_active / r.tp,
        "kv_heads_per_gpu": r.model.n_kv_heads * r.dp / r.tp, "width_per_gpu": r.model.d_model * r.dp / r.tp,
        "prefill": base.ttft_s - base.terms["ttft_queue"], "context": r.isl + 0.5 * r.osl,
    }  # fmt: skip
    sizes |= {f"{name}_s": base.terms[name] for name in _TERMS}
    out |= _logs({f"log_{name}": values for name, values in sizes.items()})
    plain = {
        "tp": r.tp, "pp": r.pp, "ep": r.ep, "dp": r.dp, "replicas": r.replicas,
        "length_spread": np.where(np.isnan(r.spread), -1.0, r.spread), "disagg": r.disagg,
        "prefill_tp": r.prefill_tp,
        "prefill_workers": r.prefill_workers, "prefill_share": r.prefill_gpus / r.num_gpus,
        "spec_decode": r.spec_decode,
        "engine": r.engine, "mode": r.mode, "weight_precision": r.weight_precision,
        "kv_precision": r.kv_precision, "months": r.months, "prefix_cached": r.prefix_cached_frac,
        "architecture": r.gpu.architecture, "is_mla": r.model.is_mla, "is_moe": r.model.is_moe,
        "linear_layers": r.model.linear_layers, "sliding_layers": r.model.sliding_layers,
        "sparse": r.model.sparse_topk < 1e9, "active_share": r.model.params_active / r.model.params_total,
        "experts_per_token": r.model.experts_per_token, "domain": r.domain,
    }  # fmt: skip
    out |= {name: np.asarray(values, dtype=np.float64) for name, values in plain.items()}
    facts = {f"model_{name}": getattr(r.model, name) for name in _LOG_MODEL}
    return out | _logs(facts | {f"gpu_{name}": getattr(r.gpu, name) for name in _LOG_GPU})


def feature_matrix(r: Requests, floor: Estimate, base: Estimate) -> tuple[FloatArray, tuple[str, ...]]:
    """Return the features as a matrix of shape (n, k) and their names; it asks for medians."""
    columns = feature_columns(r, floor, base) | dict.fromkeys(_ASKED, np.zeros(len(r)))
    return np.ascontiguousarray(np.array(list(columns.values())).T), tuple(columns)


def of_statistic(matrix: FloatArray, statistic: str, log_over_median: FloatArray) -> FloatArray:
    """Return the matrix for another of STATISTICS, whose baseline lies so far over the median's, (n,)."""
    asked = matrix.copy()
    asked[:, -2], asked[:, -1] = STATISTICS.index(statistic), log_over_median
    return asked
