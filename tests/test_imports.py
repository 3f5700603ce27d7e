"""Data flows one way, by rooms and by files; every module imports and runs its examples."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

from .imports import circles, graph, imports, module_of, modules

MODULES = modules(Path(__file__).resolve().parents[1])
RUNNABLE = {name for name in MODULES if name.endswith(("__main__", "pyfunc_model"))}
# The floors of the house, the lowest first: a module loads nothing of a floor above its own, early or late.
FLOORS = ("data", "features", "training.model", "training", "predictor")
HEAVY = {"mlflow", "optuna", "sklearn", "matplotlib", "pandera", "scipy"}
# What a prediction runs through.
ANSWERING = [name for name in MODULES if name.startswith(("roofcast.predictor", "roofcast.training.model"))]
# Known offenders, each to be mended: (module, module that it must not load), and circles.
PENDING: set[tuple[str, ...]] = {("roofcast.data.build.__main__", "roofcast.predictor.audit")}


def floor(module: str) -> int:
    parts = module.split(".")
    return FLOORS.index("training.model" if parts[1:3] == ["training", "model"] else parts[1])


@pytest.mark.parametrize("module", MODULES)
def test_a_module_loads_nothing_of_a_floor_above(module: str) -> None:
    loaded = {module_of(each.target, MODULES) for each in imports(module, MODULES[module])} - {None}
    above = {(module, target) for target in loaded if target and floor(target) > floor(module)}
    assert above - PENDING == set()


def test_no_modules_load_each_other() -> None:
    assert set(circles(graph(MODULES))) - PENDING == set()


@pytest.mark.parametrize("module", sorted(set(ANSWERING) - RUNNABLE))
def test_an_answering_module_imports_no_learning_library(module: str) -> None:
    early = [each.target for each in imports(module, MODULES[module]) if not each.lazy]
    assert not {target.split(".")[0] for target in early} & HEAVY


@pytest.mark.parametrize("module", sorted(set(MODULES) - RUNNABLE))
def test_a_module_imports_and_its_examples_hold(module: str) -> None:
    failed, _ = doctest.testmod(importlib.import_module(module), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert failed == 0
