"""Rows on their way into the table: the columns that are collected, and those that are decided on the way."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..errors import Fault

Mask = pd.Series | npt.NDArray[np.bool_]

NUMBERS = [
    *["num_gpus", "num_nodes", "tp", "pp", "ep", "dp", "disagg", "prefill_gpus", "decode_gpus"],
    *["isl", "osl", "concurrency", "request_rate", "prefix_cached_frac"],
    *["output_tput", "total_tput", "req_tput"],
    *[f"ttft_{statistic}_ms" for statistic in ("mean", "p50", "p90", "p95", "p99")],
    *[f"tpot_{statistic}_ms" for statistic in ("mean", "p50", "p90", "p99")],
    *[f"e2e_{statistic}_ms" for statistic in ("mean", "p50", "p99")],
    "power_w",
]
TEXTS = [
    *["row_id", "source", "source_ref", "license", "date", "kind", "engine", "engine_version"],
    *["platform_raw", "gpu", "model_raw", "model", "weight_precision", "kv_precision", "spec_decode"],
    *["mode", "isl_osl_note", "notes"],
]
# What may be decided beyond the collected columns, with the value that stands where nothing is.
DECIDED_NUMBERS = {
    "replicas": np.nan, "length_scale": 1.0, "weight": 1.0, "isl_nominal": np.nan, "osl_nominal": np.nan,
    **{f"{pool}_{name}": np.nan for pool in ("prefill", "decode") for name in ("tp", "ep", "dp", "workers")},
}  # fmt: skip
DECIDED_TEXTS = {
    "source_family": "", "dp_means": "", "length_kind": "fixed", "length_spread": "", "run_id": "",
    "tpot_p50_is": "tpot", "tpot_mean_is": "tpot",
}  # fmt: skip
NUMERIC = frozenset({*NUMBERS, *DECIDED_NUMBERS})
TEXTUAL = frozenset({*TEXTS, *DECIDED_TEXTS})
LATENCIES = tuple(name for name in NUMBERS if name.endswith("_ms"))


def drafts(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return rows with every draft column, `file` and `line`; what a row does not give is empty or unknown.

    `faults` and `remarks` are tuples of Fault: why a row cannot be taken, and what is to be known of it.
    """
    empty = {**dict.fromkeys(TEXTS, ""), **dict.fromkeys(NUMBERS, np.nan), **DECIDED_NUMBERS, **DECIDED_TEXTS}
    empty |= {"faults": (), "remarks": (), "file": "", "line": 0}
    return pd.DataFrame([{**empty, **row} for row in rows], columns=list(empty))


def text(faults: Iterable[Fault]) -> str:
    """Return faults or remarks as the quarantine and people read them, "" for none.

    >>> text([Fault(code="range", column="tp"), Fault(code="some-failed", value=79, allowed=80)])
    'tp out of range; 79 of 80 requests completed'
    """
    return "; ".join(map(str, faults))


def sound(rows: pd.DataFrame) -> pd.Series[bool]:
    """Return which rows have no fault."""
    return rows["faults"].map(len) == 0


def reject(rows: pd.DataFrame, mask: Mask, code: str, **fields: object) -> None:
    """Add a fault to the rows where `mask` holds."""
    _add(rows, mask, "faults", Fault(code=code, **fields))  # type: ignore[arg-type]


def note(rows: pd.DataFrame, mask: Mask, code: str, **fields: object) -> None:
    """Add a remark to the rows where `mask` holds."""
    _add(rows, mask, "remarks", Fault(code=code, **fields))  # type: ignore[arg-type]


def _add(rows: pd.DataFrame, mask: Mask, column: str, fault: Fault) -> None:
    hit = np.asarray(mask, dtype=bool)
    if hit.any():
        cells = [(*old, fault) if here else old for old, here in zip(rows[column], hit, strict=True)]
        rows[column] = pd.Series(cells, index=rows.index, dtype=object)
