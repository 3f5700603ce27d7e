"""A measured fabric: how far this machine's collectives are from a healthy platform's.

    latency = fitted latency x alpha_scale,   bandwidth = fitted bandwidth x bandwidth_scale

It applies to rows whose group spans more than one GPU; a single GPU's prediction does not touch the fabric.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from ..data.errors import BadRequest

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class MeasuredFabric:
    """One machine's latency of small messages and bandwidth of large ones, measured over predicted [-].

    gpu: the catalogue's name of what was measured; source: where from.
    """

    alpha_scale: float = 1.0
    bandwidth_scale: float = 1.0
    gpu: str
    source: str = ""

    def __post_init__(self) -> None:
        for name in ("alpha_scale", "bandwidth_scale"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not math.isfinite(value) or not 1e-4 <= value <= 1e4:
                raise BadRequest(f"fabric.{name}", value, "a number from 0.0001 to 10000")

    def to_dict(self) -> dict[str, object]:
        """Return plain values, as `load` reads them."""
        return {"schema": SCHEMA, **asdict(self)}

    @staticmethod
    def load(path: str | Path) -> MeasuredFabric:
        """Read a file written by `roofcast fabric check --measured`; raises BadRequest for any other."""
        allowed = "a file written by roofcast fabric check --measured"
        try:
            found = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BadRequest("fabric", str(path), f"{allowed} ({error})") from error
        names = ("alpha_scale", "bandwidth_scale", "gpu", "source")
        if not isinstance(found, dict) or found.get("schema") != SCHEMA or any(n not in found for n in names):
            raise BadRequest("fabric", str(path), f"{allowed}, schema {SCHEMA}")
        return MeasuredFabric(**{name: found[name] for name in names})
