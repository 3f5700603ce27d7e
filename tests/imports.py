"""Which module imports which: every import statement, at the top of a module or inside a function."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOMS = ("data", "features", "training", "predictor")
Graph = Mapping[str, set[str]]


@dataclass(frozen=True, kw_only=True)
class Import:
    """One import of a dotted name; `lazy`: inside a function, so that it runs only when that is called."""

    target: str
    lazy: bool


def modules(root: Path) -> dict[str, Path]:
    """Return every module of the rooms by its dotted name."""
    return {_name(path, root): path for room in ROOMS for path in sorted((root / room).rglob("*.py"))}


def _name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(("roofcast", *(parts[:-1] if parts[-1] == "__init__" else parts)))


def imports(module: str, path: Path) -> list[Import]:
    """Return what a module imports, relative names made absolute; not what only type checkers read."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return [
        Import(target=target, lazy=lazy)
        for node, lazy in _statements(tree, lazy=False)
        for target in _targets(package, node)
    ]


def _statements(tree: ast.AST, *, lazy: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, lazy
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from (found for part in node.orelse for found in _statements(part, lazy=lazy))
        else:
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _statements(node, lazy=lazy or inside)


def _targets(package: str, node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        parents = package.split(".")[: len(package.split(".")) - node.level + 1]
        base = ".".join([*parents, base] if base else parents)
    return [f"{base}.{alias.name}" for alias in node.names]


def module_of(target: str, known: Iterable[str]) -> str | None:
    """Return the module that a dotted name loads: itself, or the one that holds it; None for others'."""
    for name in (target, target.rpartition(".")[0]):
        if name in known:
            return name
    return None


def graph(found: Mapping[str, Path]) -> dict[str, set[str]]:
    """Return the modules that each loads; commands, which load what they run, count at their top alone."""
    edges: dict[str, set[str]] = {}
    for module, path in found.items():
        late = module.startswith("roofcast.predictor.commands")
        targets = {
            module_of(each.target, found) for each in imports(module, path) if not (late and each.lazy)
        }
        edges[module] = {target for target in targets if target} - {module}
    return edges


def circles(edges: Graph) -> list[tuple[str, ...]]:
    """Return the groups of modules that load each other, by Tarjan's algorithm."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[tuple[str, ...]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for target in sorted(edges[module]):
            if target not in index:
                visit(target)
            if target in stack:
                low[module] = min(low[module], low[target])
        if low[module] == index[module]:
            group = stack[stack.index(module) :]
            del stack[-len(group) :]
            if len(group) > 1:
                found.append(tuple(sorted(group)))

    for module in edges:
        if module not in index:
            visit(module)
    return sorted(found)
