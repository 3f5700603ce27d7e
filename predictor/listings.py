"""The catalogue and the fitted numbers as rows: `roofcast models`, `gpus`, `platforms`, `coefficients`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from ..data import catalogue
from ..data.prices import price
from ..features.coefficients import Coefficients

Spec = TypeVar("Spec", catalogue.GpuSpec, catalogue.PlatformSpec, catalogue.ModelSpec)
Row = dict[str, Any]


def model_rows(text: str = "") -> list[Row]:
    """Return the models whose name, alias or family holds `text`, with their shape in short."""
    return [_model(spec) for spec in _matching(catalogue.models().values(), text, lambda s: s.family)]


def gpu_rows(text: str = "") -> list[Row]:
    """Return the GPUs whose name, alias or architecture holds `text`, with memory, rates and dense peaks."""
    return [_gpu(spec) for spec in _matching(catalogue.gpus().values(), text, lambda s: s.architecture)]


def platform_rows(text: str = "") -> list[Row]:
    """Return the platforms whose name, alias or GPU holds `text`, with size, fabric and host memory."""
    return [_platform(spec) for spec in _matching(catalogue.platforms().values(), text, lambda s: s.gpu)]


def coefficient_rows(coefficients: Coefficients, text: str = "") -> list[Row]:
    """Return the coefficients whose name or unit holds `text`: value, standard error, rows, bounds, prior."""
    wanted = text.strip().lower()
    names = ("value", "unit", "standard_error", "rows", "low", "high", "prior")
    return [
        {"name": name, **{field: getattr(entry, field) for field in names}}
        for name, entry in coefficients.entries.items()
        if wanted in f"{name}\n{entry.unit}".lower()
    ]


def _matching(specs: Iterable[Spec], text: str, more: Callable[[Spec], str]) -> list[Spec]:
    wanted = text.strip().lower()

    def words(spec: Spec) -> str:
        return "\n".join((spec.name, *spec.aliases, more(spec))).lower()

    return [spec for spec in specs if wanted in words(spec)]


def _model(spec: catalogue.ModelSpec) -> Row:
    return {
        "name": spec.name,
        "params_b": round(spec.params_total / 1e9, 1),
        "active_b": round(spec.params_active / 1e9, 1),
        "layers": spec.n_layers,
        "d_model": spec.d_model,
        "heads": spec.n_heads,
        "kv_heads": spec.n_kv_heads,
        "attention": spec.attention,
        "experts": spec.n_experts,
        "weights": spec.native_weight_precision,
        "max_tokens": spec.max_position,
    }


def _gpu(spec: catalogue.GpuSpec) -> Row:
    peaks = {f"{name}_tflops": round(spec.flops.get(name, 0.0) / 1e12) for name in ("bf16", "fp8", "fp4")}
    return {
        "name": spec.name,
        "architecture": spec.architecture,
        "memory_gb": round(spec.memory_bytes / 1e9),
        "memory_gb_s": round(spec.memory_bandwidth / 1e9),
        **peaks,
        "link": spec.link,
        "link_gb_s": round(spec.link_bandwidth / 1e9),
        "tdp_w": round(spec.tdp_w),
    }


def _platform(spec: catalogue.PlatformSpec) -> Row:
    purchase = price(spec.name, "purchase")
    return {
        "name": spec.name,
        "gpu": spec.gpu,
        "num_gpus": spec.num_gpus,
        "domain": spec.scale_up_domain,
        "link_gb_s": round(spec.link_bandwidth / 1e9),
        "host_memory_gb": round(spec.host_memory_bytes / 1e9),
        "c2c_gb_s": round(spec.c2c_bandwidth / 1e9),
        "nic_gb_s": round(spec.nic_bandwidth / 1e9),
        "power_w": round(spec.power_w),
        "price_usd": round(purchase.usd) if purchase else 0,
    }
