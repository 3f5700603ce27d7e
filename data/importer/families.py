"""Which rule reads which source: one line per source, by family."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from . import academic, aic, inferencex, mlperf, serving, vendor

Rule = Callable[[pd.DataFrame], None]


@dataclass(frozen=True, kw_only=True)
class Family:
    """Sources of one origin and the rule that aligns them in place; of copies the lowest `rank` is kept."""

    name: str
    rule: Rule
    sources: tuple[str, ...]
    rank: int = 5


FAMILIES = (
    Family(
        name="inferencex",
        rule=inferencex.runs,
        sources=("inferencex-app-fixtures", "inferencemax-official-2025-11", "inferencex-csv-export"),
        rank=1,
    ),
    Family(
        name="inferencex", rule=inferencex.database_dump, sources=("inferencex-dbdump-2026-07-20",), rank=4
    ),
    Family(name="inferencex", rule=inferencex.token_position, sources=("inferencex-token-position",)),
    Family(name="inferencex", rule=inferencex.trt_offline, sources=("inferencex-trt-offline",)),
    Family(
        name="inferencex",
        rule=inferencex.own_client,
        sources=("inferencex-branch-mi355x", "inferencex-supplemental-gaudi3"),
    ),
    Family(
        name="inferencex-client",
        rule=inferencex.own_client,
        sources=("faradawn-b200-own", "gloria-nebius-h200", "heyram74-nebius-h200"),
    ),
    Family(name="inferencex-client", rule=inferencex.throughput_only, sources=("faradawn-tput-only",)),
    Family(name="aic-nvidia", rule=aic.nvidia_part, sources=("aic-silicon-nvidia",)),
    Family(name="inferencex", rule=aic.inferencex_part, sources=("aic-silicon-inferencex",), rank=2),
    Family(name="atom", rule=academic.atom_ci, sources=("rocm-atom-ci",)),
    Family(name="argonne", rule=academic.argonne, sources=("argonne-llm-inference-bench",)),
    Family(
        name="mlperf",
        rule=mlperf.results,
        sources=("mlperf-v4.0", "mlperf-v4.1", "mlperf-v5.0", "mlperf-v5.1", "mlperf-v6.0"),
    ),
    Family(name="trtllm-docs", rule=vendor.trtllm_docs, sources=("trtllm-perf-overview",)),
    Family(name="trtllm-docs", rule=vendor.trtllm_blog, sources=("trtllm-blog",)),
    Family(
        name="sglang-docs",
        rule=vendor.sglang_cookbook,
        sources=("sglang-docs-cookbook", "sglang-cookbook", "sglang-cookbook-qwen3.5", "benhamm-b200-sglang"),
    ),
    Family(name="sglang-docs", rule=vendor.phase_only, sources=("lmsys-blog",)),
    Family(name="rocm-vllm", rule=vendor.rocm_docker, sources=("rocm-vllm-dev-docker",)),
    Family(name="qwen-speed", rule=vendor.qwen_speed, sources=("qwen-speed-benchmark",)),
    Family(name="neuron", rule=vendor.neuron, sources=("aws-neuron-benchmarks",)),
    Family(name="dynamo", rule=vendor.dynamo_presweep, sources=("dynamo-planner-presweep",)),
    Family(name="dynamo", rule=vendor.dynamo_recipes, sources=("dynamo-recipes",)),
    Family(
        name="vllm-docs", rule=vendor.vllm_documents, sources=("vllm-blog", "vllm-recipes", "vllm-buildkite")
    ),
    Family(name="lmdeploy", rule=vendor.lmdeploy, sources=("lmdeploy-docs",)),
    Family(
        name="vendor-docs",
        rule=vendor.documents,
        sources=(
            "qserve-readme",
            "optimum-habana-ci-baseline",
            "nim-benchmarking-docs",
            "google-tpu-recipes",
            "google-gpu-recipes",
            "vultr-b200-cookbook",
            "vultr-inference-cookbook",
            "llm-d-blog",
            "together-b200-baselines",
        ),
    ),
    Family(
        name="azure", rule=serving.azure, sources=("azure-ai-benchmarking-guide", "azure-gb300-llama2-70b")
    ),
    Family(name="anyscale", rule=serving.anyscale, sources=("anyscale-ray-serve",)),
    Family(name="gpustack", rule=serving.gpustack, sources=("gpustack-perf-lab",)),
    Family(
        name="community", rule=serving.replicas_behind_a_proxy, sources=("cloudrift", "llmservingsim-bench")
    ),
    Family(name="issues", rule=serving.issues, sources=("github-issues", "tt-inference-server-issues")),
    Family(name="mlenergy", rule=academic.ml_energy, sources=("mlenergy-v3",)),
    Family(name="mlenergy", rule=academic.ml_energy_multimodal, sources=("mlenergy-v3-mm",)),
    Family(name="llm-pilot", rule=academic.llm_pilot, sources=("ibm-llm-pilot",)),
    Family(name="accelmark", rule=academic.accelmark, sources=("accelmark",)),
    Family(name="splitwise", rule=academic.splitwise, sources=("splitwise",)),
    Family(name="lambda", rule=academic.lambda_vllm, sources=("lambda-vllm-bench",)),
    Family(
        name="open-loop",
        rule=academic.shared_requests,
        sources=(
            "llm-d-bench-may2025",
            "ionet-iog",
            "dstack-8xh100",
            "inference-perf-kubecon25",
            "simonmo-vllm-benchmark",
            "dstack-tgi-vs-vllm",
        ),
    ),
    Family(
        name="dstack",
        rule=academic.client_runs,
        sources=("dstack-deepseek-r1", "dstack-h100-mi300x", "dstack-pd-ratio", "openshift-psap-glm5"),
    ),
)

SOURCE_RANK = {source: family.rank for family in FAMILIES for source in family.sources}


def apply_rules(draft: pd.DataFrame) -> pd.DataFrame:
    """Return the draft, every source aligned by its family's rule; a source of no family is rejected."""
    parts = []
    known: set[str] = set()
    for family in FAMILIES:
        rows = draft[draft["source"].isin(family.sources)].copy()
        known.update(family.sources)
        if len(rows):
            rows["source_family"] = family.name
            family.rule(rows)
            parts.append(rows)
    strange = draft[~draft["source"].isin(known)].copy()
    if len(strange):
        parts.append(strange.assign(source_family="unknown", reject="no rule for this source"))
    return pd.concat(parts).sort_index()
