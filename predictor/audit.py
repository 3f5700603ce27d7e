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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..data.errors import BadRequest, BadRows, UnknownName, nearest_names
from ..data.files import for_json
from ..data.importer.checks import LITTLE, TOLERANCE
from ..data.vocabulary import MODES, PRECISIONS
from ..features.baseline import Estimate, floor
from ..features.coefficients import ideal_rates
from ..features.facts import FloatArray
from ..features.request import Requests, normalise
from .predictor import KNOWN_COLUMNS

if TYPE_CHECKING:
    from .predictor import Predictor

# Figures that can be claimed, and the answer each one is another form of.
FIGURES = {
    "tpot_ms": "tpot_ms", "tok_s_per_user": "tpot_ms", "ttft_ms": "ttft_ms", "e2e_ms": "e2e_ms",
    "output_tok_s": "output_tok_s", "output_tok_s_per_gpu": "output_tok_s", "request_s": "output_tok_s",
    "total_tok_s": "total_tok_s", "total_tok_s_per_gpu": "total_tok_s",
}  # fmt: skip
# The floor routes tokens evenly, so that a batch touches the most experts. Repeated prompts touch fewer:
# measured down to 0.73 of the even time (Mixtral 8x7B with TensorRT-LLM's own benchmark).
ROUTED_ALIKE = 0.7
# Measured / floor below which 1 in 100 accepted rows lies, by answer.
MARGIN = {"tpot_ms": 1.45, "ttft_ms": 2.1, "e2e_ms": 1.35, "output_tok_s": 1.4, "total_tok_s": 1.4}
# So far outside the 90 % interval (as a factor on its bounds) lies 1 in 100 accepted rows.
OUTSIDE = {"tpot_ms": 1.6, "ttft_ms": 6.0, "e2e_ms": 1.6, "output_tok_s": 1.6, "total_tok_s": 1.6}
CHUNK_ROWS = 8192
_RATES = ("output_tok_s", "total_tok_s")
_LOAD = ("mode", "concurrency", "request_rate")
_CLOSED, _OFFLINE = MODES.index("closed-loop"), MODES.index("offline")


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

    def __str__(self) -> str:
        return f"{self.figure} = {self.claimed:.6g}: {self.reason}"

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as plain values, None for no number."""
        out: dict[str, Any] = for_json(asdict(self))
        return out


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """The floors that claims are held against, shape (n,): of a token, of the first one, of the whole.

    `best` holds the least times [ms] and highest rates [tok/s] by answer.
    """

    requests: Requests
    token: Estimate
    first: Estimate
    whole: Estimate
    best: Mapping[str, FloatArray]


def audit(predictor: Predictor, **claim: Any) -> list[Finding]:
    """Judge the figures claimed for one configuration: request columns and names in FIGURES as keywords.

    Times without any load are those of one request alone. Raises UnknownName for a keyword that is neither,
    BadRequest for a claim without a figure and, as `Predictor.predict` does, for a request that it refuses.
    """
    known = (*FIGURES, *KNOWN_COLUMNS)
    for name in claim:
        if name not in known:
            raise UnknownName("request column or figure", name, nearest_names(name, known))
    figures = {name: value for name, value in claim.items() if name in FIGURES and value is not None}
    if not figures:
        raise BadRequest("claim", "no figure", f"at least one of {', '.join(FIGURES)}")
    for name, value in figures.items():
        if not (isinstance(value, (int, float)) and 0 < value < np.inf):
            raise BadRequest(name, value, "a number above 0")
    predictor.predict(**{name: value for name, value in claim.items() if name not in FIGURES})
    return audit_frame(predictor, pd.DataFrame([claim]))


def audit_frame(predictor: Predictor, frame: pd.DataFrame, first_row: int = 0) -> list[Finding]:
    """Judge every figure (columns named in FIGURES) of every row; nothing raises for a row.

    Rows need the request columns of `Predictor.predict_frame`; `length_kind` "dataset" says that lengths are
    means of a mix, whose median first token the floor does not bound. `Finding.row` counts from `first_row`.
    """
    found: list[Finding] = []
    for start in range(0, len(frame), CHUNK_ROWS):
        rows = frame.iloc[start : start + CHUNK_ROWS].reset_index(drop=True)
        found += _audit(predictor, _with_load(rows), first_row + start)
    return found


def audit_file(predictor: Predictor, path: Path) -> Iterator[list[Finding]]:
    """Judge a CSV file piece by piece, whatever its size; `Finding.row` is the line, the header's is 1.

    Raises BadRows where it cannot be read or holds no figure.
    """
    try:
        with pd.read_csv(path, chunksize=CHUNK_ROWS) as pieces:
            for number, piece in enumerate(pieces):
                if not set(FIGURES) & set(piece.columns):
                    raise BadRows(path, [(0, f"no figure to judge: none of {', '.join(FIGURES)}")])
                yield audit_frame(predictor, piece, 2 + number * CHUNK_ROWS)
    except BadRows:
        raise
    except (OSError, ValueError) as error:
        raise BadRows(path, [(0, f"cannot be read as CSV: {error}")]) from None


def impossible(rows: pd.DataFrame) -> pd.Series[str]:
    """Return why each row is faster than physics allows, "" where it is not: the importer's check.

    rows: (n, k) benchmark rows in the table's columns. Nothing learned is asked: the floor alone.
    """
    r = normalise(rows)
    claims = _claims(rows, r)
    bounds = bounds_of(r, claims)
    reasons = np.full(len(rows), "", dtype=object)
    for figure, values in claims.items():
        ratio = _ratio(FIGURES[figure], values, bounds.best[FIGURES[figure]])
        for i in np.flatnonzero(_broken(figure, ratio, bounds, rows)):
            text = f"{figure} {floor_words(FIGURES[figure], bounds, int(i), float(ratio[i]))}"
            reasons[i] = reasons[i] or text
    return pd.Series(reasons, index=rows.index)


def _with_load(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows of which those that claim only times and state no load have one request in flight."""
    stated = [*(name for name, answer in FIGURES.items() if answer in _RATES), *_LOAD]
    given = rows[[name for name in stated if name in rows]].notna().any(axis=1)
    concurrency = rows.get("concurrency", np.nan)
    return rows if given.all() else rows.assign(concurrency=np.where(given, concurrency, 1.0))


