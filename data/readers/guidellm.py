"""guidellm's JSON report: one benchmark per rate or number of streams.

Source of the format: vllm-project/guidellm (before: neuralmagic/guidellm) 0.8.1 (run against a mock server),
src/guidellm/benchmark/benchmark.py for the versions before 0.4, which keep the strategy under `args`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from .draft import Draft, Fields, at, done, load, loose, plain, refuse, statistics, take, when
from .records import Record

# Under metrics.NAME.successful. Their time_per_output_token divides the whole request, with the first token,
# by its tokens: not ours. Their inter_token_latency is (last - first token) / (tokens - 1) of a request:
# TPOT; its statistics weigh each request by its tokens. request_latency is in s, the rest in ms.
_STATISTICS = {"mean": "mean", "median": "p50", **{f"percentiles.{p}": p for p in ("p90", "p95", "p99")}}
FIELDS: Fields = {
    "requests_per_second.successful.mean": ("req_tput", 1.0),
    "output_tokens_per_second.successful.mean": ("output_tput", 1.0),
    "tokens_per_second.successful.mean": ("total_tput", 1.0),
    "prompt_token_count.successful.mean": ("isl", 1.0),
    "output_token_count.successful.mean": ("osl", 1.0),
    **statistics("time_to_first_token_ms.successful.{}", "ttft", names=_STATISTICS),
    **statistics("inter_token_latency_ms.successful.{}", "tpot", names=_STATISTICS),
    **statistics("request_latency.successful.{}", "e2e", 1000.0, _STATISTICS),
}
# One request after another, a number of streams, all at once, requests per second.
STREAMS = {"synchronous", "concurrent"}
RATES = {"constant", "poisson", "async"}


def knows(record: Record) -> bool:
    """Whether a record is a report of this tool."""
    benchmarks = record.get("benchmarks")
    return isinstance(benchmarks, list) and all(
        isinstance(at(one, "metrics.requests_per_second"), dict) for one in benchmarks
    )


def rows(record: Record) -> Iterator[Draft]:
    """Yield a row for each benchmark of the report."""
    for benchmark in record["benchmarks"]:
        yield _row(benchmark, record)


def _row(benchmark: Record, report: Record) -> Draft:
    backends = (at(benchmark, "config.backend"), at(benchmark, "worker.backend"), at(report, "args.backend"))
    model = next(filter(None, (plain(at(backend, "model")) for backend in backends)), "")
    model = model or plain(at(benchmark, "worker.backend_model")) or plain(at(report, "args.model"))
    began = at(benchmark, "start_time") or at(benchmark, "run_stats.start_time")
    draft: Draft = {"model_raw": model, "date": when(began)}
    take(draft, benchmark["metrics"], FIELDS)
    totals = at(benchmark, "metrics.request_totals") or at(benchmark, "request_totals")
    good, failed = loose(at(totals, "successful")), loose(at(totals, "errored"))
    if failed > 0:
        done(draft, good, good + failed)
    strategy = at(benchmark, "config.strategy") or at(benchmark, "args.strategy")
    kind = plain(at(strategy, "type_"))
    if kind in STREAMS:
        streams = loose(at(strategy, "streams")) if kind == "concurrent" else 1.0
        load(draft, rate=math.nan, cap=streams, requests=good)
    elif kind in RATES:
        load(draft, rate=loose(at(strategy, "rate")), cap=loose(at(strategy, "max_concurrency")))
    elif kind == "throughput":
        load(draft, rate=math.nan, cap=loose(at(strategy, "max_concurrency")), requests=good)
    else:
        refuse(draft, f"a load of kind '{kind}'")
    return draft
