"""What every test shares: the repository's paths, and settings that make runs repeatable."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Before anything imports mlflow, here or in a subprocess.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

# The same examples on every machine; no deadline, since a shared machine's pauses are not the code's.
settings.register_profile(
    "roofcast", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("roofcast")


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The repository's root folder."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_root(repo_root: Path) -> Path:
    """The folder of collected sources beside the repository; a test that needs it is skipped without it."""
    path = Path(os.environ.get("ROOFCAST_SHARED", repo_root.parent / "shared"))
    if not path.is_dir():
        pytest.skip(f"no collected sources at {path}; set ROOFCAST_SHARED")
    return path
