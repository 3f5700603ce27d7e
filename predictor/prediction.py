"""One prediction: five answers with intervals, where the time goes, and the request as it was understood."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderResult

ANSWERS = ("output_tok_s", "total_tok_s", "ttft_ms", "tpot_ms", "e2e_ms")
# The physics of one output token and of the first one, and what the learned model adds or takes.
TERMS = ("weights", "kv", "compute", "communication", "launch_scheduler", "queue", "learned_correction")


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The answer to one request; every number is NaN where the request is infeasible.

    Rates [tok/s] are of the whole deployment, times [ms] per request; `_lo` and `_hi` bound the 90 %
    interval. `baseline` and `floor` hold the five answers of the calibrated physics and of the ideal
    roofline. `support` is "in", "near" or "far" from what was measured. `terms` splits TPOT and `ttft_terms`
    TTFT [ms] by TERMS: each sums to its answer. `bottleneck` is TPOT's largest physical term and
    `bottleneck_share` its share of the baseline's TPOT [-]. `reason` says why the request is infeasible, or
    which defaults were assumed; `request` holds all values in use.
    """

    output_tok_s: float
    output_tok_s_lo: float
    output_tok_s_hi: float
    total_tok_s: float
    total_tok_s_lo: float
    total_tok_s_hi: float
    ttft_ms: float
    ttft_ms_lo: float
    ttft_ms_hi: float
    tpot_ms: float
    tpot_ms_lo: float
    tpot_ms_hi: float
    e2e_ms: float
    e2e_ms_lo: float
    e2e_ms_hi: float
    baseline: Mapping[str, float]
    floor: Mapping[str, float]
    support: str
    feasible: bool
    reason: str
    terms: Mapping[str, float]
    ttft_terms: Mapping[str, float]
    request: Mapping[str, Any]

    @property
    def bottleneck(self) -> str:
        """The largest physical term of TPOT; "memory capacity" where the request is infeasible."""
        return max(TERMS[:-1], key=lambda name: self.terms[name]) if self.feasible else "memory capacity"

    @property
    def bottleneck_share(self) -> float:
        """The bottleneck's share of the baseline's TPOT [-]; NaN where the request is infeasible."""
        return self.terms[self.bottleneck] / self.baseline["tpot_ms"] if self.feasible else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Return everything as one flat mapping fit for JSON: numbers, text, booleans, None for no number."""
        flat: dict[str, Any] = dict(self.request)
        flat |= {f"{name}{bound}": getattr(self, f"{name}{bound}") for name, bound in _bounded()}
        flat |= {f"baseline_{name}": value for name, value in self.baseline.items()}
        flat |= {f"floor_{name}": value for name, value in self.floor.items()}
        flat |= {f"tpot_{name}_ms": self.terms[name] for name in TERMS}
        flat |= {f"ttft_{name}_ms": self.ttft_terms[name] for name in TERMS}
        flat |= {"bottleneck": self.bottleneck, "bottleneck_share": self.bottleneck_share}
        flat |= {"support": self.support, "feasible": self.feasible, "reason": self.reason}
        return {name: _no_nan(value) for name, value in flat.items()}

    def __str__(self) -> str:
        if not self.feasible:
            return f"infeasible: {self.reason}"
        parts = (
            f"output {self.output_tok_s:,.0f} tok/s "
            f"({self.output_tok_s_lo:,.0f} to {self.output_tok_s_hi:,.0f})",
            f"TPOT {self.tpot_ms:.2f} ms ({self.tpot_ms_lo:.2f} to {self.tpot_ms_hi:.2f})",
            f"TTFT {self.ttft_ms:.0f} ms ({self.ttft_ms_lo:.0f} to {self.ttft_ms_hi:.0f})",
            f"bottleneck {self.bottleneck} ({self.bottleneck_share:.0%})",
            f"support {self.support}",
        )
        return ", ".join(parts)

    def __rich_console__(self, console: object, options: object) -> RenderResult:
        from .render import prediction_tables

        yield from prediction_tables(self)


def _bounded() -> Iterable[tuple[str, str]]:
    return ((name, bound) for name in ANSWERS for bound in ("", "_lo", "_hi"))


def _no_nan(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
