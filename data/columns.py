"""The table of columns: everything that can be asked of a prediction or stored of a measurement, once each.

Requests, the store's schema, readers, command-line options and their help, MLflow's signature and the docs'
tables are derived from it: a new column is one entry here.
"""

from __future__ import annotations

from dataclasses import dataclass

from .vocabulary import ARRIVALS, LAYOUTS, LENGTH_KINDS, MODES, STATISTICS, SWITCHES, TIERS, TPOT_KINDS


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column.

    kind: text, name (text from `allowed`), number, count (a whole number), degree (a count, or true for all),
    share (0 to 1) or flag. role: what it speaks of (see ROLES). asked: a request may hold it; stored: a
    benchmark row does. allowed: names that a stored row may hold; low, high: least and most [unit] that a
    serving system can show. default: what a request means by leaving it out, or `otherwise` in words where
    that depends; missing: what a stored row holds where it is not given ("" or NaN if None). label: a
    figure's name in tables for people. spellings: what engines and their benchmarks call it; of several that
    are given the first counts.
    """

    name: str
    kind: str = "text"
    role: str
    unit: str = ""
    help: str = ""
    label: str = ""
    asked: bool = False
    stored: bool = True
    required: bool = False
    allowed: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 1e12
    default: float | str | None = None
    otherwise: str = ""
    missing: float | str | None = None
    spellings: tuple[str, ...] = ()

    @property
    def is_text(self) -> bool:
        """Whether its values are text."""
        return self.kind in ("text", "name")

    @property
    def described(self) -> str:
        """Its help, with the default."""
        default = f"{self.default:g}" if isinstance(self.default, float) else self.default
        meant = default or self.otherwise
        return f"{self.help} [default: {meant}]" if meant else self.help


# What is asked about; how it is laid out, in all and in two pools; how it is loaded; how the engine is set;
# what lies in host memory; where a row comes from; how its figures were taken; what was measured; how much it
# counts.
ROLES = ("subject", "layout", "pool", "load", "setting", "tier", "origin", "statistic", "measured", "weight")
_STORED_PRECISIONS = ("fp32", "bf16", "fp8", "fp4", "int8", "int4")


def _asked(name: str, kind: str, role: str, help: str, **more: object) -> Column:
    return Column(name=name, kind=kind, role=role, help=help, asked=True, **more)  # type: ignore[arg-type]


def _measured(name: str, unit: str, help: str = "", label: str = "", **more: object) -> Column:
    return Column(name=name, kind="number", role="measured", unit=unit, help=help, label=label, **more)  # type: ignore[arg-type]


TABLE = (
    _asked("model", "text", "subject", "Model: a name, checkpoint id, size or config.json.", required=True),
    _asked("gpu", "text", "subject", "GPU: b200-sxm, H100 80GB, 8xMI300X, p5.48xlarge.", required=True),
    _asked("platform", "text", "subject", "Platform name, such as hgx-b200, instead of --gpu.", stored=False),
    _asked("num_gpus", "count", "layout", "GPUs of the whole deployment.", required=True, low=1, high=1e5),
    _asked("num_nodes", "count", "layout", "Machines of the whole deployment."),
    _asked("engine", "text", "subject", "vllm, trtllm, sglang, ...", required=True, default="vllm"),
    _asked("engine_version", "text", "subject", "Version of the engine."),
    _asked("date", "text", "subject", "Age of the software, YYYY-MM", otherwise="of the version, or newest"),
    _asked("weight_precision", "name", "subject", "bf16, fp8, fp4, int8, int4",
           allowed=_STORED_PRECISIONS, missing="bf16", spellings=("quantization", "dtype")),
    _asked("kv_precision", "name", "subject", "Precision of the KV cache, as above.",
           allowed=("", *_STORED_PRECISIONS), spellings=("kv_cache_dtype",)),
    _asked("layout", "name", "layout", "Where no degree is given: best of those that fit, or given (tp to 8)",
           allowed=LAYOUTS, default="best", stored=False),
    _asked("tp", "count", "layout", "Tensor-parallel degree", otherwise="the best",
           spellings=("tensor_parallel_size", "tp_size")),
    _asked("pp", "count", "layout", "Pipeline-parallel degree", default=1.0, missing=1.0,
           spellings=("pipeline_parallel_size", "pp_size")),
    _asked("ep", "degree", "layout", "Expert-parallel degree, or true: all GPUs of a copy", default=1.0,
           spellings=("expert_parallel_size", "ep_size", "enable_expert_parallel")),
    _asked("dp", "count", "layout", "Attention-data-parallel degree", default=1.0,
           spellings=("data_parallel_size", "dp_size")),
    Column(name="replicas", kind="count", role="layout"),
    _asked("disagg", "flag", "layout", "Prefill and decode on separate GPUs.", high=1.0, missing=0.0),
    _asked("prefill_gpus", "count", "layout", "GPUs that prefill, with --disagg."),
    _asked("decode_gpus", "count", "layout", "GPUs that decode, with --disagg."),
    *(Column(name=f"{pool}_{what}", kind="count", role="pool", asked=True)
      for pool in ("prefill", "decode") for what in ("tp", "ep", "dp", "workers")),
    _asked("spec_decode", "name", "subject", "Speculation: none, mtp, eagle, draft.",
           allowed=("", "none", "mtp", "eagle", "eagle3", "draft", "medusa"), missing="none"),
    _asked("mode", "name", "load", ", ".join(MODES) + ".", required=True, allowed=MODES,
           missing="closed-loop"),
    _asked("isl", "number", "load", "Tokens in per request", unit="tokens", low=1, high=2e7, default=1024.0,
           spellings=("input_len", "random_input_len")),
    _asked("osl", "number", "load", "Tokens out per request", unit="tokens", low=1, high=1e6, default=1024.0,
           required=True, spellings=("output_len", "random_output_len")),
    _asked("length_spread", "text", "load",
           "How lengths vary about isl and osl: fixed, dataset (they are means), a benchmark client's range "
           "ratio such as 0.8 or 0.8-1 (they are the longest), inferencex", otherwise="not known",
           stored=False, spellings=("random_range_ratio",)),
    _asked("concurrency", "number", "load", "Requests in flight, all replicas together", unit="requests",
           default=32.0, spellings=("max_concurrency", "num_prompts"), low=0.5, high=1e7),
    _asked("request_rate", "number", "load", "Requests per second (open loop).", unit="1/s",
           low=1e-5, high=1e6),
    _asked("arrival", "name", "load", ", ".join(ARRIVALS) + ": how requests come.", allowed=ARRIVALS,
           otherwise="poisson at a rate, burst of `concurrency` offline, else steady", stored=False),
    _asked("prefix_cached_frac", "share", "load", "Share of the prompt found in a cache.", high=1.0),
    *(_asked(f"{name.lower()}_limit_ms", "number", "load", f"Limit of {name} for goodput.", unit="ms",
             stored=False) for name in ("TTFT", "TPOT")),
    _asked("source", "text", "origin",
           "Who measures: a source of the table, or any other name for wider intervals.", required=True),
    _asked("accept_length", "number", "setting", "Tokens per step under speculation, with the verified one",
           unit="tokens", otherwise="as measured on average", stored=False),
    _asked("accept_rate", "share", "setting", "Share of the draft tokens that is accepted, instead.",
           stored=False),
    _asked("draft_tokens", "count", "setting", "Tokens drafted per step", unit="tokens", default=3.0,
           spellings=("num_speculative_tokens",), stored=False),
    _asked("max_num_seqs", "count", "setting", "Sequences that one engine schedules at once", default=1024.0,
           spellings=("max_running_requests", "max_batch_size"), stored=False),
    _asked("max_num_batched_tokens", "count", "setting", "Prompt tokens of one pass", unit="tokens",
           default=8192.0, spellings=("chunked_prefill_size", "max_num_tokens"), stored=False),
    _asked("gpu_memory_utilization", "share", "setting", "Share of the GPU memory to fill", default=0.95,
           spellings=("mem_fraction_static",), stored=False),
    _asked("enforce_eager", "flag", "setting", "Launch every kernel by itself: no CUDA graphs.",
           spellings=("disable_cuda_graph",), stored=False),
    _asked("prefix_caching", "name", "setting", "on or off; the share that it finds is prefix_cached_frac",
           allowed=SWITCHES, default="on", spellings=("enable_prefix_caching",), stored=False),
    _asked("cpu_offload_gb", "number", "setting", "Weights per GPU in host memory, read at every step.",
           unit="GiB", stored=False),
    _asked("kv_hot_tokens", "number", "tier",
           "Tokens per sequence whose KV stays in HBM; the rest in host memory.", unit="tokens",
           stored=False),
    _asked("kv_reread_every", "count", "tier",
           "Steps between reads of the cold KV: 1 every step, 0 never", default=1.0, stored=False),
    _asked("prefix_tier", "name", "tier", "Where cached prefixes lie: hbm or host", allowed=TIERS,
           default="hbm", stored=False),
    _asked("experts_resident_frac", "share", "tier", "Share of the experts in HBM; the rest in host memory.",
           stored=False),
    _asked("host_bandwidth_gb_s", "number", "tier", "One-way rate to host memory per GPU", unit="GB/s",
           otherwise="the platform's", stored=False),
    _asked("host_memory_gb", "number", "tier", "Host memory per GPU", unit="GB", otherwise="the platform's",
           stored=False),
    Column(name="row_id", role="origin", required=True),
    *(Column(name=name, role="origin")
      for name in ("config_group", "source_family", "source_ref", "license", "platform_raw", "notes")),
    Column(name="stated", role="origin",
           help="What the source says where the table says otherwise: JSON, request column to value."),
    Column(name="length_kind", kind="name", role="statistic", allowed=LENGTH_KINDS, missing="fixed",
           help="Lengths of the requests: fixed, uniform (a range), dataset."),
    *(Column(name=name, kind="name", role="statistic", allowed=("", *STATISTICS))
      for name in ("ttft_stat", "tpot_stat")),
    Column(name="tpot_kind", kind="name", role="statistic", allowed=("", *TPOT_KINDS)),
    _measured("output_tok_s", "tok/s", "output tokens per second, the whole deployment", "output",
              low=1e-3, high=1e10),
    _measured("total_tok_s", "tok/s", "tokens per second, in and out, the whole deployment",
              "input + output", low=1e-3, high=1e11),
    _measured("request_s", "1/s", "requests per second, the whole deployment", "requests",
              low=1e-7, high=1e8),
    _measured("ttft_ms", "ms", "time to first token, in ms", "time to first token", low=1e-2, high=1e8),
    _measured("tpot_ms", "ms", "time per output token after the first, in ms", "time per output token",
              low=1e-3, high=1e6),
    _measured("ttft_mean_ms", "ms", "mean time to first token, in ms", "its mean"),
    _measured("tpot_mean_ms", "ms"),
    *(_measured(f"{figure}_p{percent}_ms", "ms", f"{percent}th percentile of {figure.upper()}, in ms",
                f"{figure.upper()}, p{percent}") for figure in ("ttft", "tpot") for percent in (90, 99)),
    _measured("e2e_ms", "ms", "time of a whole request, in ms", "end to end"),
    _measured("power_w", "W"),
    _measured("tok_s_per_user", "tok/s", "tokens per second of one stream: 1000 / TPOT", "output per user",
              stored=False),
    _measured("tok_s_per_gpu", "tok/s", "output tokens per second and GPU", "output per GPU", stored=False),
    _measured("total_tok_s_per_gpu", "tok/s", "tokens per second and GPU, in and out", stored=False),
    Column(name="weight", kind="number", role="weight", high=1.0, missing=1.0),
    Column(name="duplicates", kind="number", role="weight", high=1e6, missing=0.0),
)  # fmt: skip
COLUMNS = {column.name: column for column in TABLE}

# The figures that are learned, judged and explained; the answers of a prediction, and the bounds of each.
FIGURES = ("tpot_ms", "ttft_ms", "output_tok_s", "ttft_mean_ms")
LEARNED = (
    "output_tok_s", "total_tok_s", "ttft_ms", "ttft_mean_ms", "ttft_p90_ms", "ttft_p99_ms", "tpot_ms",
    "tpot_p90_ms", "tpot_p99_ms", "e2e_ms",
)  # fmt: skip
ANSWERS = (*LEARNED, "request_s", "tok_s_per_gpu", "tok_s_per_user")  # the last follow from the first
BOUNDS = ("", "_lo", "_hi")
GOODPUT = "goodput_request_s"  # of requests that hold the limits asked for


def names(*, asked: bool | None = None, stored: bool | None = None, text: bool | None = None,
          roles: tuple[str, ...] = ROLES) -> tuple[str, ...]:  # fmt: skip
    """Return the names of the columns of these roles that are asked, stored, text (None: either)."""
    wanted = (("asked", asked), ("stored", stored), ("is_text", text))
    chosen = [(field, value) for field, value in wanted if value is not None]
    columns = (c for c in TABLE if c.role in roles)
    return tuple(c.name for c in columns if all(getattr(c, field) == value for field, value in chosen))


def default_of(name: str) -> float:
    """Return what a request means by leaving out a column of numbers that has a default."""
    return float(COLUMNS[name].default or 0.0)


STORED_TEXTS = names(stored=True, text=True)
STORED_NUMBERS = names(stored=True, text=False)
STORED = (*STORED_TEXTS, *STORED_NUMBERS)
TIER_COLUMNS = names(roles=("tier",))
POOL_COLUMNS = names(roles=("pool",))  # the layout of two pools: benchmark rows know it, users may say it
REQUEST_COLUMNS = tuple(n for n in names(asked=True) if n not in POOL_COLUMNS)
ASKED = REQUEST_COLUMNS + POOL_COLUMNS
SPELLED = {spelling: column.name for column in TABLE for spelling in column.spellings}
