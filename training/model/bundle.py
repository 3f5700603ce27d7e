"""The model bundle: a flat folder of text that holds everything a prediction needs.

    manifest.json       format and versions, feature names, units, training ranges, data fingerprint, errors
                        by protocol, and the sha256 of every other file
    coefficients.json   the calibrated physics, each number with unit, prior, bounds and rows
    support.json        which GPUs, model shapes and families training saw
    residuals.json      what the trees leave of the measured rows, by set-up
    calibration.json    the blend's weights and the conformal intervals
    tpot.txt, ...       one LightGBM model per corrected time, in LightGBM's own text, and one of its spread

A bundle is written whole or not at all and refused unless it matches this program: see `load_bundle`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

from ...data import catalogue
from ...data.errors import BadBundle
from ...data.files import for_json
from ...features.baseline import baseline, floor
from ...features.coefficients import Coefficients
from ...features.frame import FRAME_VERSION, feature_matrix
from ...features.request import normalise
from .intervals import IntervalTable
from .model import CORRECTED, Model
from .residuals import MeasuredResiduals
from .support import Support
from .trees import Trees

FORMAT = "roofcast-bundle"
SCHEMA_VERSION = 5
MANIFEST = "manifest.json"
UNITS = {
    "ttft_ms": "ms",
    "tpot_ms": "ms per output token after the first",
    "e2e_ms": "ms per request",
    "output_tok_s": "output tokens per second of the whole deployment",
    "total_tok_s": "input and output tokens per second of the whole deployment",
    "correction": "log(measured / baseline)",
}
_SPREAD = "-spread"
_JSON_FILES = ("calibration.json", "coefficients.json", "residuals.json", "support.json")


def save_bundle(
    model: Model,
    folder: str | Path,
    *,
    fingerprint: str,
    errors: Mapping[str, Any],
    ranges: Mapping[str, Sequence[float]],
    created: str | None = None,
) -> Path:
    """Write a model as a bundle folder and return the folder.

    fingerprint: sha256 of the training table; errors: figures by protocol, plain values; ranges: lowest and
    highest training value by request column; created: ISO time (now). The files are written to a folder
    beside `folder` that then takes its place: a crash never leaves half a bundle there. Raises BadBundle if
    `folder` exists and is no bundle.
    """
    target = Path(folder)
    if target.exists() and not (target / MANIFEST).is_file() and (target.is_file() or any(target.iterdir())):
        raise BadBundle(f"{target} is not a bundle: it is not overwritten")
    files = _files(model)
    manifest = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "frame_version": FRAME_VERSION,
        "feature_names": list(model.feature_names),
        "units": UNITS,
        "training_ranges": {name: list(values) for name, values in ranges.items()},
        "data_fingerprint": fingerprint,
        "errors": dict(errors),
        "created": created or datetime.now(UTC).isoformat(timespec="seconds"),
        "roofcast_version": _version(),
        "sha256": {name: hashlib.sha256(text.encode()).hexdigest() for name, text in sorted(files.items())},
    }
    _write_folder({**files, MANIFEST: _json(manifest)}, target)
    return target


def load_bundle(folder: str | Path) -> tuple[Model, dict[str, Any]]:
    """Read a bundle folder: the model and the manifest.

    Raises BadBundle, saying which, for a folder or file that is missing, a checksum that differs, another
    program's or version's bundle, other feature names, and contents that are malformed.
    """
    place = Path(folder)
    manifest = _manifest(place)
    try:
        texts = {name: _checked(place / name, digest) for name, digest in manifest["sha256"].items()}
        parts = {name: json.loads(texts[name]) for name in _JSON_FILES}
        model = _model(parts, texts, tuple(manifest["feature_names"]))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadBundle(f"{place}: its contents are malformed: {error!r}") from error
    return model, manifest


@cache
def feature_names() -> tuple[str, ...]:
    """Return the names of the feature matrix's columns as this program makes them."""
    any_model, any_gpu = next(iter(catalogue.models())), next(iter(catalogue.gpus()))
    r = normalise({"model": [any_model], "gpu": [any_gpu]})
    return feature_matrix(r, floor(r), baseline(r, Coefficients()))[1]


