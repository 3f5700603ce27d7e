"""The accuracy report for readers: `report.accuracy`'s figures as markdown tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .metrics import METRICS, NAMES, PREDICTIONS, SLICES
from .model.support import STRATA
from .splits import PROTOCOLS

COVERAGE_TARGET = (0.86, 0.94)
COVERAGE_GPUS = ("b200-sxm", "gb200", "h100-sxm", "h200-sxm")
_LARGE_SLICE = 100
BASELINE_TARGET = 2.0  # times the floor's median error, at the least
REFERENCE_NAMES = {
    "blend": "roofcast",
    "baseline": "baseline",
    "floor": "floor",
    "neighbour": "nearest neighbour",
    "pure_ml": "LightGBM alone",
}

Records = list[dict[str, Any]]


def render(report: Mapping[str, Any], studies: Mapping[str, str] | None = None) -> str:
    """`report.accuracy`'s figures as markdown; `studies` say per protocol what its worst rows showed."""
    overall = _in_order(report["overall"])
    by_slice = "\n\n".join(_slice_table(report["slices"], name) for name in SLICES)
    gains = _in_order(report["baseline_against_floor"])
    coverage = _coverage_table(overall, report["coverage_by_gpu"])
    sections = {
        "# Accuracy": f"{_INTRODUCTION}\n\n{_meta_lines(report['meta'])}",
        "## Targets": _target_table(report["targets"]),
        "## Beside the references": f"{_REFERENCES_NOTE}\n\n{_overall_tables(overall)}",
        "## Interval coverage": f"{_COVERAGE_NOTE}\n\n{coverage}\n\n{_slice_coverage(report['slices'])}",
        "## What the physics alone gives": _gain_table(gains),
        "## The blend by distance from what was measured": f"{_SUPPORT_NOTE}\n\n{_support_table(report)}",
        "## Beside a profile-based estimator": f"{_GROUND_NOTE}\n\n{_ground_table(report['own_ground'])}",
        "## Slices": f"{_SLICES_NOTE}\n\n{by_slice}",
    }
    if report.get("advice"):
        sections["## As advice"] = f"{_ADVICE_NOTE}\n\n{_advice_table(report['advice'])}"
    if report["worst"]:
        sections["## Where a target is missed: the worst rows"] = _worst_part(report["worst"], studies or {})
    return "\n\n".join(f"{title}\n\n{text}" for title, text in sections.items()) + "\n"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A markdown table; floats are rounded to three digits, None and NaN are dashes.

    >>> print(markdown_table(["a", "b"], [["x", 1234.5678]]))
    | a | b |
    |---|---|
    | x | 1,235 |
    """
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    lines += [f"| {' | '.join(_cell(value) for value in row)} |" for row in rows]
    return "\n".join(lines)


_INTRODUCTION = (
    "Written by `roofcast evaluate`, which splits by group before anything is fitted, calibrated or tuned: "
    "every row is predicted by a model that saw nothing of its group. Errors are absolute percentage errors; "
    "'p90' is the 90th percentile; 'width' is the 90 % interval's median width relative to the prediction. "
    "What each part of the model is worth, measured by leaving it out: [ablations.md](ablations.md)."
)
_REFERENCES_NOTE = (
    "All columns are on the same rows and folds: **median** · mean · p90 of the error. 'Unanswered' counts "
    "measured rows left without a prediction. The nearest neighbour is the measured value of the nearest "
    "training row; 'LightGBM alone' has the raw request and catalogue columns, no physics."
)
_COVERAGE_NOTE = (
    "Percentage of rows inside their 90 % interval, overall and by GPU; wanted: "
    f"{100 * COVERAGE_TARGET[0]:.0f} to {100 * COVERAGE_TARGET[1]:.0f} % (what lies outside is bold). "
    "Rows of one family err together, so a slice of few families lies outside by chance; 'beyond chance' is "
    "outside by more than two standard errors over families."
)
_SUPPORT_NOTE = (
    "Rows of all protocols by what training had seen of them: `setup` the same at another load, `family` the "
    "same GPU, model and engine, `parts` GPU and model apart, `model` or `gpu` never; `+source` where who "
    "measured was new too. The correction's weight is learned per stratum and time from held-out groups. "
    "Median errors in per cent; 'against the better' is the blend's error over the lesser of the other two "
    "(wanted: at most + 5 %).\n\n![Error by support](support.png)"
)
_GROUND_NOTE = (
    "roofcast under its own grouped protocols against the best published profile-based estimator: 15 to 17 % "
    "(TPOT) and 45 to 50 % (TTFT) on aiconfigurator's accuracy sample, of which it answers about half, and "
    "8 % on the offline throughput of dense models under TensorRT-LLM. Median errors."
)
_SLICES_NOTE = (
    "roofcast's median error and, in brackets, coverage, per slice of 20 rows or more; all in per cent."
)
_ADVICE_NOTE = (
    "Workloads under which three or more configurations were measured, and limits that some of them meet: "
    "each method names the configuration that it expects to give the most output per dollar within the "
    "limit. Success: it met the limit in the measurement; promised: the mean probability that roofcast gave "
    "its choices. Overspend and regret, over the successes: its cost per token over that of the best "
    "configuration that met the limit, and its shortfall of output per dollar. Wanted: success of 85 % or "
    "more, regret of 10 % or less."
)


def _meta_lines(meta: Mapping[str, Any]) -> str:
    return "\n".join(f"- {name.replace('_', ' ')}: {_cell(value)}" for name, value in meta.items())


def _target_table(targets: Records) -> str:
    header = ["protocol", "metric", "rows", "median error %", "target %", "crude roofline + LightGBM %", ""]
    return markdown_table(
        header, ([*_key(t), t["median_ape"], t["target"], t["crude"], _verdict(t["met"])] for t in targets)
    )


def _overall_tables(overall: Records) -> str:
    return "\n\n".join(
        f"### {NAMES[metric]}\n\n{_overall_table([row for row in overall if row['metric'] == metric])}"
        for metric in METRICS
        if any(row["metric"] == metric for row in overall)
    )


def _overall_table(rows: Records) -> str:
    shown = [name for name in PREDICTIONS if f"{name}_median_ape" in rows[0]]
    columns = [f"{REFERENCE_NAMES[name]} %" for name in shown]
    lines = [
        [
            row["protocol"],
            row["rows"],
            row["unanswered"],
            *errors,
            _share(row["coverage"]),
            row["median_width"],
        ]
        for row, errors in ((row, [_three(row, name) for name in shown]) for row in rows)
    ]
    header = ["protocol", "rows", "unanswered", *columns, "coverage %", "width %"]
    return markdown_table(header, lines)


def _coverage_table(overall: Records, by_gpu: Records) -> str:
    found = {(row["protocol"], row["metric"], row["gpu"]): row["coverage"] for row in by_gpu}
    lines = []
    for row in overall:
        gpus = [found.get((row["protocol"], row["metric"], gpu)) for gpu in COVERAGE_GPUS]
        lines.append([row["protocol"], NAMES[row["metric"]], *map(_judged, [row["coverage"], *gpus])])
    return markdown_table(["protocol", "metric", "all", *COVERAGE_GPUS], lines)


def _support_table(report: Mapping[str, Any]) -> str:
    rows = sorted(
        report["by_support"],
        key=lambda row: (METRICS.index(row["metric"]), STRATA.index(row["stratum"])),
    )
    header = ["metric", "stratum", "rows", "baseline %", "correction %", "blend %", "against the better %"]
    names = ("rows", "baseline", "corrected", "blend")
    return markdown_table(
        header,
        (
            [
                NAMES[row["metric"]],
                row["stratum"],
                *(row[name] for name in names),
                f"{100 * row['worse']:+.1f}",
            ]
            for row in rows
        ),
    )


def _slice_coverage(rows: Records) -> str:
    """Say how many slices of 100 rows or more have the wanted coverage, by protocol and kind of slice.

    Beyond chance: outside even if the coverage is two standard errors off, families being the draws.
    """
    low, high = COVERAGE_TARGET
    large = [row for row in rows if row["rows"] >= _LARGE_SLICE]
    lines = []
    for protocol in PROTOCOLS:
        for name in SLICES:
            here = [row for row in large if (row["protocol"], row["slice"]) == (protocol, name)]
            if here:
                found = [row["coverage"] for row in here]
                inside = sum(low <= value <= high for value in found)
                sure = sum(
                    not low - 2.0 * row["coverage_error"]
                    <= row["coverage"]
                    <= high + 2.0 * row["coverage_error"]
                    for row in here
                )
                lines.append([protocol, name.replace("_", " "), len(here), inside, sure,
                              _judged(min(found)), _judged(max(found))])  # fmt: skip
    header = [
        "protocol", "slice", f"of {_LARGE_SLICE} rows or more", "inside", "outside beyond chance",
        "least %", "most %",
    ]  # fmt: skip
    return markdown_table(header, lines)


def _gain_table(gains: Records) -> str:
    factor = f"factor (wanted: {BASELINE_TARGET:.0f} or more)"
    figures = ("floor_median_ape", "baseline_median_ape", "factor")
    return markdown_table(
        ["protocol", "metric", "rows", "floor %", "baseline %", factor],
        ([*_key(gain), *(gain[figure] for figure in figures)] for gain in gains),
    )


def _ground_table(rows: Records) -> str:
    header = ["rows of", "protocol", "metric", "rows", "unanswered", "roofcast %", "theirs %", "better"]
    lines = []
    for row in sorted(_in_order(rows), key=lambda row: str(row["ground"])):
        theirs = " to ".join(f"{x:g}" for x in dict.fromkeys(row["theirs"]))
        better = "yes" if row["beats"] else "**no**"
        lines.append([row["ground"], *_key(row), row["unanswered"], row["median_ape"], theirs, better])
    return markdown_table(header, lines)


def _slice_table(rows: Records, name: str) -> str:
    here = [row for row in rows if row["slice"] == name]
    protocols = [p for p in PROTOCOLS if any(row["protocol"] == p for row in here)]
    cells = {(row["metric"], row["value"], row["protocol"]): row for row in here}
    sizes: dict[tuple[str, str], int] = {}
    for row in here:
        key = (row["metric"], row["value"])
        sizes[key] = max(sizes.get(key, 0), row["rows"])
    lines = [
        [
            NAMES[metric],
            value or "unknown",
            size,
            *(_error_and_coverage(cells.get((metric, value, p))) for p in protocols),
        ]
        for (metric, value), size in sorted(
            sizes.items(), key=lambda item: (METRICS.index(item[0][0]), -item[1])
        )
    ]
    title = name.replace("_", " ")
    return f"### By {title}\n\n{markdown_table(['metric', title, 'rows', *protocols], lines)}"


def _advice_table(rows: Records) -> str:
    names = {**REFERENCE_NAMES, "roofcast": "roofcast", "floor": "bare roofline"}
    header = [
        "protocol",
        "limit on",
        "questions",
        "chosen by",
        "success %",
        "promised %",
        "overspend %",
        "regret %",
    ]
    figures = ("success", "promised", "overspend", "regret")
    return markdown_table(
        header,
        (
            [row["protocol"], NAMES[row["metric"]], row["questions"], names[row["method"]]]
            + [None if row[name] is None else 100.0 * row[name] for name in figures]
            for row in rows
        ),
    )


def _worst_part(entries: Records, studies: Mapping[str, str]) -> str:
    parts: list[str] = []
    for protocol in dict.fromkeys(entry["protocol"] for entry in entries):
        parts += [f"### Protocol {protocol}", studies.get(protocol, "")]
        parts += [_worst_entry(entry) for entry in entries if entry["protocol"] == protocol]
    return "\n\n".join(part for part in parts if part)


def _worst_entry(entry: Mapping[str, Any]) -> str:
    common = "; ".join(
        f"{column}: " + ", ".join(f"{value or 'unknown'} ({count})" for value, count in counts.items())
        for column, counts in entry["common"].items()
    )
    rows, name = entry["rows"], NAMES[entry["metric"]]
    table = markdown_table(list(rows[0]), (list(row.values()) for row in rows))
    summary = f"<details><summary>{name}: the worst {len(rows)} rows</summary>\n\n{table}\n\n</details>"
    return f"{name}, most common among the worst {len(rows)}: {common}.\n\n{summary}"


def _key(row: Mapping[str, Any]) -> list[Any]:
    return [row["protocol"], NAMES[row["metric"]], row["rows"]]


def _in_order(rows: Iterable[dict[str, Any]]) -> Records:
    return sorted(rows, key=lambda row: (PROTOCOLS.index(row["protocol"]), METRICS.index(row["metric"])))


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value).replace("|", "\\|")
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _three(row: Mapping[str, Any], name: str) -> str:
    median, mean, p90 = (_cell(row[f"{name}_{figure}_ape"]) for figure in ("median", "mean", "p90"))
    return f"**{median}** · {mean} · {p90}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _judged(value: float | None) -> str:
    inside = value is None or COVERAGE_TARGET[0] <= value <= COVERAGE_TARGET[1]
    return _share(value) if inside else f"**{_share(value)}**"


def _verdict(met: bool) -> str:
    return "met" if met else "**missed**"


def _error_and_coverage(row: Mapping[str, Any] | None) -> str:
    return f"{_cell(row['blend_median_ape'])} ({_share(row['coverage'])})" if row else "-"
