"""The collected CSV files as one draft frame: source columns, plus the columns that the rules fill in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..errors import BadRows

Bools = npt.NDArray[np.bool_]

FILES = ("inferencex.csv", "aic_silicon.csv", "mlperf.csv", "vendor.csv", "academic.csv", "serving_json.csv")

NUMBERS = [
    "num_gpus",
    "num_nodes",
    "tp",
    "pp",
    "ep",
    "dp",
    "disagg",
    "prefill_gpus",
    "decode_gpus",
    "isl",
    "osl",
    "concurrency",
    "request_rate",
    "prefix_cached_frac",
    "output_tput",
    "total_tput",
    "req_tput",
    "ttft_mean_ms",
    "ttft_p50_ms",
    "ttft_p90_ms",
    "ttft_p95_ms",
    "ttft_p99_ms",
    "tpot_mean_ms",
    "tpot_p50_ms",
    "tpot_p90_ms",
    "tpot_p99_ms",
    "e2e_mean_ms",
    "e2e_p50_ms",
    "e2e_p99_ms",
    "power_w",
]
TEXTS = [
    "row_id",
    "source",
    "source_ref",
    "license",
    "date",
    "kind",
    "engine",
    "engine_version",
    "platform_raw",
    "gpu",
    "model_raw",
    "model",
    "weight_precision",
    "kv_precision",
    "spec_decode",
    "mode",
    "isl_osl_note",
    "notes",
]

# What a rule may decide beyond the source's own columns, with the value that stands if it says nothing.
DRAFT_NUMBERS = {
    "replicas": np.nan,
    "prefill_tp": np.nan,
    "prefill_ep": np.nan,
    "prefill_dp": np.nan,
    "prefill_workers": np.nan,
    "decode_tp": np.nan,
    "decode_ep": np.nan,
    "decode_dp": np.nan,
    "decode_workers": np.nan,
    "length_scale": 1.0,
    "weight": 1.0,
}
DRAFT_TEXTS = {
    "source_family": "",
    "dp_means": "",
    "length_kind": "fixed",
    "tpot_p50_is": "tpot",
    "tpot_mean_is": "tpot",
    "run_id": "",
    "remark": "",
    "reject": "",
}


def read(folder: Path) -> pd.DataFrame:
    """Read every collected CSV file of `folder` into one draft frame, in the order of FILES.

    Adds `file` and `line` (of the CSV file, counted from 1 with the header) and the draft columns.
    Raises BadRows where a file is missing, lacks a column or holds text in a numeric column.
    """
    frames = [_read_file(folder / name) for name in FILES]
    return pd.concat(frames, ignore_index=True)


def _read_file(path: Path) -> pd.DataFrame:
    try:
        cells = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise BadRows(path, [(0, str(error))]) from None
    missing = sorted({*NUMBERS, *TEXTS} - set(cells.columns))
    if missing:
        raise BadRows(path, [(0, f"missing column {name}") for name in missing])
    draft: pd.DataFrame = cells[TEXTS].apply(lambda column: column.str.strip())
    for name in NUMBERS:
        draft[name] = _numbers(path, cells[name])
    draft["file"] = path.name
    draft["line"] = np.arange(2, len(cells) + 2)
    for usual in (DRAFT_NUMBERS, DRAFT_TEXTS):
        for name, value in usual.items():
            draft[name] = value
    return draft


def _numbers(path: Path, cells: pd.Series[Any]) -> pd.Series[float]:
    values = pd.to_numeric(cells, errors="coerce").astype(float)
    bad = values.isna() & (cells.str.strip() != "")
    if bad.any():
        raise BadRows(
            path, [(int(i) + 2, f"{cells.name} = {cells[i]!r} is no number") for i in cells.index[bad]]
        )
    return values


def say(rows: pd.DataFrame, mask: pd.Series[bool] | Bools, **values: str | float) -> None:
    """Set columns where `mask` holds; a `reject` or `remark` is added to what was said before."""
    for name, value in values.items():
        if name in ("reject", "remark"):
            said = rows.loc[mask, name].tolist()
            rows.loc[mask, name] = [f"{text}; {value}" if text else str(value) for text in said]
        else:
            rows.loc[mask, name] = value
