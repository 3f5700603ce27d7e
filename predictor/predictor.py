"""The predictor: a loaded bundle that answers one request, or a frame of a million.

Both ways run the same code over arrays: `predict` is a frame of one row that raises where a frame notes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data import catalogue
from ..data.columns import POOL_COLUMNS, REQUEST_COLUMNS
from ..data.errors import BadRequest, UnknownName, nearest_names
from ..features.facts import IntArray
from ..features.measured import MeasuredFabric
from ..features.notes import Note
from ..features.request import Requests, normalise
from ..training.model.bundle import load_bundle
from ..training.model.model import Answers, Model, answer
from .prediction import ANSWERS, BOUNDS, Origin, Prediction
from .words import reasons, terms_ms, understood

if TYPE_CHECKING:
    import pandas as pd

KNOWN_COLUMNS = REQUEST_COLUMNS + POOL_COLUMNS
NUMBERS = (
    *(f"{name}{bound}" for name in ANSWERS for bound in BOUNDS),
    *(f"baseline_{name}" for name in ANSWERS),
    *(f"floor_{name}" for name in ANSWERS),
)
ANSWER_COLUMNS = (*NUMBERS, "support", "feasible", "reason")
# Small enough that the physics' temporaries stay in the processor's cache, and few enough calls.
CHUNK_ROWS = 8192
WORKERS = 2
_SORT_COLUMNS = ("gpu", "platform", "model", "engine", "tp", "weight_precision", "concurrency", "isl", "osl")
_REGISTRY = "models:/"


class Predictor:
    """Answers serving-performance questions from one bundle; see `load`."""

    def __init__(self, model: Model, manifest: Mapping[str, Any]) -> None:
        self.model = model
        self.manifest = manifest

    @classmethod
    def load(cls, source: str | Path | None = None) -> Predictor:
        """Load a bundle: the one shipped (None), a folder, or a registered model "models:/roofcast@champion".

        Raises BadBundle if it is missing, damaged, foreign or of another version.
        """
        if source is None:
            with as_file(files("roofcast.predictor").joinpath("bundle")) as folder:
                return cls(*load_bundle(folder))
        if str(source).startswith(_REGISTRY):
            from ..training.tracking import download_bundle

            source = download_bundle(str(source))
        return cls(*load_bundle(source))

    def predict(self, *, fabric: MeasuredFabric | str | Path | None = None, **request: Any) -> Prediction:
        """Predict one configuration; the columns of `predict_frame` as keywords, None for the default.

        fabric: this machine's, measured by `roofcast fabric check --measured` (the file or what it holds).
        A deployment that does not fit into memory is an answer (`feasible` False, the bytes in `reason`).
        Raises UnknownName for a model, GPU, platform or keyword that is not known, with the nearest ones,
        and BadRequest for a value that is not allowed.

            >>> p = Predictor.load()                                      # doctest: +SKIP
            >>> p.predict(model="qwen2.5-72b", gpu="b200-sxm", tp=8, concurrency=32).tpot_ms  # doctest: +SKIP
        """
        for name in request:
            if name not in KNOWN_COLUMNS:
                raise UnknownName("request column", name, nearest_names(name, KNOWN_COLUMNS))
        r = normalise({name: [request.get(name)] for name in ("model", *request)})
        if not r.valid[0]:
            raise _error(request, r.notes.of(0)[0])
        if r.model.n_layers[0] % r.pp[0]:
            # Engines do run uneven stages, and frames of measured rows hold some; nobody should plan one.
            even = [str(n) for n in range(1, 65) if r.model.n_layers[0] % n == 0]
            allowed = f"a divisor of the model's {r.model.n_layers[0]:g} layers: {', '.join(even)}"
            raise BadRequest("pp", request.get("pp"), allowed)
        measured = _measured(fabric)
        found = _prediction(r, answer(self.model, r, measured), self.model, measured)
        if measured is None:
            return found
        gpu = list(catalogue.gpus())[int(r.gpu.codes[0])]
        if gpu != measured.gpu:
            raise BadRequest("fabric", measured.gpu, f"a fabric measured on {gpu}")
        note = f"fabric as measured: {measured.source}"
        return replace(found, reason="; ".join(filter(None, (found.reason, note))))

    def predict_frame(
        self, frame: pd.DataFrame, *, fabric: MeasuredFabric | str | Path | None = None
    ) -> pd.DataFrame:
        """Predict every row of a frame: `ANSWER_COLUMNS` in the frame's own order and index.

        frame: (n, k) any subset of REQUEST_COLUMNS; missing or NaN means the documented default; other
        columns are ignored. fabric: as in `predict`; it changes the rows of the GPU it was measured on.
        Rows that cannot be answered are NaN with the reason; nothing raises for a row.
        Raises BadRequest for a column given twice. Rows are worked on in chunks, so that memory stays
        bounded; a row's answer depends on no other row.
        """
        import pandas as pd

        known = [name for name in frame.columns if name in KNOWN_COLUMNS]
        twice = [name for name in dict.fromkeys(known) if known.count(name) > 1]
        if twice:
            raise BadRequest("frame", twice[0], "each request column at most once")
        wanted, measured = frame[known], _measured(fabric)
        numbers = {name: np.full(len(frame), np.nan) for name in NUMBERS}
        texts = {name: np.full(len(frame), "", dtype=object) for name in ("support", "reason")}
        feasible = np.zeros(len(frame), dtype=bool)

        def work(rows: IntArray) -> None:
            r = normalise(wanted.iloc[rows])
            answers = answer(self.model, r, measured)
            for name, values in _numbers(answers):
                numbers[name][rows] = values
            texts["support"][rows] = np.where(r.valid, answers.support, "far").astype(object)
            texts["reason"][rows] = reasons(r, answers, self.model.coefficients)
            feasible[rows] = answers.baseline.feasible

        in_chunks(wanted, work)
        columns = {**numbers, "support": texts["support"], "feasible": feasible, "reason": texts["reason"]}
        return pd.DataFrame({name: columns[name] for name in ANSWER_COLUMNS}, index=frame.index)


def _measured(fabric: MeasuredFabric | str | Path | None) -> MeasuredFabric | None:
    """Return the measured fabric, read from its file where a path is given."""
    return MeasuredFabric.load(fabric) if isinstance(fabric, str | Path) else fabric


def in_chunks(frame: pd.DataFrame, work: Callable[[IntArray], None], size: int = CHUNK_ROWS) -> None:
    """Call `work` with the positions of the rows of each chunk, like rows together, on WORKERS threads."""
    order = _alike(frame)
    chunks = [order[start : start + size] for start in range(0, len(order), size)]
    if len(chunks) < WORKERS:
        for chunk in chunks:
            work(chunk)
        return
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(work, chunks))


def _alike(frame: pd.DataFrame) -> IntArray:
    """Return the rows' positions with like ones together: they take like ways through the trees.

    That halves the time spent in trees, where most of it goes: the processor guesses branches right.
    """
    import pandas as pd

    names = [name for name in _SORT_COLUMNS if name in frame]
    keys = [
        pd.factorize(frame[name])[0] if frame[name].dtype.kind not in "iuf" else frame[name] for name in names
    ]
    order = np.lexsort(keys[::-1]) if keys else np.arange(len(frame))
    return order.astype(np.int64)


def _numbers(answers: Answers) -> Iterator[tuple[str, Any]]:
    """Yield the arrays of NUMBERS by name."""
    for name in ANSWERS:
        for bound in BOUNDS:
            yield f"{name}{bound}", answers.values[f"{name}{bound}"]
        for level, estimate in (("baseline", answers.baseline), ("floor", answers.floor)):
            seconds = name.endswith("_ms")
            values = getattr(estimate, f"{name.removesuffix('_ms')}_s" if seconds else name)
            yield f"{level}_{name}", values * 1e3 if seconds else values


def _prediction(r: Requests, answers: Answers, model: Model, fabric: MeasuredFabric | None) -> Prediction:
    values = {name: float(array[0]) for name, array in _numbers(answers)}
    terms, ttft_terms = terms_ms(answers)
    return Prediction(
        **{f"{name}{bound}": values[f"{name}{bound}"] for name in ANSWERS for bound in BOUNDS},
        baseline={name: values[f"baseline_{name}"] for name in ANSWERS},
        floor={name: values[f"floor_{name}"] for name in ANSWERS},
        support=str(answers.support[0]),
        feasible=bool(answers.baseline.feasible[0]),
        reason=str(reasons(r, answers, model.coefficients)[0]),
        terms=terms,
        ttft_terms=ttft_terms,
        request=understood(r, answers),
        origin=Origin(model, r, answers, fabric),
    )


def _error(request: Mapping[str, Any], fault: Note) -> Exception:
    """Return the error that a bad request raises: of its first fault."""
    if isinstance(fault.value, UnknownName):
        return fault.value
    return BadRequest(fault.column, request.get(fault.column), fault.allowed)
