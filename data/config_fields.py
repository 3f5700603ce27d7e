"""Checked access to the fields of a configuration file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import BadRequest

_LARGEST = 2**31


@dataclass(frozen=True, kw_only=True)
class Fields:
    """A configuration's fields; `where` names the file in errors."""

    values: Mapping[str, Any]
    where: str

    def get(self, name: str) -> Any:
        """Return a field as it stands, None where it is absent."""
        return self.values.get(name)

    def bad(self, name: str, value: object, allowed: str) -> BadRequest:
        """Return the error that says what `name` should have been."""
        return BadRequest(name, value, f"{allowed}, in {self.where}")

    def count(self, *names: str, default: int | None = None) -> int:
        """Return the first of `names` that is present, a whole number from 0; raises BadRequest."""
        for name in names:
            value = self.values.get(name)
            if value is not None:
                return self._whole(name, value)
        if default is None:
            raise self.bad(names[0], None, "a whole number above 0")
        return default

    def positive(self, *names: str, default: int | None = None) -> int:
        """Return what `count` returns, but refuse 0."""
        value = self.count(*names, default=default)
        if value <= 0:
            raise self.bad(names[0], value, "above 0")
        return value

    def listed(self, name: str) -> list[Any]:
        """Return a field that must be a list, empty where it is absent; raises BadRequest."""
        value = self.values.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.bad(name, value, "a list")
        return value

    def _whole(self, name: str, value: object) -> int:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and math.isfinite(value) and 0 <= value < _LARGEST and value == int(value)):  # type: ignore[arg-type,call-overload,operator]
            raise self.bad(name, value, f"a whole number from 0 to {_LARGEST}")
        return int(value)  # type: ignore[call-overload,no-any-return]
