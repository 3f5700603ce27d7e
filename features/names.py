"""The names in requests: what model, hardware, precision and engine their texts mean, and how it was taken.

Each distinct text of a column is looked up once, whatever the number of rows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..data import catalogue
from ..data.errors import RoofcastError, UnknownName
from ..data.hardware import resolve_hardware
from ..data.releases import released
from ..data.sizes import NamedModel, resolve_model
from ..data.vocabulary import ENGINES, PRECISIONS, engine_named, precision_named
from .cells import Rows
from .facts import BoolArray, FloatArray, IntArray
from .notes import Note


class Named(NamedTuple):
    """The models of n rows by their place in the catalogue; the precisions given or named (-1: neither)."""

    model: IntArray
    weight: IntArray
    kv: IntArray


def model_codes(rows: Rows) -> Named:
    """Return the models of the rows, and the precisions: as given, else as the model's name states them."""
    codes, values = rows.text("model")
    weight, kv = precision_codes(rows, "weight_precision"), precision_codes(rows, "kv_precision")
    found: list[NamedModel | None] = [None] * len(values)
    for i, value in enumerate(values):
        if not value:
            rows.fault(codes == i, "required", "model")
            continue
        try:
            found[i] = named = resolve_model(value)
        except RoofcastError as error:
            rows.fault(codes == i, "unknown-name", "model", error)
            continue
        _tell(rows, codes == i, named, weight < 0, kv < 0)
    places = {name: place for place, name in enumerate(catalogue.models())}
    model = np.array([places[named.name] if named else 0 for named in found], dtype=np.int64)
    stated = [
        np.array([PRECISIONS.index(p) if p else -1 for p in said], dtype=np.int64)[codes]
        for said in (
            [named.weight_precision if named else "" for named in found],
            [named.kv_precision if named else "" for named in found],
        )
    ]
    return Named(model[codes], np.where(weight < 0, stated[0], weight), np.where(kv < 0, stated[1], kv))


def _tell(rows: Rows, where: BoolArray, named: NamedModel, no_weight: BoolArray, no_kv: BoolArray) -> None:
    """Note how a model was understood; of the precisions that its name states those not given otherwise."""
    if named.how == "understood":
        rows.note(where & no_weight, "understood", "model", named.about, named.where)
        rows.note(where & ~no_weight, "understood", "model", named.name, named.where)
    elif named.how:
        rows.note(where, named.how, "model", named.about, named.where)
        if said := named.weight_precision:
            rows.note(where & no_weight, "understood", "weight_precision", said, named.where)
    if named.kv_precision:
        rows.note(where & no_kv, "understood", "kv_precision", named.kv_precision, named.where)


def told(named: NamedModel) -> str:
    """Return in words how a model was understood, "" where it was named as the catalogue does."""
    return (
        str(Note(code=named.how, column="model", value=named.about, limit=named.where)) if named.how else ""
    )


def precision_codes(rows: Rows, name: str) -> IntArray:
    """Return the codes of a column of number formats in PRECISIONS, -1 where it says none."""
    codes, values = rows.text(name)
    lookup = np.full(len(values), -1, dtype=np.int64)
    for i, value in enumerate(values):
        found = precision_named(value) if value else None
        if found:
            lookup[i] = PRECISIONS.index(found)
            rows.note((codes == i) & (not PRECISIONS.find(value)), "understood", name, found, value)
        elif found == "":
            rows.fault(codes == i, "unknown-word", name, value, ", ".join(PRECISIONS))
    return lookup[codes]


class Hardware(NamedTuple):
    """GPU and platform of n rows by their place in the catalogues (platform -1: GPUs alone), GPUs named."""

    gpu: IntArray
    platform: IntArray
    num_gpus: FloatArray


