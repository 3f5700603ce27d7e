"""What each source itself said of its rows, from the collected cells and their notes: see `data.stated`."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..columns import names
from ..stated import SPREAD, as_said

_LAYOUT = names(asked=True, stored=True, roles=("layout", "pool"))
# Layouts that whoever collected the row worked out.
_WORKED_OUT = r"tp not stated|tp inferred|parallelism not stated|(?:TP=?\d+(?: per worker)?|replicas) assumed"
_NOMINAL = r"(?:nominal |uniform 1\.\.)(\d+)(k?)/?(?:1\.\.)?(\d+)(k?)"
_ENDED_EARLY = r"stop(?:ped)? early"
_SPREADS = {"0-1": r"range-ratio 0|uniform 1\.\.", "0.8-1": r"\[0\.8,1\.0\]|range 0\.8|range.ratio 0\.8"}


def said(collected: pd.DataFrame, aligned: pd.DataFrame) -> pd.DataFrame:
    """Return the rows in their sources' terms; `aligned`: the same rows after their family's steps.

    Those steps read from notes what the source does say: the pools of disaggregated rows with their widths,
    the day of a configuration's runs, and where the listing of a run had multiplied its degrees. What kind of
    load a run is, and whether its prompts were cached, follows from the tool.
    """
    out = collected.assign(**aligned[["length_kind", "mode", "prefix_cached_frac", "dp_means"]])
    out["dp"] = out["dp"].mask(aligned["replicas"].notna(), aligned["dp"])
    from_notes = (aligned["disagg"] == 1) | (aligned["source"] == "aic-silicon-inferencex")
    unsaid = collected["notes"].str.contains(_WORKED_OUT)
    for name in _LAYOUT:
        read = out[name].where(~from_notes, aligned[name]) if name in out else aligned[name]
        out[name] = read.mask(unsaid & (name not in ("num_gpus", "num_nodes", "disagg")))
    for name in ("weight_precision", "kv_precision"):  # "native" names no format
        out[name] = out[name].mask(out[name].str.contains("native"), "")
    numbered = out["notes"].str.contains("config_id=")
    out["date"] = out["date"].mask(numbered, aligned["date"])
    out["spec_decode"] = out["spec_decode"].replace("?", "")
    nominal = out["isl_osl_note"].str.extract(_NOMINAL)
    drawn = nominal[0].notna() & ~out["isl_osl_note"].str.contains(_ENDED_EARLY)
    for at, name in ((0, "isl"), (2, "osl")):
        unit = np.where(nominal[at + 1] == "k", 1024.0, 1.0)
        out[f"{name}_nominal"] = (nominal[at].astype(float) * unit).where(drawn)
    out["osl"] = out["osl"].replace(0.0, 1.0)
    client = (aligned["length_kind"] == "uniform") & aligned["source_family"].str.startswith("inferencex")
    out[SPREAD] = np.where(client, "0.8-1", "")
    for spread, pattern in _SPREADS.items():
        out.loc[out["isl_osl_note"].str.contains(pattern), SPREAD] = spread
    return as_said(out)
