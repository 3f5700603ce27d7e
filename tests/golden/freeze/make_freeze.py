"""Write the frozen answers anew: python tests/golden/freeze/make_freeze.py [SECTION ...].

Each section's questions and answers go to SECTION.json.gz beside this file. The questions are the same each
time, but for claims, which are made from the present predictions. Takes one to three minutes; sections that
read the collected sources need them beside the repository, or where ROOFCAST_SHARED says.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
from inputs import Names, claims, gaps, measured, requests
from replay import EMPTY_STORE, HERE, ROOT, SECTIONS, command, read, scratch, shared, write

Values = dict[str, Any]
TINY = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 3072,
    "num_hidden_layers": 40, "num_attention_heads": 24, "num_key_value_heads": 8, "head_dim": 128,
    "intermediate_size": 9216,
    "vocab_size": 151936, "max_position_embeddings": 65536, "torch_dtype": "bfloat16", "hidden_act": "silu",
    "tie_word_embeddings": False,
}  # fmt: skip
CONFIG = {"tiny/config.json": json.dumps(TINY)}
FABRICS = (
    {"schema": 1, "alpha_scale": 2.5, "bandwidth_scale": 0.6, "gpu": "h100-sxm", "source": "slow"},
    {"schema": 1, "alpha_scale": 0.8, "bandwidth_scale": 1.1, "gpu": "b200-sxm", "source": "fast"},
)
RECOMMEND = (
    "--model llama-3.3-70b --users 100",
    "--model llama-3.3-70b --request-rate 6 --isl 2000 --osl 300 --ttft-ms 1000 --tpot-ms 30",
    "--model deepseek-r1 --users 400 --mix 2000/300/0.7 --mix 8000/800/0.3 --confidence 0.8",
    "--model gpt-oss-120b --users 64 --weight-precision fp4 --engine vllm --percentile 99",
    "--model qwen3-32b --users 300 --budget-usd 400000 --basis own --amortisation-years 3 --usd-per-kwh 0.2",
    "--model llama-3.1-8b --users 2000 --budget-usd-per-hour 40 --basis rent --rent hgx-h100=2.2 "
    "--rent hgx-b200=4.5",
    "--model qwen3-235b-a22b --users 200 --price hgx-b200=300000 --price hgx-h200=210000 --instead hgx-h200",
    "--model kimi-k2-thinking --users 500 --platform gb200-nvl72 --platform gb300-nvl72 "
    "--isl 8000 --osl 1000",
    "--model deepseek-v3.2 --request-rate 20 --platform hgx-b200 --platform hgx-h200 "
    "--basis reserve --pue 1.5",
    "--model 1t-a32b --request-rate 5 --mix 2000/300/0.7 --mix 8000/800/0.3",
    "--model 300b --users 50 --context 60000 --isl 2000 --osl 500 --utilisation 0.5 --other-share 0.2",
    "--model tiny/config.json --users 500 --prefix-cached-frac 0.5 --ttft-ms inf",
    "--model llama-3.1-405b --users 5000 --ttft-ms 100 --tpot-ms 5 --budget-usd 200000",
    "--model llama-3.3-70b --users 1000 --platform hgx-b200 --instead hgx-h100 --context 30000",
)
ENTER = (
    "--model 300b --users 5", "--model 1t-a32b --users 5", "--model 12.5b --users 5",
    "--model tiny/config.json --users 5",
)  # fmt: skip
ENTERED = ("300b", "1t-a32b", "12.5b")
EXPLAIN = (
    "--model llama-3.3-70b --gpu h100-sxm --tp 8 --concurrency 32",
    "--model llama-3.3-70b --gpu h100-sxm --tp 8 --concurrency 32 --against gpu=h200-sxm,tp=4",
    "--model deepseek-r1 --platform hgx-b200 --tp 8 --ep 8 --engine sglang --concurrency 256 "
    "--spec-decode mtp",
    "--model deepseek-r1 --platform gb200-nvl72 --disagg --prefill-gpus 8 --decode-gpus 32 --tp 8 "
    "--concurrency 512",
    "--model gpt-oss-120b --gpu b200-sxm --tp 1 --weight-precision fp4 --concurrency 64 --engine trtllm",
    "--model llama-3.1-8b --gpu l40s --request-rate 2 --isl 512 --osl 128",
    "--model llama-3.1-8b --gpu a100-80g --mode static-batch --concurrency 16 --isl 128 --osl 128",
    "--model llama-2-70b --gpu h100-sxm --tp 8 --mode offline --engine trtllm --weight-precision fp8",
    "--model llama-2-70b --gpu mi300x --mode server --request-rate 10 --tp 8 --num-gpus 8",
    "--model mixtral-8x7b --gpu a100-80g --tp 2 --concurrency 8 --date 2025-03",
    "--model qwen3-235b-a22b --gpu mi355x --tp 8 --concurrency 128 --source rocm-atom-ci --engine atom",
    "--model qwen3-32b --gpu gh200-96g --isl 60000 --osl 500 --kv-hot-tokens 8192 "
    "--kv-reread-every 4 --concurrency 4",
    "--model qwen3-30b-a3b --gpu rtx5090 --weight-precision int4 --concurrency 1",
    "--model llama-3.1-405b --platform hgx-h200 --weight-precision fp8 --concurrency 64 --isl 8000 --osl 800",
    "--model kimi-k2-thinking --platform gb300-nvl72 --tp 16 --ep 16 --dp 16 --num-gpus 16 --concurrency 256",
    "--model llama-3.3-70b --platform gh200 --weight-precision fp8 --prefix-tier host "
    "--prefix-cached-frac 0.8",
    "--model deepseek-v3.2 --platform hgx-h200 --experts-resident-frac 0.5 --concurrency 16",
    "--model llama-3.1-70b --gpu a100-80g --tp 4 --pp 2 --num-gpus 8 --concurrency 64 "
    "--against engine=trtllm",
    "--model qwen2.5-72b --gpu h100-sxm --tp 4 --concurrency 32 --fabric fabric.json",
    "--model glm-4.6 --platform hgx-b200 --concurrency 64 --source my-own-lab --against weight-precision=fp4",
    "--model llama-3.1-405b --gpu l4",
)
LOOK = (
    "models", "gpus", "platforms", "models qwen", "coefficients", "coefficients ms",
    "audit --model llama-3.1-8b --gpu h100-sxm --tpot-ms 1",
    "audit --model llama-3.1-8b --gpu h100-sxm --tok-s-per-user 150 --concurrency 1",
    "audit --model deepseek-r1 --platform hgx-h200 --output-tok-s 90000 --concurrency 64",
    "audit --model llama-3.3-70b --gpu h100-sxm --tp 4 --ttft-ms 80 --e2e-ms 9000 --isl 2000 --osl 300",
    "audit --model llama-3.3-70b --gpu h100-sxm",
    "predict --model llama-3.3-70b --gpu h100-sxm --tp 8 --fabric fabric.json",
    "predict --model lama-3.3 --gpu h100-sxm",
    "predict --frame frame.csv",
)  # fmt: skip
SWEEP = (
    "--model llama-3.1-8b --platform hgx-h100 --platform l40s-8x --engine vllm --concurrency 8 "
    "--concurrency 64",
    "--model deepseek-r1 --platform hgx-b200 --lengths 1024/1024 --lengths 8192/1024 --concurrency 32 "
    "--concurrency 512 --spec-decode none --spec-decode mtp --weight-precision fp8",
    "--model gpt-oss-120b --platform mi300x-8x --platform hgx-h200 --boxes 1 --boxes 2 "
    "--concurrency 128 --basis rent",
)
SAID = "--gpu h100-sxm --date 2026-05-04 --weight-precision bf16 --tp 1"
WHOLE = f"{SAID} --model llama-3.1-8b --engine vllm --mode closed-loop --concurrency 16 --isl 1000 --osl 200"
RUNS = ("", f"{SAID} --engine vllm", WHOLE)
# What files are asked with beyond RUNS, by the start of their path.
OWN = {
    "01": f"{SAID} --engine vllm --disagg --prefill-gpus 1 --decode-gpus 1",
    "02": f"{SAID} --replicas 4",
    "04_sg": SAID,
    "03": f"{SAID} --model llama-3.1-8b --prefill-gpus 1 --decode-gpus 1",
    "05": f"{SAID} --model llama-3.1-8b --engine trtllm",
    "06": f"{SAID} --engine vllm --mode closed-loop --concurrency 16",
    "09": "--gpu b200-sxm --tp 8 --engine vllm",
    "10": "--tp 1 --engine vllm --weight-precision bf16",
    "11": SAID,
    "12": SAID,
    "13": "--gpu l40s --tp 1 --engine vllm --weight-precision bf16",
    "14": "--model llama-2-70b --isl 222 --weight-precision fp8 --tp 1 --date 2026-05-04",
    "15": "--gpu h100-sxm --date 2026-05-04",
    "aiperf_0.13.0_rate.csv": f"{SAID} --model llama-3.1-8b --engine vllm --request-rate 8",
    "aiperf_0.13.0_conc": f"{SAID} --engine vllm",
    "guidellm": f"{SAID} --engine vllm --source my-own-lab --length-kind uniform",
    "sglang": f"{SAID} --engine sglang --model llama-3.1-8b",
    "18": "--gpu l4 --tp 1 --engine vllm --weight-precision bf16",
}


def names() -> Names:
    """Return the names of the catalogue."""
    return Names(
        *(
            [row["name"] for row in command([kind, "--json"])["out"]]
            for kind in ("models", "gpus", "platforms")
        )
    )


def predictions(place: int) -> list[Values]:
    """Return the requests that are predicted as one frame, or (place above 0) in another section."""
    count, seed = ((1600, 11), (200, 12), (100, 13), (350, 14))[place]
    made = requests(count, seed, names())
    return made + measured((400, 0, 0, 150)[place], seed, pd.read_parquet(_table()))


def _table() -> Path:
    """Return the shipped table, wherever the package keeps it."""
    return min(path for path in ROOT.rglob("benchmarks.parquet") if ".venv" not in path.parts)


def inputs_of(section: str) -> list[Values]:
    """Return a section's questions."""
    lists = {"recommend": RECOMMEND, "explain": EXPLAIN, "look": LOOK}
    if section in lists:
        head = [] if section == "look" else [section]
        files = CONFIG | {"fabric.json": json.dumps(FABRICS[0])}
        files |= {"frame.csv": pd.DataFrame(predictions(0)[:40]).to_csv(index=False)}
        return [_asked([*head, *line.split(), "--json"], files) for line in lists[section]]
    made: dict[str, Any] = {
        "frame": lambda: predictions(0),
        "single": lambda: predictions(0)[::13][:150],
        "frame_on_measured_fabric": lambda: [
            {**asked, "fabric": json.dumps(FABRICS[i % 2])} for i, asked in enumerate(predictions(1))
        ],
        "entered": _entered,
        "audit": _claims,
        "sweep": lambda: [{"argv": ["sweep", *line.split()]} for line in SWEEP],
        "fabric": lambda: [{"argv": [f.name]} for f in sorted((shared() / "fabric").glob("*.txt"))],
        "ingest_real": lambda: _ingested(next((ROOT / "tests").rglob("readers/real")), False),
        "ingest_shared": lambda: _ingested(shared() / "cases" / "ingest", True),
        "table": lambda: [{}],
    }
    found: list[Values] = made[section]()
    return found


