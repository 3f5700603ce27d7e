"""What training saw, and how far a request lies from it: its stratum.

Catalogue names never enter: a GPU is a hash of its name, a model a hash of its shape.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...data import catalogue
from ...data.identity import FAMILY, LENGTHS, SET_UP
from ...features.memory import uses_host
from ...features.request import Requests

Strata = NDArray[np.str_]  # the stratum of each request, shape (n,): names of STRATA
Hashes = NDArray[np.uint64]
_LEVEL = {"setup": "in", "family": "near", "parts": "near", "model": "far", "gpu": "far"}
NEW_SOURCE = "+source"
STRATA = (*_LEVEL, *(name + NEW_SOURCE for name in _LEVEL))
_SORTED = np.array(sorted(STRATA))
_CODES = np.array([STRATA.index(str(name)) for name in _SORTED])
_LEVELS = np.array([*_LEVEL.values()] * 2)
# Lengths are alike within one or two of these steps of their logarithm: 1,024 meets a measured mean of 922.
_LENGTH_STEP = 0.2
_AROUND = tuple(itertools.product((-1.0, 0.0, 1.0), repeat=len(LENGTHS)))
_ODD, _SHIFT, _ONE = np.uint64(0x9E3779B97F4A7C15), np.uint64(29), np.uint64(1)


@catalogue.follows_models
def _name_hashes() -> tuple[Hashes, Hashes]:
    gpus = [zlib.crc32(name.encode()) for name in catalogue.gpus()]
    shapes = [zlib.crc32(spec.shape_key.encode()) for spec in catalogue.models().values()]
    return np.array(gpus, dtype=np.uint64), np.array(shapes, dtype=np.uint64)


def _mix(first: Hashes, *parts: NDArray[Any]) -> Hashes:
    """Return one hash per row of a hash and whole-number columns (63 bits, so that JSON readers agree)."""
    rest = np.array(parts, dtype=np.float64).astype(np.int64).astype(np.uint64)
    key = np.zeros(len(first), dtype=np.uint64)
    for part in (first, *rest):
        key = (key ^ part) * _ODD
        key ^= key >> _SHIFT
    return key >> _ONE


@dataclass(frozen=True, kw_only=True)
class Support:
    """What training saw, as sorted hashes: GPUs, model shapes, families and setups.

    A family is (gpu, shape, engine); a setup adds precision, layout, speculation, mode and lengths,
    about alike: all but the load. Strata, best first: `setup` seen at another load; `family` seen in another
    setup; `parts`, GPU and shape both seen but not together under that engine; `model` or `gpu` never seen.
    "+source" is added where the request names a source of measurements that is none of `sources`: it brings
    definitions and limits of its own. What lies in host memory was never measured: `gpu`.
    """

    gpus: Hashes
    shapes: Hashes
    families: Hashes
    setups: Hashes
    sources: Hashes

    def stratum(self, r: Requests) -> Strata:
        """Return the stratum of each request, shape (n,): one of STRATA."""
        gpu, shape, family, setup = support_keys(r)
        seen_gpu, seen_shape = _among(gpu, self.gpus), _among(shape, self.shapes)
        seen_family, seen_setup = _among(family, self.families), _among(setup, self.setups)
        out = np.where(seen_gpu & seen_shape, "parts", np.where(seen_gpu, "model", "gpu"))
        out = np.where(seen_setup, "setup", np.where(seen_family, "family", out))
        out = np.where(uses_host(r), "gpu", out)
        new = (r.source > 0) & ~_among(r.source, self.sources)
        return np.where(new, np.char.add(out, NEW_SOURCE), out)

    def to_dict(self) -> dict[str, list[int]]:
        """Return lists of whole numbers, for JSON."""
        return {name: getattr(self, name).tolist() for name in vars(self)}

    @staticmethod
    def from_dict(data: Mapping[str, Sequence[int]]) -> Support:
        """Rebuild from `to_dict`'s output."""
        return Support(**{name: np.array(keys, dtype=np.uint64) for name, keys in data.items()})


def _among(keys: Hashes, known: Hashes) -> NDArray[np.bool_]:
    return np.asarray(np.searchsorted(known, keys, "right") > np.searchsorted(known, keys, "left"))


def support_keys(r: Requests) -> tuple[Hashes, ...]:
    """Return the hashes of GPU, shape, family and setup of each request, each of shape (n,)."""
    gpus, shapes = _name_hashes()
    return (
        gpus[r.gpu.codes],
        shapes[r.model.codes],
        _hashes(r, FAMILY),
        _mix(set_up_keys(r), *_length_steps(r)),
    )


def _length_steps(r: Requests) -> NDArray[np.float64]:
    return np.round(np.log(np.maximum([getattr(r, name) for name in LENGTHS], 1.0)) / _LENGTH_STEP)


def set_up_keys(r: Requests) -> Hashes:
    """Return the hash of each request's setup without its lengths, shape (n,)."""
    return _hashes(r, SET_UP)


def _hashes(r: Requests, columns: Sequence[str]) -> Hashes:
    """Return one hash per request of columns that begin with the family's: GPU and shape."""
    gpus, shapes = _name_hashes()
    rest = (getattr(r, name) for name in columns[2:])
    return _mix(gpus[r.gpu.codes], shapes[r.model.codes], *rest)


def support_of(r: Requests) -> Support:
    """Return the support that training on these requests gives."""
    gpu, shape, family, _ = (np.unique(keys) for keys in support_keys(r))
    key, steps = set_up_keys(r), _length_steps(r)
    setup = np.unique(np.concatenate([_mix(key, *(steps + np.array([by]).T)) for by in _AROUND]))
    source = np.unique(r.source[r.source > 0])
    return Support(gpus=gpu, shapes=shape, families=family, setups=setup, sources=source)


def stratum_codes(stratum: Strata) -> NDArray[np.intp]:
    """Return the place of each stratum in STRATA, shape (n,)."""
    return np.asarray(_CODES[np.searchsorted(_SORTED, stratum)])


def levels(stratum: Strata) -> Strata:
    """Return the short form of each stratum: in, near or far."""
    return np.asarray(_LEVELS[stratum_codes(stratum)])
