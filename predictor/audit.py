"""The claim audit: is a figure possible at all, and does it look like anything measured?

Against a claim stands the floor that leaves it every way out: KV cache in 8 bits where the claim does not
say, only the sequences decoding that the claim's own figures allow (Little's law: rate x decode time), a
first token that waits for nobody. What is faster than that, nobody measured.

    impossible   faster than the floor, or more tokens than the streams carry
    suspicious   nearer the floor than 99 of 100 measured rows, or far outside the prediction's interval
    plausible    neither
    unknown      the request cannot be read, or does not fit by a margin that engines differ in

The thresholds are measured on the shipped table: docs/audit.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..data.columns import ASKED, LEARNED
from ..data.errors import BadRequest, BadRows
from ..data.files import for_json
from ..data.measurements import medians
from ..data.rows.checks import LITTLE
from ..data.vocabulary import MODES, PRECISIONS
from ..features.baseline import Estimate, floor
from ..features.coefficients import ideal_rates
from ..features.facts import FloatArray
from ..features.request import Requests, normalise
from ..training.model.times import OF
from .door import frame_of, request_of
from .layouts import every_layout
from .prediction import Shown
from .predictor import CHUNK_ROWS, Predictor
from .request_types import Claim

# Figures that can be claimed, and the answer each one is another form of.
ANSWER_OF = {
    **{name: name for name in LEARNED if name.endswith("_ms")}, "tok_s_per_user": "tpot_ms",
    "output_tok_s": "output_tok_s", "tok_s_per_gpu": "output_tok_s", "request_s": "output_tok_s",
    "total_tok_s": "total_tok_s", "total_tok_s_per_gpu": "total_tok_s",
}  # fmt: skip
# A measurement may lie this much beyond a floor before it is impossible: clocks and lengths are rounded.
TOLERANCE = 0.95
# The floor routes tokens evenly, so that a batch touches the most experts. Repeated prompts touch fewer:
# measured down to 0.73 of the even time (Mixtral 8x7B with TensorRT-LLM's own benchmark).
ROUTED_ALIKE = 0.7
# Measured / floor below which 1 in 100 accepted rows lies, by kind of answer.
MARGIN = {"tpot_ms": 1.45, "ttft_ms": 2.1, "e2e_ms": 1.35, "output_tok_s": 1.4, "total_tok_s": 1.4}
# So far outside the 90 % interval (as a factor on its bounds) lies 1 in 100 accepted rows, by answer, else by
# kind: the slowest tokens of a run, of which little was measured, lie further outside than its median.
OUTSIDE = {
    "tpot_ms": 1.6, "tpot_p90_ms": 2.5, "tpot_p99_ms": 2.5, "ttft_ms": 6.0, "e2e_ms": 1.6,
    "output_tok_s": 1.6, "total_tok_s": 1.6,
}  # fmt: skip
_RATES = ("output_tok_s", "total_tok_s")
# The time that each answered statistic is one of: a floor bounds them alike.
_KIND = {name: f"{OF[name.removesuffix('_ms')]}_ms" if name not in _RATES else name for name in LEARNED}
# A time without any of these is that of one request alone.
_ASKED_LOAD = ("mode", "concurrency", "request_rate")
_LOAD = (*_ASKED_LOAD, *(k for k, of in ANSWER_OF.items() if of in _RATES))


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What the audit says of one figure of one row; numbers in the figure's own unit, NaN where unknown.

    `bound` is the floor's best; `ratio` how many times slower than it the claim is: below 1 nothing runs.
    """

    row: int
    figure: str
    claimed: float
    verdict: str
    bound: float
    ratio: float
    baseline: float
    predicted: float
    predicted_lo: float
    predicted_hi: float
    reason: str
    assumed: str = ""  # what the answer rests on, alike for all figures of a row

    def __str__(self) -> str:
        rests = f" ({self.assumed})" if self.assumed else ""
        return f"{self.figure} = {self.claimed:.6g}: {self.reason}{rests}"

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as plain values, None for no number."""
        out: dict[str, Any] = for_json(asdict(self))
        return out


class Findings(Shown, list[Finding]):
    """What the audit says of each figure of one row or of many."""

    def to_frame(self) -> pd.DataFrame:
        """Return a row per figure with the fields of `Finding`."""
        return pd.DataFrame([asdict(finding) for finding in self], columns=[f.name for f in fields(Finding)])


@dataclass(frozen=True, kw_only=True)
class _Claims:
    """What rows claim, and the floors that stand against it; arrays of shape (n,).

    figures: in their answer's unit (ms, tok/s of the whole), NaN where none is claimed, 0 for no number.
    streams: the requests in flight that they need over those stated. By answer: the floors that say why, and
    the best that they allow, least times [ms] and highest rates [tok/s].
    """

    requests: Requests
    figures: Mapping[str, FloatArray]
    streams: FloatArray
    floors: Mapping[str, Estimate]
    best: Mapping[str, FloatArray]

    def ratio(self, figure: str) -> FloatArray:
        """Return how many times slower than the floor a figure is; below 1 it is faster."""
        claimed, bound = self.figures[figure], self.best[ANSWER_OF[figure]]
        with np.errstate(all="ignore"):
            return claimed / bound if ANSWER_OF[figure].endswith("_ms") else bound / claimed


def audit(predictor: Predictor, **claim: Unpack[Claim]) -> Findings:
    """Judge the figures claimed for one configuration: request columns and names in ANSWER_OF as keywords.

    Times without any load are those of one request alone. Raises UnknownName for a keyword that is neither,
    BadRequest for a claim without a figure and, as `Predictor.predict` does, for a request that it refuses.
    """
    given = request_of(claim, also=tuple(ANSWER_OF))
    figures = {name: value for name, value in given.items() if name in ANSWER_OF and value is not None}
    if not figures:
        raise BadRequest("claim", "no figure", f"at least one of {', '.join(ANSWER_OF)}")
    for name, value in figures.items():
        if not (isinstance(value, int | float) and 0 < value < np.inf):
            raise BadRequest(name, value, "a number above 0")
    asked: dict[str, Any] = {name: value for name, value in given.items() if name not in ANSWER_OF}
    predictor.predict(**asked)
    return audit_frame(predictor, pd.DataFrame([given]))


def audit_frame(predictor: Predictor, frame: pd.DataFrame, first_row: int = 0) -> Findings:
    """Judge every figure (columns named in ANSWER_OF) of every row; nothing raises for a row.

    Rows need the request columns of `Predictor.predict_frame`; `length_kind` "dataset" says that lengths are
    means of a mix, whose median first token the floor does not bound. `Finding.row` counts from `first_row`.
    """
    found = Findings()
    for start in range(0, len(frame), CHUNK_ROWS):
        rows = medians(frame_of(frame.iloc[start : start + CHUNK_ROWS].reset_index(drop=True)))
        alone = rows[[name for name in _LOAD if name in rows]].isna().all(axis=1)
        if alone.any():
            rows["concurrency"] = np.where(alone, 1.0, rows.get("concurrency", np.nan))
        # A throughput without a load is the most that the deployment gives.
        most = rows[[name for name in _ASKED_LOAD if name in rows]].isna().all(axis=1)
        if most.any():
            rows["mode"] = np.where(most, "offline", np.asarray(rows.get("mode"), dtype=object))
        found += _findings(predictor, rows, first_row + start)
    return found


def audit_file(predictor: Predictor, path: Path) -> Iterator[Findings]:
    """Judge a CSV file piece by piece, whatever its size; `Finding.row` is the line, the header's is 1.

    Raises BadRows where it cannot be read or holds no figure.
    """
    try:
        with pd.read_csv(path, chunksize=CHUNK_ROWS) as pieces:
            for n, piece in enumerate(pieces):
                if not set(ANSWER_OF) & set(piece.columns):
                    raise BadRows(path, [(0, f"no figure to judge: none of {', '.join(ANSWER_OF)}")])
                yield audit_frame(predictor, piece, 2 + n * CHUNK_ROWS)
    except BadRows:
        raise
    except (OSError, ValueError) as error:
        raise BadRows(path, [(0, f"cannot be read as CSV: {error}")]) from None


def impossible(rows: pd.DataFrame) -> pd.Series[str]:
    """Return why each row is faster than physics allows, "" where it is not: what `ingest` asks.

    rows: (n, k) benchmark rows in the table's columns. Nothing learned is asked: the floor alone.
    """
    claims = _claims(medians(rows))
    reasons = np.full(len(rows), "", dtype=object)
    for figure in claims.figures:
        for i in map(int, np.flatnonzero(_under_floor(claims, figure, rows))):
            reasons[i] = reasons[i] or f"{figure} {_floor_reason(claims, figure, i)}"
    return pd.Series(reasons, index=rows.index)


def _claims(rows: pd.DataFrame) -> _Claims:
    """Return the claims of the rows; a layout that is not stated is the one that allows each figure best."""
    owner, r = every_layout(normalise(rows))
    claims = _claims_of(r, rows.iloc[owner])
    if not r.layout_open.any():
        return claims
    at = {}
    for name, bound in claims.best.items():
        worse = np.nan_to_num(bound if name.endswith("_ms") else -bound, nan=np.inf)
        order = np.lexsort((worse, owner))
        at[name] = order[np.searchsorted(owner[order], np.arange(len(rows)))]
    any_one = at["output_tok_s"]
    return _Claims(
        requests=r.take(any_one), figures={k: v[any_one] for k, v in claims.figures.items()},
        streams=claims.streams[any_one], floors={k: v.take(at[k]) for k, v in claims.floors.items()},
        best={k: v[at[k]] for k, v in claims.best.items()},
    )  # fmt: skip


def _claims_of(r: Requests, rows: pd.DataFrame) -> _Claims:
    figures, request_s, nowhere = {}, np.full(len(r), np.nan), np.full(len(r), np.nan)
    for figure in (name for name in ANSWER_OF if name in rows):
        values = pd.to_numeric(rows[figure], errors="coerce").to_numpy(dtype=np.float64)
        sound = np.isfinite(values) & (values > 0.0)
        with np.errstate(all="ignore"):
            claimed = _convert(figure, r, np.where(sound, values, np.nan))
        figures[figure] = np.where(sound | rows[figure].isna().to_numpy(), claimed, 0.0)
        if ANSWER_OF[figure] in _RATES:
            tokens = r.osl if ANSWER_OF[figure] == "output_tok_s" else r.isl + r.osl
            request_s = np.where(np.isnan(request_s), figures[figure] / tokens, request_s)
    named = ("ttft_mean_ms", "ttft_ms", "tpot_ms", "tok_s_per_user")
    mean, median, tpot_ms, per_user = (figures.get(name, nowhere) for name in named)
    ttft_ms = np.where(np.isnan(mean), median, mean)
    decode_s = np.where(np.isnan(tpot_ms), per_user, tpot_ms) * (r.osl - 1.0) / 1e3
    decoding, streams = _littles_law(r, request_s, ttft_ms / 1e3, decode_s)
    static, by_rate = r.is_mode("static-batch"), r.is_mode("open-loop", "server")
    one = replace(r, request_rate=nowhere, mode=np.full(len(r), MODES.index("closed-loop")))
    steps = replace(one, mode=np.where(static, r.mode, one.mode), concurrency=decoding)
    token, first = floor(steps, overcommit=True), floor(replace(one, concurrency=r.replicas))
    mode, load = np.where(by_rate, MODES.index("offline"), r.mode), np.where(by_rate, np.nan, r.concurrency)
    whole = floor(replace(one, mode=mode, concurrency=load), overcommit=True)
    # Prompts one after another end, on average, (N + 1) / 2N through the time that all of them take.
    together = (whole.batch + 1.0) / (2.0 * whole.batch) * (whole.ttft_s - whole.terms["ttft_queue"])
    best = {
        "tpot_ms": token.tpot_s * 1e3,
        "ttft_ms": np.where(static, np.fmax(first.ttft_s, together), first.ttft_s) * 1e3,
        "e2e_ms": np.where(static | r.is_mode("closed-loop"), whole.e2e_s, first.e2e_s) * 1e3,
        **{name: getattr(whole, name) for name in _RATES},
    }
    floors = dict.fromkeys(best, whole) | {"tpot_ms": token, "ttft_ms": first}
    floors, best = ({name: bound[_KIND[name]] for name in LEARNED} for bound in (floors, best))
    return _Claims(requests=r, figures=figures, streams=streams, floors=floors, best=best)


def _convert(figure: str, r: Requests, values: FloatArray, back: bool = False) -> FloatArray:
    """Return a figure in its answer's unit (ms, tok/s of the whole), or `back` from there."""
    if figure == "tok_s_per_user":
        return 1e3 / values
    scale = r.num_gpus if figure.endswith("per_gpu") else r.osl if figure == "request_s" else 1.0
    return values / scale if back else values * scale


