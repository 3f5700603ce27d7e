"""Every valid configuration predicted, streamed to Parquet, and the Pareto fronts among them.

The physics answers all rows; the learned correction, thirty times as dear, is asked only where the baseline
says that a row is within `REACH` of a front in both figures. Rows beyond keep the baseline's answer
(`corrected` False) and are on no front. Parts are written whole or not at all: a sweep that was killed
continues where it stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
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
from ...data.specs import ModelSpec
from ...data.vocabulary import SPECULATION
from ...features.baseline import Estimate, baseline
from ...features.facts import FloatArray, IntArray
from ...features.request import Requests, normalise
from ...training.model.model import answer
from ..predictor import Predictor, in_chunks
from .economics import Economics
from .pareto import front, near
from .space import Configuration, configurations, frame_of
from .workload import resolve_model

if TYPE_CHECKING:
    import pandas as pd

Fronts = Mapping[tuple[int, int], FloatArray]
REACH = 1.75  # a row this many times worse than the baseline's front in both figures is not corrected
PART_ROWS = 65536
CONCURRENCY = tuple(float(2**k) for k in range(11))
# The two fronts: figures to be large, and what people plot of them.
FRONTS = {"speed": ("tok_s_per_gpu", "tok_s_per_user"), "cost": ("tok_per_usd", "per_ttft")}
_TIMES = ("output_tok_s", "ttft_ms", "tpot_ms")
_MANIFEST = "sweep.json"


@dataclass(frozen=True, kw_only=True)
class SweepSpace:
    """What is swept: configurations of the platforms x boxes x speculation x lengths x requests in flight.

    lengths: pairs (isl, osl) [tokens]; concurrency: requests in flight over all boxes. Empty platforms,
    engines and precisions mean all.
    """

    model: str
    platforms: tuple[str, ...] = ()
    lengths: tuple[tuple[float, float], ...] = ((1024.0, 1024.0),)
    concurrency: tuple[float, ...] = CONCURRENCY
    boxes: tuple[int, ...] = (1,)
    spec_decode: tuple[str, ...] = ("none",)
    engines: tuple[str, ...] = ()
    weight_precisions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("lengths", "concurrency", "boxes", "spec_decode"):
            if not getattr(self, name):
                raise BadRequest(name, getattr(self, name), "at least one")
        numbers = (*self.concurrency, *self.boxes, *(n for pair in self.lengths for n in pair))
        wrong = next((n for n in numbers if not 1 <= n < np.inf), None)
        if wrong is not None:
            raise BadRequest("lengths, concurrency, boxes", wrong, "numbers of at least 1")
        for name in self.spec_decode:
            if name not in SPECULATION:
                raise BadRequest("spec_decode", name, f"one of {', '.join(SPECULATION)}")

    @cached_property
    def name(self) -> str:
        """The model's catalogue name."""
        return resolve_model(self.model)[0]

    @property
    def spec(self) -> ModelSpec:
        """The model's shape; a size or config.json is entered into the catalogue first."""
        return catalogue.model(self.name)

    @cached_property
    def rows(self) -> list[Configuration]:
        """The configurations of one offer each."""
        known = [catalogue.platform(p) for p in self.platforms] or list(catalogue.platforms().values())
        return [c for p in known for c in configurations(self.spec, p, self.engines, self.weight_precisions)]

    @property
    def shape(self) -> tuple[int, ...]:
        """How many values each part of the product has."""
        return (
            len(self.rows),
            len(self.boxes),
            len(self.spec_decode),
            len(self.lengths),
            len(self.concurrency),
        )

    @property
    def size(self) -> int:
        """How many configurations the product has, valid or not."""
        return int(np.prod(self.shape))

    def stretch(self, numbers: IntArray) -> Stretch:
        """Return some rows of the product, without those that ask for more boxes than there are."""
        import pandas as pd

        place, box, spec, length, load = np.unravel_index(numbers, self.shape)
        count = np.array(self.boxes, dtype=np.float64)[box]
        kept = count <= np.array([c.offer.most for c in self.rows])[place]
        isl, osl = np.array(self.lengths, dtype=np.float64)[length[kept]].T
        frame = frame_of(self.name, self.rows, place[kept], count[kept]).assign(
            mode=pd.Categorical(["closed-loop"]).repeat(int(kept.sum())), isl=isl, osl=osl,
            concurrency=np.array(self.concurrency)[load[kept]], number=numbers[kept],
            spec_decode=pd.Categorical(np.array(self.spec_decode)[spec[kept]]),
        )  # fmt: skip
        platforms = list(dict.fromkeys(c.offer.platform for c in self.rows))
        code = np.array([platforms.index(c.offer.platform) for c in self.rows])
        group = code[place[kept]] * len(self.lengths) + length[kept]
        return Stretch(frame=frame, place=place[kept], group=group)


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Rows of a space: request columns; per row its place in `rows`, its platform and lengths as one code."""

    frame: pd.DataFrame
    place: IntArray
    group: IntArray


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
        figures = {name: getattr(self, name) for name in ("rows", "valid", "corrected", "seconds")}
        return {
            "folder": str(self.folder),
            **figures,
            "front": json.loads(self.front.to_json(orient="records")),
        }


class Sweeper:
    """One sweep: the model, the space, and what an hour of each row's GPUs costs."""

    def __init__(self, predictor: Predictor, space: SweepSpace, economics: Economics | None = None) -> None:
        if not space.size:
            raise BadRequest(
                "platforms", space.platforms, "platforms, engines and precisions that go together"
            )
        self.predictor, self.space, self.economics = predictor, space, economics or Economics()
        offers = [c.offer for c in space.rows]
        self.hourly = np.array([self.economics.per_hour(o.platform, o.share) / o.gpus for o in offers])

    def run(self, folder: Path, progress: Progress = silent) -> Sweep:
        """Predict the whole space into `folder`, or what of it is missing there.

        Raises BadRequest if the folder holds another sweep.
        """
        import pandas as pd

        began = time.perf_counter()
        claim(folder, self.identity())
        stretches = [
            np.arange(s, min(s + PART_ROWS, self.space.size)) for s in range(0, self.space.size, PART_ROWS)
        ]
        fronts: Fronts | None = None
        kept, valid, corrected = [], 0, 0
        for number, numbers in enumerate(stretches):
            path = folder / f"part-{number:05d}.parquet"
            if path.exists():
                part = _read(path)
            else:
                fronts = fronts if fronts is not None else self._baseline_fronts(stretches, progress)
                part = self.answers(self.space.stretch(numbers), fronts)
                write(part, path)
            valid, corrected = valid + len(part), corrected + int(part["corrected"].sum())
            kept.append(fronts_of(part))
            progress(f"part {number + 1} of {len(stretches)}", (number + 1) / len(stretches))
        found = fronts_of(pd.concat(kept, ignore_index=True))
        write(found, folder / "front.parquet")
        return Sweep(
            folder=folder, rows=self.space.size, valid=valid, corrected=corrected,
            seconds=time.perf_counter() - began, front=found,
        )  # fmt: skip

    def answers(self, part: Stretch, fronts: Fronts | None = None) -> pd.DataFrame:
        """Return the valid rows of a stretch with answers, corrected near these fronts (None: all)."""
        import pandas as pd

        frame, model = part.frame, self.predictor.model
        names = [f"{name}{bound}" for name in _TIMES for bound in BOUNDS]
        out = {name: np.full(len(frame), np.nan, dtype=np.float32) for name in names}
        corrected = np.zeros(len(frame), dtype=bool)
        support = np.full(len(frame), "far", dtype=object)

        def work(rows: IntArray) -> None:
            r, base = self._baseline(frame, rows)
            for name, values in zip(
                _TIMES, (base.output_tok_s, base.ttft_s * 1e3, base.tpot_s * 1e3), strict=True
            ):
                out[name][rows] = values
            near_front = base.feasible.copy()
            if fronts is not None:
                near_front &= _hopeful(self._figures(r, part.place[rows], base), part.group[rows], fronts)
            if near_front.any():
                here = rows[near_front]
                found = answer(model, r.take(near_front))
                for name in names:
                    out[name][here] = found.values[name]
                corrected[here], support[here] = True, found.support

        in_chunks(frame, work)
        table = frame.drop(columns=["model", "mode"]).assign(
            **out, corrected=corrected, support=pd.Categorical(support, categories=["in", "near", "far"]),
            usd_per_hour=(self.hourly[part.place] * frame["num_gpus"].to_numpy()).astype(np.float32),
        )  # fmt: skip
        return with_figures(table[np.isfinite(out["output_tok_s"])].reset_index(drop=True))

    def _baseline_fronts(self, stretches: Sequence[IntArray], progress: Progress) -> Fronts:
        """Return the baseline's fronts by group: x and y of the first, x and y of the second."""
        points: dict[tuple[int, int], list[FloatArray]] = {}
        for number, numbers in enumerate(stretches):
            part = self.space.stretch(numbers)

            def work(rows: IntArray, part: Stretch = part) -> None:
                r, base = self._baseline(part.frame, rows)
                figures, group = self._figures(r, part.place[rows], base), part.group[rows]
                for code in np.unique(group):
                    here = np.flatnonzero(group == code)
                    for which in range(len(FRONTS)):
                        pair = figures[2 * which : 2 * which + 2, here]
                        points.setdefault((int(code), which), []).append(pair[:, front(*pair)])

            in_chunks(part.frame, work)
            progress("physics", (number + 1) / len(stretches))
        joined = {key: np.concatenate(parts, axis=1) for key, parts in points.items()}
        return {key: pair[:, front(*pair)] for key, pair in joined.items()}

    def _baseline(self, frame: pd.DataFrame, rows: IntArray) -> tuple[Requests, Estimate]:
        r = normalise(frame.iloc[rows])
        return r, baseline(r, self.predictor.model.coefficients)

    def _figures(self, r: Requests, place: IntArray, base: Estimate) -> FloatArray:
        """Return the figures of both fronts, all to be large, shape (4, n)."""
        hour = np.nan_to_num(self.hourly[place], nan=1.0)
        per_gpu = base.output_tok_s / r.num_gpus
        return np.stack([per_gpu, 1.0 / base.tpot_s, per_gpu / hour, 1.0 / base.ttft_s])

    def identity(self) -> dict[str, Any]:
        """Return what tells this sweep from another: the space, and a digest with prices and bundle."""
        shape = self.space.spec.shape_key
        files = self.predictor.manifest["sha256"]
        whole = [asdict(self.space), self.space.name, shape, files, asdict(self.economics), REACH, PART_ROWS]
        text = json.dumps(whole, default=str, sort_keys=True)
        return {"digest": sha256(text.encode()).hexdigest(), **asdict(self.space)}


