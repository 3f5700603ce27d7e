"""The layout of a request that names none: of those that engines start and memory holds, the best one.

The physics tries all of them in one call over arrays and leaves `_KEPT`; the full answer decides. Best is
what a competent operator would want: at a request rate the shortest time of a request that keeps up with it,
in every other mode the highest throughput, which at a number of requests in flight is the shortest time too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.vocabulary import ENGINES
from ..features.baseline import baseline
from ..features.facts import BOX, BoolArray, FloatArray, IntArray
from ..features.measured import MeasuredFabric
from ..features.memory import memory_fit
from ..features.notes import Note, Notes
from ..features.request import Requests
from ..features.serving import sent_at_a_rate
from ..training.model.model import Answers, Model, answer

Degrees = tuple[int, int, int, int]  # tp, pp, ep, dp
_GPUS = (1, 2, 4, 8, 16, 32, 64)  # tried in turn where a request does not say how many
_HELD = 32.0  # of the requests in flight are to find a place at once, where the number of GPUs is open
_MOST_GPUS = 1e6
_WIDEST, _LONGEST = 512, 16  # tp and pp: wider and longer than anything measured
_KEPT = 3  # layouts per request that the physics leaves to be answered in full
_WITHIN = 1.3  # of the best one's figure: what the physics finds further off is not answered, but for two
_STAGED = ENGINES.index("llamacpp")  # parts a model by layers unless told otherwise
_SPREADS = np.array([term.spreads for term in ENGINES.terms])
_SUSTAINED = 1e3  # in log score: any layout that keeps up with the rate is before all that do not


def layouts(
    n_heads: int, is_moe: bool, gpus: int, box: int, *, spreads: bool = True, staged: bool = False
) -> Iterator[Degrees]:
    """Yield (tp, pp, ep, dp) that engines start on GPUs in boxes of `box`, the plainest first.

    tp divides the heads; pipeline stages lie on several boxes, or with `staged` inside one too; with
    `spreads` experts are whole or spread over tp, attention likewise.

    >>> list(layouts(64, False, 2, 8)), list(layouts(128, True, 2, 8))[1:]
    ([(1, 1, 1, 1), (2, 1, 1, 1)], [(2, 1, 1, 1), (2, 1, 2, 1), (2, 1, 2, 2)])
    """
    boxes = max(gpus // box, 1)
    for tp in _degrees(min(gpus, _WIDEST)):
        for pp in _degrees(min(max(gpus // tp, 1) if staged else boxes, _LONGEST)):
            if tp * pp > gpus or (pp > 1 and not staged and tp * pp <= box):
                continue
            spread = is_moe and spreads and tp > 1
            if n_heads % tp == 0:
                yield from ((tp, pp, ep, 1) for ep in ((1, tp) if spread else (1,)))
            if spread:
                yield tp, pp, tp, tp


def _degrees(most: int) -> list[int]:
    """Return the powers of two up to `most`, and `most`."""
    return sorted({2**k for k in range(most.bit_length()) if 2**k <= most} | {most})


@lru_cache(maxsize=512)
def _table(n_heads: int, is_moe: int, gpus: int, box: int, spreads: int, staged: int) -> FloatArray:
    """Return the layouts of so many GPUs, shape (k, 5): GPUs, tp, pp, ep, dp."""
    found = layouts(n_heads, bool(is_moe), gpus, box, spreads=bool(spreads), staged=bool(staged))
    return np.array([(gpus, *degrees) for degrees in found], dtype=np.float64)


def answer_laid_out(
    model: Model, r: Requests, fabric: MeasuredFabric | None = None
) -> tuple[Requests, Answers]:
    """Answer n requests, each in the layout it gives or, where it gives none, in the best one found.

    Returns the requests as they were laid out, with a note of the choice and the runner-up, and the answers.
    """
    rows = np.flatnonzero(r.layout_open & r.valid)
    if not len(rows):
        return r, answer(model, r, fabric)
    owner, degrees = _candidates(r, rows)
    tried = _laid_out(r.take(owner), degrees)
    base = baseline(tried, model.coefficients, fabric)
    kept = _best(owner, _scores(tried, base.stable, base.e2e_s, base.output_tok_s))
    # Requests that keep their own layout, and of the others the few that are worth a full answer.
    own = np.setdiff1d(np.arange(len(r)), owner[kept])
    owner = np.concatenate([own, owner[kept]])
    tried = _laid_out(r.take(owner), degrees[kept])
    answers = answer(model, tried, fabric)
    values = answers.values
    score = _scores(tried, answers.baseline.stable, values["e2e_ms"], values["output_tok_s"])
    order = np.lexsort((-score, owner))
    first = np.searchsorted(owner[order], np.arange(len(r)))
    second = np.minimum(first + 1, len(order) - 1)
    chosen, runner_up = order[first], order[second]
    runner_up = np.where(owner[runner_up] == np.arange(len(r)), runner_up, chosen)
    notes = _noted(r, np.setdiff1d(rows, own), tried, score, chosen, runner_up)
    return replace(tried.take(chosen), notes=notes), answers.take(chosen)


def every_layout(r: Requests) -> tuple[IntArray, Requests]:
    """Return the requests in every layout that may be theirs, and the row that each stands for."""
    rows = np.flatnonzero(r.layout_open & r.valid)
    if not len(rows):
        return np.arange(len(r)), r
    owner, degrees = _candidates(r, rows)
    owner = np.concatenate([np.setdiff1d(np.arange(len(r)), owner), owner])
    return owner, _laid_out(r.take(owner), degrees)


def _candidates(r: Requests, rows: IntArray) -> tuple[IntArray, FloatArray]:
    """Return the layouts of these rows that memory holds: the row, and GPUs, tp, pp, ep, dp, shape (k, 5).

    Rows whose number of GPUs is open get the fewest that hold the requests in flight, or at least one.
    """
    open_rows = rows[r.gpus_open[rows]]
    rows = np.concatenate([rows[~r.gpus_open[rows]], np.repeat(open_rows, len(_GPUS))])
    gpus = r.num_gpus[rows]
    gpus[len(rows) - len(open_rows) * len(_GPUS) :] = np.tile(_GPUS, len(open_rows))
    slow = r.gpu.link_bandwidth[rows] <= r.gpu.pcie_bandwidth[rows]
    keys = np.stack([
        r.model.n_heads[rows], r.model.is_moe[rows], gpus, np.maximum(r.domain[rows], BOX),
        _SPREADS[r.engine[rows]] & ~slow, slow | (r.engine[rows] == _STAGED),
    ], axis=1).astype(np.int64)  # fmt: skip
    distinct, which = np.unique(keys, axis=0, return_inverse=True)
    tables = [_table(*map(int, key)) for key in distinct]
    sizes = np.array([len(table) for table in tables])[which.ravel()]
    owner, degrees = np.repeat(rows, sizes), np.concatenate([tables[i] for i in which.ravel()])
    tried = _laid_out(r.take(owner), degrees)
    fit = memory_fit(tried)
    roomy = fit.fits & (fit.max_batch * tried.replicas >= np.fmin(tried.concurrency, _HELD))
    fewest = np.full((2, len(r)), np.inf)
    for at, enough in enumerate((roomy, fit.fits)):
        np.minimum.at(fewest[at], owner[enough], degrees[enough, 0])
    least = np.where(np.isfinite(fewest[0]), fewest[0], fewest[1])
    # A pipeline is for what its tp does not hold alone: else engines run as many copies.
    of_tp, staged = owner * _MOST_GPUS + degrees[:, 1], degrees[:, 2] > 1.0
    needless = staged & np.isin(of_tp, of_tp[roomy & ~staged])
    kept = np.flatnonzero(fit.fits & (degrees[:, 0] == least[owner]) & ~needless)
    kept = kept[np.argsort(owner[kept], kind="stable")]
    return owner[kept], degrees[kept]


def _laid_out(r: Requests, degrees: FloatArray) -> Requests:
    """Return the requests, the last k of them laid out by `degrees`, shape (k, 5), in copies."""
    gpus, tp, pp, ep, dp = degrees.T
    before = len(r) - len(degrees)
    changed: dict[str, Any] = {"num_gpus": gpus, "tp": tp, "pp": pp, "ep": ep, "dp": dp, "prefill_gpus": gpus}
    changed |= {"prefill_tp": tp, "prefill_ep": ep, "prefill_dp": dp}
    changed["replicas"] = np.maximum(np.floor(gpus / (tp * pp)), 1.0)
    whole: dict[str, Any] = {k: np.concatenate([getattr(r, k)[:before], v]) for k, v in changed.items()}
    return replace(r, **whole)


def _scores(r: Requests, stable: BoolArray, e2e: FloatArray, tok_s: FloatArray) -> FloatArray:
    """Return how good each answer is, as a logarithm; -inf where there is none."""
    with np.errstate(all="ignore"):
        score = np.where(sent_at_a_rate(r) & stable, _SUSTAINED - np.log(e2e), np.log(tok_s))
    return np.nan_to_num(score, nan=-np.inf)


def _best(owner: IntArray, score: FloatArray) -> IntArray:
    """Return the places of each owner's best few by score; owners ascend."""
    order = np.lexsort((-score, owner))
    start = np.searchsorted(owner, owner)
    rank = np.arange(len(owner)) - start
    near = score[order] >= score[order][start] - np.log(_WITHIN)
    return np.asarray(order[(rank < 2) | ((rank < _KEPT) & near)])


