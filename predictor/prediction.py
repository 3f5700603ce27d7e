"""One prediction: five answers with intervals, where the time goes, and the request as it was understood."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..data.errors import BadRequest
from ..data.files import for_json

if TYPE_CHECKING:
    from rich.console import RenderResult

    from ..features.measured import MeasuredFabric
    from ..features.request import Requests
    from ..training.model.model import Answers, Model
    from .explain import Explanation

ANSWERS = ("output_tok_s", "total_tok_s", "ttft_ms", "tpot_ms", "e2e_ms")
BOUNDS = ("", "_lo", "_hi")
# The answers that explanations speak of.
MOVED = ("tpot_ms", "ttft_ms", "output_tok_s")
# The physics of one output token and of the first one, and what the learned model adds or takes.
TERMS = (
    "weights", "kv", "compute", "communication", "host_memory", "launch_scheduler", "queue",
    "learned_correction",
)  # fmt: skip
# The percentiles that are shown [%], and what of: of requests' first token and mean time per token, and of
# the single gap between two tokens.
PERCENTILES = (90, 99)


class Origin:
    """What one prediction was made of, for `Prediction.explain`: never copied, and not kept in a pickle."""

    def __init__(self, model: Model, r: Requests, answers: Answers, fabric: MeasuredFabric | None) -> None:
        self.model, self.requests, self.answers, self.fabric = model, r, answers, fabric

    def __deepcopy__(self, memo: object) -> Origin:
        return self

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()


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
    origin: Origin | None = field(default=None, repr=False, compare=False)

    def explain(self) -> Explanation:
        """Return where each millisecond comes from and what would change it; see `explain.Explanation`.

        Raises BadRequest where there is nothing to explain: the request is infeasible, or the prediction was
        not made by `Predictor.predict` of this process.
        """
        from .explain import explain

        if not self.feasible:
            raise BadRequest("request", self.request["model"], f"a deployment that fits: {self.reason}")
        if self.origin is None:
            raise BadRequest("prediction", "a copy", "one made by Predictor.predict of this process")
        return explain(self, self.origin)

    def percentile(self, percent: float) -> dict[str, float]:
        """Return the TTFT and TPOT that `percent` % of the requests do not exceed, and the same of gaps [ms].

        Names: ttft_ms, tpot_ms (of requests' means) and itl_ms (of single gaps between two tokens), from the
        queues of `features.percentiles`. Raises BadRequest for a percentile outside 0 to 100
        (exclusive) and for a prediction that is infeasible or was not made by this process.
        """
        if not 0.0 < percent < 100.0:
            raise BadRequest("percent", percent, "a number between 0 and 100")
        if self.origin is None or not self.feasible:
            raise BadRequest("prediction", "a copy or infeasible", "one that was answered in this process")
        from ..features.percentiles import itl_ratio, tpot_ratio, ttft_ratio

        r, base = self.origin.requests, self.origin.answers.baseline
        return {
            "ttft_ms": self.ttft_ms * float(ttft_ratio(r, base, percent)[0]),
            "tpot_ms": self.tpot_ms * float(tpot_ratio(r, base, percent)[0]),
            "itl_ms": self.tpot_ms * float(itl_ratio(r, base, percent)[0]),
        }

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
        flat |= {f"{name}{bound}": getattr(self, f"{name}{bound}") for name in ANSWERS for bound in BOUNDS}
        flat |= {f"baseline_{name}": value for name, value in self.baseline.items()}
        flat |= {f"floor_{name}": value for name, value in self.floor.items()}
        flat |= {f"tpot_{name}_ms": self.terms[name] for name in TERMS}
        flat |= {f"ttft_{name}_ms": self.ttft_terms[name] for name in TERMS}
        if self.origin is not None and self.feasible:
            for percent in PERCENTILES:
                values = self.percentile(percent).items()
                flat |= {f"{name.removesuffix('_ms')}_p{percent}_ms": value for name, value in values}
        flat |= {"bottleneck": self.bottleneck, "bottleneck_share": self.bottleneck_share}
        flat |= {"support": self.support, "feasible": self.feasible, "reason": self.reason}
        out: dict[str, Any] = for_json(flat)
        return out

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
