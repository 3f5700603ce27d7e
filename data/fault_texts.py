"""How each fault of a row, and each remark on one, reads at the door: by code."""

from __future__ import annotations

# The column, value and allowed stand in the fields of errors.Fault.
FAULT_TEXTS = {
    # any stored row
    "value": "{column} = {value!r}: {allowed}",
    "unknown-column": "unknown column {column}",
    "missing-column": "missing column {column}",
    "unknown-name": "{allowed}",  # a catalogue's own error, with the nearest names
    "no-figure": "no throughput, TTFT or TPOT",
    "physics": "{allowed}",  # the judgement of whoever appends
    # names
    "not-in-catalogue": "{column} not in the catalogue: {value}",
    "name-to-say": "{allowed} (--{column} NAME says which)",
    "precision-inferred": "precision inferred",
    # layout
    "layout-width": "tp x pp x replicas is not num_gpus",
    "layout-ep": "ep wider than the instance",
    "layout-pools": "prefill + decode GPUs are not num_gpus",
    "replicas-counted": "replicas = num_gpus/(tp x pp)",
    # figures
    "range": "{column} out of range",
    "missing": "{allowed} unknown",
    "throughputs-disagree": "output and total throughput disagree with isl and osl",
    "output-derived": "output = total x osl/(isl+osl)",
    "prefill-only": "prefill only",
    "little": "throughput, latency and concurrency break Little's law",
    "time-unit": "as if latencies were in {value}",
    "weights-memory": "weights larger than the memory",
    "kv-memory": "more KV in flight than the memory holds",
    # the files of benchmark tools
    "not-a-number": "{column}: {value!r} is no number",
    "infinite": "{column}: infinite",
    "unit": "{column}: unknown unit '{value}'",
    "no-record": "{value}",
    "unknown-tool": "no result of a known tool",
    "failed-requests": "only {value:g} of {allowed:g} requests completed",
    "some-failed": "{value:g} of {allowed:g} requests completed",
    "cut-short": "the run was cut short",
    "embedding": "an embedding benchmark: it generates no tokens",
    "rate-changed": "the request rate changed during the run",
    "trace": "replays the arrival times of a trace: no steady rate",
    "load-kind": "a load of kind '{value}'",
    "pools-unknown": "GPUs of the prefill and decode pools unknown",
    "scenario": "scenario '{value}' is neither Server nor Offline",
    "accuracy-run": "mode '{value}': not a performance run",
    "not-valid": "the result is {value}",
    "formula": "{column}: {value!r} looks like a formula",
    "cells": "more or fewer cells than the header has",
    "contradicts-answer": "the file says {column} = {value}, {allowed}",
    "held-at-cap": "held at the cap, not at {value:g} requests/s",
    "more-came": "more requests came than the {value:g}/s asked for",
    "fewer-served": "served fewer requests than came",
    "burst": "all requests at once, nobody says how many: TTFT left out",
    "tokens-per-step": "{value:.2f} tokens per step",
    "data-set": "data set {value}",
    "fabric": "fabric {column}: {value}",
    "fabric-bare": "fabric {column}",
    # the collected sources (data/build): their table says the rest
    "source": "{value}",
    "task-mean": "{column}: mean of the task",
}
