"""The registry of model "roofcast": the champion that answers, the one before it, the challenger that waits.

Moving the alias `champion` is the one step that counts: what leads up to it may be repeated (the version's
tag `replaces` names the champion before it), what follows is made good by `settle` (the alias `previous`, and
the link `champion` to its bundle). A process killed at any point leaves a champion, the old or the new one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..data import errors
from .model.bundle import load_bundle
from .tracking import MODEL_NAME, download_bundle, mlflow_module, open_store, store_folder

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
REPLACES = "replaces"
PROMOTED, KEPT = "promoted", "kept"


@contextmanager
def registry(folder: str | Path | None = None) -> Iterator[Path]:
    """Open the store for one writer alone, with what an interrupted one left put right; yields its folder.

    Raises BadStore if another process holds it.
    """
    place = store_folder(folder)
    place.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        try:
            held.enter_context(FileLock(place / ".lock", blocking=False))
        except Timeout:
            raise errors.BadStore(f"{place}: another retraining or rollback is at work there") from None
        held.enter_context(open_store(place))
        settle(place)
        yield place


def version_of(alias: str) -> Any:
    """Return the registered version under an alias, None where there is none."""
    mlflow = mlflow_module()
    try:
        return mlflow.MlflowClient().get_model_version_by_alias(MODEL_NAME, alias)
    except mlflow.exceptions.MlflowException:
        return None


def number_of(version: Any) -> str:
    """Return a version's number as text ("" for None): MLflow counts in whole numbers and takes text."""
    return str(version.version) if version else ""


def tag_version(number: str, tags: Mapping[str, str]) -> None:
    """Set tags of a registered version, in order."""
    for name, value in tags.items():
        mlflow_module().MlflowClient().set_model_version_tag(MODEL_NAME, number, name, value)


def promote(number: str, folder: Path) -> None:
    """Make a version the champion. Raises BadBundle, and changes nothing, if its bundle does not load."""
    client, champion = mlflow_module().MlflowClient(), version_of(CHAMPION)
    load_bundle(download_bundle(f"models:/{MODEL_NAME}/{number}", folder=folder))
    tags = client.get_model_version(MODEL_NAME, number).tags
    # The first champion replaces nobody, and says so: a rollback to it is not to change what it replaced.
    if REPLACES not in tags and number_of(champion) != number:
        tag_version(number, {REPLACES: number_of(champion)})
    client.set_registered_model_alias(MODEL_NAME, CHAMPION, number)
    settle(folder)


def settle(folder: Path) -> None:
    """Bring everything that follows from the alias `champion` in line with it; nothing where that is so."""
    client = mlflow_module().MlflowClient()
    champion, challenger, previous = map(version_of, (CHAMPION, CHALLENGER, PREVIOUS))
    if champion is None:
        return
    before = champion.tags.get(REPLACES)
    if before and number_of(previous) != before:
        client.set_registered_model_alias(MODEL_NAME, PREVIOUS, before)
    elif previous and not before:
        client.delete_registered_model_alias(MODEL_NAME, PREVIOUS)
    if number_of(challenger) == number_of(champion):
        client.delete_registered_model_alias(MODEL_NAME, CHALLENGER)
    bundle = download_bundle(f"models:/{MODEL_NAME}@{CHAMPION}", folder=folder)
    link, fresh = folder / CHAMPION, folder / f".{CHAMPION}.new"
    if not link.is_symlink() or link.resolve() != bundle.resolve():
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(os.path.relpath(bundle, folder))
        fresh.replace(link)


def rollback(*, to: str | None = None, folder: str | Path | None = None) -> dict[str, str]:
    """Make the champion's predecessor, or the version `to`, the champion; return both versions.

    The one that steps back becomes the challenger, judged and not kept: the next retraining on the same table
    does not bring it back. Raises BadStore where there is no such version, BadBundle if it does not load.
    """
    with registry(folder) as place:
        client, champion = mlflow_module().MlflowClient(), version_of(CHAMPION)
        if champion is None:
            raise errors.BadStore(f"no champion in {place}: nothing to roll back")
        wanted, left = to or champion.tags.get(REPLACES), number_of(champion)
        if not wanted:
            raise errors.BadStore(f"version {left} is the first champion: none before it")
        known = sorted(map(number_of, client.search_model_versions(f"name='{MODEL_NAME}'")), key=int)
        if wanted not in known:
            raise errors.BadStore(f"version {wanted!r} is not in the registry: one of {', '.join(known)}")
        if left != wanted:
            tags = {"judged_against": wanted, "reason": "it was rolled back by hand", "decision": KEPT}
            tag_version(left, tags)
            promote(wanted, place)
            client.set_registered_model_alias(MODEL_NAME, CHALLENGER, left)
        return {"from": left, "champion": wanted}


def recorded(version: Any, name: str) -> Path:
    """Return a file that the run of a registered version recorded. Raises BadStore where there is none."""
    mlflow = mlflow_module()
    try:
        return Path(mlflow.artifacts.download_artifacts(run_id=version.run_id, artifact_path=name))
    except (mlflow.exceptions.MlflowException, OSError) as error:
        number = number_of(version)
        raise errors.BadStore(f"version {number} does not say what it learned from: {error}") from error
