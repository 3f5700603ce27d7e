"""GPUs, platforms and models as reviewed facts, read from the TOML files beside this module.

Names resolve in any letter case and through aliases and Hugging Face ids; see `_Catalogue.find`.

>>> gpu("B200").name, round(gpu("b200").memory_bytes / 1e9)
('b200-sxm', 192)
>>> model("Qwen/Qwen2.5-72B-Instruct").n_layers
80
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, lru_cache, wraps
from importlib.resources import files
from threading import Lock
from types import MappingProxyType
from typing import Any, Generic, ParamSpec, TypeVar

from .errors import BadRequest, UnknownName, nearest_names
from .specs import Conflict, Entry, GpuSpec, ModelSpec, PlatformSpec

Spec = TypeVar("Spec", bound=Entry)
Args = ParamSpec("Args")
Value = TypeVar("Value")

_RECORDS: Mapping[str, Callable[..., Entry]] = {"gpu": GpuSpec, "platform": PlatformSpec, "model": ModelSpec}
_TUNING_SUFFIXES = ("-hf", "-it", "-instruct", "-chat")


def _key(name: str) -> str:
    """Fold case and the separators that people swap ("B200 SXM" is "b200-sxm")."""
    return "-".join(name.strip().lower().replace("_", " ").split())


def _loose_key(name: str) -> str:
    """Drop the organisation before the slash and the suffix that says how a model was tuned."""
    key = _key(name).rsplit("/", 1)[-1]
    for suffix in _TUNING_SUFFIXES:
        key = key.removesuffix(suffix)
    return key


class _Catalogue(Generic[Spec]):
    """The entries of one kind by name, found by folded name, alias and Hugging Face id too."""

    def __init__(self, kind: str, specs: Mapping[str, Spec]) -> None:
        self.kind = kind
        self.specs: Mapping[str, Spec] = MappingProxyType(dict(specs))
        self._exact: dict[str, str] = {}
        self._loose: dict[str, set[str]] = {}
        for spec in specs.values():
            for way in filter(None, (spec.name, *spec.aliases, getattr(spec, "hf_id", ""))):
                self._exact.setdefault(_key(way), spec.name)
                self._loose.setdefault(_loose_key(way), set()).add(spec.name)

    def find(self, name: str) -> Spec:
        """Return the entry called `name`: by name or alias, else loosely if that leaves one candidate.

        Raises UnknownName with the nearest names; a loose name with several candidates is unknown too.
        """
        if not isinstance(name, str):
            raise BadRequest(self.kind, name, "a name")
        exact = self._exact.get(_key(name))
        found = [exact] if exact else sorted(self._loose.get(_loose_key(name), ()))
        if len(found) != 1:
            raise UnknownName(self.kind, name, found or nearest_names(_loose_key(name), self.specs))
        return self.specs[found[0]]


@cache
def _shipped(kind: str) -> _Catalogue[Any]:
    """Read the shipped TOML file of a kind: a table per entry, keyed by name."""
    tables = tomllib.loads(files(__package__).joinpath(f"{kind}s.toml").read_text("utf-8"))
    for name, values in tables.items():
        listed = (each | {"others": tuple(each["others"])} for each in values.get("conflicts", ()))
        values |= {"name": name, "aliases": tuple(values.get("aliases", ()))}
        values["conflicts"] = tuple(Conflict(**each) for each in listed)
        if "flops" in values:
            values["flops"] = MappingProxyType(values["flops"])
    return _Catalogue(kind, {name: _RECORDS[kind](**values) for name, values in tables.items()})


_added: dict[str, ModelSpec] = {}
_adding = Lock()


def follows_models(function: Callable[Args, Value]) -> Callable[Args, Value]:
    """Cache what a function makes of the catalogue's models until another model is added.

    How many were added is part of the key: what a thread made of fewer while another added one is not found.
    """

    @lru_cache(maxsize=8)
    def kept(_: int, *args: Args.args, **kwargs: Args.kwargs) -> Value:
        return function(*args, **kwargs)

    @wraps(function)
    def current(*args: Args.args, **kwargs: Args.kwargs) -> Value:
        return kept(len(_added), *args, **kwargs)  # type: ignore[arg-type]  # a cache takes only hashables

    return current


@follows_models
def _models() -> _Catalogue[ModelSpec]:
    return _Catalogue("model", {**_shipped("model").specs, **_added})


def add_model(spec: ModelSpec) -> str:
    """Enter a model that the files do not hold, until the process ends; returns the name it goes by.

    A model of the same name and shape is the one meant; another shape under a known name gets "-2", "-3".
    """
    with _adding:
        name, number = spec.name, 1
        while name in models() and models()[name].shape_key != spec.shape_key:
            number += 1
            name = f"{spec.name}-{number}"
        if name not in models():
            _added[name] = replace(spec, name=name)
    return name


def gpus() -> Mapping[str, GpuSpec]:
    """Return all GPUs by name (read-only; read once)."""
    return _shipped("gpu").specs


def platforms() -> Mapping[str, PlatformSpec]:
    """Return all platforms by name (read-only; read once)."""
    return _shipped("platform").specs


def models() -> Mapping[str, ModelSpec]:
    """Return all models by name (read-only; read once)."""
    return _models().specs


def shipped_models() -> Mapping[str, ModelSpec]:
    """Return the models of the files alone, without those entered since, by name (read-only)."""
    return _shipped("model").specs


def gpu(name: str) -> GpuSpec:
    """Return the GPU called `name` or one of its aliases; raises UnknownName with the nearest names."""
    found: GpuSpec = _shipped("gpu").find(name)
    return found


def platform(name: str) -> PlatformSpec:
    """Return the platform called `name` or one of its aliases; raises UnknownName with the nearest names."""
    found: PlatformSpec = _shipped("platform").find(name)
    return found


def model(name: str) -> ModelSpec:
    """Return the model called `name`, an alias or a Hugging Face id; raises UnknownName with the nearest."""
    return _models().find(name)