def _claims(rows: pd.DataFrame, r: Requests) -> dict[str, FloatArray]:
    """Return the claimed figures in their answer's unit: NaN where none is claimed, 0 for no number."""
    claims = {}
    for figure in FIGURES:
        if figure in rows:
            values = pd.to_numeric(rows[figure], errors="coerce").to_numpy(dtype=np.float64)
            sound = np.isfinite(values) & (values > 0.0)
            with np.errstate(all="ignore"):
                claimed = _convert(figure, r, np.where(sound, values, np.nan))
            claims[figure] = np.where(sound | rows[figure].isna().to_numpy(), claimed, 0.0)
    return claims


def _convert(figure: str, r: Requests, values: FloatArray, back: bool = False) -> FloatArray:
    """Return a figure in its answer's unit (ms, tok/s of the whole), or `back` from there."""
    if figure == "tok_s_per_user":
        return 1e3 / values
    scale = r.num_gpus if figure.endswith("per_gpu") else r.osl if figure == "request_s" else 1.0
    return values / scale if back else values * scale


def bounds_of(r: Requests, claims: Mapping[str, FloatArray]) -> Bounds:
    """Return the floors of requests under the load that their own claims leave possible."""
    static = r.is_mode("static-batch")
    by_rate = r.is_mode("open-loop", "server")
    nobody = np.full(len(r), np.nan)
    closed = np.full(len(r), _CLOSED)
    decoding = np.where(static, r.concurrency, _decoding(r, claims))
    token = floor(
        replace(r, mode=np.where(static, r.mode, closed), concurrency=decoding, request_rate=nobody),
        overcommit=True,
    )
    first = floor(replace(r, mode=closed, concurrency=r.replicas, request_rate=nobody))
    load = np.where(by_rate, np.nan, r.concurrency)
    whole = floor(
        replace(r, mode=np.where(by_rate, _OFFLINE, r.mode), concurrency=load, request_rate=nobody),
        overcommit=True,
    )
    # Prompts one after another end, on average, (N + 1) / 2N through the time that all of them take.
    together = (whole.batch + 1.0) / (2.0 * whole.batch) * (whole.ttft_s - whole.terms["ttft_queue"])
    steady = static | r.is_mode("closed-loop")
    best = {
        "tpot_ms": token.tpot_s * 1e3,
        "ttft_ms": np.where(static, np.fmax(first.ttft_s, together), first.ttft_s) * 1e3,
        "e2e_ms": np.where(steady, whole.e2e_s, first.e2e_s) * 1e3,
        "output_tok_s": whole.output_tok_s,
        "total_tok_s": whole.total_tok_s,
    }
    return Bounds(requests=r, token=token, first=first, whole=whole, best=best)


def _rate(r: Requests, claims: Mapping[str, FloatArray]) -> FloatArray:
    """Return the claimed requests per second, NaN where nothing says."""
    rate = np.full(len(r), np.nan)
    for figure, values in claims.items():
        length = {"output_tok_s": r.osl, "total_tok_s": r.isl + r.osl}.get(FIGURES[figure])
        if length is not None:
            rate = np.where(np.isnan(rate), values / length, rate)
    return rate