def _littles_law(
    r: Requests, request_s: FloatArray, first_s: FloatArray, decode_s: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return sequences decoding at once, and requests in flight over those stated (NaN: claims do not say).

    Decoding, the fewest that the claims allow and at least one per replica: claimed request rate x claimed
    decode time; else the share of a request's time that is decoding, where a first token is claimed too; else
    all in flight. A first token that is not claimed is no time: then only a ratio above 1 says something.
    """
    stated, static = np.where(np.isnan(r.concurrency), np.inf, r.concurrency), r.is_mode("static-batch")
    rate = np.where(np.isnan(request_s) & np.isnan(r.concurrency), r.request_rate, request_s)
    with np.errstate(all="ignore"):
        each_s = np.nan_to_num(first_s) + decode_s
        shared, streams = stated * decode_s / each_s, request_s * each_s / r.concurrency
        fewest = np.fmin(np.where(np.isnan(shared), stated, shared), rate * decode_s)
    fewest = np.where(np.isfinite(fewest), np.maximum(fewest, r.replicas), r.replicas)
    known = (static | r.is_mode("closed-loop")) & (~np.isnan(first_s) | (streams > 1.0))
    return np.where(static, r.concurrency, fewest), np.where(known, streams, np.nan)


def _under_floor(claims: _Claims, figure: str, rows: pd.DataFrame) -> NDArray[np.bool_]:
    """Return where a figure is impossible: under the floor by more than its allowance."""
    r, answer = claims.requests, ANSWER_OF[figure]
    many, first = (r.model.is_moe > 0) & (claims.floors[answer].batch > 1.0), _KIND[answer] == "ttft_ms"
    allowance = np.where(many & (not first), ROUTED_ALIKE, TOLERANCE)
    if first and "length_kind" in rows:
        allowance = np.where(rows["length_kind"].to_numpy() == "dataset", 0.0, allowance)
    # Pools whose layout is not stated may be laid out better than `normalise` guesses.
    unstated = rows["tp"].isna().to_numpy() if "tp" in rows else np.ones(len(r), dtype=bool)
    return np.asarray((claims.ratio(figure) < allowance) & ~(r.disagg & unstated))


def _findings(predictor: Predictor, rows: pd.DataFrame, first_row: int) -> list[Finding]:
    claims = _claims(rows)
    r, answers = claims.requests, predictor.predict_frame(rows[[name for name in rows if name in ASKED]])
    feasible, notes = answers["feasible"].to_numpy(), answers["reason"].to_numpy(dtype=object)
    oversized = r.valid & (claims.floors["e2e_ms"].bytes_needed > r.gpu.memory_bytes)
    found = []
    for figure, claimed in claims.figures.items():
        answer, ratios, under = ANSWER_OF[figure], claims.ratio(figure), _under_floor(claims, figure, rows)
        names = [f"baseline_{answer}", answer, f"{answer}_lo", f"{answer}_hi"]
        levels = np.vstack([claimed, claims.best[answer], answers[names].to_numpy(np.float64).T])
        with np.errstate(all="ignore"):
            shown = np.array([_convert(figure, r, level, back=True) for level in levels])
        for i in map(int, np.flatnonzero(~np.isnan(claimed))):
            ratio, note = float(ratios[i]), notes[i]
            if claimed[i] == 0.0:
                verdict, reason = "unknown", f"{rows[figure].iloc[i]!r} is not allowed: a number above 0"
            elif not feasible[i]:
                verdict, reason, note = "impossible" if oversized[i] else "unknown", notes[i], ""
            elif under[i]:
                verdict, reason = "impossible", _floor_reason(claims, figure, i)
            else:
                verdict, reason = _verdict(answer, levels[:, i], ratio, float(claims.streams[i]))
            value, bound, base, predicted, *ends = map(float, shown[:, i])
            found.append(Finding(
                row=first_row + i, figure=figure, claimed=value, verdict=verdict, bound=bound, ratio=ratio,
                baseline=base, predicted=predicted, predicted_lo=min(ends), predicted_hi=max(ends),
                reason=reason, assumed=note,
            ))  # fmt: skip
    return sorted(found, key=lambda finding: finding.row)


def _verdict(answer: str, levels: FloatArray, ratio: float, streams: float) -> tuple[str, str]:
    """Return verdict and reason of a claim that the floor allows.

    levels: claim, floor, baseline, prediction and the ends of its interval, in the answer's unit.
    """
    claimed, low, high = map(float, levels[[0, 4, 5]])
    kind, most_outside = _KIND[answer], OUTSIDE.get(answer, OUTSIDE[_KIND[answer]])
    if streams > LITTLE and kind != "ttft_ms":
        passed = f"rate x time per request is {streams:.2f} times the requests in flight"
        return "impossible", f"{passed}: Little's law allows 1"
    outside = max(low / claimed, claimed / high, 1.0)
    faster = (claimed < low) == answer.endswith("_ms")
    far = f"{outside:.2f} times {'faster' if faster else 'slower'} than the 90 % interval reaches"
    above = f"{ratio:.2f} times the floor's time"
    if ratio < MARGIN[kind]:
        return "suspicious", f"only {above}: 99 of 100 measured rows lie above {MARGIN[kind]:g}"
    if outside > most_outside:
        return "suspicious", f"{far} ({above}): measured rows seldom pass {most_outside:g}"
    if streams < 1.0 / LITTLE:
        return "suspicious", f"rate x time per request is only {streams:.2f} of the requests in flight"
    return "plausible", f"{above}, {far if outside > 1.0 else 'inside the 90 % interval'}"


def _floor_reason(claims: _Claims, figure: str, i: int) -> str:
    """Return by how much row `i` passes the floor, and which work forbids it, with its numbers."""
    answer, ratio, at = ANSWER_OF[figure], float(claims.ratio(figure)[i]), np.array([i])
    best, r = claims.best[answer][i], claims.requests.take(at)
    if answer.endswith("_ms"):
        passed = f"{ratio:.2f} of the least time, {best:.4g} ms"
    else:
        passed = f"{1 / ratio:.2f} times the most, {best:,.4g} tok/s"
    kind = _KIND[answer]
    together = kind == "ttft_ms" and r.is_mode("static-batch")[0]
    of = claims.floors["e2e_ms" if together else answer].take(at)
    batch, tpot_s, first_s = of.batch[0], of.tpot_s[0], (of.ttft_s - of.terms["ttft_queue"])[0]
    if kind == "ttft_ms":
        return f"{passed}: {_work_reason(r, of, 'ttft_')}"
    if kind != "tpot_ms" and tpot_s * (r.osl[0] - 1.0) < first_s:
        return f"{passed}: a prompt takes {first_s * 1e3:.4g} ms: {_work_reason(r, of, 'ttft_')}"
    step = f"{batch:.4g} sequences, {tpot_s * 1e3:.4g} ms a token: " if batch > 1 else ""
    full = "all that memory holds: " if batch > 0.99 * of.max_batch[0] else ""
    return f"{passed}: {full}{step}{_work_reason(r, of, '')}"


def _work_reason(r: Requests, of: Estimate, prefix: str) -> str:
    """Return the floor's largest term: bytes read, products or bytes sent, over the datasheet rate."""
    accepted = 1.0 if prefix else float(ideal_rates(r).accepted[0])
    weights, kv, compute, sent = (
        float(of.terms[prefix + name][0]) * accepted for name in ("weights", "kv", "compute", "communication")
    )
    rate, link = r.gpu.bandwidth[0], r.gpu.link_bandwidth[0]
    if sent > max(weights + kv, compute):
        work = f"sends {sent * link / 1e6:.3g} MB at {link / 1e9:.3g} GB/s"
    elif compute > weights + kv:
        peak = float(getattr(r.gpu, f"peak_{PRECISIONS[r.weight_precision[0]]}")[0])
        work = f"computes {compute * peak / 1e12:.3g} TFLOP at {peak / 1e15:.3g} PFLOP/s"
    else:
        cache = f" and {kv * rate / 1e9:.3g} GB of KV" if kv > 0 else ""
        work = f"reads {weights * rate / 1e9:.3g} GB of weights{cache} at {rate / 1e12:.3g} TB/s"
    return f"each GPU {work}" + (f" a step, which yields at most {accepted:g} tokens" if accepted > 1 else "")
