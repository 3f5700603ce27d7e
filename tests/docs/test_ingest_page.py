"""The commands of docs/ingest.md work as shown, and its table names every reader."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pandas as pd
import pytest

from roofcast.data.ingest import DEFAULT_STORE
from roofcast.data.readers import recognise
from roofcast.data.readers.table import COLUMNS
from roofcast.data.store import STORE_VARIABLE, BenchmarkStore

from .pages import ROOT, run
from .test_documents import FENCE

PAGE = (ROOT / "docs" / "ingest.md").read_text(encoding="utf-8")
BLOCKS = FENCE.findall(PAGE)
VLLM = {
    "date": "20260701-101500", "backend": "openai", "model_id": "meta-llama/Llama-3.1-8B-Instruct",
    "num_prompts": 80, "request_rate": "inf", "max_concurrency": 8, "duration": 23.55, "completed": 80,
    "total_input_tokens": 81920, "total_output_tokens": 20480, "request_throughput": 3.397,
    "output_throughput": 869.6, "total_token_throughput": 4348.0, "mean_ttft_ms": 60.0,
    "median_ttft_ms": 58.0, "mean_tpot_ms": 9.0, "median_tpot_ms": 8.9,
}  # fmt: skip
TRTLLM = {
    "engine": {"model": "meta-llama/Llama-3.1-8B-Instruct", "dtype": "bfloat16"},
    "machine": {"name": "NVIDIA H100 80GB HBM3"}, "world_info": {"tp_size": 1, "pp_size": 1},
    "request_info": {"avg_input_length": 1024.0, "avg_output_length": 256.0},
    "performance": {"system_output_throughput_tok_s": 9000.0, "request_throughput_req_s": 35.2},
}  # fmt: skip
TABLE = """Model,System,In,Out,Users,tok/s/GPU,TTFT (s),TPOT (ms)
llama-3.1-8b,h100-sxm,1024,256,8,868.0,0.058,8.95
"""


def test_the_page_s_commands_print_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STORE_VARIABLE, raising=False)
    (mapping,) = (body for language, body in BLOCKS if language == "toml")
    texts = {"vllm.json": json.dumps(VLLM), "trtllm.json": json.dumps(TRTLLM), "table.csv": TABLE}
    for name, text in {**texts, "map.toml": mapping}.items():
        (tmp_path / name).write_text(text)
    named = ("row_id", "source", "gpu", "model", "engine", "mode", "num_gpus", "osl")
    # An empty store: copying the shipped one takes seconds.
    BenchmarkStore.create(tmp_path / DEFAULT_STORE, pd.DataFrame(columns=list(named)))
    commands = [i for i, (language, _) in enumerate(BLOCKS) if language == "shell"]
    assert len(commands) == 3
    for i in commands:
        done = run(shlex.split(BLOCKS[i][1])[1:], tmp_path)
        shown = "".join(body for language, body in BLOCKS[i + 1 : i + 2] if language == "text")
        refused = shown.startswith("roofcast: ")
        assert done.returncode == (2 if refused else 0), done.stderr
        assert (shown or "1 accepted") in (done.stderr if refused else done.stdout)


def test_the_page_names_every_reader_and_its_column_names_are_columns() -> None:
    assert all(tool in PAGE.lower() for tool in {*recognise.JSON_READERS, *recognise.TEXT_READERS})
    listed = PAGE.partition("Our names:")[2].partition("Units:")[0]
    names = {name for part in re.findall(r"`([^`]+)`", listed) for name in part.split() if "*" not in name}
    assert names - {"mean", "p50", "p90", "p99"} <= COLUMNS
    assert {"isl", "output_tok_s", "gpu"} <= names
