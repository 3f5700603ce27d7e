"""Which module imports which: every import statement, at the top of a module or inside a function."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOMS = ("data", "features", "training", "predictor")


class Import(NamedTuple):
    """One import of a dotted name; `lazy`: inside a function, so that it runs only when that is called."""

    target: str
    lazy: bool


def modules(root: Path) -> dict[str, Path]:
    """Return every module of the rooms by its dotted name."""
    paths = [path for room in ROOMS for path in sorted((root / room).rglob("*.py"))]
    names = (".".join(("roofcast", *path.relative_to(root).with_suffix("").parts)) for path in paths)
    return {name.removesuffix(".__init__"): path for name, path in zip(names, paths, strict=True)}


def imports(module: str, path: Path) -> Iterator[Import]:
    """Yield what a module imports, relative names made absolute; not what only type checkers read."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node, lazy in _statements(ast.parse(path.read_text(encoding="utf-8")), lazy=False):
        base: list[str] = []
        if isinstance(node, ast.ImportFrom):
            parents = package.split(".") if node.level else []
            base = [*parents[: len(parents) - node.level + 1], *filter(None, [node.module])]
        for alias in node.names:
            yield Import(".".join([*base, alias.name]), lazy)


def _statements(tree: ast.AST, *, lazy: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, lazy
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from (found for part in node.orelse for found in _statements(part, lazy=lazy))
        else:
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _statements(node, lazy=lazy or inside)


def module_of(target: str, known: Iterable[str]) -> str | None:
    """Return the module that a dotted name loads: itself, or the one that holds it; None for others'."""
    return next((name for name in (target, target.rpartition(".")[0]) if name in known), None)


def graph(found: Mapping[str, Path]) -> dict[str, set[str]]:
    """Return the modules that each loads; commands, which load what they run, count at their top alone."""
    edges: dict[str, set[str]] = {}
    for module, path in found.items():
        late = module.startswith("roofcast.predictor.commands")
        targets = {module_of(target, found) for target, lazy in imports(module, path) if not (late and lazy)}
        edges[module] = {target for target in targets if target} - {module}
    return edges


def circling(edges: Mapping[str, set[str]]) -> list[str]:
    """Return the modules that load themselves by way of others."""
    reached = {module: set(targets) for module, targets in edges.items()}
    for between in edges:
        for targets in reached.values():
            targets |= reached[between] if between in targets else set()
    return [module for module, targets in reached.items() if module in targets]