def layout_name(tp: float, pp: float, ep: float, dp: float, copies: float = 1.0) -> str:
    """Return a layout in words.

    >>> layout_name(1, 1, 1, 1, 8), layout_name(16, 1, 16, 16)
    ('8 x tp1', 'tp16 ep16 dp16')
    """
    more = "".join(f" {name}{v:.0f}" for name, v in (("pp", pp), ("ep", ep), ("dp", dp)) if v > 1)
    return f"{f'{copies:.0f} x ' if copies > 1 else ''}tp{tp:.0f}{more}"


def layout_names(r: Requests) -> NDArray[np.object_]:
    """Return each request's layout in words, shape (n,); None where it cannot be read."""
    parts = np.stack([getattr(r, name) for name in ("tp", "pp", "ep", "dp", "replicas")], axis=1)
    distinct, which = np.unique(parts, axis=0, return_inverse=True)
    names = np.array([layout_name(*degrees) for degrees in distinct], dtype=object)[which.ravel()]
    names[~r.valid] = None
    return names


def _noted(
    r: Requests, rows: IntArray, tried: Requests, score: FloatArray, chosen: IntArray, runner_up: IntArray
) -> Notes:
    """Return the notes of the requests with the layout chosen for these rows, and the next best."""
    best, next_best, names = chosen[rows], runner_up[rows], layout_names(tried)
    idle = (tried.num_gpus - tried.replicas * tried.tp * tried.pp)[best]
    notes, alone, open_gpus = r.notes, best == next_best, r.gpus_open[rows]
    ratio = np.exp(np.minimum(score[next_best] - score[best], 0.0))
    after = names[next_best] + np.array([f" ({share:.0%} as fast)" for share in ratio], dtype=object)
    for where, note in (
        (idle > 0.0, Note(code="idle", column="num_gpus", value=idle, limit=tried.num_gpus[best])),
        (open_gpus, Note(code="assumed-fewest", column="num_gpus", value=tried.num_gpus[best])),
        (~alone, Note(code="chosen-layout", column="layout", value=names[best], limit=after)),
        (alone & (tried.num_gpus[best] > 1.0), Note(code="only-layout", column="layout", value=names[best])),
    ):
        if where.any():
            notes = notes.and_also(rows[where], note.of(where))
    return notes