def hardware_codes(rows: Rows) -> Hardware:
    """Return what the columns gpu and platform name, either as the other too, and how many of it they say."""
    alone, box = _hardware_column(rows, "gpu"), _hardware_column(rows, "platform")
    both = (alone.gpu >= 0) & (box.gpu >= 0)
    rows.fault(both & (alone.gpu != box.gpu), "gpu-and-platform", "gpu")
    rows.fault(_blank(rows, "gpu") & _blank(rows, "platform"), "gpu-or-platform", "gpu")
    num_gpus = np.where(np.isnan(alone.num_gpus), box.num_gpus, alone.num_gpus)
    platform = np.where(box.platform >= 0, box.platform, alone.platform)
    return Hardware(np.maximum(np.where(alone.gpu >= 0, alone.gpu, box.gpu), 0), platform, num_gpus)


def _blank(rows: Rows, name: str) -> BoolArray:
    codes, values = rows.text(name)
    return np.array([value == "" for value in values], dtype=bool)[codes]


def _hardware_column(rows: Rows, kind: str) -> Hardware:
    codes, values = rows.text(kind)
    found = np.full((3, len(values)), np.nan)
    gpus, platforms = list(catalogue.gpus()), list(catalogue.platforms())
    for i, value in enumerate(values):
        if not value:
            continue
        try:
            named = resolve_hardware(value, kind)
        except RoofcastError as error:
            rows.fault(codes == i, "unknown-name", kind, error)
            continue
        found[0, i] = gpus.index(named.gpu)
        if named.platform:
            found[1, i] = platforms.index(named.platform)
        if named.num_gpus:
            found[2, i] = named.num_gpus
            unsaid = (codes == i) & np.isnan(rows.number("num_gpus", whole=True))
            rows.note(unsaid, "understood", "num_gpus", named.num_gpus, value)
        if (kind == "platform") != bool(named.platform):
            rows.note(codes == i, f"{kind}-taken", kind, value, named.platform or named.gpu)
        if named.among:
            rows.note(codes == i, "usual", "gpu", named.gpu, ", ".join(named.among))
        elif named.how:
            rows.note(codes == i, "understood", "gpu", named.gpu, value)
    gpu, platform, num_gpus = found[:, codes]
    gpu, platform = (np.where(np.isnan(each), -1, each).astype(np.int64) for each in (gpu, platform))
    return Hardware(gpu, platform, num_gpus)


def engine_codes(rows: Rows) -> IntArray:
    """Return each row's engine as a place in ENGINES, -1 where missing: one of many names is one engine."""
    codes, values = rows.text("engine")
    lookup = np.full(len(values), -1, dtype=np.int64)
    for i, value in enumerate(values):
        if not value:
            continue
        where = codes == i
        name, version = engine_named(value)
        if not name and (near := ENGINES.near(value)):
            rows.fault(where, "unknown-name", "engine", UnknownName("engine", value, near))
            continue
        lookup[i] = ENGINES.index(name or "other")
        if not name or (name == "other" and value.lower() != name):
            rows.note(where, "uncommon", "engine", value)
        elif version:
            rows.note(where, "understood", "engine", f"{name}, engine_version {version}", value)
        elif not ENGINES.spells(value) and name not in value.lower():  # "nim", but not "dynamo-sglang"
            rows.note(where, "understood", "engine", name, value)
    return lookup[codes]


def months_of_releases(rows: Rows, months: FloatArray) -> FloatArray:
    """Return months since 2025-01, where missing those of the engine's version: beside its name, or in it."""
    missing = np.isnan(months)
    if not missing.any():
        return months
    months = months.copy()
    (engine, engines), (version, versions) = rows.text("engine"), rows.text("engine_version")
    pairs = np.where(missing, engine * len(versions) + version, -1)
    for pair in np.flatnonzero(np.bincount(pairs[missing])):
        name, stated = engines[pair // len(versions)], versions[pair % len(versions)]
        found = released(name, stated or name) if stated or engine_named(name)[1] else None
        if found:
            year, month = found.month.split("-")
            months[pairs == pair] = (int(year) - 2025) * 12 + int(month) - 1
            code = "understood" if found.exact else "nearest-release"
            rows.note(pairs == pair, code, "date", found.month, found.name)
    return months
