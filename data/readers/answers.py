"""What files leave open and the user answers: checked, added to the rows, and what is still missing."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from .. import catalogue
from ..columns import COLUMNS, names
from ..errors import BadRequest, UnknownName
from ..vocabulary import PRECISIONS, checkpoint_precision
from .base import ASK, Draft, drop, refuse, setting

# What may be answered for all rows: it fills gaps; a row whose file states otherwise is refused.
NAMES = (
    "model", "gpu", "platform", "engine", "engine_version", "weight_precision", "kv_precision", "spec_decode",
    "mode", "length_kind", "date", "source", "source_ref", "license",
)  # fmt: skip
FIGURES = names(roles=("layout", "load"), stored=True, text=False)
CATALOGUES: dict[str, Callable[[str], Any]] = {"gpu": catalogue.gpu, "model": catalogue.model}
_STATED = ("engine", "weight_precision", "kv_precision", "spec_decode")
_LOADED = {"closed-loop": "concurrency", "static-batch": "concurrency", "open-loop": "request_rate"}


def checked(answers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answers that were given, names as the catalogue has them. Raises BadRequest, UnknownName."""
    given = {name: value for name, value in answers.items() if value is not None and value != ""}
    if isinstance(given.get("disagg"), bool | np.bool_):  # a switch; elsewhere a truth value is no number
        given["disagg"] = float(given["disagg"])
    for name, value in list(given.items()):
        if name not in (*NAMES, *FIGURES):
            raise BadRequest(name, value, f"one of {', '.join((*NAMES, *FIGURES))}")
        column = COLUMNS[name]
        if column.allowed:
            given[name] = PRECISIONS.stored(str(value)) if name.endswith("precision") else value
            if given[name] not in column.allowed:
                raise BadRequest(name, given[name], f"one of {', '.join(filter(None, column.allowed))}")
        low, high = (column.low, column.high) if (column.low, column.high) != (0.0, 1e12) else (1, 1e6)
        if name in FIGURES and not low <= setting(value) <= high:
            raise BadRequest(name, value, f"a number between {low:g} and {high:g}")
    if not re.fullmatch(r"20\d\d(-[01]\d(-[0-3]\d)?)?", str(given.get("date", "2000"))):
        raise BadRequest("date", given["date"], "YYYY-MM-DD or YYYY-MM")
    platform = given.pop("platform", None)
    if platform is not None:
        spec = catalogue.platform(platform)
        if catalogue.gpu(given.setdefault("gpu", spec.gpu)).name != spec.gpu:
            raise BadRequest("gpu", given["gpu"], f"{spec.gpu}, which {spec.name} has")
        given["platform_raw"] = spec.name
    return given | {name: find(given[name]).name for name, find in CATALOGUES.items() if name in given}


def answered(draft: Draft, answers: Mapping[str, Any], tool: str) -> Draft:
    """Return a row with the answers where its file leaves a gap; refused where they contradict the file."""
    row = {"source": f"ingested-{tool.split()[0]}", "source_family": "ingested", **draft}
    for name in sorted(answers, key=lambda name: (name in FIGURES, name)):
        figure, stated = name in FIGURES, _stated(name, row)
        answer = float(answers[name]) if figure else answers[name]
        if stated in ("", answer):
            row[name] = answer
        elif not (figure and math.isclose(stated, answer, rel_tol=0.01)):
            value, said = (f"{stated:g}", f"{answer:g}") if figure else (stated, answer)
            refuse(row, "contradicts-answer", column=name, value=value, allowed=f"{flag(name)} {said}")
    if row.get("disagg") == 1 and not _known(row.get("num_gpus")):
        row["num_gpus"] = row.get("prefill_gpus", math.nan) + row.get("decode_gpus", math.nan)
    row["model"] = row.get("model") or row.get("model_raw", "")
    row["spec_decode"] = row.get("spec_decode") or "none"
    if row.get("mode") == "offline":
        if not _known(row.get("concurrency")):  # of an endless run, or a burst of nobody knows how many
            drop(row, "ttft_")
    elif _LOADED.get(row.get("mode", "")) == "concurrency" and _known(row.get("in_flight")):
        row.setdefault("concurrency", row["in_flight"])
    requests, output, total = (row.get(f"{name}_tput", math.nan) for name in ("req", "output", "total"))
    for name, tokens in (("osl", output), ("isl", total - output)):
        if not _known(row.get(name)) and requests > 0 and tokens > 0:
            row[name] = tokens / requests
    return row


def _stated(name: str, row: Draft) -> Any:
    """Return what the file itself states of a figure, or of a known name that the user may not replace."""
    value = row.get(name)
    if name in FIGURES:
        return value if _known(value) else ""
    if name in CATALOGUES:
        with suppress(UnknownName):
            return CATALOGUES[name](str(value or (row.get("model_raw", "") if name == "model" else ""))).name
    return value if value and name in _STATED and value in (COLUMNS[name].allowed or (value,)) else ""


def _known(value: object) -> bool:
    return value not in (None, "", ASK) and value == value


def flag(name: str) -> str:
    """Return a column's command-line option."""
    return "--" + name.replace("_", "-")


def missing(row: Draft) -> Iterator[str]:
    """Yield the names of what a row needs and neither file nor user states."""
    loaded, separate = _LOADED.get(row.get("mode", "")), row.get("disagg")
    needed = {
        **dict.fromkeys(("gpu", "model", "engine", "date", "mode", "isl", "osl"), True),
        "weight_precision": not checkpoint_precision(row.get("model_raw", "")),
        "tp": row.get("num_gpus") != 1,
        "num_gpus": row.get("dp", 1.0) > 1 and not row.get("dp_means"),
        "prefill_gpus": separate,
        "decode_gpus": separate,
        **{name: loaded == name for name in ("concurrency", "request_rate")},
        **{name: row.get(name) == ASK for name in ("spec_decode", "prefix_cached_frac")},
    }
    return (name for name, asked in needed.items() if asked and not _known(row.get(name)))
