"""The benchmark table's columns, and the check that every stored row passes."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .errors import BadRows

if TYPE_CHECKING:
    import pandera.pandas as pa

TEXT_COLUMNS = [
    "row_id",
    "config_group",
    "source",
    "source_family",
    "source_ref",
    "license",
    "date",
    "engine",
    "engine_version",
    "platform_raw",
    "gpu",
    "model",
    "weight_precision",
    "kv_precision",
    "spec_decode",
    "mode",
    "length_kind",
    "ttft_stat",
    "tpot_stat",
    "tpot_kind",
    "notes",
]
PARALLEL_COLUMNS = ["num_gpus", "num_nodes", "tp", "pp", "ep", "dp", "replicas", "disagg"]
POOL_COLUMNS = [
    f"{pool}_{what}" for pool in ("prefill", "decode") for what in ("gpus", "tp", "ep", "dp", "workers")
]
LOAD_COLUMNS = ["isl", "osl", "concurrency", "request_rate", "prefix_cached_frac"]
TARGET_COLUMNS = [
    "output_tok_s",
    "total_tok_s",
    "request_s",
    "ttft_ms",
    "tpot_ms",
    "ttft_mean_ms",
    "tpot_mean_ms",
    "ttft_p90_ms",
    "ttft_p99_ms",
    "tpot_p90_ms",
    "tpot_p99_ms",
    "e2e_ms",
    "power_w",
]
NUMERIC_COLUMNS = [*PARALLEL_COLUMNS, *POOL_COLUMNS, *LOAD_COLUMNS, *TARGET_COLUMNS, "weight", "duplicates"]
COLUMNS = [*TEXT_COLUMNS, *NUMERIC_COLUMNS]

REQUIRED = ("row_id", "source", "gpu", "model", "engine", "mode", "num_gpus", "osl")
MODES = ("static-batch", "closed-loop", "open-loop", "offline", "server")
ALLOWED = {
    "weight_precision": ("fp32", "bf16", "fp8", "fp4", "int8", "int4"),
    "kv_precision": ("", "fp32", "bf16", "fp8", "fp4", "int8", "int4"),
    "spec_decode": ("", "none", "mtp", "eagle", "eagle3", "draft", "medusa"),
    "mode": MODES,
    "length_kind": ("fixed", "uniform", "dataset"),
    "ttft_stat": ("", "p50", "mean"),
    "tpot_stat": ("", "p50", "mean"),
    "tpot_kind": ("", "tpot", "itl"),
}
# Lowest and highest value [in the column's unit] that a serving system can show.
RANGES = {
    "num_gpus": (1, 1e5),
    "isl": (1, 2e7),
    "osl": (1, 1e6),
    "concurrency": (0.5, 1e7),
    "request_rate": (1e-5, 1e6),
    "prefix_cached_frac": (0, 1),
    "output_tok_s": (1e-3, 1e10),
    "total_tok_s": (1e-3, 1e11),
    "request_s": (1e-7, 1e8),
    "ttft_ms": (1e-2, 1e8),
    "tpot_ms": (1e-3, 1e6),
    "weight": (0.0, 1.0),
    "duplicates": (0, 1e6),
    "disagg": (0, 1),
}
TARGETS = ("output_tok_s", "ttft_ms", "tpot_ms")
_DEFAULTS: dict[str, str | float] = {
    "weight_precision": "bf16",
    "spec_decode": "none",
    "mode": "closed-loop",
    "length_kind": "fixed",
    "pp": 1.0,
    "disagg": 0.0,
    "weight": 1.0,
    "duplicates": 0.0,
}


@cache
def table_schema() -> pa.DataFrameSchema:
    """Return the pandera schema of a stored row (pandera is imported here: predicting never needs it)."""
    import pandera.pandas as pa

    def text(name: str) -> pa.Column:
        allowed, checks = ALLOWED.get(name), []
        if allowed:
            checks.append(pa.Check.isin(allowed, error=f"one of {', '.join(a or 'empty' for a in allowed)}"))
        elif name in REQUIRED:
            checks.append(pa.Check.str_length(min_value=1, error="not empty"))
        return pa.Column(str, checks=checks, unique=name == "row_id", coerce=True)

    def number(name: str) -> pa.Column:
        low, high = RANGES.get(name, (0, 1e12))
        checks = [pa.Check.in_range(low, high, error=f"between {low:g} and {high:g}")]
        return pa.Column(float, checks=checks, nullable=name not in REQUIRED, coerce=True)

    columns = {name: text(name) for name in TEXT_COLUMNS} | {name: number(name) for name in NUMERIC_COLUMNS}
    return pa.DataFrameSchema(columns, strict=True)


def complete(rows: pd.DataFrame) -> pd.DataFrame:
    """Return `rows` with every column of the table, in order; what is not given is default or unknown.

    Raises BadRows for a column that the table does not have and for one that it cannot do without.
    """
    strange = sorted(set(map(str, rows.columns)) - set(COLUMNS))
    missing = [name for name in REQUIRED if name not in rows.columns and name != "row_id"]
    if strange or missing:
        reasons = [(0, f"unknown column {name}") for name in strange] + [
            (0, f"missing column {name}") for name in missing
        ]
        raise BadRows("rows", reasons)
    full = rows.copy()
    for name in COLUMNS:
        empty: str | float = "" if name in TEXT_COLUMNS else np.nan
        if name not in full:
            full[name] = _DEFAULTS.get(name, empty)
        elif name in _DEFAULTS or name in TEXT_COLUMNS:
            full[name] = full[name].where(full[name].notna(), _DEFAULTS.get(name, empty))
    return full[COLUMNS]


def faults(rows: pd.DataFrame) -> list[tuple[int, str]]:
    """Return (position, reason) of every row that breaks the schema, a row's reasons in one text."""
    import pandera.errors

    numbered = rows.reset_index(drop=True)
    found: dict[int, list[str]] = {}
    for name in NUMERIC_COLUMNS:
        bad = pd.to_numeric(numbered[name], errors="coerce").isna() & numbered[name].notna()
        for position in numbered.index[bad]:
            found.setdefault(int(position), []).append(f"{name} = {numbered.at[position, name]!r}: a number")
        numbered[name] = pd.to_numeric(numbered[name], errors="coerce").astype(float)
    try:
        table_schema().validate(numbered, lazy=True)
    except pandera.errors.SchemaErrors as error:
        for case in error.failure_cases.itertuples():
            position = -1 if pd.isna(case.index) else int(case.index)
            check = "not missing" if str(case.check) == "not_nullable" else str(case.check)
            found.setdefault(position, []).append(f"{case.column} = {case.failure_case!r}: {check}")
    blind = numbered[list(TARGETS)].isna().all(axis=1)
    for position in numbered.index[blind]:
        found.setdefault(int(position), []).append("no throughput, TTFT or TPOT")
    return [(position, "; ".join(dict.fromkeys(reasons))) for position, reasons in sorted(found.items())]


def validate(rows: pd.DataFrame, file: str = "rows") -> pd.DataFrame:
    """Return complete, typed rows, or raise BadRows: file, line (1 = the first row), column, reason."""
    full = complete(rows)
    wrong = faults(full)
    if wrong:
        raise BadRows(file, [(position + 1, reason) for position, reason in wrong])
    return typed(full)


def typed(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the table's columns as text and float64, in order."""
    kinds = dict.fromkeys(TEXT_COLUMNS, str) | dict.fromkeys(NUMERIC_COLUMNS, float)
    return rows[COLUMNS].astype(kinds).reset_index(drop=True)
