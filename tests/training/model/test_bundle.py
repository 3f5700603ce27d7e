"""A bundle comes back as it was saved, is written whole or not at all, and is refused unless it matches."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roofcast.data.errors import BadBundle
from roofcast.features.request import normalise
from roofcast.training.model.bundle import load_bundle, save_bundle
from roofcast.training.model.model import Model, answer

from ...small_model import requests_frame

save = partial(save_bundle, fingerprint="new", errors={}, ranges={})


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle to damage."""
    return shutil.copytree(bundle, tmp_path / "copy")


def test_a_loaded_model_answers_as_the_one_saved_and_saves_again_byte_for_byte(
    trained: Model, bundle: Path, tmp_path: Path
) -> None:
    loaded, r = load_bundle(bundle)[0], normalise(requests_frame(200))
    before, after = answer(trained, r).values, answer(loaded, r).values
    for name, values in before.items():
        np.testing.assert_allclose(after[name], values, rtol=1e-12)
    again = save(loaded, tmp_path / "again")
    for path in bundle.iterdir():
        assert path.name == "manifest.json" or (again / path.name).read_bytes() == path.read_bytes()


def test_a_bundle_is_flat_readable_text_and_its_manifest_says_what_it_was_made_from(bundle: Path) -> None:
    assert bundle.stat().st_mode & 0o777 == 0o755
    texts = {path.name: path.read_bytes().decode("utf-8") for path in bundle.iterdir()}
    manifest = load_bundle(bundle)[1]
    wanted = {
        "data_fingerprint": "0" * 64, "errors": {"configuration": {"tpot_ms": 0.05}},
        "training_ranges": {"isl": [16, 8000]}, "created": "2026-11-01T00:00:00+00:00",
    }  # fmt: skip
    assert {name: manifest[name] for name in wanted} == wanted
    assert manifest["units"]["ttft_ms"] == "ms, median over requests"
    assert manifest["units"]["ttft_mean_ms"] == "ms"
    assert set(manifest["sha256"]) == set(texts) - {"manifest.json"}


def edit(folder: Path, **values: Any) -> None:
    """Change entries of the manifest; a function is given the old one."""
    path = folder / "manifest.json"
    found = json.loads(path.read_text())
    path.write_text(json.dumps(found | {k: v(found[k]) if callable(v) else v for k, v in values.items()}))


def cut(name: str, keep: float, folder: Path) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(len(content) * keep)])


def flip(folder: Path) -> None:
    content = bytearray((folder / "tpot.txt").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "tpot.txt").write_bytes(content)


def forge(name: str, change: Any, folder: Path) -> None:
    """Put other contents into a file of the bundle and its checksum into the manifest."""
    text = change((folder / name).read_text()) if callable(change) else change
    (folder / name).write_text(text)
    edit(folder, sha256=lambda digests: digests | {name: hashlib.sha256(text.encode()).hexdigest()})


@pytest.mark.parametrize(("damage", "words"), [
    (shutil.rmtree, "no such bundle"),
    (lambda folder: (folder / "manifest.json").unlink(), "manifest.json cannot be read"),
    (partial(cut, "manifest.json", 0.5), "manifest.json cannot be read"),
    *((lambda folder, text=text: (folder / "manifest.json").write_text(text), "not that of a roofcast bundle")
      for text in ("[]", '{"flavors": {"python_function": {}}}')),
    (partial(edit, schema_version=99), "schema_version is 99"),
    (partial(edit, frame_version=-1), "frame_version is -1"),
    (partial(edit, feature_names=lambda names: [*names[:-1], "invented"]), "invented"),
    (partial(edit, feature_names=None), "feature names differ"),
    (partial(edit, sha256={}), "does not list exactly"),
    (partial(edit, sha256=lambda digests: digests | {"../../etc/passwd": "0"}), "does not list exactly"),
    (lambda folder: (folder / "tpot.txt").unlink(), "tpot.txt cannot be read"),
    (flip, "tpot.txt is damaged"), (partial(cut, "support.json", 0.9), "support.json is damaged"),
    (partial(cut, "e2e.txt", 0.0), "e2e.txt is damaged"),
    *((partial(forge, "ttft.txt", change), "ttft.txt is not a whole LightGBM model")
      for change in (lambda t: t[: len(t) // 2], lambda t: t.replace("leaf_value=", "leaf_v=", 1))),
    (partial(forge, "calibration.json", "{}"), "malformed"),
    (partial(forge, "coefficients.json", '{"weight_bandwidth.hopper": 1.0}'), "malformed"),
    (partial(forge, "support.json", '{"gpus": []}'), "malformed"),
])  # fmt: skip
def test_a_bundle_that_does_not_match_is_refused_in_one_line(damage: Any, words: str, copy: Path) -> None:
    damage(copy)
    with pytest.raises(BadBundle) as caught:
        load_bundle(copy)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_saving_replaces_an_older_bundle_and_leaves_nothing_beside_it(trained: Model, copy: Path) -> None:
    save(trained, copy)
    assert load_bundle(copy)[1]["data_fingerprint"] == "new"
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]


@pytest.mark.parametrize(("owner", "call"), [(os, "fsync"), (Path, "rename")])
def test_a_save_that_fails_leaves_the_old_bundle(
    owner: Any, call: str, trained: Model, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []
    real = getattr(owner, call)

    def fails_second(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, call, fails_second)
        with pytest.raises(OSError, match="No space"):
            save(trained, copy)
    assert load_bundle(copy)[1]["data_fingerprint"] == "0" * 64
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]


def test_a_folder_that_is_no_bundle_is_not_overwritten(trained: Model, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(BadBundle, match="not overwritten"):
        save(trained, tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
