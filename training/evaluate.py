"""Judge the product: all grouped protocols beside the references, into the accuracy report."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..data.progress import Progress, silent
from ..data.store import BenchmarkStore
from . import report
from .advice import advice_tables
from .crossfit import cross_fit
from .fit import Settings, sample_of
from .splits import PROTOCOLS
from .trust import all_scores


def evaluate(
    *,
    store: Path | None = None,
    out: Path = Path("docs"),
    protocols: Sequence[str] = PROTOCOLS,
    settings: Settings | None = None,
    n_folds: int | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Rerun the protocols on the table in `store`; write accuracy.md, accuracy.json and the plots to `out`.

    Returns the report's figures. Takes about 9 minutes on 2 cores.
    """
    start = time.perf_counter()
    settings = settings or Settings()
    table, fingerprint = BenchmarkStore(store).snapshot()
    sample = sample_of(table)
    records = cross_fit(sample, protocols, settings, n_folds=n_folds, references=True, progress=progress)
    scores = all_scores(records)
    meta = {
        "fingerprint": fingerprint, "table_rows": len(table),
        "rows_that_physics_refuses": len(table) - len(sample.table), "roofcast": version("roofcast"),
        "lightgbm": version("lightgbm"), "python": platform.python_version(),
        "minutes": round((time.perf_counter() - start) / 60.0, 1),
    }  # fmt: skip
    figures = report.accuracy(scores, meta, advice_tables(scores, sample.table))
    report.write_report(figures, out)
    report.draw_predictions(scores, out / "predicted_against_measured.png")
    report.draw_residuals(scores, out / "residuals.png", "family")
    report.draw_support(scores, out / "support.png")
    return figures
