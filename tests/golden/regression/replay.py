"""Questions with the answers given to them, and how each kind is answered anew.

    python tests/golden/regression/replay.py SECTION ...      writes the present answers into SECTION.json.gz

A section is a list of inputs and an answer to each, of plain values. It is answered in a process of its own,
since models that one command enters are known to all that follow. Only `Predictor` and the command line are
asked; files are named relative to their folder, so that no answer holds a path of this machine.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
REAL = ROOT / "tests/data/readers/real"
SHARED = Path(os.environ.get("ROOFCAST_SHARED", ROOT.parent / "shared")).resolve()
Values = dict[str, Any]


def read(path: Path) -> Any:
    """Read plain values from a gzipped JSON file."""
    return json.loads(gzip.decompress(path.read_bytes()))


def write(path: Path, values: Any) -> None:
    """Write plain values as gzipped JSON, the same bytes for the same values."""
    text = json.dumps(values, separators=(",", ":"), ensure_ascii=False, sort_keys=True)
    path.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))


def replayed(section: str) -> list[Values]:
    """Return a section's answers, made in a process of its own. Raises CalledProcessError where it fails."""
    with tempfile.TemporaryDirectory() as folder:
        answered = Path(folder, "answers.json.gz")
        command = [sys.executable, __file__, section, str(answered)]
        subprocess.run(command, check=True, capture_output=True, text=True)
        found: list[Values] = read(answered)
    return found


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Yield a temporary folder as the working folder."""
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        yield Path(name).resolve()


def command(
    argv: Iterable[str], hidden: Path | None = None, run: Callable[[], object] | None = None
) -> Values:
    """Run the command line in this process: exit code, stdout (read where it is JSON) and stderr.

    hidden: a temporary folder whose name is left out.
    """
    from roofcast.predictor.cli import main

    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["roofcast", *argv]
    code: Any = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            (run or main)()
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv = before
    texts = [s.getvalue().replace(str(hidden), "TMP") if hidden else s.getvalue() for s in (out, err)]
    with contextlib.suppress(ValueError):
        texts[0] = json.loads(texts[0])
    return {"code": code, "out": texts[0], "err": texts[1]}


def records(frame: pd.DataFrame) -> list[Values]:
    """Return a frame's rows as plain values, without those that are missing."""
    rows = frame.astype(object).to_dict("records")
    plain = [{k: v.item() if hasattr(v, "item") else v for k, v in row.items()} for row in rows]
    return [{k: v for k, v in row.items() if not pd.isna(v)} for row in plain]


def frame(inputs: list[Values]) -> list[Values]:
    """Predict all requests as one frame per measured fabric."""
    from roofcast.predictor import Predictor

    predictor, answers = Predictor.load(), []
    with scratch():
        for measured, group in _by(inputs, "fabric"):
            if measured:
                Path("fabric.json").write_text(measured, encoding="utf-8")
            asked = pd.DataFrame(group)
            answers += records(predictor.predict_frame(asked, fabric="fabric.json" if measured else None))
    return answers


def _by(inputs: list[Values], name: str) -> Iterator[tuple[Any, list[Values]]]:
    """Yield the inputs by one of their values, in the order given, and without it."""
    for value in dict.fromkeys(given.get(name) for given in inputs):
        yield value, [{k: v for k, v in row.items() if k != name} for row in inputs if row.get(name) == value]


def single(inputs: list[Values]) -> list[Values]:
    """Predict one request at a time; what raises is its error's name and words."""
    from roofcast.data.errors import RoofcastError
    from roofcast.predictor import Predictor

    predictor, answers = Predictor.load(), []
    for request in inputs:
        try:
            answers.append(json.loads(json.dumps(predictor.predict(**request).to_dict())))
        except RoofcastError as error:
            answers.append({"error": type(error).__name__, "words": str(error)})
    return answers


def commands(inputs: list[Values]) -> list[Values]:
    """Run commands that print JSON, each with the files it reads beside it."""
    answers = []
    for given in inputs:
        with scratch() as folder:
            for name, text in given.get("files", {}).items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text(text, encoding="utf-8")
            answers.append(command(given["argv"], folder))
    return answers


def entered(inputs: list[Values]) -> list[Values]:
    """Predict models that a command entered: by a size, by a config.json."""
    commands(inputs[0]["commands"])
    return [{"entered": len(inputs[0]["commands"])}, *frame(inputs[1:])]