def _tokens_s(r: Requests, claims: Mapping[str, FloatArray]) -> FloatArray:
    """Return the claimed seconds between first and last token, NaN where nothing says."""
    tpot = claims.get("tpot_ms", claims.get("tok_s_per_user", np.full(len(r), np.nan)))
    return tpot * (r.osl - 1.0) / 1e3


def _decoding(r: Requests, claims: Mapping[str, FloatArray]) -> FloatArray:
    """Return the sequences decoding at once, at least one per replica: the fewest that the claims allow.

    Little's law: claimed request rate x claimed decode time; else the share of a request's time that is
    decoding, where a first token is claimed too; else all in flight.
    """
    decode = _tokens_s(r, claims)
    first = claims.get("ttft_ms", np.zeros(len(r))) / 1e3
    in_flight = np.where(np.isnan(r.concurrency), np.inf, r.concurrency)
    rate = _rate(r, claims)
    asked = np.where(np.isnan(rate) & np.isnan(r.concurrency), r.request_rate, rate)
    with np.errstate(all="ignore"):
        shared = in_flight * decode / (np.where(np.isnan(first), 0.0, first) + decode)
        fewest = np.fmin(np.where(np.isnan(shared), in_flight, shared), asked * decode)
    return np.where(np.isfinite(fewest), np.maximum(fewest, r.replicas), r.replicas)


def _ratio(answer: str, claimed: FloatArray, bound: FloatArray) -> FloatArray:
    """Return how many times slower than the bound a claim is; below 1 it is faster."""
    with np.errstate(all="ignore"):
        return claimed / bound if answer.endswith("_ms") else bound / claimed


def _broken(figure: str, ratio: FloatArray, bounds: Bounds, rows: pd.DataFrame) -> NDArray[np.bool_]:
    """Return where a claim is impossible: under the floor by more than its allowance."""
    r, answer = bounds.requests, FIGURES[figure]
    many = (r.model.is_moe > 0) & ((bounds.token if answer == "tpot_ms" else bounds.whole).batch > 1.0)
    allowance = np.where(many & (answer != "ttft_ms"), ROUTED_ALIKE, TOLERANCE)
    if answer == "ttft_ms" and "length_kind" in rows:
        allowance = np.where(rows["length_kind"].to_numpy() == "dataset", 0.0, allowance)
    # Pools whose layout is not stated may be laid out better than `normalise` guesses.
    unsaid = rows["tp"].isna().to_numpy() if "tp" in rows else np.ones(len(r), dtype=bool)
    return np.asarray((ratio < allowance) & ~(r.disagg & unsaid))


def _streams(r: Requests, claims: Mapping[str, FloatArray]) -> FloatArray:
    """Return requests in flight by Little's law over those stated, NaN where the claims do not tell.

    A first token that is not claimed counts as no time: then only a figure above 1 says something.
    """
    first = claims.get("ttft_ms", np.full(len(r), np.nan)) / 1e3
    with np.errstate(all="ignore"):
        ratio = _rate(r, claims) * (np.nan_to_num(first) + _tokens_s(r, claims)) / r.concurrency
    told = r.is_mode("closed-loop", "static-batch") & (~np.isnan(first) | (ratio > 1.0))
    return np.where(told, ratio, np.nan)


def _audit(predictor: Predictor, rows: pd.DataFrame, start: int) -> list[Finding]:
    r = normalise(rows)
    claims = _claims(rows, r)
    bounds, streams = bounds_of(r, claims), _streams(r, claims)
    answers = predictor.predict_frame(rows)
    feasible, notes = answers["feasible"].to_numpy(), answers["reason"].to_numpy(dtype=object)
    out = []
    for figure, claimed in claims.items():
        answer = FIGURES[figure]
        ratio = _ratio(answer, claimed, bounds.best[answer])
        broken = _broken(figure, ratio, bounds, rows)
        names = (f"baseline_{answer}", answer, f"{answer}_lo", f"{answer}_hi")
        levels = [claimed, bounds.best[answer], *(answers[name].to_numpy(dtype=np.float64) for name in names)]
        with np.errstate(all="ignore"):
            own = np.array([_convert(figure, r, level, back=True) for level in levels])
        for i in map(int, np.flatnonzero(~np.isnan(claimed))):
            if claimed[i] == 0.0:
                verdict, reason = "unknown", f"{rows[figure].iloc[i]!r} is not allowed: a number above 0"
            elif not feasible[i]:
                verdict, reason = _unfit(bounds, i), notes[i]
            else:
                if broken[i]:
                    verdict, reason = "impossible", floor_words(answer, bounds, i, float(ratio[i]))
                else:
                    value, _, _, _, low, high = (float(level[i]) for level in levels)
                    verdict, reason = _likely(answer, value, float(ratio[i]), (low, high), float(streams[i]))
                reason += f" ({notes[i]})" if notes[i] else ""
            value, bound, base, predicted, *ends = map(float, own[:, i])
            out.append(
                Finding(
                    row=start + i, figure=figure, claimed=value, verdict=verdict, bound=bound,
                    ratio=float(ratio[i]), baseline=base, predicted=predicted, predicted_lo=min(ends),
                    predicted_hi=max(ends), reason=reason,
                )
            )  # fmt: skip
    return sorted(out, key=lambda finding: finding.row)


