"""GPUs, platforms and models as reviewed facts, read from the TOML files beside this module.

Names resolve in any letter case, through aliases and Hugging Face ids, and as `spellings` takes them apart.

>>> gpu("B200").name, gpu("NVIDIA A100-SXM4-80GB").name
('b200-sxm', 'a100-80g')
>>> model("Qwen/Qwen2.5-72B-Instruct").n_layers, model("RedHatAI/Qwen3-32B-FP8-dynamic").name
(80, 'qwen3-32b')
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
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
_SIZE_SLACK = 0.05  # of a size in a name against the parameters


def _key(name: str) -> str:
    """Fold case and the separators that people swap ("B200 SXM" is "b200-sxm")."""
    return "-".join(name.strip().lower().replace("_", " ").split())


class _Catalogue(Generic[Spec]):
    """The entries of one kind by name, found by folded name, alias and Hugging Face id too."""

    def __init__(self, kind: str, specs: Mapping[str, Spec]) -> None:
        self.kind = kind
        self.specs: Mapping[str, Spec] = MappingProxyType(dict(specs))
        self._exact: dict[str, str] = {}
        for spec in specs.values():
            for way in ways(spec):
                self._exact.setdefault(_key(way), spec.name)

    def exact(self, name: str) -> Spec | None:
        """Return the entry of this name, alias or id, None where there is none. Raises BadRequest."""
        if not isinstance(name, str):
            raise BadRequest(self.kind, name, "a name")
        found = self._exact.get(_key(name))
        return self.specs[found] if found else None

    def one_of(self, name: str, found: Sequence[str], near: str = "") -> Spec:
        """Return the only candidate; raises UnknownName with all of them, or with those near where none is.

        near: what of the name the nearest are sought by.
        """
        if len(found) != 1:
            raise UnknownName(self.kind, name, found or nearest_names(near or _key(name), self.specs))
        return self.specs[found[0]]


def ways(spec: Entry) -> Iterator[str]:
    """Yield all that an entry is called: its name, its aliases, its Hugging Face id."""
    yield from filter(None, (spec.name, *spec.aliases, getattr(spec, "hf_id", "")))


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


_added: dict[str, ModelSpec] = {}  # by folded name
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
def models() -> Mapping[str, ModelSpec]:
    """Return all models by name (read-only; read once)."""
    return MappingProxyType({**shipped_models(), **{spec.name: spec for spec in _added.values()}})


def add_model(spec: ModelSpec) -> str:
    """Enter a model that the files do not hold, until the process ends; returns the name it goes by.

    A model of the same name, however it is spelled, and shape is the one meant; another shape under a known
    name gets "-2", "-3". So no name that is known comes to mean another model.
    """
    with _adding:
        name, number = spec.name, 1
        while (known := _known(name)) and known.shape_key != spec.shape_key:
            number += 1
            name = f"{spec.name}-{number}"
        if known is None:
            _added[_key(name)] = replace(spec, name=name)
    return known.name if known else name


def _known(name: str) -> ModelSpec | None:
    with suppress(UnknownName):
        return model(name)
    return None


def gpus() -> Mapping[str, GpuSpec]:
    """Return all GPUs by name (read-only; read once)."""
    return _shipped("gpu").specs


def platforms() -> Mapping[str, PlatformSpec]:
    """Return all platforms by name (read-only; read once)."""
    return _shipped("platform").specs


def shipped_models() -> Mapping[str, ModelSpec]:
    """Return the models of the files alone, without those entered since, by name (read-only)."""
    return _shipped("model").specs


def gpu(name: str) -> GpuSpec:
    """Return the GPU called `name`; raises UnknownName with the nearest names.

    Of several that it fits the usual one: a plain "H100" is the SXM module.
    """
    known: _Catalogue[GpuSpec] = _shipped("gpu")
    if exact := known.exact(name):
        return exact
    from .spellings import chip

    if found := gpus_called(name):
        return known.specs[found[0]]
    core = chip(name).core
    alike = [each for each, _, _ in _chips().get(core, ())]  # of another memory or form
    raise UnknownName("gpu", name, alike or nearest_names(core or name, gpus()))


def gpus_called(name: str) -> list[str]:
    """Return the GPUs that a name fits, in memory and form where it says them, the usual one first.

    Raises UnknownName with all of them where none is the usual one.
    >>> gpus_called("H100 80GB"), gpus_called("A100 40GB"), gpus_called("A100-PCIE-40GB")
    (['h100-sxm', 'h100-pcie'], ['a100-40g'], [])
    """
    from .spellings import chip

    asked = chip(name)
    fits = [
        (not usual, "sxm" not in forms, each)
        for each, forms, usual in _chips().get(asked.core, ())
        if asked.holds(gpus()[each].memory_bytes) and (not asked.form or not forms or asked.form in forms)
    ]
    fits.sort()
    found = [each for _, _, each in fits]
    if len(fits) > 1 and fits[0][:2] == fits[1][:2]:
        raise UnknownName("gpu", name, found)
    return found


@cache
def _chips() -> dict[str, list[tuple[str, frozenset[str], bool]]]:
    """Return the GPUs of each core, each with its forms and whether the bare core means it."""
    from .spellings import chip

    found: dict[str, list[tuple[str, frozenset[str], bool]]] = {}
    for spec in gpus().values():
        chips = [chip(way) for way in ways(spec)]
        card = {"pcie"} if spec.link.startswith("pcie") else {"oam"} if spec.vendor == "amd" else set()
        forms = frozenset(card.union(filter(None, (each.form for each in chips))))
        for core in dict.fromkeys(each.core for each in chips if each.core):
            bare = any(re.sub(r"[^a-z0-9]", "", way.lower()) == core for way in ways(spec))
            found.setdefault(core, []).append((spec.name, forms, bare))
    return found


def platform_called(name: str) -> PlatformSpec | None:
    """Return the platform of exactly this name or alias, None where there is none."""
    known: _Catalogue[PlatformSpec] = _shipped("platform")
    return known.exact(name)


def platform(name: str) -> PlatformSpec:
    """Return the platform called `name`; raises UnknownName with the nearest names."""
    if exact := platform_called(name):
        return exact
    from .spellings import chip

    asked = chip(name)
    fits = [
        spec.name
        for spec in platforms().values()
        if asked.core and asked.holds(gpus()[spec.gpu].memory_bytes)
        if any((asked.core, asked.form) == (each.core, each.form) for each in map(chip, ways(spec)))
    ]
    found: PlatformSpec = _shipped("platform").one_of(name, fits)
    return found


def model_called(name: str) -> ModelSpec | None:
    """Return the model of exactly this name, alias or Hugging Face id, None where there is none."""
    known: _Catalogue[ModelSpec] = _shipped("model")
    return known.exact(name) or _added.get(_key(name))


def model(name: str) -> ModelSpec:
    """Return the model called `name`: as it is, else as far as its name is that of a checkpoint.

    Each of the ways from exact to loose is tried in turn. Raises UnknownName with the nearest names, or with
    all that one way leads to.
    """
    if exact := model_called(name):
        return exact
    from .spellings import checkpoint

    asked, known = checkpoint(name), _shipped("model")
    named, loosely = _checkpoints()
    ways = [named.get(key) for key in asked.keys[:3]] + [loosely.get(asked.keys[2])]
    ways += [named.get(asked.keys[3]), loosely.get(asked.keys[3]), _of_size(asked.unsized, asked.billions)]
    found: ModelSpec = known.one_of(name, sorted(next(filter(None, ways), ())), asked.base)
    return found


def _of_size(key: str, billions: float) -> set[str]:
    """Return the models of a name without its size ("deepseek-v3.1-671b") that have so many parameters."""
    total = ((each, models()[each].params_total) for each in _checkpoints()[0].get(key, ()) if billions)
    return {each for each, params in total if abs(params / (billions * 1e9) - 1.0) < _SIZE_SLACK}


@cache
def _checkpoints() -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Return the shipped models by the keys of what they are called, and by looser ones.

    Loosely: without number formats and tuning, and without the active parameters of a mixture.
    """
    from .spellings import checkpoint

    named: dict[str, set[str]] = {}
    loosely: dict[str, set[str]] = {}
    for spec in shipped_models().values():
        for way in ways(spec):
            keys = checkpoint(way).keys
            named.setdefault(keys[0], set()).add(spec.name)
            for key in {*keys[1:3], re.sub(r"a\d+(\|\d+)?b$", "", keys[2])} - {keys[0]}:
                loosely.setdefault(key, set()).add(spec.name)
    return named, loosely
