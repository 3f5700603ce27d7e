"""docs/advise.md shows what the shipped bundle answers; `--regenerate` writes its tables."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from roofcast.predictor import Predictor
from roofcast.predictor.advisor import Advisor, Recommendation, Workload

from ..markdown import markdown_table

LADDER = ("b200", "hgx-b200", "gb200-superchip", "gb200-nvl72")
CHAT: dict[str, Any] = {"model": "qwen2.5-72b", "isl": 2048, "osl": 512}
# The chapter's rows: what is served in its words, the platform it names, and numbers that say the same.
CHAPTER: dict[str, tuple[str, dict[str, Any]]] = {
    "Qwen2.5-72B, one user, low latency": ("b200", {**CHAT, "users": 1, "ttft_ms": 1000, "tpot_ms": 20}),
    "Qwen2.5-72B, chat for hundreds of users": ("hgx-b200", {**CHAT, "users": 300, "tpot_ms": 30}),
    "Qwen2.5-72B, many users at 128k context": (
        "gb200-superchip", {"model": "qwen2.5-72b", "users": 16, "isl": 1024, "osl": 512, "context": 131072},
    ),
    "Qwen-MoE, small": ("gb200-superchip", {**CHAT, "model": "qwen3-30b-a3b", "users": 50, "tpot_ms": 30}),
    "Qwen-MoE, large": ("gb200-nvl72", {**CHAT, "model": "qwen3-235b-a22b", "users": 1000, "tpot_ms": 30}),
    "dense, 300 G and more": ("gb200-nvl72", {**CHAT, "model": "llama-3.1-405b", "users": 100}),
    "mixture of about 1 T": ("gb200-nvl72", {**CHAT, "model": "kimi-k2", "users": 1000}),
    "dense, about 1 T": ("gb200-nvl72", {**CHAT, "model": "1t", "users": 50}),
    "very many concurrent long contexts": (
        "gb200-nvl72",
        {"model": "qwen2.5-72b", "users": 10_000, "isl": 1024, "osl": 512, "context": 32768},
    ),
}  # fmt: skip
# Those of the chapter's answers that come out of the numbers.
AGREED = (
    "Qwen2.5-72B, one user, low latency",
    "Qwen2.5-72B, chat for hundreds of users",
    "Qwen2.5-72B, many users at 128k context",
)
Answers = dict[str, Recommendation]


@pytest.fixture(scope="module")
def advisor() -> Advisor:
    return Advisor(Predictor.load())


@pytest.fixture(scope="module")
def answers(advisor: Advisor) -> Answers:
    """The chapter's workloads on its ladder: only the numbers are read."""
    return {name: advisor.recommend(Workload(**w, platforms=LADDER)) for name, (_, w) in CHAPTER.items()}


def _check(name: str, table: str, page: Path, regenerate: bool) -> None:
    begin, end = f"<!-- begin: {name} -->\n", f"<!-- end: {name} -->"
    text = page.read_text(encoding="utf-8")
    if regenerate:
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        text = pattern.sub(lambda _: f"{begin}{table}\n{end}", text)
        page.write_text(text, encoding="utf-8")
    assert f"{begin}{table}\n{end}" in text


@pytest.mark.parametrize("name", AGREED)
def test_the_chapters_answer_comes_out_of_the_numbers(name: str, answers: Answers) -> None:
    best = answers[name].best
    assert best is not None
    assert best.platform == CHAPTER[name][0]


def test_cold_kv_lies_in_grace_where_the_chapter_puts_it(answers: Answers) -> None:
    best = answers["Qwen2.5-72B, many users at 128k context"].best
    assert best is not None
    assert best.tier["kv_hot_tokens"] == 16384
    assert best.boxes == 1


def test_very_many_long_contexts_take_several_racks(answers: Answers) -> None:
    """Beside rows of boxes, which cost about the same."""
    ranked = {d.platform: d for d in answers["very many concurrent long contexts"].ranked}
    assert ranked["gb200-nvl72"].boxes > 1
    assert ranked["gb200-nvl72"].cost_ratio < 1.5


def test_one_b200_has_the_best_price_per_token_where_it_suffices(answers: Answers) -> None:
    ranked = answers["Qwen2.5-72B, one user, low latency"].ranked
    assert min(ranked, key=lambda d: d.cost.usd_per_tok_s).platform == "b200"
    assert min(ranked, key=lambda d: d.cost.usd_per_m_output).platform == "b200"


def test_the_page_shows_the_chapters_workloads(answers: Answers, repo_root: Path, regenerate: bool) -> None:
    rows = []
    for name, (chapter, asked) in CHAPTER.items():
        answer, workload = answers[name], Workload(**asked)
        best, after = answer.best, answer.ranked[1] if len(answer.ranked) > 1 else None
        assert best is not None
        length = (
            f"{workload.context:,.0f} context" if workload.context else f"{workload.isl:g}/{workload.osl:g}"
        )
        ours = f"{best.what}, {best.weight_precision} {best.layout}"
        cost = f"${best.cost.usd_per_hour:,.2f}/h, {best.probability:.0%}"
        other = f"{after.what} ({after.cost_ratio:.2f}×, {after.probability:.0%})" if after else "none"
        numbers = f"{answer.model}, {workload.load_text()}, {length}, TPOT {workload.tpot_ms:g} ms"
        rows.append(
            [name, numbers, chapter, ours, cost, other, "yes" if best.platform == chapter else "**no**"]
        )
    header = ["workload", "in numbers", "chapter", "roofcast", "cost, limits hold", "next", "agree"]
    _check("chapter", markdown_table(header, rows), repo_root / "docs" / "chapter.md", regenerate)


def test_the_page_shows_how_many_boxes_one_replaces(
    advisor: Advisor, repo_root: Path, regenerate: bool
) -> None:
    workload = Workload(**CHAPTER["Qwen2.5-72B, chat for hundreds of users"][1])
    rows = []
    for platform, instead in (("hgx-b200", "hgx-h100"), ("hgx-b200", "hgx-h200"), ("hgx-b300", "hgx-b200")):
        ratio = advisor.replaces(platform, instead, workload)
        rows.append([f"one {platform}", instead, f"{ratio.value:.1f}", f"{ratio.lo:.1f} to {ratio.hi:.1f}"])
    table = markdown_table(["", "replaces", "boxes", "90 % interval"], rows)
    _check("replaces", table, repo_root / "docs" / "advise.md", regenerate)
