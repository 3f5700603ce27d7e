"""Every valid configuration predicted, streamed to Parquet, and the Pareto fronts among them.

The physics answers all rows; the learned correction, thirty times as dear, is asked only where the baseline
says that a row is within `REACH` of a front in both figures. Rows beyond keep the baseline's answer
(`corrected` False) and are on no front. Parts are written whole or not at all: a sweep that was killed
continues where it stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...data import catalogue
from ...data.columns import BOUNDS
from ...data.errors import BadRequest
from ...data.files import replace_file, replace_text
from ...data.progress import Progress, silent
from ...data.sizes import resolve_model
from ...data.vocabulary import SPECULATION
from ...features.baseline import Estimate, baseline
from ...features.facts import FloatArray, IntArray
from ...features.request import Requests, normalise
from ...training.model.model import answer
from ..predictor import Predictor, in_chunks
from .economics import Economics
from .outcomes import FIGURES, of_answers, of_physics
from .space import Grid
from .workload import DEFAULT_ISL, DEFAULT_OSL, check

if TYPE_CHECKING:
    import pandas as pd

Fronts = Mapping[tuple[int, int], FloatArray]
REACH = 1.75  # a row this many times worse than the baseline's front in both figures is not corrected
PART_ROWS = 65536
_MANIFEST = "sweep.json"


@dataclass(frozen=True, kw_only=True)
class SweepSpace:
    """What is swept: configurations of the platforms x boxes x speculation x lengths x requests in flight.

    lengths: pairs (isl, osl) [tokens]; concurrency: requests in flight over all boxes. Empty platforms,
    engines and precisions mean all.
    """

    model: str
    platforms: tuple[str, ...] = ()
    lengths: tuple[tuple[float, float], ...] = ((DEFAULT_ISL, DEFAULT_OSL),)
    concurrency: tuple[float, ...] = tuple(float(2**k) for k in range(11))
    boxes: tuple[int, ...] = (1,)
    spec_decode: tuple[str, ...] = ("none",)
    engines: tuple[str, ...] = ()
    weight_precisions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("lengths", "concurrency", "boxes", "spec_decode"):
            check(name, getattr(self, name), bool(getattr(self, name)), "at least one")
        for number in (*self.concurrency, *self.boxes, *(n for pair in self.lengths for n in pair)):
            check("lengths, concurrency, boxes", number, 1 <= number < np.inf, "numbers of at least 1")
        for name in self.spec_decode:
            check("spec_decode", name, name in SPECULATION, f"one of {', '.join(SPECULATION)}")

    @cached_property
    def grid(self) -> Grid:
        """The configurations of one offer each; a size or config.json is entered into the catalogue first."""
        known = [catalogue.platform(p) for p in self.platforms] or list(catalogue.platforms().values())
        return Grid.of(resolve_model(self.model), known, self.engines, self.weight_precisions)

    @property
    def shape(self) -> tuple[int, ...]:
        """How many values each part of the product has."""
        parts = (self.grid, self.boxes, self.spec_decode, self.lengths, self.concurrency)
        return tuple(len(part) for part in parts)

    @property
    def size(self) -> int:
        """How many configurations the product has, valid or not."""
        return int(np.prod(self.shape))

    def rows(self, numbers: IntArray) -> pd.DataFrame:
        """Return some rows of the product, without those that ask for more boxes than there are.

        Beside request columns: number, `row` of the grid, `group` (platform and lengths as one code).
        """
        import pandas as pd

        index = np.stack(np.unravel_index(numbers, self.shape))
        boxes, most = np.array(self.boxes, dtype=np.float64), self.grid.per_offer("most")
        kept = boxes[index[1]] <= most[index[0]]
        row, box, spec, length, load = index[:, kept]
        isl, osl = np.array(self.lengths, dtype=np.float64)[length].T
        platform = pd.factorize(self.grid.per_offer("platform"))[0]
        return self.grid.frame(row, boxes[box]).assign(
            mode=pd.Categorical(["closed-loop"]).repeat(len(row)), isl=isl, osl=osl,
            concurrency=np.array(self.concurrency)[load], number=numbers[kept],
            spec_decode=pd.Categorical(np.array(self.spec_decode)[spec]),
            row=row, group=platform[row] * len(self.lengths) + length,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What a sweep found: `front` has the rows on a front (columns `on_speed_front`, `on_cost_front`)."""

    folder: Path
    rows: int
    valid: int
    corrected: int
    seconds: float
    front: pd.DataFrame

    def to_dict(self) -> dict[str, Any]:
        """Return the figures and the fronts as plain values, for JSON."""
        front = json.loads(self.front.to_json(orient="records"))
        return {**vars(self), "folder": str(self.folder), "front": front}