def _asked(argv: list[str], files: Values) -> Values:
    """Return a command with the files that it names."""
    return {"argv": argv, "files": {name: text for name, text in files.items() if name in argv}}


def _entered() -> list[Values]:
    """Return the commands that enter models, then requests for those models."""
    enter = [_asked(["recommend", *line.split(), "--json"], CONFIG) for line in ENTER]
    with scratch():
        Path("tiny").mkdir()
        Path("tiny/config.json").write_text(CONFIG["tiny/config.json"], encoding="utf-8")
        own = command([*enter[-1]["argv"]])["out"]["model"]
    models = (*ENTERED, own)
    asked = [{**row, "model": models[i % 4]} for i, row in enumerate(predictions(2))]
    return [{"commands": enter}, *asked]


def _claims() -> list[Values]:
    asked = predictions(3)
    with tempfile.TemporaryDirectory() as folder:
        answers = replayed("frame", asked, Path(folder))
    made = claims(asked, answers, 15)
    return made + gaps(made)


def _ingested(folder: Path, from_shared: bool) -> list[Values]:
    files = [f for f in sorted(folder.rglob("*")) if f.is_file() and f.suffix != ".md"]
    out = []
    for name in (f.relative_to(folder).as_posix() for f in files):
        runs = RUNS[:: 2 if name.startswith("20_unsupported") else 1]
        own = [line for start, line in OWN.items() if name.startswith(start)]
        out.append({"file": name, "shared": from_shared, "runs": [line.split() for line in (*runs, *own)]})
    return out


