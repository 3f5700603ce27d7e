"""Old home of identity, for modules that have not moved yet."""

from __future__ import annotations

from .identity import config_group, digest, same_architecture

__all__ = ["config_group", "digest", "same_architecture"]
