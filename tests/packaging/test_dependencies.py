"""What the packages import is what pyproject.toml declares."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("data", "features", "training", "predictor")
IMPORT_NAMES = {"scikit-learn": "sklearn"}
# Used without an import: pandas reads and writes Parquet and writes markdown through them.
IMPLIED = {"pyarrow", "tabulate"}


def _imported() -> set[str]:
    trees = (
        ast.parse(path.read_text(encoding="utf-8"))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    )
    nodes = [node for tree in trees for node in ast.walk(tree)]
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    absolute = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    return {name.split(".")[0] for name in plain | absolute} - sys.stdlib_module_names - {"roofcast"}


def test_the_declared_dependencies_are_those_imported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = [re.split(r"[<>=!~\[; ]", line, maxsplit=1)[0] for line in project["dependencies"]]
    declared = {IMPORT_NAMES.get(name, name) for name in names}
    assert declared - IMPLIED == _imported() - IMPLIED