def _files(model: Model) -> dict[str, str]:
    calibration = {
        "blend": {name: dict(weights) for name, weights in model.blend.items()},
        "intervals": {name: table.to_dict() for name, table in model.intervals.items()},
    }
    texts = {
        "calibration.json": _json(calibration),
        "coefficients.json": _json(model.coefficients.to_dict()),
        "residuals.json": _json(model.residuals.to_dict()),
        "support.json": _json(model.support.to_dict()),
    }
    for name in CORRECTED:
        texts[f"{name}.txt"] = model.boosters[name].model_to_string()
        texts[f"{name}{_SPREAD}.txt"] = model.spreads[name].model_to_string()
    return texts


def _model(parts: Mapping[str, Any], texts: Mapping[str, str], names: tuple[str, ...]) -> Model:
    boosters = {name: _trees(texts, name, len(names)) for name in CORRECTED}
    spreads = {name: _trees(texts, name + _SPREAD, len(names) + 3) for name in CORRECTED}
    calibration = parts["calibration.json"]
    coefficients = {
        name: {key: math.nan if value is None else value for key, value in entry.items()}
        for name, entry in parts["coefficients.json"].items()
    }
    return Model(
        coefficients=Coefficients.from_dict(coefficients),
        boosters=cast("Any", boosters),
        residuals=MeasuredResiduals.from_dict(parts["residuals.json"]),
        feature_names=names,
        support=Support.from_dict(parts["support.json"]),
        blend=calibration["blend"],
        spreads=cast("Any", spreads),
        intervals={name: IntervalTable.from_dict(calibration["intervals"][name]) for name in CORRECTED},
    )


def _trees(texts: Mapping[str, str], name: str, features: int) -> Trees:
    trees = Trees(texts[f"{name}.txt"], f"{name}.txt")
    if len(trees.feature_names) != features:
        raise BadBundle(f"{name}.txt has {len(trees.feature_names)} features, not {features}")
    return trees


def _manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest and refuse what this program cannot use."""
    if not folder.is_dir():
        raise BadBundle(f"{folder}: no such bundle folder")
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BadBundle(f"{folder}: {MANIFEST} cannot be read: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BadBundle(f"{folder}: {MANIFEST} is not that of a roofcast bundle")
    for field, ours in (("schema_version", SCHEMA_VERSION), ("frame_version", FRAME_VERSION)):
        if manifest.get(field) != ours:
            theirs = manifest.get(field)
            raise BadBundle(f"{folder}: {field} is {theirs!r}, this program reads {ours}: train a new bundle")
    _check_names(folder, manifest)
    return manifest


def _check_names(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Refuse feature names that differ from this program's, and a list of files that is not a bundle's."""
    theirs, ours = manifest.get("feature_names"), list(feature_names())
    if theirs != ours:
        listed = theirs if isinstance(theirs, list) else []
        odd = sorted(map(str, set(ours).symmetric_difference(map(str, listed)))) or ["their order"]
        raise BadBundle(f"{folder}: feature names differ from this program's: {', '.join(odd[:3])}")
    digests = manifest.get("sha256")
    wanted = {*_JSON_FILES, *(f"{name}{kind}.txt" for name in CORRECTED for kind in ("", _SPREAD))}
    if not isinstance(digests, dict) or set(digests) != wanted:
        raise BadBundle(f"{folder}: {MANIFEST} does not list exactly {', '.join(sorted(wanted))}")


def _checked(path: Path, digest: object) -> str:
    """Return a file's text if its checksum is the manifest's."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadBundle(f"{path} cannot be read: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise BadBundle(f"{path} is damaged: its sha256 is not the manifest's")
    return content.decode()


def _json(value: object) -> str:
    return json.dumps(for_json(value), indent=1, sort_keys=True, allow_nan=False) + "\n"


def _version() -> str:
    try:
        return version("roofcast")
    except PackageNotFoundError:
        return "unknown"


def _write_folder(texts: Mapping[str, str], target: Path) -> None:
    """Write the files into a new folder beside `target`, flush them, and put it in `target`'s place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        fresh.chmod(0o755)
        for name, text in texts.items():
            with (fresh / name).open("wb") as stream:
                stream.write(text.encode())
                stream.flush()
                os.fsync(stream.fileno())
        _put_in_place(fresh, target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _put_in_place(fresh: Path, target: Path) -> None:
    """Rename `fresh` to `target`; a full folder cannot be renamed over, so the old one steps aside first."""
    if not target.exists():
        fresh.rename(target)
        return
    old = fresh.with_name(fresh.name + ".old")
    target.rename(old)
    try:
        fresh.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)
