"""A bundle comes back as it was saved, is written whole or not at all, and is refused unless it matches."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from roofcast.data.errors import BadBundle
from roofcast.features.request import normalise
from roofcast.training.model.bundle import load_bundle, save_bundle
from roofcast.training.model.model import Model, answer

from .conftest import requests_frame


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle to damage."""
    return shutil.copytree(bundle, tmp_path / "copy")


def _edit_manifest(folder: Path, **values: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def _replace(folder: Path, name: str, text: str) -> None:
    """Put other contents into a file of the bundle and its checksum into the manifest."""
    (folder / name).write_text(text)
    digests = json.loads((folder / "manifest.json").read_text())["sha256"]
    _edit_manifest(folder, sha256=digests | {name: hashlib.sha256(text.encode()).hexdigest()})


def _save(model: Model, folder: Path, fingerprint: str = "new") -> Path:
    return save_bundle(model, folder, fingerprint=fingerprint, errors={}, ranges={})


def test_a_loaded_model_answers_as_the_one_saved(trained: Model, bundle: Path) -> None:
    r = normalise(requests_frame(200))
    before, after = answer(trained, r).values, answer(load_bundle(bundle)[0], r).values
    for name, values in before.items():
        np.testing.assert_allclose(after[name], values, rtol=1e-12)


def test_a_saved_bundle_saves_again_byte_for_byte(bundle: Path, tmp_path: Path) -> None:
    again = _save(load_bundle(bundle)[0], tmp_path / "again")
    for path in bundle.iterdir():
        if path.name != "manifest.json":
            assert (again / path.name).read_bytes() == path.read_bytes()


def test_the_manifest_says_what_the_bundle_was_made_from(bundle: Path) -> None:
    _, manifest = load_bundle(bundle)
    assert manifest["data_fingerprint"] == "0" * 64
    assert manifest["errors"] == {"configuration": {"tpot_ms": 0.05}}
    assert manifest["training_ranges"] == {"isl": [16, 8000]}
    assert manifest["created"] == "2026-11-01T00:00:00+00:00"
    assert manifest["units"]["ttft_ms"] == "ms"
    assert set(manifest["sha256"]) == {path.name for path in bundle.iterdir()} - {"manifest.json"}


def test_a_bundle_is_flat_text_readable_by_all(bundle: Path) -> None:
    for path in bundle.iterdir():
        assert path.is_file()
        path.read_bytes().decode("utf-8")
    assert bundle.stat().st_mode & 0o777 == 0o755


def _cut(name: str, keep: float) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * keep)])

    return damage


def _flip(folder: Path) -> None:
    content = bytearray((folder / "tpot.txt").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "tpot.txt").write_bytes(content)


def _foreign(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"flavors": {"python_function": {}}}')


def _other_features(folder: Path) -> None:
    names = json.loads((folder / "manifest.json").read_text())["feature_names"]
    _edit_manifest(folder, feature_names=[*names[:-1], "invented"])


def _cut_trees(folder: Path) -> None:
    text = (folder / "ttft.txt").read_text()
    _replace(folder, "ttft.txt", text[: len(text) // 2])


def _shifted_trees(folder: Path) -> None:
    _replace(folder, "ttft.txt", (folder / "ttft.txt").read_text().replace("leaf_value=", "leaf_v=", 1))


def _empty_calibration(folder: Path) -> None:
    _replace(folder, "calibration.json", "{}")


def _odd_coefficients(folder: Path) -> None:
    _replace(folder, "coefficients.json", '{"weight_bandwidth.hopper": 1.0}')


def _extra_file(folder: Path) -> None:
    digests = json.loads((folder / "manifest.json").read_text())["sha256"]
    _edit_manifest(folder, sha256=digests | {"../../etc/passwd": "0"})


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (shutil.rmtree, "no such bundle"),
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json cannot be read"),
        (_cut("manifest.json", 0.5), "manifest.json cannot be read"),
        (_foreign, "not that of a roofcast bundle"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "not that of a roofcast bundle"),
        (lambda folder: _edit_manifest(folder, schema_version=99), "schema_version is 99"),
        (lambda folder: _edit_manifest(folder, frame_version=-1), "frame_version is -1"),
        (_other_features, "invented"),
        (lambda folder: _edit_manifest(folder, feature_names=None), "feature names differ"),
        (lambda folder: _edit_manifest(folder, sha256={}), "does not list exactly"),
        (_extra_file, "does not list exactly"),
        (lambda folder: (folder / "tpot.txt").unlink(), "tpot.txt cannot be read"),
        (_flip, "tpot.txt is damaged"),
        (_cut("support.json", 0.9), "support.json is damaged"),
        (_cut("e2e.txt", 0.0), "e2e.txt is damaged"),
        (_cut_trees, "ttft.txt is not a whole LightGBM model"),
        (_shifted_trees, "ttft.txt is not a whole LightGBM model"),
        (_empty_calibration, "malformed"),
        (_odd_coefficients, "malformed"),
        (lambda folder: _replace(folder, "support.json", '{"gpus": []}'), "malformed"),
    ],
)
def test_a_bundle_that_does_not_match_is_refused_in_one_line(
    damage: Callable[[Path], object], words: str, copy: Path
) -> None:
    damage(copy)
    with pytest.raises(BadBundle) as caught:
        load_bundle(copy)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_saving_replaces_an_older_bundle_and_leaves_nothing_beside_it(trained: Model, copy: Path) -> None:
    _save(trained, copy)
    assert load_bundle(copy)[1]["data_fingerprint"] == "new"
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_save_that_fails_leaves_the_old_bundle(
    call: str, trained: Model, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []
    real = os.fsync if call == "fsync" else Path.rename

    def fails_second(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(*((os, "fsync") if call == "fsync" else (Path, "rename")), fails_second)
    with pytest.raises(OSError, match="No space"):
        _save(trained, copy)
    monkeypatch.undo()
    assert load_bundle(copy)[1]["data_fingerprint"] == "0" * 64
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]


def test_a_folder_that_is_no_bundle_is_not_overwritten(trained: Model, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(BadBundle, match="not overwritten"):
        _save(trained, tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
