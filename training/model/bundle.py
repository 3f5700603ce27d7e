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
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ...data import catalogue
from ...data.errors import BadBundle
from ...data.files import for_json, replace_folder
from ...features.baseline import baseline, floor
from ...features.coefficients import Coefficients
from ...features.frame import FRAME_VERSION, feature_matrix
from ...features.request import normalise
from .intervals import IntervalTable
from .model import Model
from .residuals import MeasuredResiduals
from .support import Support
from .times import CORRECTED, LEARNED, TREES
from .trees import Trees

SCHEMA_VERSION = 6
# What the manifest of a bundle that this program reads says of itself.
_OURS = {"format": "roofcast-bundle", "schema_version": SCHEMA_VERSION, "frame_version": FRAME_VERSION}
MANIFEST = "manifest.json"
UNITS = {
    "ttft_ms": "ms, median over requests",
    "ttft_mean_ms": "ms",
    "tpot_ms": "ms per output token after the first",
    "e2e_ms": "ms per request",
    "output_tok_s": "output tokens per second of the whole deployment",
    "total_tok_s": "input and output tokens per second of the whole deployment",
    "correction": "log(measured / baseline)",
}
_SPREAD = "-spread"
_JSON_FILES = ("calibration.json", "coefficients.json", "residuals.json", "support.json")
_FILES = {*_JSON_FILES, *(f"{name}.txt" for name in TREES), *(f"{name}{_SPREAD}.txt" for name in LEARNED)}


def save_bundle(
    model: Model, folder: str | Path, *, fingerprint: str, errors: Mapping[str, Any],
    ranges: Mapping[str, Sequence[float]], created: str | None = None,
) -> Path:  # fmt: skip
    """Write a model as a bundle folder, whole or not at all, and return the folder.

    fingerprint: sha256 of the training table; errors: figures by protocol, plain values; ranges: lowest and
    highest training value by request column; created: ISO time (now). Raises BadBundle if `folder` exists
    and is no bundle.
    """
    target = Path(folder)
    if target.exists() and not (target / MANIFEST).is_file() and (target.is_file() or any(target.iterdir())):
        raise BadBundle(f"{target} is not a bundle: it is not overwritten")
    intervals = {name: table.to_dict() for name, table in model.intervals.items()}
    calibration = {"blend": model.blend, "intervals": intervals}
    plain = (calibration, *(part.to_dict() for part in (model.coefficients, model.residuals, model.support)))
    files = {name: _json(part) for name, part in zip(_JSON_FILES, plain, strict=True)}
    for kind, boosters in (("", model.boosters), (_SPREAD, model.spreads)):
        files |= {f"{name}{kind}.txt": booster.model_to_string() for name, booster in boosters.items()}
    manifest = {
        **_OURS,
        "feature_names": model.feature_names,
        "units": UNITS,
        "training_ranges": ranges,
        "data_fingerprint": fingerprint,
        "errors": errors,
        "created": created or datetime.now(UTC).isoformat(timespec="seconds"),
        "roofcast_version": version("roofcast"),
        "sha256": {name: hashlib.sha256(text.encode()).hexdigest() for name, text in files.items()},
    }
    replace_folder(target, {**files, MANIFEST: _json(manifest)})
    return target


def load_bundle(folder: str | Path) -> tuple[Model, dict[str, Any]]:
    """Read a bundle folder: the model and the manifest.

    Raises BadBundle, saying which, for a folder or file that is missing, a checksum that differs, another
    program's or version's bundle, other feature names, and contents that are malformed.
    """
    manifest, texts = _manifest(Path(folder)), {}
    for name, digest in manifest["sha256"].items():
        path = Path(folder) / name
        try:
            content = path.read_bytes()
        except OSError as error:
            raise BadBundle(f"{path} cannot be read: {error.strerror}") from error
        if hashlib.sha256(content).hexdigest() != digest:
            raise BadBundle(f"{path} is damaged: its sha256 is not the manifest's")
        texts[name] = content
    try:
        return _model(texts, tuple(manifest["feature_names"])), manifest
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadBundle(f"{folder}: its contents are malformed: {error!r}") from error


@cache
def feature_names() -> tuple[str, ...]:
    """Return the names of the feature matrix's columns as this program makes them."""
    any_model, any_gpu = next(iter(catalogue.models())), next(iter(catalogue.gpus()))
    r = normalise({"model": [any_model], "gpu": [any_gpu]})
    return feature_matrix(r, floor(r), baseline(r, Coefficients()))[1]


def _model(files: Mapping[str, bytes], names: tuple[str, ...]) -> Model:
    calibration, coefficients, residuals, support = (json.loads(files[name]) for name in _JSON_FILES)
    for entry in coefficients.values():
        entry |= {key: math.nan for key, value in entry.items() if value is None}

    def trees(file: str, wanted: int) -> Any:
        read = Trees(files[file].decode(), file)
        if len(read.feature_names) != wanted:
            raise BadBundle(f"{file} has {len(read.feature_names)} features, not {wanted}")
        return read

    return Model(
        coefficients=Coefficients.from_dict(coefficients),
        boosters={name: trees(f"{name}.txt", len(names)) for name in TREES},
        residuals=MeasuredResiduals.from_dict(residuals),
        feature_names=names,
        support=Support.from_dict(support),
        blend=calibration["blend"],
        spreads={name: trees(f"{name}{_SPREAD}.txt", len(names) + 3) for name in LEARNED},
        intervals={name: IntervalTable.from_dict(calibration["intervals"][name]) for name in CORRECTED},
    )


def _manifest(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise BadBundle(f"{folder}: no such bundle folder")
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BadBundle(f"{folder}: {MANIFEST} cannot be read: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != _OURS["format"]:
        raise BadBundle(f"{folder}: {MANIFEST} is not that of a roofcast bundle")
    for field, ours in _OURS.items():
        if (theirs := manifest.get(field)) != ours:
            raise BadBundle(f"{folder}: {field} is {theirs!r}, this program reads {ours}: train a new bundle")
    names, digests = manifest.get("feature_names"), manifest.get("sha256")
    if names != list(feature_names()):
        listed = set(map(str, names)) if isinstance(names, list) else set()
        odd = sorted(listed.symmetric_difference(feature_names())) or ["their order"]
        raise BadBundle(f"{folder}: feature names differ from this program's: {', '.join(odd[:3])}")
    if not isinstance(digests, dict) or set(digests) != _FILES:
        raise BadBundle(f"{folder}: {MANIFEST} does not list exactly {', '.join(sorted(_FILES))}")
    return manifest


def _json(value: object) -> str:
    return json.dumps(for_json(value), indent=1, sort_keys=True, allow_nan=False) + "\n"
