"""Data flows one way, by rooms and by files; every module is small, imports and runs its examples."""

from __future__ import annotations

import ast
import doctest
import importlib
from pathlib import Path

import pytest

from .imports import circling, graph, imports, module_of, modules

MODULES = modules(Path(__file__).resolve().parents[1])
RUNNABLE = {name for name in MODULES if name.endswith(("__main__", "pyfunc_model"))}
# The floors of the house, the lowest first: a module loads nothing of a floor above its own, early or late.
FLOORS = ("data", "features", "training.model", "training", "predictor")
HEAVY = {"mlflow", "optuna", "sklearn", "matplotlib", "pandera", "scipy"}
# What a prediction runs through.
ANSWERING = ("roofcast.predictor", "roofcast.training.model")
# Not installed: the workshop that built the shipped table stands beside the house and may use all of it.
WORKSHOP = "roofcast.data.build"
MODULE_LINES, FUNCTION_LINES = 400, 60


def floor(module: str) -> int:
    if module.startswith(WORKSHOP):
        return len(FLOORS)
    room, _, rest = module.removeprefix("roofcast.").partition(".")
    return FLOORS.index("training.model" if (room, rest.split(".")[0]) == ("training", "model") else room)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_loads_nothing_of_a_floor_above_nor_early_what_only_learning_needs(module: str) -> None:
    found = list(imports(module, MODULES[module]))
    loaded = {module_of(each.target, MODULES) for each in found} - {None}
    assert not [target for target in loaded if target and floor(target) > floor(module)]
    if module.startswith(ANSWERING) and module not in RUNNABLE:
        assert not {each.target.split(".")[0] for each in found if not each.lazy} & HEAVY


def test_no_modules_load_each_other() -> None:
    assert circling(graph(MODULES)) == []


@pytest.mark.parametrize("module", MODULES)
def test_a_module_and_its_functions_keep_to_their_budget(module: str) -> None:
    text = MODULES[module].read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MODULE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < FUNCTION_LINES, node.name


@pytest.mark.parametrize("module", sorted(set(MODULES) - RUNNABLE))
def test_a_module_imports_and_its_examples_hold(module: str) -> None:
    failed, _ = doctest.testmod(importlib.import_module(module), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert failed == 0
