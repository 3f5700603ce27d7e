"""Fabric checks: is this machine fit to be benchmarked? See docs/fabric.md."""

from __future__ import annotations

from .check import check_paths
from .verdict import DEGRADED, HEALTHY, UNKNOWN, Check, Verdict

__all__ = ["DEGRADED", "HEALTHY", "UNKNOWN", "Check", "Verdict", "check_paths"]