class Sweeper:
    """One sweep: the model, the space, and what an hour of each row's GPUs costs."""

    def __init__(self, predictor: Predictor, space: SweepSpace, economics: Economics | None = None) -> None:
        together = "platforms, engines and precisions that go together"
        check("platforms", space.platforms, space.size > 0, together)
        self.predictor, self.space, self.economics = predictor, space, economics or Economics()
        self.hourly = space.grid.usd_per_hour(self.economics) / space.grid.per_offer("gpus")

    def run(self, folder: Path, progress: Progress = silent) -> Sweep:
        """Predict the whole space into `folder`, or what of it is missing there.

        Raises BadRequest if the folder holds another sweep.
        """
        import pandas as pd

        began, size = time.perf_counter(), self.space.size
        self._claim(folder)
        parts = [np.arange(s, min(s + PART_ROWS, size)) for s in range(0, size, PART_ROWS)]
        fronts: Fronts | None = None
        kept, valid, corrected = [], 0, 0
        for number, numbers in enumerate(parts):
            path = folder / f"part-{number:05d}.parquet"
            if path.exists():
                try:
                    part = pd.read_parquet(path)
                except (OSError, ValueError) as error:
                    allowed = "a part of this sweep; remove it to have it made again"
                    raise BadRequest("out", str(path), allowed) from error
            else:
                fronts = fronts if fronts is not None else self._baseline_fronts(parts, progress)
                part = self.answers(self.space.rows(numbers), fronts)
                _write(part, path)
            valid, corrected = valid + len(part), corrected + int(part["corrected"].sum())
            kept.append(_on_fronts(part))
            progress(f"part {number + 1} of {len(parts)}", (number + 1) / len(parts))
        found = _on_fronts(pd.concat(kept, ignore_index=True))
        _write(found, folder / "front.parquet")
        return Sweep(
            folder=folder, rows=size, valid=valid, corrected=corrected,
            seconds=time.perf_counter() - began, front=found,
        )  # fmt: skip

    def answers(self, frame: pd.DataFrame, fronts: Fronts | None = None) -> pd.DataFrame:
        """Return the valid ones of a space's rows with answers, corrected near these fronts (None: all)."""
        import pandas as pd

        names = [f"{name}{bound}" for name in FIGURES for bound in BOUNDS]
        out = np.full((len(FIGURES), len(BOUNDS), len(frame)), np.nan, dtype=np.float32)
        corrected, support = np.zeros(len(frame), dtype=bool), np.full(len(frame), "far", dtype=object)

        def work(rows: IntArray) -> None:
            r, base, figures, groups = self._physics(frame.iloc[rows])
            out[:, 0, rows] = of_physics(base)
            promising = base.feasible.copy()
            if fronts is not None:
                for code, here in groups.items():
                    reached = [near(p, fronts[code, n], REACH) for n, p in enumerate(figures[..., here])]
                    promising[here] &= np.any(reached, axis=0)
            if promising.any():
                here = rows[promising]
                found = answer(self.predictor.model, r.take(promising))
                out[..., here] = of_answers(found)
                corrected[here], support[here] = True, found.support

        in_chunks(frame, work)
        hours = (self.hourly[frame["row"]] * frame["num_gpus"].to_numpy()).astype(np.float32)
        every = frame.drop(columns=["model", "mode", "row", "group"]).assign(
            **dict(zip(names, out.reshape(len(names), -1), strict=True)), corrected=corrected,
            support=pd.Categorical(support, categories=["in", "near", "far"]), usd_per_hour=hours,
        )  # fmt: skip
        table: pd.DataFrame = every[np.isfinite(out[0, 0])].reset_index(drop=True)
        # What the fronts are made of, each with its bounds.
        for here, there in zip(BOUNDS, ("", "_hi", "_lo"), strict=True):
            per_hour = table[f"output_tok_s{there}"] * 3600.0
            for name, values in (
                ("tok_s_per_gpu", table[f"output_tok_s{here}"] / table["num_gpus"]),
                ("tok_s_per_user", 1e3 / table[f"tpot_ms{there}"]),
                ("usd_per_m_output", table["usd_per_hour"] / per_hour * 1e6),
            ):
                table[f"{name}{here}"] = values.astype(np.float32)
        return table

    def _baseline_fronts(self, parts: list[IntArray], progress: Progress) -> Fronts:
        """Return the baseline's fronts by group and figures, shape (2, k) each."""
        found: dict[tuple[int, int], list[FloatArray]] = {}
        for number, numbers in enumerate(parts):
            frame = self.space.rows(numbers)

            def work(rows: IntArray, frame: pd.DataFrame = frame) -> None:
                _, _, figures, groups = self._physics(frame.iloc[rows])
                for code, here in groups.items():
                    for n, pair in enumerate(figures[..., here]):
                        found.setdefault((code, n), []).append(pair[:, front(*pair)])

            in_chunks(frame, work)
            progress("physics", (number + 1) / len(parts))
        joined = {key: np.concatenate(pairs, axis=1) for key, pairs in found.items()}
        return {key: pair[:, front(*pair)] for key, pair in joined.items()}

    def _physics(self, part: pd.DataFrame) -> tuple[Requests, Estimate, FloatArray, dict[Any, Any]]:
        """Return some rows as requests, the baseline, the figures of both fronts, and rows by group.

        Figures, shape (2, 2, n), all to be large: speed, then cost.
        """
        r = normalise(part)
        base = baseline(r, self.predictor.model.coefficients)
        hour, per_gpu = np.nan_to_num(self.hourly[part["row"]], nan=1.0), base.output_tok_s / r.num_gpus
        figures = np.stack([[per_gpu, 1.0 / base.tpot_s], [per_gpu / hour, 1.0 / base.ttft_s]])
        return r, base, figures, part.groupby("group").indices

    def _claim(self, folder: Path) -> None:
        """Make the folder this sweep's own; raises BadRequest if it is another's."""
        # What sets this sweep apart from another: the space, and a digest with the grid, prices and bundle.
        space, files = asdict(self.space), self.predictor.manifest["sha256"]
        whole = [space, repr(self.space.grid), files, asdict(self.economics), REACH, PART_ROWS]
        digest = sha256(json.dumps(whole, default=str, sort_keys=True).encode()).hexdigest()
        path, text = folder / _MANIFEST, json.dumps({"digest": digest, **space}, indent=1, default=str)
        if path.exists():
            same = path.read_text(encoding="utf-8") == text
            check("out", str(folder), same, "a new folder, or the one of this very sweep")
            return
        check("out", str(folder), not (folder.exists() and any(folder.iterdir())), "an empty or new folder")
        folder.mkdir(parents=True, exist_ok=True)
        replace_text(path, text)


