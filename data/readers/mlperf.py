"""MLPerf Inference: LoadGen's mlperf_log_summary.txt, and the system's JSON beside it or given with it.

Source of the format: mlcommons/inference, loadgen/results.cc (5.x, `use_token_latencies`); the system
description of the submission rules (accelerator_model_name, accelerators_per_node, number_of_nodes).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from .draft import Draft, Fields, engine, gpu, loose, plain, refuse, statistics, take
from .records import Record

# The summary's lines in lower case, dots as underscores. Times in ns; "time to output token" is per request,
# after the first token. Completed samples and tokens per second are over the time to the last completion.
_STATISTICS = {"mean": "mean", **{f"{p}_00 percentile": f"p{p}" for p in (50, 90, 95, 99)}}
FIELDS: Fields = {
    "scheduled samples per second": ("request_rate", 1.0),
    "completed samples per second": ("req_tput", 1.0),
    "completed tokens per second": ("output_tput", 1.0),
    "samples per second": ("req_tput", 1.0),
    "tokens per second": ("output_tput", 1.0),
    **statistics("{} first token latency (ns)", "ttft", 1e-6, _STATISTICS),
    **statistics("{} time to output token (ns)", "tpot", 1e-6, _STATISTICS),
    **statistics("{} latency (ns)", "e2e", 1e-6, _STATISTICS),
}
MARK = "MLPerf Results Summary"
SCENARIOS = {"Server": "server", "Interactive": "server", "Offline": "offline"}
WEIGHT = 0.8  # tuned to a limit, requests in flight unknown: as the importer weighs submissions


def knows_text(head: str) -> bool:
    """Whether a text is a LoadGen summary."""
    return MARK in head


def text_rows(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, Draft]]:
    """Yield the one row of a summary; the model is not in it."""
    record: Record = {}
    began = 1
    for number, line in lines:
        name, colon, value = line.partition(":")
        began = number if MARK in line else began
        if colon:
            record.setdefault(re.sub(r"(\d)\.(\d)", r"\1_\2", name.strip().lower()), value.strip())
    scenario = plain(record.get("scenario"))
    draft: Draft = {"mode": SCENARIOS.get(scenario, ""), "length_kind": "dataset", "weight": WEIGHT}
    take(draft, record, FIELDS)
    if not draft["mode"]:
        refuse(draft, f"scenario '{scenario}' is neither Server nor Offline")
    elif draft["mode"] == "offline":
        for name in [name for name in draft if name.startswith(("ttft", "tpot", "e2e"))]:
            del draft[name]  # All samples come at once: latencies are the queue's.
    if record.get("mode") != "PerformanceOnly":
        refuse(draft, f"mode '{plain(record.get('mode'))}': not a performance run")
    if not plain(record.get("result is")).startswith("VALID"):
        refuse(draft, f"the result is {plain(record.get('result is')) or 'not stated'}")
    samples, tokens = draft.get("req_tput", math.nan), draft.get("output_tput", math.nan)
    if samples > 0 and tokens > 0:
        draft["osl"] = tokens / samples
    yield began, draft


def is_system(record: Record) -> bool:
    """Whether a record describes a submitted system."""
    return {"accelerator_model_name", "accelerators_per_node", "number_of_nodes"} <= record.keys()


def system(record: Record) -> Draft:
    """Return what a system description says of every run on it."""
    nodes = loose(record["number_of_nodes"])
    framework = plain(record.get("framework"))
    version = re.search(r"(?i)(?:vllm|tensorrt(?:[- ]llm)?|sglang)\D{0,3}(\d[\w.]*)", framework)
    return {
        "platform_raw": plain(record.get("system_name")),
        "gpu": gpu(record["accelerator_model_name"]),
        "num_nodes": nodes,
        "num_gpus": nodes * loose(record["accelerators_per_node"]),
        "engine": engine(framework),
        "engine_version": version.group(1) if version else "",
    }


def system_beside(path: Path) -> Path | None:
    """Return the system's JSON of a submission tree: systems/NAME.json where the results lie under NAME/."""
    for folder in path.absolute().parents:
        for name in path.absolute().parts[:-1]:
            candidate = folder / "systems" / f"{name}.json"
            if len(name) > 1 and candidate.is_file():
                return candidate
    return None
