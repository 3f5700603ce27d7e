"""Commands that answer a question about one configuration or many: `predict`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from .shared import Bundle, Count, File, Json, Number, Text, fail, print_json, show

_NOT_REQUEST = {"frame", "out", "bundle", "as_json"}


def predict(
    model: Annotated[Text, typer.Option(help="Model: a catalogue name, alias or Hugging Face id.")] = None,
    gpu: Annotated[Text, typer.Option(help="GPU name, such as b200-sxm.")] = None,
    platform: Annotated[Text, typer.Option(help="Platform name, such as hgx-b200, instead of --gpu.")] = None,
    num_gpus: Annotated[Count, typer.Option(help="GPUs of the whole deployment.")] = None,
    num_nodes: Annotated[Count, typer.Option(help="Machines of the whole deployment.")] = None,
    engine: Annotated[Text, typer.Option(help="vllm, trtllm, sglang, ... [default: vllm]")] = None,
    engine_version: Annotated[Text, typer.Option(help="Version of the engine.")] = None,
    date: Annotated[Text, typer.Option(help="Age of the software, YYYY-MM [default: the newest]")] = None,
    weight_precision: Annotated[Text, typer.Option(help="bf16, fp8, fp4, int8, int4")] = None,
    kv_precision: Annotated[Text, typer.Option(help="Precision of the KV cache, as above.")] = None,
    tp: Annotated[Count, typer.Option(help="Tensor-parallel degree [default: the GPUs, to 8]")] = None,
    pp: Annotated[Count, typer.Option(help="Pipeline-parallel degree [default: 1]")] = None,
    ep: Annotated[Count, typer.Option(help="Expert-parallel degree [default: 1]")] = None,
    dp: Annotated[Count, typer.Option(help="Attention-data-parallel degree [default: 1]")] = None,
    disagg: Annotated[bool, typer.Option("--disagg", help="Prefill and decode on separate GPUs.")] = False,
    prefill_gpus: Annotated[Count, typer.Option(help="GPUs that prefill, with --disagg.")] = None,
    decode_gpus: Annotated[Count, typer.Option(help="GPUs that decode, with --disagg.")] = None,
    spec_decode: Annotated[Text, typer.Option(help="Speculation: none, mtp, eagle, draft.")] = None,
    mode: Annotated[Text, typer.Option(help="static-batch, closed-loop, open-loop, offline, server.")] = None,
    isl: Annotated[Number, typer.Option(help="Tokens in per request [default: 1024]")] = None,
    osl: Annotated[Number, typer.Option(help="Tokens out per request [default: 1024]")] = None,
    concurrency: Annotated[Number, typer.Option(help="Requests in flight, all replicas together.")] = None,
    request_rate: Annotated[Number, typer.Option(help="Requests per second (open loop).")] = None,
    prefix_cached_frac: Annotated[Number, typer.Option(help="Share of the prompt found in a cache.")] = None,
    frame: Annotated[File, typer.Option(help="CSV file with a request per row; no other request.")] = None,
    out: Annotated[File, typer.Option(help="With --frame: the CSV file to write.")] = None,
    bundle: Bundle = None,
    as_json: Json = False,
) -> None:
    """Predict one configuration, or with --frame every row of a CSV file."""
    given = {name: value for name, value in locals().items() if value is not None and value is not False}
    request = {name: value for name, value in given.items() if name not in _NOT_REQUEST}
    if frame is None:
        _predict_one(request, bundle, as_json)
    elif request:
        fail(f"--frame takes the requests from the file: drop --{next(iter(request)).replace('_', '-')}")
    else:
        _predict_file(frame, out, bundle, as_json)


def _predict_one(request: dict[str, Any], bundle: str | None, as_json: bool) -> None:
    from ..predictor import Predictor

    prediction = Predictor.load(bundle).predict(**request)
    if as_json:
        print_json(prediction.to_dict())
    else:
        show(prediction)


def _predict_file(path: Path, out: Path | None, bundle: str | None, as_json: bool) -> None:
    """Answer a CSV file: its columns with the answers after them, to --out or stdout."""
    import pandas as pd

    from ..predictor import Predictor

    try:
        requests = pd.read_csv(path)
    except (OSError, ValueError) as error:
        fail(f"{path} cannot be read as CSV: {error}")
    answers = Predictor.load(bundle).predict_frame(requests)
    table = pd.concat([requests.drop(columns=answers.columns, errors="ignore"), answers], axis=1)
    if as_json:
        sys.stdout.write(table.to_json(orient="records", indent=1, double_precision=15) + "\n")
    if out is not None:
        table.to_csv(out, index=False)
    elif not as_json:
        table.to_csv(sys.stdout, index=False)
