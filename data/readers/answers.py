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
from ..errors import BadRequest, RoofcastError, UnknownName
from ..hardware import resolve_hardware
from ..sizes import resolve_model
from ..specs import ModelSpec
from ..spellings import checkpoint
from ..vocabulary import ENGINES, PRECISIONS, engine_named, precision_named
from .base import ASK, Draft, drop, refuse, setting

# What may be answered for all rows: it fills gaps; a row whose file states otherwise is refused.
NAMES = (
    "model", "gpu", "platform", "engine", "engine_version", "weight_precision", "kv_precision", "spec_decode",
    "mode", "length_kind", "date", "source", "source_ref", "license",
)  # fmt: skip
FIGURES = names(roles=("layout", "load"), stored=True, text=False)
_STATED = ("engine", "weight_precision", "kv_precision", "spec_decode")
_LOADED = {"closed-loop": "concurrency", "static-batch": "concurrency", "open-loop": "request_rate"}


def stored_model(text: str) -> ModelSpec:
    """Return the model of the files that a text names: a config.json means the one of its shape.

    Raises what `resolve_model` raises, and UnknownName for a shape that no model of the files has: a row of
    it would be of no use to others.
    """
    name, shipped = resolve_model(text).name, catalogue.shipped_models()
    own = catalogue.models()[name]
    twins = [spec for spec in shipped.values() if spec.shape_key == own.shape_key]
    if not twins:
        raise UnknownName("model", text)
    return shipped.get(name) or min(twins, key=lambda spec: spec.max_position != own.max_position)


CATALOGUES: dict[str, Callable[[str], Any]] = {"gpu": catalogue.gpu, "model": stored_model}


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
            given[name] = (precision_named(str(value)) or value) if name.endswith("precision") else value
            if given[name] not in column.allowed:
                raise BadRequest(name, given[name], f"one of {', '.join(filter(None, column.allowed))}")
        low, high = (column.low, column.high) if (column.low, column.high) != (0.0, 1e12) else (1, 1e6)
        if name in FIGURES and not low <= setting(value) <= high:
            raise BadRequest(name, value, f"a number between {low:g} and {high:g}")
    if not re.fullmatch(r"20\d\d(-[01]\d(-[0-3]\d)?)?", str(given.get("date", "2000"))):
        raise BadRequest("date", given["date"], "YYYY-MM-DD or YYYY-MM")
    if "engine" in given and not ENGINES.find(str(given["engine"])):
        engine, version = engine_named(str(given["engine"]))
        if not engine and (near := ENGINES.near(str(given["engine"]))):
            raise UnknownName("engine", given["engine"], near)
        given |= {"engine": engine or given["engine"], **({"engine_version": version} if version else {})}
    given |= _hardware(given.pop("platform", None), given.pop("gpu", None), "num_gpus" in given)
    return given | ({"model": stored_model(str(given["model"])).name} if "model" in given else {})


def _hardware(platform: Any, gpu: Any, counted: bool) -> dict[str, Any]:
    """Return what a platform and a GPU say, as answers; how many there are unless that is answered."""
    asked = {"platform": platform, "gpu": gpu}
    found = [resolve_hardware(str(text), kind) for kind, text in asked.items() if text is not None]
    for named in found[1:]:
        if named.gpu != found[0].gpu:
            raise BadRequest("gpu", named.gpu, f"{found[0].gpu}, which {found[0].platform or platform} has")
    answer: dict[str, Any] = {}
    for named in found:
        answer["gpu"] = named.gpu
        answer |= {"platform_raw": named.platform} if named.platform else {}
        answer |= {"num_gpus": float(named.num_gpus)} if named.num_gpus and not counted else {}
    return answer


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
    row["weight_precision"] = row.get("weight_precision") or _of_config(row["model"])
    row["kv_precision"] = row.get("kv_precision") or checkpoint(row["model"]).kv_precision
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


def _of_config(model: str) -> str:
    """Return the format of a local checkpoint's weights, "" where the name means no config.json."""
    with suppress(RoofcastError):
        named = resolve_model(model)
        native = catalogue.models()[named.name].native_weight_precision
        return (named.weight_precision or PRECISIONS.find(native)) if named.how == "config" else ""
    return ""


def _stated(name: str, row: Draft) -> Any:
    """Return what the file itself states of a figure, or of a known name that the user may not replace."""
    value = row.get(name)
    if name in FIGURES:
        return value if _known(value) else ""
    if name in CATALOGUES:
        with suppress(RoofcastError):
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
        "weight_precision": not checkpoint(row.get("model_raw", "")).weight_precision,
        "tp": row.get("num_gpus") != 1,
        "num_gpus": row.get("dp", 1.0) > 1 and not row.get("dp_means"),
        "prefill_gpus": separate,
        "decode_gpus": separate,
        **{name: loaded == name for name in ("concurrency", "request_rate")},
        **{name: row.get(name) == ASK for name in ("spec_decode", "prefix_cached_frac")},
    }
    return (name for name, asked in needed.items() if asked and not _known(row.get(name)))
