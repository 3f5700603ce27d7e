"""A retraining promotes what is better, keeps what is not, and survives being killed anywhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from roofcast.data import errors
from roofcast.data.store import BenchmarkStore
from roofcast.features.coefficients import Coefficients
from roofcast.predictor import Predictor
from roofcast.predictor.commands import learn
from roofcast.predictor.commands.learn import serving
from roofcast.training import crossfit, fit, registry, tracking, trust
from roofcast.training.fit import Settings, sample_of
from roofcast.training.judge import decide, judge
from roofcast.training.model.times import TREES
from roofcast.training.retrain import RetrainResult, retrain
from roofcast.training.train import train

mlflow = pytest.importorskip("mlflow")
QUICK = Settings(trees=dict.fromkeys(TREES, 12), threads=1, calibration_steps=2)
NEW_GPU = "mi355x"
REQUEST = {"model": "llama-3.3-70b", "gpu": NEW_GPU, "tp": 4, "concurrency": 32.0}
Retrain = Callable[..., RetrainResult]


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """One process and the physics as published: what is tested is who takes over, not how good it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crossfit, "WORKERS", 1)
        patch.setattr(fit, "calibrate", lambda table, **_: Coefficients())
        yield


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """Two thousand rows: a sample of most GPUs, and of NEW_GPU enough to learn."""
    table = BenchmarkStore().load()
    new = table["gpu"] == NEW_GPU
    parts = [table[~new].sample(1500, random_state=4), table[new].sample(300, random_state=4)]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def place(quick: None, rows: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose table lacks NEW_GPU and whose registry has a champion trained on it."""
    folder = tmp_path_factory.mktemp("retrain")
    rows[rows["gpu"] != NEW_GPU].to_parquet(folder / "table.parquet", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROOFCAST_MLRUNS", str(folder / "mlruns"))
        where = {"store": folder / "table.parquet", "out": folder / "bundle"}
        train(serving=serving(), settings=QUICK, protocols=("configuration",), **where)
    return folder


@pytest.fixture
def again(place: Path) -> Retrain:
    def run(table: pd.DataFrame | None = None, **options: object) -> RetrainResult:
        if table is not None:
            table.to_parquet(place / "table.parquet", index=False)
        quick = {"settings": QUICK, "protocols": ("configuration", "family"), "n_folds": 2}
        where = {"store": place / "table.parquet", "folder": place / "mlruns", "shipped": place / "bundle"}
        return retrain(serving=serving(), **{**where, **quick, **options})

    return run


def _aliases(place: Path) -> dict[str, str]:
    with tracking.open_store(place / "mlruns"):
        found = {a: registry.version_of(a) for a in ("champion", "previous", "challenger")}
    return {alias: registry.number_of(version) for alias, version in found.items()}


def _poisoned(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows as a client with a wrong clock would report them: everything three times as slow."""
    figures = {name: rows[name] * 3 for name in ("tpot_ms", "ttft_ms", "ttft_mean_ms")}
    names = {name: "wrong-" + rows[name] for name in ("row_id", "config_group")}
    return rows.assign(**names, **figures, output_tok_s=rows["output_tok_s"] / 3)


def test_a_retraining_promotes_judges_rolls_back_and_remembers(
    place: Path, again: Retrain, rows: pd.DataFrame
) -> None:
    """One story, in order: each step starts from what the one before left in the registry."""
    nothing = again()
    assert (nothing.decision, nothing.run_id) == ("nothing new", None)

    old = rows[rows["gpu"] != NEW_GPU]
    kept = again(pd.concat([old, _poisoned(old.sample(600, random_state=1))], ignore_index=True))
    assert (kept.decision, kept.champion, kept.challenger) == ("kept", "1", "2")
    assert "gets worse on" in kept.reason
    assert kept.drift["shift"]["tpot_ms"]["shifted"]
    assert "gpu" not in kept.drift["new"]
    assert _aliases(place) == {"champion": "1", "previous": "", "challenger": "2"}
    assert "was judged before" in again().reason

    promoted = again(rows, margin=0.1)
    assert (promoted.decision, promoted.champion) == ("promoted", "3")
    assert promoted.drift["new"]["gpu"] == {NEW_GPU: int((rows["gpu"] == NEW_GPU).sum())}
    judged = promoted.judgement["new/configuration/output_tok_s"]
    assert judged["challenger"] < judged["champion"]
    assert _aliases(place) == {"champion": "3", "previous": "1", "challenger": ""}
    champion = tracking.download_bundle("models:/roofcast@champion", folder=place / "mlruns")
    here, there = Predictor.load(place / "mlruns" / "champion"), Predictor.load(champion)
    assert here.predict(**REQUEST).to_dict() == there.predict(**REQUEST).to_dict()
    with tracking.open_store(place / "mlruns"):
        run = mlflow.get_run(promoted.run_id)
    assert (run.data.tags["decision"], run.data.tags["reason"]) == ("promoted", promoted.reason)
    assert run.data.metrics["judgement/new/configuration/output_tok_s.challenger"] == judged["challenger"]
    assert run.data.metrics[f"drift/new.gpu.{NEW_GPU}"] == promoted.drift["new"]["gpu"][NEW_GPU]

    assert registry.rollback(folder=place / "mlruns") == {"from": "3", "champion": "1"}
    assert _aliases(place) == {"champion": "1", "previous": "", "challenger": "3"}
    assert "rolled back by hand" in again().reason
    with pytest.raises(errors.BadStore, match="first champion"):
        registry.rollback(folder=place / "mlruns")
    with pytest.raises(errors.BadStore, match=r"'9' is not in the registry: one of 1, 2, 3"):
        registry.rollback(to="9", folder=place / "mlruns")
    registry.rollback(to="3", folder=place / "mlruns")
    assert _aliases(place)["champion"] == "3"


def test_both_procedures_answer_the_same_folds_from_their_own_rows(rows: pd.DataFrame) -> None:
    sample = sample_of(rows)
    known = np.arange(len(sample.table)) % 3 > 0
    champion = crossfit.Procedure(settings=QUICK, rows=known)
    every, some = crossfit.cross_fit(sample, ["family"], QUICK, n_folds=2, champion=champion)
    same = replace(champion, rows=np.ones_like(known))
    alone, then = crossfit.cross_fit(sample, ["family"], QUICK, n_folds=2, champion=same)
    for name in ("rows", "fold"):
        np.testing.assert_array_equal(getattr(every, name), getattr(some, name))
    np.testing.assert_array_equal(every.measured_s["e2e"], some.measured_s["e2e"])
    assert (every.raw["tpot"] != some.raw["tpot"]).any()
    for one in (alone, then):
        np.testing.assert_array_equal(every.raw["tpot"], one.raw["tpot"])
    # The scores without intervals are the same blend.
    full, short = trust.all_scores([every]), trust.all_scores([then], bounds=False)
    pd.testing.assert_frame_equal(full[short.columns], short)


def test_a_registry_without_a_champion_adopts_the_shipped_bundle_which_knows_its_rows(
    tmp_path: Path, repo_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ROOFCAST_MLRUNS", str(tmp_path))
    learn.retrain(as_json=True)
    result = json.loads(capsys.readouterr().out)
    assert (result["decision"], result["champion"]) == ("nothing new", "1")
    for path in (repo_root / "predictor" / "bundle").iterdir():
        assert (tmp_path / "champion" / path.name).read_bytes() == path.read_bytes()


def test_what_cannot_be_retrained_or_rolled_back_is_refused(
    place: Path, again: Retrain, tmp_path: Path
) -> None:
    with registry.registry(place / "mlruns"), pytest.raises(errors.BadStore, match="another retraining"):
        again()
    with pytest.raises(errors.BadRequest, match="margin = 3"):
        again(margin=3.0)
    with pytest.raises(errors.BadStore, match="no champion"):
        registry.rollback(folder=tmp_path)


def _scores(seed: int, known: float, new: float) -> pd.DataFrame:
    """Return scores of 200 rows, half of them new; the blend errs by the given shares."""
    rng = np.random.default_rng(seed)
    measured = rng.uniform(1.0, 9.0, 200)
    error = np.repeat([known, new], 100) * rng.choice([-1.0, 1.0], 200)
    columns = {"row_id": [f"r{k}" for k in range(200)], "measured": measured, "blend": measured * (1 + error)}
    return pd.DataFrame(columns).assign(protocol="platform", metric="tpot_ms")


WORSE = r"protocol platform gets worse on known rows by a factor of 1\.100, .* tpot_ms 10\.0 % to 11"


@pytest.mark.parametrize(
    ("known", "new", "fresh", "better", "reason"),
    [
        (0.100, 0.10, 100, True, "factor of 0.500"),
        (0.102, 0.10, 100, True, "factor of 0.500"),
        (0.110, 0.10, 100, False, WORSE),
        (0.090, 0.21, 100, False, "gets worse on all rows|get no better"),
        (0.100, 0.20, 100, False, "the new rows get no better"),
        (0.050, 0.10, 200, False, "no new row"),
    ],
)
def test_the_decision_follows_its_rule(
    known: float, new: float, fresh: int, better: bool, reason: str
) -> None:
    judged = judge(_scores(0, 0.1, 0.2), _scores(0, known, new), {f"r{k}" for k in range(fresh, 200)})
    decided, why = decide(judged, 0.03)
    assert decided is better
    assert re.search(reason, why)


# One process trains once, then forks a child for every event of a retraining (a step, a write to the
# registry) that kills itself there with SIGKILL, and another that looks at what is left and retrains. The
# parent's own store is another file: no connection crosses a fork, and MLflow is imported once.
KILLS = """
import os, shutil, signal, sys
from pathlib import Path
import mlflow, pandas as pd
from roofcast.data.store import BenchmarkStore
from roofcast.features.coefficients import Coefficients
from roofcast.training.model.bundle import load_bundle
from roofcast.predictor.commands.learn import serving
from roofcast.training import crossfit, fit, registry, retrain, tracking, train

warm, folder, table, old = (Path(argument) for argument in sys.argv[1:])
crossfit.WORKERS = 1
fit.calibrate = lambda table, **_: Coefficients()
quick = fit.Settings(trees=dict.fromkeys(fit.TREES, 5), threads=1, calibration_steps=2)
before, rows = pd.read_parquet(old), pd.read_parquet(table)
sample, first = fit.sample_of(rows), fit.sample_of(before)
learnt = [train.learn(s, quick, protocols=["configuration"], n_folds=3) for s in (first, sample)]
fingerprint = BenchmarkStore(table).snapshot()[1]
train.Learnt.log = lambda self, run: None
retrain.learn = lambda *_, progress, **__: progress("fold", 0.5) or learnt[1]
worse = learnt[1].scores.assign(blend=learnt[1].scores["blend"] * 1.5)
retrain.all_scores = lambda champion, bounds: worse
given = {"store": table, "folder": folder, "settings": quick, "serving": serving(), "shipped": warm / "made"}
events = 0

def forked(work):
    child = os.fork()
    if not child:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
    return os.waitpid(child, 0)[1]

def retrained(at):
    def event(*_):
        global events
        if events == at:
            os.kill(os.getpid(), signal.SIGKILL)
        events += 1
    def watched(owner, name):
        plain = getattr(owner, name)
        setattr(owner, name, lambda *a, **k: (event(), plain(*a, **k))[1])
    aliases = [(mlflow.MlflowClient, f"{verb}_registered_model_alias") for verb in ("set", "delete")]
    for owner, name in [*aliases, (registry, "tag_version"), (mlflow.pyfunc, "log_model"),
                        (Path, "symlink_to"), (Path, "replace")]:
        watched(owner, name)
    steps = {"fold", "judging", "promoted", "done"}
    event_at = lambda label, share: event() if steps & set(label.split(", ")) else None
    retrain.retrain(**given, progress=event_at)

def state():
    with tracking.open_store(folder):
        aliases = [registry.number_of(registry.version_of(a)) for a in ("champion", "previous", "challenger")]
        load_bundle(tracking.download_bundle("models:/roofcast@champion", folder=folder))
        runs = mlflow.search_runs(experiment_names=["roofcast"], output_format="list")
    return aliases, {run.info.status for run in runs}

def looked_at():
    (champion, *_), _ = state()
    load_bundle(folder / "champion")
    assert champion, "no champion"
    assert BenchmarkStore(table).snapshot()[1] == fingerprint
    retrain.retrain(**given)
    (now, previous, challenger), statuses = state()
    assert (previous, challenger) == ("1", "") and now != "1", (now, previous, challenger)
    assert "RUNNING" not in statuses
    link = (folder / "champion").resolve()
    with tracking.open_store(folder):
        assert link == tracking.download_bundle("models:/roofcast@champion", folder=folder).resolve()

with registry.registry(warm) as place:
    with tracking.training_run(retrain.asdict(quick), before, "f00d", folder=place) as run:
        run.log_rows(before)
        registry.promote(run.log_bundle(learnt[0].save(warm / "made", first, "f00d"), serving()), place)
folder.mkdir()
link, at, killed = (warm / "champion").resolve(), 0, signal.SIGKILL
while killed == signal.SIGKILL:
    shutil.copy(warm / "mlflow.db", folder / "mlflow.db")
    (folder / "champion").unlink(missing_ok=True)
    (folder / "champion").symlink_to(link)
    killed = forked(lambda: retrained(at))
    assert killed in (0, signal.SIGKILL), f"event {at}: {killed}"
    assert not forked(looked_at), f"after being killed at event {at}"
    at += 1
print(at - 1)
"""


def test_a_retraining_killed_anywhere_leaves_a_champion_and_the_next_one_goes_on(
    rows: pd.DataFrame, tmp_path: Path
) -> None:
    kept = rows.groupby(rows["gpu"] == NEW_GPU).head(250)
    kept.to_parquet(tmp_path / "table.parquet", index=False)
    kept[kept["gpu"] != NEW_GPU].to_parquet(tmp_path / "old.parquet", index=False)
    arguments = [str(tmp_path / name) for name in ("warm", "mlruns", "table.parquet", "old.parquet")]
    done = subprocess.run([sys.executable, "-c", KILLS, *arguments], text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) >= 12, "events at which it was killed"
