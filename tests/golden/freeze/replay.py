"""Answer a section's inputs with the present code, in a process of its own: python replay.py IN OUT.

Each section is a list of inputs and one answer to each, all of plain values. A process per section, since
models that one command enters are known to all that follow. Only `Predictor` and the command line are asked;
files are named relative to their folder, so that no answer holds a path of this machine.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from roofcast.data.build.__main__ import main as build
from roofcast.predictor.cli import main
from roofcast.predictor.predictor import Predictor

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
EMPTY_STORE = HERE / "empty_store.parquet"
Values = dict[str, Any]


def shared() -> Path:
    """Return the folder of collected sources."""
    return Path(os.environ.get("ROOFCAST_SHARED", ROOT.parent / "shared")).resolve()


def read(path: Path) -> Any:
    """Read plain values from a gzipped JSON file."""
    return json.loads(gzip.decompress(path.read_bytes()))


def write(path: Path, values: Any) -> None:
    """Write plain values as gzipped JSON, the same bytes for the same values."""
    text = json.dumps(values, separators=(",", ":"), ensure_ascii=False, sort_keys=True)
    path.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Yield a temporary folder as the working folder."""
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        yield Path(name).resolve()


def command(argv: Iterable[str], hidden: Path | None = None, run: Callable[[], object] = main) -> Values:
    """Run the command line in this process: exit code, stdout (read where it is JSON) and stderr.

    hidden: a temporary folder whose name is left out. What ends with a traceback is a crash.
    """
    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["roofcast", *argv]
    code: Any = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            run()
    except SystemExit as end:
        code = end.code
    except Exception as error:
        return {"crash": type(error).__name__}
    finally:
        sys.argv = before
    texts = [s.getvalue().replace(str(hidden), "TMP") if hidden else s.getvalue() for s in (out, err)]
    with contextlib.suppress(ValueError):
        texts[0] = json.loads(texts[0])
    return {"code": code, "out": texts[0], "err": texts[1]}


def records(frame: pd.DataFrame) -> list[Values]:
    """Return a frame's rows as plain values, without those that are missing."""
    found: list[Values] = [
        {name: value.item() if hasattr(value, "item") else value for name, value in row.items()}
        for row in frame.astype(object).to_dict("records")
    ]
    return [{name: value for name, value in row.items() if not pd.isna(value)} for row in found]


def frame(inputs: list[Values]) -> list[Values]:
    """Predict all requests as one frame."""
    return records(Predictor.load().predict_frame(pd.DataFrame(inputs)))


def frame_on_measured_fabric(inputs: list[Values]) -> list[Values]:
    """Predict requests as one frame per measured fabric."""
    predictor, answers = Predictor.load(), []
    with scratch():
        for measured, group in _runs(inputs, "fabric"):
            Path("fabric.json").write_text(measured, encoding="utf-8")
            answers += records(predictor.predict_frame(pd.DataFrame(group), fabric="fabric.json"))
    return answers


def _runs(inputs: list[Values], name: str) -> Iterator[tuple[Any, list[Values]]]:
    """Yield the inputs by one of their values, in the order given, and without it."""
    for value in dict.fromkeys(given[name] for given in inputs):
        yield value, [{k: v for k, v in row.items() if k != name} for row in inputs if row[name] == value]


def single(inputs: list[Values]) -> list[Values]:
    """Predict one request at a time; what raises is its error's name and words."""
    predictor, answers = Predictor.load(), []
    for request in inputs:
        try:
            found = predictor.predict(**request)
        except Exception as error:
            answers.append({"error": type(error).__name__, "words": str(error)})
            continue
        answers.append(json.loads(json.dumps(found.to_dict())))
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
    first, requests = inputs[0], inputs[1:]
    commands(first["commands"])
    return [{"entered": len(first["commands"])}, *frame(requests)]


def audit(inputs: list[Values]) -> list[Values]:
    """Judge claims, one CSV file per `file`; one answer per claim, its findings by figure."""
    answers = []
    with scratch() as folder:
        for _, claims in _runs(inputs, "file"):
            pd.DataFrame(claims).to_csv("claims.csv", index=False)
            found = command(["audit", "claims.csv", "--json"], folder)
            if found["code"]:
                answers += [found] * len(claims)
                continue
            findings = found["out"]
            answers += [
                {f["figure"]: f for f in findings if f["row"] == line} for line in range(2, 2 + len(claims))
            ]
    return answers