def replayed(section: str, inputs: list[Values], folder: Path) -> list[Values]:
    """Return the answers to a section's questions, made in a process of its own."""
    asked, answered = folder / f"{section}.json.gz", folder / "answers.json.gz"
    write(asked, {"inputs": inputs})
    subprocess.run([sys.executable, str(HERE / "replay.py"), str(asked), str(answered)], check=True)
    found: list[Values] = read(answered)
    return found


def empty_store() -> None:
    """Write the store that ingestion starts from: what a first ingestion creates, without its rows."""
    with scratch() as folder:
        path = next((ROOT / "tests").rglob("vllm_bench_serve_0.33.0_closed.json"))
        command(
            ["ingest", str(path), *SAID.split(), "--engine", "vllm", "--store", str(folder / "s.parquet")]
        )
        pd.read_parquet("s.parquet").head(0).to_parquet(EMPTY_STORE, index=False)


def run(sections: list[str]) -> None:
    """Write the named sections."""
    for section in sections:
        start = time.perf_counter()
        if SECTIONS[section][1] and not shared().is_dir():
            sys.stdout.write(f"{section}: left as it is, no collected sources at {shared()}\n")
            continue
        if section == "ingest_real":
            empty_store()
        inputs = inputs_of(section)
        with tempfile.TemporaryDirectory() as folder:
            answers = replayed(section, inputs, Path(folder))
        kept = [i for i, answer in enumerate(answers) if '"crash":' not in json.dumps(answer)]
        for i in sorted(set(range(len(inputs))) - set(kept)):
            sys.stdout.write(f"{section}: left out, ends with a traceback: {json.dumps(inputs[i])[:300]}\n")
        inputs, answers = [inputs[i] for i in kept], [answers[i] for i in kept]
        target = HERE / f"{section}.json.gz"
        write(target, {"inputs": inputs, "answers": answers})
        size, seconds = target.stat().st_size / 1e3, time.perf_counter() - start
        sys.stdout.write(f"{section}: {len(inputs)} questions, {size:.0f} kB, {seconds:.1f} s\n")


if __name__ == "__main__":
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    run(sys.argv[1:] or list(SECTIONS))
