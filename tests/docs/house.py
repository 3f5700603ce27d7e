"""The size of the house, for the table of docs/design.md: `python -m tests.docs.house [ROOT]`.

Without ROOT it rewrites the table with this checkout's figures beside those of BEFORE; with the root of
another checkout it prints that one's, counted by the same ruler.
"""

from __future__ import annotations

import ast
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..imports import ROOMS, circling, graph, modules

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "design.md"
BEGIN, END = "<!-- house: begin -->\n", "<!-- house: end -->"
RUNS = 5
COLUMNS = ("lines", "code", "modules", "functions", "helpers", "used once")
# Figures of commit 3206000, before the house was put in order.
BEFORE: Mapping[str, tuple[float, ...]] = {
    "all rooms": (20080, 14224, 134, 1112, 386, 244),
    "installed": (20080, 14224, 134, 1112, 386, 244),
    "data": (5138, 3602, 42, 280, 94, 64),
    "features": (2843, 1908, 15, 165, 66, 34),
    "training": (4016, 2894, 23, 207, 88, 58),
    "predictor": (8083, 5820, 54, 460, 138, 88),
    "core path": (7139, 4907, 44, 418, 153, 83),
    "modules in circles of imports": (10,),
    "seconds to import the predictor": (0.19,),
}
# The folders, without those below them, that an afternoon's reading passes through, and what it leaves out.
CORE = ("data", "features", "training/model", "predictor")
NOT_CORE = ("data/ingest.py", "data/fault_texts.py", "data/fabric_parts.py")  # of the wings beside it
WORKSHOP = "data/build"


def code_lines(text: str, tree: ast.Module) -> int:
    """Return the lines that are neither blank nor comment nor part of a docstring."""
    prose: set[int] = set()
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and ast.get_docstring(node):
            prose |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines = enumerate(text.splitlines(), start=1)
    return sum(1 for number, line in lines if number not in prose and line.strip() and line.strip()[0] != "#")


def size(paths: Sequence[Path]) -> tuple[int, ...]:
    """Return the figures of COLUMNS: helpers are private functions of a module, "once" those named once."""
    lines = code = functions = helpers = once = 0
    for path in paths:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        lines, code = lines + len(text.splitlines()), code + code_lines(text, tree)
        functions += sum(isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) for n in ast.walk(tree))
        private = [n.name for n in tree.body if isinstance(n, ast.FunctionDef) and n.name.startswith("_")]
        private = [name for name in private if not name.startswith("__")]
        used = Counter(n.id for n in ast.walk(tree) if isinstance(n, ast.Name))
        helpers, once = helpers + len(private), once + sum(used[name] == 1 for name in private)
    return lines, code, len(paths), functions, helpers, once


def import_seconds(root: Path) -> float:
    """Return the median time that importing the predictor adds to starting Python [s]."""
    environment = {**os.environ, "PYTHONPATH": str(root / ".typing")}

    def run(code: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], env=environment, cwd=root / ".typing", check=True)
        return time.perf_counter() - start

    bare = statistics.median(run("pass") for _ in range(RUNS))
    full = statistics.median(run("from roofcast.predictor import Predictor") for _ in range(RUNS))
    return full - bare


def figures(root: Path) -> dict[str, tuple[float, ...]]:
    """Return what the table shows of one checkout, by row."""
    found = modules(root)
    rooms = {room: [p for p in found.values() if p.is_relative_to(root / room)] for room in ROOMS}
    core = [p for p in found.values() if str(p.parent.relative_to(root)) in CORE]
    core = [p for p in core if str(p.relative_to(root)) not in NOT_CORE]
    installed = [p for p in found.values() if not p.is_relative_to(root / WORKSHOP)]
    groups = {"all rooms": list(found.values()), "installed": installed, **rooms, "core path": core}
    return {
        **{name: size(paths) for name, paths in groups.items()},
        "modules in circles of imports": (len(circling(graph(found))),),
        "seconds to import the predictor": (round(import_seconds(root), 2),),
    }


def table(now: Mapping[str, tuple[float, ...]]) -> str:
    """Return the figures before and after, in Markdown."""
    pairs = {name: zip(BEFORE[name], values, strict=True) for name, values in now.items()}
    changed = {name: [f"{old:,}→{new:,}" for old, new in both] for name, both in pairs.items()}
    lines = ["| before→after | " + " | ".join(COLUMNS) + " |", "|---" * (1 + len(COLUMNS)) + "|"]
    lines += ["| " + " | ".join([name, *cells]) + " |" for name, cells in changed.items() if cells[1:]]
    rest = "; ".join(f"{name} {cells[0]}" for name, cells in changed.items() if not cells[1:])
    return "\n".join(["", *lines, "", f"{rest[0].upper()}{rest[1:]}.", "", ""])


def main(arguments: Sequence[str]) -> None:
    """Print another checkout's figures, or write this one's into the page."""
    if arguments:
        for name, value in figures(Path(arguments[0]).resolve()).items():
            sys.stdout.write(f'    "{name}": {value},\n')
        return
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(before + BEGIN + table(figures(ROOT)) + END + after, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
