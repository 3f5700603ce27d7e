"""What a GPU's links are: the catalogue's rates with what `fabric.toml` adds, found by a product's name."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from . import catalogue
from .specs import GpuSpec, PlatformSpec

_BOARD = 8


@cache
def table() -> dict[str, Any]:
    """Return `data/fabric.toml` as plain dictionaries (read once; do not change it)."""
    return tomllib.loads(resources.files(__package__).joinpath("fabric.toml").read_text("utf-8"))


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU as the fabric sees it; spec: the catalogue's entry, if any.

    links: NVLinks (0: none without a bridge); shown_gb_s: what the driver prints per link; card: in a PCIe
    slot; bridge_links: NVLinks of a full bridge; host_gpus: that a host sees (0: any); pcie_gb_s: one way.
    """

    name: str
    spec: GpuSpec | None
    link: str
    links: int
    shown_gb_s: float
    card: bool
    bridge_links: int
    host_gpus: int
    pcie_gb_s: float

    @property
    def kind(self) -> str:
        """The catalogue's name, else the product's."""
        return self.spec.name if self.spec else self.name

    @property
    def registers(self) -> bool:
        """Whether it registers with a fabric manager and can reduce in the switch (NVLS): from Hopper on."""
        return not self.card and bool(self.spec) and self.link.startswith(("nvlink4", "nvlink5", "nvlink6"))

    @property
    def rack(self) -> bool:
        """Whether its NVLink domain spans several hosts."""
        return bool(self.spec and self.host_gpus and self.spec.link_domain > _BOARD)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The machine: its GPU, the platform asked for; alone: with one GPU, whose links lead nowhere."""

    gpu: Gpu | None = None
    platform: PlatformSpec | None = None
    alone: bool = False


def _gpu(entry: dict[str, Any], name: str) -> Gpu:
    spec = catalogue.gpus()[entry["gpu"]] if "gpu" in entry else None
    link = spec.link if spec else entry["link"]
    card = entry.get("form") == "card" or link.startswith("pcie")
    rates = table()["links"].get(link[:7], {"nominal_gb_s": 25.0, "shown_gb_s": 0.0})
    links = entry.get("links") or (round(spec.link_bandwidth / 1e9 / rates["nominal_gb_s"]) if spec else 0)
    return Gpu(
        name=name, spec=spec, link=link, card=card,
        links=links if link.startswith("nvlink") and not card else 0,
        shown_gb_s=entry.get("bridge_shown_gb_s", rates["shown_gb_s"]),
        bridge_links=entry.get("bridge_links", 0), host_gpus=entry.get("host_gpus", 0),
        pcie_gb_s=spec.pcie_bandwidth / 1e9 if spec else entry.get("pcie_gb_s", 0.0),
    )  # fmt: skip


@cache
def gpu_of(name: str) -> Gpu | None:
    """Return the GPU behind a product name, None for one that is not known.

    >>> gpu_of("NVIDIA H100 80GB HBM3").links, gpu_of("NVIDIA H100 PCIe").links
    (18, 0)
    """
    entries = (e for e in table()["parts"] if re.search(e["match"], name, re.IGNORECASE))
    return next((_gpu(entry, name) for entry in entries), None)


def gpus_of(names: Iterable[str]) -> dict[str, Gpu]:
    """Return the known GPUs behind product names, by kind."""
    return {gpu.kind: gpu for name in sorted(names) if (gpu := gpu_of(name))}


def machine_of(platform: str) -> Machine:
    """Return what a platform of the catalogue is; raises UnknownName with the nearest names."""
    spec = catalogue.platform(platform)
    entry = next((e for e in table()["parts"] if e.get("gpu") == spec.gpu), {"gpu": spec.gpu})
    return Machine(gpu=_gpu(entry, spec.gpu), platform=spec)


def link_counts() -> set[int]:
    """Return the NVLinks per GPU of every NVSwitch board."""
    return {gpu.links for e in table()["parts"] if (gpu := _gpu(e, "")).links and gpu.host_gpus >= 4}
