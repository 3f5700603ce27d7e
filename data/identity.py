"""Which rows are alike: of one model shape, family, set-up or configuration, or one and the same row."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import catalogue
from .columns import COLUMNS, STORED
from .specs import ModelSpec

if TYPE_CHECKING:
    import pandas as pd

# Rows of one family are of one GPU, shape and engine; rows of one set-up differ in load and lengths at most.
# In the order in which bundles hash them: append, never reorder.
FAMILY = ("gpu", "shape", "engine")
SET_UP = (
    *FAMILY, "weight_precision", "tp", "pp", "ep", "dp", "num_gpus", "disagg", "prefill_gpus", "spec_decode",
    "mode",
)  # fmt: skip
LOAD = ("concurrency", "request_rate")
LENGTHS = ("isl", "osl")
# A configuration's names and layout, in the order in which config_group hashes them.
_NAMES = tuple(name for name in SET_UP if name in COLUMNS and COLUMNS[name].is_text)
_LAYOUT = (
    "num_gpus", "tp", "pp", "ep", "dp", "replicas", "disagg",
    "prefill_gpus", "decode_gpus", "prefill_tp", "decode_tp", "prefill_dp", "decode_dp",
)  # fmt: skip
_LENGTH_STEP = 0.04
# The content that names a row, in this order for ever; of columns added later, what is given is added.
_CONTENT = (
    "source", "source_family", "source_ref", "license", "date", "engine", "engine_version", "platform_raw",
    "gpu", "model", "weight_precision", "kv_precision", "spec_decode", "mode", "length_kind", "ttft_stat",
    "tpot_stat", "tpot_kind", "num_gpus", "num_nodes", "tp", "pp", "ep", "dp", "replicas", "disagg",
    "prefill_gpus", "prefill_tp", "prefill_ep", "prefill_dp", "prefill_workers", "decode_gpus", "decode_tp",
    "decode_ep", "decode_dp", "decode_workers", "isl", "osl", "concurrency", "request_rate",
    "prefix_cached_frac", "output_tok_s", "total_tok_s", "request_s", "ttft_ms", "tpot_ms", "ttft_mean_ms",
    "tpot_mean_ms", "ttft_p90_ms", "ttft_p99_ms", "tpot_p90_ms", "tpot_p99_ms", "e2e_ms", "power_w",
)  # fmt: skip
_BOOKKEEPING = ("row_id", "config_group", "weight", "duplicates", "notes", "stated")
_ADDED_LATER = tuple(name for name in STORED if name not in (*_CONTENT, *_BOOKKEEPING))
_ID_LENGTH = 12


def backbone(spec: ModelSpec) -> str:
    """Return layers, widths, heads and experts: shapes that share them are held out together.

    Llama 2 and 3 of 70 B differ in the vocabulary alone: who learned one has nearly seen the other.
    """
    fields = ("n_layers", "d_model", "n_heads", "n_kv_heads", "d_ff", "n_experts", "d_ff_expert")
    return "-".join(str(getattr(spec, field)) for field in fields)


def two_digits(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return lengths rounded to two significant digits; 921.6 is 920."""
    scale = 10.0 ** (np.floor(np.log10(np.maximum(values, 1.0))) - 1.0)
    return np.round(values / scale) * scale


@catalogue.follows_models
def _first_of_shape() -> dict[str, str]:
    """Map each model to the first (in alphabetical order, those of the files first) with its very shape.

    DeepSeek-R1 and R1-0528, or Llama 3.1 70B and 3.3 70B, differ in training only: a run of one is a repeat
    of the other as far as speed goes, and splits must not part them.
    """
    first: dict[str, str] = {}
    models, shipped = catalogue.models(), catalogue.shipped_models()
    ordered = sorted(models, key=lambda name: (name not in shipped, name))
    return {name: first.setdefault(models[name].shape_key, name) for name in ordered}


def config_group(rows: pd.DataFrame) -> pd.Series[str]:
    """Return 12 hex digits for each row: equal for rows that measure one configuration.

    Hashed: the model's shape, GPU, engine, precision, layout, speculation, mode, load and lengths; not the
    source, date or version. Lengths are taken in steps of 4 %, so that a measured mean of 922 meets 0.9 x
    1024 (those of data sets to two digits), concurrency and request rate to three digits.
    """
    columns: list[Iterable[Any]] = [rows["model"].map(_first_of_shape()).fillna(rows["model"])]
    columns += [rows[name] for name in _NAMES]
    columns += [rows[name].map("{:g}".format) for name in _LAYOUT]
    columns += [rows[name].map("{:.3g}".format) for name in LOAD]
    columns += [rows["prefix_cached_frac"].fillna(0.0).map("{:.1f}".format)]
    for name in LENGTHS:
        steps = np.round(np.log(rows[name].clip(lower=1.0)) / _LENGTH_STEP).map("{:g}".format)
        columns.append(steps.where(rows["length_kind"] != "dataset", rows[name].map("{:.2g}".format)))
    return _digests(map("|".join, zip(*(map(str, column) for column in columns), strict=True)), rows)


def row_ids(rows: pd.DataFrame) -> pd.Series[str]:
    """Return 12 hex digits for each row: of what it says, but not of how much it counts."""
    texts = ["|".join(map(str, cells)) for cells in rows[list(_CONTENT)].itertuples(index=False)]
    for name in _ADDED_LATER:
        given = rows[name].notna() & (rows[name] != "")
        cells = zip(texts, rows[name], given, strict=True)
        texts = [f"{text}|{name}={value}" if there else text for text, value, there in cells]
    return _digests(texts, rows)


def _digests(texts: Iterable[str], rows: pd.DataFrame) -> pd.Series[str]:
    import pandas as pd

    return pd.Series([digest(text) for text in texts], index=rows.index)


def digest(text: str) -> str:
    """Return the first 12 hex digits of the SHA-1 of `text`: a name for content, no protection."""
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:_ID_LENGTH]