def _hopeful(figures: FloatArray, group: IntArray, fronts: Fronts) -> NDArray[np.bool_]:
    out = np.zeros(len(group), dtype=bool)
    for code in np.unique(group):
        here = np.flatnonzero(group == code)
        for which in range(len(FRONTS)):
            best = fronts.get((int(code), which))
            if best is not None:
                out[here] |= near(figures[2 * which : 2 * which + 2, here], best, REACH)
    return out


def with_figures(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with what the fronts are made of, each with its bounds."""
    more: dict[str, Any] = {}
    for here, there in zip(BOUNDS, ("", "_hi", "_lo"), strict=True):
        more[f"tok_s_per_gpu{here}"] = table[f"output_tok_s{here}"] / table["num_gpus"]
        more[f"tok_s_per_user{here}"] = 1e3 / table[f"tpot_ms{there}"]
        more[f"usd_per_m_output{here}"] = (
            table["usd_per_hour"] / (table[f"output_tok_s{there}"] * 3600.0) * 1e6
        )
    return table.assign(**{name: values.astype(np.float32) for name, values in more.items()})


def fronts_of(table: pd.DataFrame) -> pd.DataFrame:
    """Return the corrected rows on a front of their platform and lengths, marked by which."""
    sure = table[table["corrected"]].reset_index(drop=True)
    marks = {name: np.zeros(len(sure), dtype=bool) for name in FRONTS}
    figures = {
        "speed": (sure["tok_s_per_gpu"], sure["tok_s_per_user"]),
        "cost": (1.0 / sure["usd_per_m_output"], 1.0 / sure["ttft_ms"]),
    }
    groups = sure.groupby(["platform", "isl", "osl"], observed=True).indices.values()
    for name, (x, y) in figures.items():
        first, second = x.to_numpy(np.float64), y.to_numpy(np.float64)
        for rows in groups:
            marks[name][rows[front(first[rows], second[rows])]] = True
    marked = sure.assign(**{f"on_{name}_front": mark for name, mark in marks.items()})
    found: pd.DataFrame = marked[marks["speed"] | marks["cost"]]
    return found.reset_index(drop=True)


def _read(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise BadRequest("out", str(path), "a part of this sweep; remove it to have it made again") from error


def write(table: pd.DataFrame, path: Path) -> None:
    """Write a part: it is there whole or not at all."""
    replace_file(path, lambda fresh: table.to_parquet(fresh, index=False, compression="zstd"))


def claim(folder: Path, identity: dict[str, Any]) -> None:
    """Make the folder this sweep's own; raises BadRequest if it is another's."""
    path = folder / _MANIFEST
    text = json.dumps(identity, indent=1, default=str)
    if path.exists():
        if path.read_text(encoding="utf-8") != text:
            raise BadRequest("out", str(folder), "a new folder, or the one of this very sweep")
        return
    if folder.exists() and any(folder.iterdir()):
        raise BadRequest("out", str(folder), "an empty or new folder")
    folder.mkdir(parents=True, exist_ok=True)
    replace_text(path, text)
