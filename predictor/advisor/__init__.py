"""The advisor: which platform, which configuration, at what cost.

from roofcast.predictor.advisor import Advisor, Workload
"""

from __future__ import annotations

from .advisor import Advisor
from .economics import Cost, Economics
from .recommendation import Crossover, Deployment, Reason, Recommendation
from .workload import Workload

__all__ = (
    "Advisor", "Cost", "Crossover", "Deployment", "Economics", "Reason", "Recommendation", "Workload",
)  # fmt: skip