def _unfit(bounds: Bounds, i: int) -> str:
    """Return the verdict on a row without an answer: impossible where the bytes pass the whole memory."""
    needed, memory = bounds.whole.bytes_needed[i], bounds.requests.gpu.memory_bytes[i]
    return "impossible" if bounds.requests.valid[i] and needed > memory else "unknown"


def _likely(
    answer: str, value: float, ratio: float, interval: tuple[float, float], streams: float
) -> tuple[str, str]:
    """Return verdict and reason of a claim that the floor allows."""
    low, high = interval
    if streams > LITTLE and answer != "ttft_ms":
        return "impossible", (
            f"rate x time per request is {streams:.2f} times the requests in flight: Little's law allows 1"
        )
    outside = max(low / value, value / high, 1.0)
    faster = (value < low) == answer.endswith("_ms")
    far = f"{outside:.2f} times {'faster' if faster else 'slower'} than the 90 % interval reaches"
    above = f"{ratio:.2f} times the floor's time"
    if ratio < MARGIN[answer]:
        return "suspicious", f"only {above}: 99 of 100 measured rows lie above {MARGIN[answer]:g}"
    if outside > OUTSIDE[answer]:
        return "suspicious", f"{far} ({above}): measured rows seldom pass {OUTSIDE[answer]:g}"
    if streams < 1.0 / LITTLE:
        return "suspicious", f"rate x time per request is only {streams:.2f} of the requests in flight"
    return "plausible", f"{above}, " + (far if outside > 1.0 else "inside the 90 % interval")


def floor_words(answer: str, bounds: Bounds, i: int, ratio: float) -> str:
    """Say of row `i` by how much an answer passes the floor, and which work forbids it, with its numbers."""
    r = bounds.requests
    if answer.endswith("_ms"):
        said = f"{ratio:.2f} of the least time, {bounds.best[answer][i]:.4g} ms"
    else:
        said = f"{1 / ratio:.2f} times the most, {bounds.best[answer][i]:,.4g} tok/s"
    if answer == "ttft_ms":
        whole = r.is_mode("static-batch")[i]
        return f"{said}: {_work_words(r, bounds.whole if whole else bounds.first, i, 'ttft_')}"
    of = bounds.token if answer == "tpot_ms" else bounds.whole
    first_s = of.ttft_s[i] - of.terms["ttft_queue"][i]
    if answer != "tpot_ms" and of.tpot_s[i] * (r.osl[i] - 1.0) < first_s:
        return f"{said}: a prompt takes {first_s * 1e3:.4g} ms: {_work_words(r, of, i, 'ttft_')}"
    step = f"{of.batch[i]:.4g} sequences, {of.tpot_s[i] * 1e3:.4g} ms a token: " if of.batch[i] > 1 else ""
    full = "all that memory holds: " if of.batch[i] > 0.99 * of.max_batch[i] else ""
    return f"{said}: {full}{step}{_work_words(r, of, i, '')}"


def _work_words(r: Requests, of: Estimate, i: int, prefix: str) -> str:
    """Say what the floor's largest term is: bytes read, products or bytes sent, over the datasheet rate."""
    one = r.take(np.array([i]))
    weights, kv, compute, sent = (
        float(of.terms[prefix + name][i]) for name in ("weights", "kv", "compute", "communication")
    )
    accepted = 1.0 if prefix else float(ideal_rates(one).accepted[0])
    rate = one.gpu.bandwidth[0]
    if sent > max(weights + kv, compute):
        link = one.gpu.link_bandwidth[0]
        said = f"each GPU sends {sent * accepted * link / 1e6:.3g} MB at {link / 1e9:.3g} GB/s"
    elif compute > weights + kv:
        peak = float(getattr(one.gpu, f"peak_{PRECISIONS[one.weight_precision[0]]}")[0])
        said = f"each GPU computes {compute * accepted * peak / 1e12:.3g} TFLOP at {peak / 1e15:.3g} PFLOP/s"
    else:
        read = [f"{weights * accepted * rate / 1e9:.3g} GB of weights"]
        read += [f"{kv * accepted * rate / 1e9:.3g} GB of KV"] if kv > 0 else []
        said = f"each GPU reads {' and '.join(read)} at {rate / 1e12:.3g} TB/s"
    return said + (f" a step, which yields at most {accepted:g} tokens" if accepted > 1 else "")
