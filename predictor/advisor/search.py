"""Search for the fronts of a space too large to try out: Optuna's NSGA-II, a generation at a time.

Offers, layouts, precisions and engines are choices of their own, so that what is good here is tried there;
each generation is one call of the predictor. It starts from a large sample of the space: the physics, a
thirtieth of the price, names the best of it, those are predicted, and the best of them are the first
generation. From random starts the search was 5 to 40 % off; so it is within 1 % of trying all on the
workloads of docs/advise.md.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...data.errors import BadRequest
from ...data.progress import Progress, silent
from .pareto import front
from .sweep import FRONTS, Sweep, Sweeper, claim, fronts_of, write

if TYPE_CHECKING:
    import pandas as pd

GENERATION = 256
SAMPLE = 262_144  # rows that the physics looks at first
SUGGESTED = 16_384  # of which so many are predicted


def search(sweeper: Sweeper, folder: Path, trials: int, progress: Progress = silent, seed: int = 0) -> Sweep:
    """Return the fronts found with so many trials, into `folder` as a sweep writes them.

    The trials aim at throughput per GPU and speed per user alike. Raises BadRequest for fewer trials than a
    generation, or a folder that holds something else.
    """
    import optuna
    import pandas as pd

    if trials < GENERATION:
        raise BadRequest("trials", trials, f"at least {GENERATION}, one generation")
    began = time.perf_counter()
    claim(folder, {**sweeper.identity(), "trials": trials, "seed": seed})
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.NSGAIISampler(population_size=GENERATION, seed=seed)
    study = optuna.create_study(directions=["maximize", "maximize"], sampler=sampler)
    choices, number_of, choices_of = _choices(sweeper)
    table, known = _answers(sweeper, _suggested(sweeper, seed))
    for number in _layers(table, GENERATION):
        study.enqueue_trial(choices_of(number))
    found = [table]
    for done in range(0, trials, GENERATION):
        asked = [study.ask() for _ in range(min(GENERATION, trials - done))]
        numbers = [
            number_of({n: t.suggest_categorical(n, list(range(k))) for n, k in choices.items()})
            for t in asked
        ]
        fresh = np.array(sorted({n for n in numbers if n is not None} - set(known)), dtype=np.int64)
        if len(fresh):
            table, goals = _answers(sweeper, fresh)
            found.append(table)
            known |= goals
        for trial, number in zip(asked, numbers, strict=True):
            goal = known.get(number) if number is not None else None
            # What cannot be started is the worst there is, so that its kin die out.
            study.tell(trial, goal or (0.0, 0.0))
        progress(f"trial {done + len(asked):,} of {trials:,}", (done + len(asked)) / trials)
    whole = pd.concat(found, ignore_index=True)
    best = fronts_of(whole)
    write(best, folder / "front.parquet")
    return Sweep(
        folder=folder, rows=sweeper.space.size, valid=len(whole), corrected=len(whole),
        seconds=time.perf_counter() - began, front=best,
    )  # fmt: skip


def _suggested(sweeper: Sweeper, seed: int) -> np.ndarray[Any, Any]:
    """Return the rows of a sample of the space that the baseline ranks best."""
    size = sweeper.space.size
    numbers = np.arange(size)
    if size > SAMPLE:
        numbers = np.unique(np.random.default_rng(seed).integers(0, size, SAMPLE))
    physics = sweeper.answers(sweeper.space.stretch(numbers), {})
    return np.array(_layers(physics, SUGGESTED), dtype=np.int64)


def _layers(table: pd.DataFrame, most: int) -> list[int]:
    """Return the numbers of the best rows: front after front, each first of the ones behind it."""
    x, y = (table[name].to_numpy(np.float64) for name in FRONTS["speed"])
    out: list[int] = []
    left = np.arange(len(table))
    while len(out) < most and len(left):
        best = front(x[left], y[left])
        out += table["number"].to_numpy()[left[best]].tolist()
        left = np.delete(left, best)
        if not len(best):
            break
    return out[:most]


def _choices(sweeper: Sweeper) -> tuple[dict[str, int], Any, Any]:
    """Return the number of values per choice, and what turns choices into a row of the space and back.

    Choices that go with no row give None.
    """
    space = sweeper.space
    parts: dict[str, list[Any]] = {
        "offer": [c.offer for c in space.rows],
        "layout": [(c.tp, c.pp, c.ep, c.dp) for c in space.rows],
        "weight_precision": [c.weight_precision for c in space.rows],
        "engine": [c.engine for c in space.rows],
    }
    values = {name: list(dict.fromkeys(column)) for name, column in parts.items()}
    place = {key: number for number, key in enumerate(zip(*parts.values(), strict=True))}
    others = dict(zip(("boxes", "spec_decode", "lengths", "concurrency"), space.shape[1:], strict=True))

    def number_of(chosen: dict[str, int]) -> int | None:
        row = place.get(tuple(values[name][chosen[name]] for name in values))
        if row is None:
            return None
        return int(np.ravel_multi_index((row, *(chosen[name] for name in others)), space.shape))

    def choices_of(number: int) -> dict[str, int]:
        row, *rest = (int(i) for i in np.unravel_index(number, space.shape))
        first = {name: values[name].index(column[row]) for name, column in parts.items()}
        return first | dict(zip(others, rest, strict=True))

    return {**{name: len(column) for name, column in values.items()}, **others}, number_of, choices_of


def _answers(
    sweeper: Sweeper, numbers: np.ndarray[Any, Any]
) -> tuple[pd.DataFrame, dict[int, tuple[float, float] | None]]:
    """Return the valid rows of some numbers of the space, and each number's two goals (None: not valid)."""
    table = sweeper.answers(sweeper.space.stretch(numbers))
    goals: dict[int, tuple[float, float] | None] = dict.fromkeys((int(n) for n in numbers), None)
    pairs = zip(table["number"], table["tok_s_per_gpu"], table["tok_s_per_user"], strict=True)
    return table, goals | {int(n): (float(x), float(y)) for n, x, y in pairs}
