"""Fabric checks: is this machine fit to be benchmarked? See docs/fabric.md."""

from __future__ import annotations

from .check import check
from .findings import Finding, Report
from .messages import reason, report_json, show

__all__ = ["Finding", "Report", "check", "reason", "report_json", "show"]
