"""The predictor: a loaded bundle that answers one request, or a frame of a million.

Both ways run the same code over arrays: `predict` is a frame of one row that raises where a frame notes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeAlias, Unpack

import numpy as np

from ..data import catalogue
from ..data.columns import ASKED
from ..data.errors import BadRequest, RoofcastError
from ..features.cells import factorized
from ..features.facts import IntArray
from ..features.measured import MeasuredFabric
from ..features.request import Requests, normalise
from ..training.model.bundle import load_bundle
from ..training.model.model import Answers, Model
from ..training.model.times import PERCENTS
from .door import frame_of, near_misses, request_of
from .layouts import answer_laid_out, layout_names
from .load_axis import Axis, Loads
from .prediction import CURVE_PERCENTILES, NUMBERS, Prediction, Remark, numbers_of, prediction_of
from .reasons import reasons, remarks
from .request_types import Configuration, Request

if TYPE_CHECKING:
    import pandas as pd

    from .explain import Explanation
    from .load_curve import Curve

ANSWER_COLUMNS = (*NUMBERS, "support", "feasible", "laid_out", "reason")
# Small enough that the physics' temporaries stay in the processor's cache, and few enough calls.
CHUNK_ROWS = 8192
WORKERS = 2
TRIED_PER_ROW = 4  # layouts, about, where none is given
_SORT_COLUMNS = ("gpu", "platform", "model", "engine", "tp", "weight_precision", "concurrency", "isl", "osl")
_REGISTRY = "models:/"
# This machine's fabric, measured by `roofcast fabric check --measured`: the file, or what it holds.
Fabric: TypeAlias = MeasuredFabric | str | Path | None


class Predictor:
    """Answers serving-performance questions from one bundle; see `load`."""

    def __init__(self, model: Model, manifest: Mapping[str, Any]) -> None:
        self.model, self.manifest = model, manifest

    @classmethod
    def load(cls, source: str | Path | None = None) -> Predictor:
        """Load a bundle: the one shipped (None), a folder, or a registered model "models:/roofcast@champion".

        Raises BadBundle if it is missing, damaged, foreign or of another version.
        """
        if source is None:
            with as_file(files(__package__).joinpath("bundle")) as folder:
                return cls(*load_bundle(folder))
        if str(source).startswith(_REGISTRY):
            from ..training.tracking import download_bundle

            source = download_bundle(str(source))
        return cls(*load_bundle(source))

    def predict(
        self,
        *,
        fabric: Fabric = None,
        percentiles: Sequence[float] = PERCENTS,
        **request: Unpack[Request],
    ) -> Prediction:
        """Predict one configuration; the columns of `predict_frame` as keywords, None for the default.

        percentiles: those of `Prediction.percentiles` [%]. A deployment that does not fit into memory is an
        answer (`feasible` False, the bytes in `reason`). Raises UnknownName for a model, GPU, platform or
        keyword that is not known, with the nearest ones, and BadRequest for a value that is not allowed.

            >>> p = Predictor.load()                                      # doctest: +SKIP
            >>> p.predict(model="qwen2.5-72b", gpu="b200-sxm", tp=8, concurrency=32).tpot_ms  # doctest: +SKIP
        """
        return self._answer(request, fabric, percentiles)[0]

    def explain(self, *, fabric: Fabric = None, **request: Unpack[Request]) -> Explanation:
        """Predict one configuration and say where each millisecond comes from and what would change it.

        Raises what `predict` raises, and BadRequest for a deployment that does not fit.
        """
        from .explain import explain

        found, r, answers, measured = self._answer(request, fabric, PERCENTS)
        if not found.feasible:
            raise BadRequest("request", found.request["model"], f"a deployment that fits: {found.reason}")
        return explain(found, self.model, r, answers, measured)

    def curve(
        self, *, concurrency: Loads = None, rates: Loads = None, fabric: Fabric = None,
        percentiles: Sequence[float] = CURVE_PERCENTILES, measured: bool = True,
        **request: Unpack[Configuration],
    ) -> Curve:  # fmt: skip
        """Predict one configuration at every load, and overlay the measured rows of its set-up.

        concurrency, rates: loads as numbers, "1,2,8", "1-64" or "auto": from one request in flight to all
        that it holds, or up to the request rate that it sustains. Raises what `predict` raises.
        """
        from .load_curve import load_curve

        asked = request_of({"concurrency": concurrency, "request_rate": rates, **request})
        axis = Axis.of(asked, asked.pop("concurrency"), asked.pop("request_rate"))
        found, r, _, machine = self._answer({**asked, **axis.middle}, fabric, percentiles)
        return load_curve(found, self.model, r, axis, machine, percentiles, measured)

    def _answer(
        self, request: Mapping[str, Any], fabric: Fabric, percentiles: Sequence[float]
    ) -> tuple[Prediction, Requests, Answers, MeasuredFabric | None]:
        """Return one request's prediction and what it was made of."""
        r, measured = _request(request), _measured(fabric)
        gpu = list(catalogue.gpus())[int(r.gpu.codes[0])]
        if measured is not None and measured.gpu != gpu:
            raise BadRequest("fabric", measured.gpu, f"a fabric measured on {gpu}")
        r, answers = answer_laid_out(self.model, r, measured)
        notes = remarks(r, answers, self.model.coefficients)
        if measured is not None:
            told = f"fabric as measured: {measured.source}"
            notes = (*notes, Remark(code="fabric", about={"source": measured.source}, text=told))
        return prediction_of(r, answers, notes, percentiles), r, answers, measured

    def laid_out(self, frame: pd.DataFrame) -> Requests:
        """Return a frame's rows as the requests that are answered: each in its layout, or in the best one."""
        return answer_laid_out(self.model, normalise(frame_of(frame)))[0]

    def predict_frame(self, frame: pd.DataFrame, *, fabric: Fabric = None) -> pd.DataFrame:
        """Predict every row of a frame: `ANSWER_COLUMNS` in the frame's own order and index.

        frame: (n, k) any subset of REQUEST_COLUMNS; missing or NaN means the documented default; other
        columns are ignored, with a warning where one looks like a misspelt column. fabric: as in `predict`;
        it changes the rows of the GPU it was measured on. Rows that cannot be answered are NaN with the
        reason; nothing raises for a row, and a row's answer depends on no other. Raises BadRequest for a
        column given twice. Works in chunks of bounded memory.
        """
        import pandas as pd

        if not isinstance(frame, pd.DataFrame):
            raise BadRequest("frame", type(frame).__name__, "a pandas DataFrame; predict answers one request")
        for misspelt in near_misses(frame.columns):
            warnings.warn(misspelt, UserWarning, stacklevel=2)
        told, measured = frame_of(frame), _measured(fabric)
        wanted = told[[name for name in told.columns if name in ASKED]]
        empty = dict.fromkeys(NUMBERS, np.nan) | {"support": None, "feasible": False}
        empty |= {"laid_out": None, "reason": None}
        columns = {name: np.full(len(frame), value) for name, value in empty.items()}

        def work(rows: IntArray) -> None:
            r, answers = answer_laid_out(self.model, normalise(wanted.iloc[rows]), measured)
            found: dict[str, Any] = {**numbers_of(answers), "feasible": answers.baseline.feasible}
            found["support"] = np.where(r.valid, answers.support, "far").astype(object)
            found["laid_out"] = layout_names(r)
            found["reason"] = reasons(r, answers, self.model.coefficients)
            for name, values in found.items():
                columns[name][rows] = values

        given = "tp" in wanted and bool(wanted["tp"].notna().all())
        in_chunks(wanted, work, CHUNK_ROWS if given else max(CHUNK_ROWS // TRIED_PER_ROW, 1))
        return pd.DataFrame(columns, index=frame.index)


_loading = Lock()


@cache
def _shipped() -> Predictor:
    return Predictor.load()


def predict(
    *, fabric: Fabric = None, percentiles: Sequence[float] = PERCENTS, **request: Unpack[Request]
) -> Prediction:
    """Predict one configuration with the shipped bundle, loaded once; as `Predictor.predict`.

    >>> from roofcast.predictor import predict
    >>> predict(model="llama-3.1-8b", gpu="h100", concurrency=8).feasible
    True
    """
    with _loading:
        shipped = _shipped()
    return shipped.predict(fabric=fabric, percentiles=percentiles, **request)


def _request(request: Mapping[str, Any]) -> Requests:
    """Return one request that can be answered; raises what `Predictor.predict` says."""
    request = request_of(request)
    r = normalise({name: [request.get(name)] for name in ("model", *request)})
    if not r.valid[0]:
        fault = r.notes.of(0)[0]
        if isinstance(fault.value, RoofcastError):
            raise fault.value
        told = request.get(fault.column)
        raise BadRequest(fault.column, _assumed(fault.value) if told is None else told, fault.allowed)
    return r


def _assumed(value: Any) -> Any:
    """Return a value that nobody gave as a person would write it."""
    plain = value.item() if isinstance(value, np.generic) else value
    return int(plain) if isinstance(plain, float) and plain.is_integer() else plain


def _measured(fabric: Fabric) -> MeasuredFabric | None:
    return MeasuredFabric.load(fabric) if isinstance(fabric, str | Path) else fabric


def in_chunks(frame: pd.DataFrame, work: Callable[[IntArray], None], size: int = CHUNK_ROWS) -> None:
    """Call `work` with the positions of the rows of each chunk, like rows together, on WORKERS threads.

    Like rows take like ways through the trees: where the processor guesses branches right, half the time.
    """
    known = [frame[name] for name in _SORT_COLUMNS if name in frame]
    keys = [column if column.dtype.kind in "iuf" else factorized(column)[0] for column in known]
    order = (np.lexsort(keys[::-1]) if keys else np.arange(len(frame))).astype(np.int64)
    chunks = [order[start : start + size] for start in range(0, len(order), size)]
    if len(chunks) < WORKERS:
        list(map(work, chunks))
        return
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(work, chunks))