def audit(inputs: list[Values]) -> list[Values]:
    """Judge claims, one CSV file per `file`; one answer per claim, its findings by figure."""
    answers = []
    with scratch() as folder:
        for _, claims in _by(inputs, "file"):
            pd.DataFrame(claims).to_csv("claims.csv", index=False)
            found = command(["audit", "claims.csv", "--json"], folder)
            lines = range(2, 2 + len(claims))
            answers += (
                [found] * len(claims)
                if found["code"]
                else [
                    {f["figure"]: {**f, "row": 0} for f in found["out"] if f["row"] == line} for line in lines
                ]
            )
    return answers


def sweep(inputs: list[Values]) -> list[Values]:
    """Sweep small spaces: what the command prints and all rows of the parts it writes."""
    answers = []
    for given in inputs:
        with scratch() as folder:
            found = command([*given["argv"], "--out", "out", "--json"], folder)
            found["out"].pop("seconds", None)
            parts = [pd.read_parquet(part) for part in sorted(Path("out").glob("part-*.parquet"))]
            answers.append({**found, "parts": [row for part in parts for row in records(part)]})
    return answers


def fabric(inputs: list[Values]) -> list[Values]:
    """Judge captures, and measure the fabric where they allow it."""
    answers = []
    for given in inputs:
        with scratch() as tmp, contextlib.chdir(SHARED / "fabric"):
            judged = command(["fabric", "check", *given["argv"], "--json"])
            measure = command(["fabric", "check", *given["argv"], "--measured", str(tmp / "m"), "--json"])
            measured = json.loads((tmp / "m").read_text()) if (tmp / "m").exists() else None
            answers.append({**judged, "measure_code": measure["code"], "measured": measured})
    return answers


def ingest(inputs: list[Values]) -> list[Values]:
    """Ingest a file several times, with other options each time, into a store that was empty before."""
    answers = []
    for given in inputs:
        folder = SHARED / "cases" / "ingest" if given["shared"] else REAL
        with scratch() as tmp, contextlib.chdir(folder):
            store, bad = tmp / "store.parquet", tmp / "store.quarantine.parquet"
            shutil.copyfile(HERE / "empty_store.parquet", store)
            called = [
                ["ingest", given["file"], *argv, "--store", str(store), "--json"] for argv in given["runs"]
            ]
            runs = [command(argv, tmp) for argv in called]
            refused = records(pd.read_parquet(bad)) if bad.exists() else []
            answers.append({"runs": runs, "stored": records(pd.read_parquet(store)), "quarantined": refused})
    return answers


def table(inputs: list[Values]) -> list[Values]:
    """Rebuild the table from the collected sources: rows, and a hash of each column and of SOURCES.md."""
    from roofcast.data.build.__main__ import main as build

    with scratch() as folder:
        argv = [str(SHARED / "benchmarks"), "--out", str(folder)]
        found = command(argv, folder, lambda: build(sys.argv[1:]))
        sources = hashlib.sha256((folder / "SOURCES.md").read_bytes()).hexdigest()
        tables = {name: _hashes(pd.read_parquet(f"{name}.parquet")) for name in ("benchmarks", "quarantine")}
    return [{**found, **tables, "sources": sources}] * len(inputs)


def _hashes(frame: pd.DataFrame) -> Values:
    """Return a frame's size and the SHA-256 of its columns, whatever the order of its rows."""
    order = [name for name in ("row_id", "file", "line", "reason") if name in frame]
    ordered = frame.sort_values(order, kind="stable").astype(object)
    cells = {name: ["" if pd.isna(c) else repr(c) for c in ordered[name]] for name in sorted(frame.columns)}
    columns = {name: hashlib.sha256("\0".join(each).encode()).hexdigest() for name, each in cells.items()}
    whole = hashlib.sha256("".join(f"{k}{v}" for k, v in columns.items()).encode()).hexdigest()
    return {"rows": len(frame), "fingerprint": whole, "columns": columns}


# By section: what answers its inputs, and whether the collected sources are needed.
SECTIONS: dict[str, tuple[Callable[[list[Values]], list[Values]], bool]] = {
    "frame": (frame, False),
    "frame_on_measured_fabric": (frame, False),
    "single": (single, False),
    "entered": (entered, False),
    "recommend": (commands, False),
    "explain": (commands, False),
    "look": (commands, False),
    "audit": (audit, False),
    "sweep": (sweep, False),
    "ingest_real": (ingest, False),
    "ingest_shared": (ingest, True),
    "fabric": (fabric, True),
    "table": (table, True),
}

if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[2].endswith(".gz"):
        asked = read(HERE / f"{sys.argv[1]}.json.gz")["inputs"]
        write(Path(sys.argv[2]).resolve(), SECTIONS[sys.argv[1]][0](asked))
    else:
        for section in sys.argv[1:]:
            kept = HERE / f"{section}.json.gz"
            write(kept, {"inputs": read(kept)["inputs"], "answers": replayed(section)})
