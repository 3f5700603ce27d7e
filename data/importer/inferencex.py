"""Rules for InferenceX (SemiAnalysis; formerly InferenceMAX) results and for runs made with its client."""

from __future__ import annotations

import numpy as np
import pandas as pd

from . import layout
from .raw import say

NOMINAL = r"nominal; InferenceX client|nominal; lengths drawn uniform"


# The dump's config_id counts configurations in order of first run; days on which dated sources ran some.
_FIRST_RUN = {
    1: "2025-09-29",
    50: "2025-10-29",
    150: "2025-11-18",
    250: "2025-12-15",
    350: "2026-01-29",
    450: "2026-02-06",
    550: "2026-02-12",
    650: "2026-03-15",
    750: "2026-04-17",
    850: "2026-04-21",
    1250: "2026-05-20",
    1350: "2026-06-11",
    2060: "2026-07-18",
}
_LAST_RUN = "2026-07-18"


def client_lengths(rows: pd.DataFrame) -> None:
    """The InferenceX client draws each length uniformly from 0.8 to 1.0 of the nominal one: the mean is 0.9.

    Where a source reports the lengths it measured they are such means already (922 and 929 for 1024).
    """
    nominal = rows["isl_osl_note"].str.contains(NOMINAL)
    rows.loc[nominal, "length_scale"] = 0.9
    rows["length_kind"] = "uniform"


def runs(rows: pd.DataFrame) -> None:
    """Files of single runs: the app's fixtures, the official 2025-11 set, the CSV export.

    dp is a flag (attention dp over the whole tp); the run's number on GitHub tells repeats from copies.
    """
    client_lengths(rows)
    rows["dp_means"] = "inside"
    rows["run_id"] = rows["notes"].str.extract(r"actions/runs/(\d+)")[0].fillna("")
    layout.pools_in_notes(rows)


def database_dump(rows: pd.DataFrame) -> None:
    """Rows decoded from a published embedding: throughput and median TPOT, medians over all runs of a config.

    DeepSeek-V4-Pro "fp8" on chips without fp4 units is the native checkpoint (fp4 experts) computing in fp8:
    its 1.6 TB in 8 bit would not fit.

    Total throughput is per GPU x num_gpus. The medians of throughput and TPOT may come from different runs
    and engine versions, hence half weight (raised where another source confirms the row). The date is that of
    the configuration's first run, interpolated over config_id, plus 30 days: most runs follow the first.
    """
    runs(rows)
    rows["weight"] = 0.5
    number = rows["notes"].str.extract(r"config_id=(\d+)")[0].astype(float)
    days = np.array(list(_FIRST_RUN.values()), dtype="datetime64[D]").astype(float)
    first = np.interp(number, list(_FIRST_RUN), days)
    last = np.datetime64(_LAST_RUN).astype(float)
    middle = np.minimum(first + 30.0, last).astype(int).astype("datetime64[D]")
    rows["date"] = middle.astype(str)
    say(rows, rows["weight"] > 0, remark="median over runs of mixed versions")
    named = (rows["model"] == "deepseek-v4-pro") & rows["gpu"].isin(["h200-sxm", "mi300x"])
    say(rows, named, weight_precision="fp4", remark="fp8 is the compute format of fp4 experts")
    lost = (rows["disagg"] == 1) & rows["num_gpus"].isna()
    say(rows, lost, reject="decode GPU count unknown")


def token_position(rows: pd.DataFrame) -> None:
    """The token-position experiment: 128 output tokens, at one and the same depth; prefix caching was on.

    Little's law does not close to 10 % on a fifth of the rows (short runs, start and tail), hence a lower
    weight. "dep8" rows are vLLM data parallel with expert parallel: attention dp beside tp.
    """
    rows["weight"] = 0.6


def own_client(rows: pd.DataFrame) -> None:
    """Others' runs with the InferenceX client: PR branches, Nebius nodes, NVIDIA-internal nodes, Gaudi 3."""
    client_lengths(rows)
    rows.loc[rows["length_scale"] == 1.0, "length_kind"] = "uniform"
    rows["dp_means"] = "inside"


def throughput_only(rows: pd.DataFrame) -> None:
    """Throughput and interactivity typed from charts' data (faradawn): tpot_p50 = 1000 / interactivity.

    Eight rows repeat one point's throughput and TPOT under concurrencies 8 to 64 (throughput x TPOT says 8):
    their concurrency label is wrong. Without TTFT only the ratio to decode time alone shows it.
    """
    client_lengths(rows)
    rows["weight"] = 0.6
    output = rows["total_tput"] * rows["osl"] / (rows["isl"] + rows["osl"])
    decode = rows["tpot_p50_ms"] * rows["osl"] / 1000.0
    stuck = rows["concurrency"] * rows["osl"] / output > 1.5 * decode
    say(rows, stuck, reject="throughput, latency and concurrency break Little's law")


def trt_offline(rows: pd.DataFrame) -> None:
    """Decode-only rounds at a fixed batch (DeepSeek-V4, MTP): TPOT = round time / accepted tokens per round.

    Throughput excludes prefill, so it is no serving throughput and is dropped; the prompts' length is known,
    the number of decoded tokens is not: 1024 is assumed.
    """
    rows["osl"] = 1024.0
    rows["output_tput"] = float("nan")
    rows.loc[rows["notes"].str.contains("dp=9 replicas"), "dp_means"] = "replicas"
    rows.loc[rows["notes"].str.contains("attention-dp"), "dp_means"] = "inside"
    rows["weight"] = 0.5
    say(rows, rows["osl"] > 0, remark="decode rounds only, osl assumed")