def front(x: FloatArray, y: FloatArray) -> NDArray[np.int64]:
    """Return the positions of the points that no other beats in both, by falling x; NaN is never on it.

    >>> front(np.array([1.0, 2.0, 3.0, 2.5]), np.array([9.0, 5.0, 1.0, 5.0])).tolist()
    [2, 3, 0]
    """
    known = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    order = known[np.lexsort((-y[known], -x[known]))]
    best = np.maximum.accumulate(y[order])
    first = np.ones(len(order), dtype=bool)
    first[1:] = y[order][1:] > best[:-1]
    return order[first]


def near(points: FloatArray, best: FloatArray, factor: float) -> NDArray[np.bool_]:
    """Return which points, shape (2, n), no point of a front is `factor` times better than in both.

    best: (2, k) the front, the first figure falling and the second rising.

    >>> near(np.array([[1.0, 1.6], [1.0, 1.6]]), np.array([[3.0], [3.0]]), 2.0).tolist()
    [False, True]
    """
    better = np.searchsorted(-best[0], -factor * points[0], side="right")
    reached = np.concatenate([[-np.inf], best[1]])[better]
    close: NDArray[np.bool_] = (reached < factor * points[1]) & np.isfinite(points).all(axis=0)
    return close


def _on_fronts(table: pd.DataFrame) -> pd.DataFrame:
    """Return the corrected rows on a front of their platform and lengths, marked by which."""
    rows = table[table["corrected"]].reset_index(drop=True)
    groups = rows.groupby(["platform", "isl", "osl"], observed=True).indices.values()
    for name, *pair in (
        ("speed", rows["tok_s_per_gpu"], rows["tok_s_per_user"]),
        ("cost", 1.0 / rows["usd_per_m_output"], 1.0 / rows["ttft_ms"]),
    ):
        x, y = (values.to_numpy(np.float64) for values in pair)
        mark = np.zeros(len(rows), dtype=bool)
        for here in groups:
            mark[here[front(x[here], y[here])]] = True
        rows[f"on_{name}_front"] = mark
    return rows.loc[rows["on_speed_front"] | rows["on_cost_front"]].reset_index(drop=True)


def _write(table: pd.DataFrame, path: Path) -> None:
    replace_file(path, lambda fresh: table.to_parquet(fresh, index=False, compression="zstd"))
