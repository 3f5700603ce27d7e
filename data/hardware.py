"""What names hardware: a GPU, a platform, so many of one, a cloud's instance type."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from . import catalogue
from .errors import UnknownName
from .specs import GpuSpec, PlatformSpec

if TYPE_CHECKING:
    from .spellings import Machine


@dataclass(frozen=True, kw_only=True)
class NamedHardware:
    """The hardware that a text names: its GPU, its platform ("" for GPUs alone), how many GPUs (0: not said).

    among: the GPUs of which `gpu` is the usual one, where the text fits several; how: "" for a name of the
    catalogue or one that says the same, "instance" for what a table had to say.
    """

    gpu: str
    platform: str = ""
    num_gpus: int = 0
    among: tuple[str, ...] = ()
    how: str = ""


def resolve_hardware(text: str, kind: str = "gpu") -> NamedHardware:
    """Return what a text names that is given as a "gpu" or as a "platform"; each is taken for the other too.

    Raises UnknownName with the nearest names of that kind.

    >>> resolve_hardware("8x H100 80GB").num_gpus, resolve_hardware("NVIDIA DGX B200").platform
    (8, 'hgx-b200')
    """
    if found := _own_name(text, kind):
        return found
    from .spellings import Machine, machines

    readings = machines(text)
    single = [replace(each, name=each.name[:-1]) for each in readings if _is_plural(each)]
    for reading in (*readings, *single, Machine(name=text)):
        if reading.known:
            if reading.name in catalogue.gpus():
                return NamedHardware(gpu=reading.name, num_gpus=reading.count, how="instance")
            raise UnknownName(kind, text, [reading.name])
        # So many of a thing are GPUs: eight "b200" are no eight boxes of one.
        for spec in _called(reading.name, "gpu" if reading.count else kind):
            if isinstance(spec, PlatformSpec):
                gpus = spec.num_gpus * reading.count
                return NamedHardware(gpu=spec.gpu, platform=spec.name, num_gpus=gpus)
            _refuse_another(text, kind, spec.name)
            return NamedHardware(gpu=spec.name, num_gpus=reading.count, among=_among(reading.name, spec.name))
    near = _nearest(catalogue.platform if kind == "platform" else catalogue.gpu, text)
    raise UnknownName(kind, text, near)


def _is_plural(reading: Machine) -> bool:
    """Return whether a reading says so many "H100s"; V100S and RTX 4080S are chips of their own."""
    return reading.count > 1 and bool(re.search(r"(?<!v100)(?<!\d{4})s$", reading.name))


def _refuse_another(text: str, kind: str, gpu: str) -> None:
    """Raise UnknownName where another GPU stands behind a comma, whose answer would be missed."""
    from .spellings import machines

    for part in re.split(r"[,;]", text)[1:]:
        for other in (spec for reading in machines(part) for spec in _called(reading.name, "gpu")):
            if isinstance(other, GpuSpec) and other.name != gpu:
                raise UnknownName(kind, text, [gpu, other.name])


def _nearest(find: Callable[[str], object], text: str) -> tuple[str, ...]:
    """Return the names near one that is unknown."""
    try:
        find(text)
    except UnknownName as error:
        return error.nearest
    return ()


def _own_name(text: str, kind: str) -> NamedHardware | None:
    """Return what has exactly this name, as most texts do, whose spelling need not be looked at."""
    if kind == "platform" and (spec := catalogue.platform_called(text)):
        return NamedHardware(gpu=spec.gpu, platform=spec.name)
    return NamedHardware(gpu=text) if kind == "gpu" and text in catalogue.gpus() else None


def _called(name: str, kind: str) -> Iterator[GpuSpec | PlatformSpec]:
    """Yield what has a name: of the kind that is asked for first."""
    finds = (catalogue.platform, catalogue.gpu) if kind == "platform" else (catalogue.gpu, catalogue.platform)
    for find in finds:
        with suppress(UnknownName):
            yield find(name)


def _among(text: str, gpu: str) -> tuple[str, ...]:
    """Return the GPUs that a text fits where they are several and `gpu` is the usual one, else ()."""
    fits = catalogue.gpus_called(text)
    return tuple(sorted(fits)) if len(fits) > 1 and gpu in fits else ()