def sweep(inputs: list[Values]) -> list[Values]:
    """Sweep small spaces: what the command prints and all rows of the parts it writes."""
    answers = []
    for given in inputs:
        with scratch() as folder:
            found = command([*given["argv"], "--out", "out", "--json"], folder)
            if isinstance(found.get("out"), dict):
                del found["out"]["seconds"]
            parts = [pd.read_parquet(part) for part in sorted(Path("out").glob("part-*.parquet"))]
            answers.append({**found, "parts": [row for part in parts for row in records(part)]})
    return answers


def fabric(inputs: list[Values]) -> list[Values]:
    """Judge captures, and measure the fabric where they allow it."""
    answers = []
    for given in inputs:
        with scratch() as tmp, contextlib.chdir(shared() / "fabric"):
            judged = command(["fabric", "check", *given["argv"], "--json"])
            measure = command(["fabric", "check", *given["argv"], "--measured", str(tmp / "m"), "--json"])
            measured = json.loads((tmp / "m").read_text()) if (tmp / "m").exists() else None
            answers.append({**judged, "measure_code": measure["code"], "measured": measured})
    return answers


def ingest(inputs: list[Values]) -> list[Values]:
    """Ingest a file several times, with other options each time, into a store that was empty before."""
    answers = []
    for given in inputs:
        folder = shared() / "cases" / "ingest" if given["shared"] else _real()
        with scratch() as tmp, contextlib.chdir(folder):
            store = tmp / "store.parquet"
            shutil.copyfile(EMPTY_STORE, store)
            runs = [
                command(["ingest", given["file"], *argv, "--store", str(store), "--json"], tmp)
                for argv in given["runs"]
            ]
            bad = tmp / "store.quarantine.parquet"
            refused = records(pd.read_parquet(bad)) if bad.exists() else []
            answers.append({"runs": runs, "stored": records(pd.read_parquet(store)), "quarantined": refused})
    return answers


def _real() -> Path:
    """Return the folder of the files that the tools' own clients wrote."""
    return next((ROOT / "tests").rglob("vllm_bench_serve_0.33.0_closed.json")).parent


def rebuild_into(folder: Path) -> Values:
    """Rebuild the table from the collected sources, in the workshop that built the shipped one."""
    return command([str(shared() / "benchmarks"), "--out", str(folder)], folder, lambda: build(sys.argv[1:]))


def table(inputs: list[Values]) -> list[Values]:
    """Rebuild the table: rows, a hash of each column of table and quarantine, of both, and of SOURCES.md."""
    with scratch() as folder:
        found = rebuild_into(folder)
        sources = hashlib.sha256((folder / "SOURCES.md").read_bytes()).hexdigest()
        tables = {name: _hashes(pd.read_parquet(f"{name}.parquet")) for name in ("benchmarks", "quarantine")}
    return [{**found, **tables, "sources": sources}] * len(inputs)


def _hashes(frame: pd.DataFrame) -> Values:
    """Return a frame's size and the SHA-256 of its columns, whatever the order of its rows."""
    order = [name for name in ("row_id", "file", "line", "reason") if name in frame]
    ordered = frame.sort_values(order, kind="stable")
    columns = {name: _hash(ordered[name]) for name in sorted(frame.columns)}
    whole = hashlib.sha256("".join(f"{k}{v}" for k, v in columns.items()).encode()).hexdigest()
    return {"rows": len(frame), "fingerprint": whole, "columns": columns}


def _hash(column: pd.Series[Any]) -> str:
    cells = ["" if pd.isna(cell) else repr(cell) for cell in column.astype(object)]
    return hashlib.sha256("\0".join(cells).encode()).hexdigest()


# By section: what answers its inputs, and whether the collected sources are needed.
SECTIONS: dict[str, tuple[Callable[[list[Values]], list[Values]], bool]] = {
    "frame": (frame, False),
    "frame_on_measured_fabric": (frame_on_measured_fabric, False),
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
    section = Path(sys.argv[1]).name.removesuffix(".json.gz")
    write(Path(sys.argv[2]).resolve(), SECTIONS[section][0](read(Path(sys.argv[1]).resolve())["inputs"]))
