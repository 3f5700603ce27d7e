"""MLPerf Inference: LoadGen's mlperf_log_summary.txt, and the system's JSON beside it or given with it.

Source of the format: mlcommons/inference, loadgen/results.cc (5.x, `use_token_latencies`); the system
description of the submission rules (accelerator_model_name, accelerators_per_node, number_of_nodes).
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from .base import Draft, Fields, Lines, Record, Rows, drop, fill, has, plain, refuse, setting, statistics

# The summary's lines in lower case, dots as underscores. Times in ns; "time to output token" is per request,
# after the first token. Completed samples and tokens per second are over the time to the last completion.
_STATISTICS = {"mean": "mean", **{f"{p}_00 percentile": f"p{p}" for p in (50, 90, 95, 99)}}
FIELDS: Fields = {
    "scheduled samples per second": "request_rate",
    "completed samples per second": "req_tput",
    "completed tokens per second": "output_tput",
    "samples per second": "req_tput",
    "tokens per second": "output_tput",
    **statistics("{} first token latency (ns)", "ttft", 1e-6, _STATISTICS),
    **statistics("{} time to output token (ns)", "tpot", 1e-6, _STATISTICS),
    **statistics("{} latency (ns)", "e2e", 1e-6, _STATISTICS),
}
SYSTEM_FIELDS = {"system_name": "platform_raw", "accelerator_model_name": "gpu", "framework": "engine"}
MARK = "MLPerf Results Summary"
SCENARIOS = {"Server": "server", "Interactive": "server", "Offline": "offline"}
WEIGHT = 0.8  # tuned to a limit, requests in flight unknown: as the shipped table weighs submissions
_VERSION = re.compile(r"(?i)(?:vllm|tensorrt(?:[- ]llm)?|sglang)\D{0,3}(\d[\w.]*)")

knows_text = re.compile(MARK).search
is_system = has("accelerator_model_name", "accelerators_per_node", "number_of_nodes")


def text_rows(lines: Lines) -> Rows:
    """Yield the one row of a summary; the model is not in it."""
    record: Record = {}
    began = 1
    for line_number, line in lines:
        name, colon, value = line.partition(":")
        began = line_number if MARK in line else began
        if colon:
            record.setdefault(re.sub(r"(\d)\.(\d)", r"\1_\2", name.strip().lower()), value.strip())
    scenario, mode, result = (plain(record.get(name)) for name in ("scenario", "mode", "result is"))
    draft: Draft = {"mode": SCENARIOS.get(scenario, ""), "length_kind": "dataset", "weight": WEIGHT}
    fill(draft, record, FIELDS)
    if not draft["mode"]:
        refuse(draft, "scenario", value=scenario)
    elif draft["mode"] == "offline":
        drop(draft, "ttft", "tpot", "e2e")  # All samples come at once: latencies are the queue's.
    if mode != "PerformanceOnly":
        refuse(draft, "accuracy-run", value=mode)
    if not result.startswith("VALID"):
        refuse(draft, "not-valid", value=result or "not stated")
    samples, tokens = draft.get("req_tput", math.nan), draft.get("output_tput", math.nan)
    if samples > 0 and tokens > 0:
        draft["osl"] = tokens / samples
    yield began, draft


def system(record: Record) -> Draft:
    """Return what a system description holds for every run on it."""
    nodes = setting(record["number_of_nodes"])
    version = _VERSION.search(plain(record.get("framework")))
    draft: Draft = {"num_nodes": nodes, "num_gpus": nodes * setting(record["accelerators_per_node"])}
    fill(draft, record, SYSTEM_FIELDS)
    return draft | {"engine_version": version[1] if version else ""}


def system_beside(path: Path) -> Path | None:
    """Return the system's JSON of a submission tree: systems/NAME.json where the results lie under NAME/."""
    whole = path.absolute()
    named = (up / "systems" / f"{name}.json" for up in whole.parents for name in whole.parts[1:-1])
    return next((candidate for candidate in named if candidate.is_file()), None)
