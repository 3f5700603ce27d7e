"""Reads the Fabric block of `nvidia-smi -q`, or a query of fabric.state: did each GPU join its fabric?"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

from .reading import Evidence

_BLOCK = re.compile(r"^(\s*)(?:GPU )?Fabric\s*$")
_GPU = re.compile(r"^GPU ([0-9A-Fa-f]{4,8}:[0-9A-Fa-f:.]+)\s*$")
_NAME = re.compile(r"^\s*Product Name\s*:\s*(.+)$")
_KEY = re.compile(r"^(\s*)([A-Za-z][\w /-]*?)\s*:\s*(.*)$")
_HEALTH = re.compile(r"^\s*Health\s*(?::.*)?$")
_COLUMN = {"fabric.state": "state", "fabric.status": "status", "name": "name"}
_FIELDS = {"State": "state", "Status": "status", "CliqueId": "clique", "ClusterUUID": "cluster"}
_MOST = 4096


@dataclass(frozen=True, kw_only=True)
class Registration:
    """One GPU's registration: state, status, clique and cluster as printed ("" if absent), its health."""

    gpu: str
    name: str
    state: str = ""
    status: str = ""
    clique: str = ""
    cluster: str = ""
    health: tuple[tuple[str, str, Evidence], ...] = ()
    evidence: Evidence
    status_evidence: Evidence | None = None


@dataclass(kw_only=True)
class RegistrationReader:
    """Collects the Fabric blocks of a stream of lines."""

    found: list[Registration] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    _gpu: str = ""
    _name: str = ""
    _indent: int = -1
    _columns: list[str] = field(default_factory=list)

    def feed(self, line: Evidence) -> None:
        """Take one line."""
        text = line.text
        if self._indent >= 0:
            self._inside(text, line)
        if block := _BLOCK.match(text):
            self._indent = len(block[1])
            if len(self.found) < _MOST:
                self.found.append(Registration(gpu=self._gpu, name=self._name, evidence=line))
        elif gpu := _GPU.match(text):
            self._gpu, self._name = gpu[1], ""
        elif "Product Name" in text and (name := _NAME.match(text)):
            self._name = name[1].strip()
            self.names.add(self._name)
        elif "fabric.st" in text:
            self._columns = [word.strip() for word in text.split(",")]
        elif self._columns:
            self._csv([word.strip() for word in text.split(",")], line)

    def _inside(self, text: str, line: Evidence) -> None:
        key = _KEY.match(text)
        if not key:
            if text.strip() and not _HEALTH.match(text):
                self._indent = -1
            return
        if len(key[1]) < self._indent or (len(key[1]) == self._indent and key[2] not in _FIELDS):
            self._indent = -1
            return
        block, value = self.found[-1], key[3].strip()
        if key[2] in _FIELDS and not getattr(block, _FIELDS[key[2]]):
            named: dict[str, Any] = {_FIELDS[key[2]]: value}
            block = replace(block, **named, evidence=line if key[2] == "State" else block.evidence)
            self.found[-1] = replace(block, status_evidence=line) if key[2] == "Status" else block
        elif len(block.health) < _MOST:
            self.found[-1] = replace(block, health=(*block.health, (key[2], value, line)))

    def _csv(self, words: list[str], line: Evidence) -> None:
        if len(words) != len(self._columns) or len(self.found) >= _MOST:
            self._columns = []
            return
        values: dict[str, Any] = {
            _COLUMN[c]: w for c, w in zip(self._columns, words, strict=True) if c in _COLUMN
        }
        self.found.append(
            Registration(gpu=words[0], **{"name": "", **values}, evidence=line, status_evidence=line)
        )

    def end(self) -> None:
        """Nothing is left open."""
