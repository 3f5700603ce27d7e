"""Which room may import which, and that every module imports and runs its examples."""

from __future__ import annotations

import ast
import doctest
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Data flows one way: a room may import those listed, and itself.
ALLOWED = {
    "data": set(),
    "features": {"data"},
    "training": {"data", "features"},
    "predictor": {"data", "features", "training"},
}
HEAVY = {"mlflow", "optuna", "sklearn", "matplotlib", "pandera", "scipy"}


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("roofcast", *(parts[:-1] if parts[-1] == "__init__" else parts)))


MODULES = {_module(path): path for room in ALLOWED for path in sorted((ROOT / room).rglob("*.py"))}
RUNNABLE = {name for name in MODULES if name.endswith(("__main__", "pyfunc_model"))}

# What a prediction runs through.
ANSWERING = sorted(
    name
    for name in set(MODULES) - RUNNABLE
    if name.startswith(("roofcast.predictor", "roofcast.training.model"))
)


def _at_import(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the imports that run when the module is imported: not those in functions or for type checkers."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _at_import(node)


def _targets(module: str, node: ast.Import | ast.ImportFrom) -> list[str]:
    """The absolute dotted names that an import statement of the module may load."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
        parents = package.split(".")[: len(package.split(".")) - node.level + 1]
        base = ".".join([*parents, base] if base else parents)
    return [f"{base}.{alias.name}" for alias in node.names]


def _loaded(module: str) -> set[str]:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    return {target for node in _at_import(tree) for target in _targets(module, node)}


@pytest.mark.parametrize("module", sorted(set(MODULES) - RUNNABLE))
def test_a_room_imports_only_the_rooms_upstream(module: str) -> None:
    room = module.split(".")[1]
    nodes = ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8")))  # late imports too
    imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {name for node in imports for name in _targets(module, node)}
    rooms = {name.split(".")[1] for name in names if name.startswith("roofcast.")}
    assert rooms - {room} <= ALLOWED[room]


@pytest.mark.parametrize(
    "module",
    [
        name
        for name in MODULES
        if name.startswith(("roofcast.predictor", "roofcast.training.model")) and name not in RUNNABLE
    ],
)
def test_an_answering_module_imports_no_learning_library(module: str) -> None:
    assert not {name.split(".")[0] for name in _loaded(module)} & HEAVY


@pytest.mark.parametrize("module", sorted(set(MODULES) - RUNNABLE))
def test_a_module_imports_and_its_examples_hold(module: str) -> None:
    failed, _ = doctest.testmod(importlib.import_module(module), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert failed == 0
