"""Reads and judges the Fabric block of `nvidia-smi -q`, or a query of fabric.state: did each GPU join?"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .expected import Expectation
from .reading import Evidence
from .verdict import DEGRADED, GPU_NAMES, HEALTHY, UNKNOWN, Check, CheckMaker, Found

_BLOCK = re.compile(r"^(\s*)(?:GPU )?Fabric\s*$")
_GPU = re.compile(r"^GPU ([0-9A-Fa-f]{4,8}:[0-9A-Fa-f:.]+)\s*$")
_NAME = re.compile(r"^\s*Product Name\s*:\s*(.+)$")
_KEY = re.compile(r"^(\s*)([A-Za-z][\w /-]*?)\s*:\s*(.*)$")
_HEALTH = re.compile(r"^\s*Health\s*(?::.*)?$")
_COLUMN = {"fabric.state": "State", "fabric.status": "Status"}
_FIELDS = ("State", "Status", "CliqueId", "ClusterUUID")
_NO_CLUSTER = "00000000-0000-0000-0000-000000000000"
_NEXT = "systemctl status nvidia-fabricmanager nvidia-imex"
_MOST = 4096


@dataclass(kw_only=True)
class Registration:
    """One GPU's registration: its fields and the lines of its health as printed, by name."""

    name: str
    evidence: Evidence
    fields: dict[str, tuple[str, Evidence]] = field(default_factory=dict)
    health: list[tuple[str, str, Evidence]] = field(default_factory=list)

    def said(self, name: str) -> tuple[str, Evidence]:
        """Return a field as printed and its line; "" and the block's where it is absent."""
        return self.fields.get(name, ("", self.evidence))


@dataclass(kw_only=True)
class RegistrationReader:
    """Collects the Fabric blocks of a stream of lines."""

    tool = "nvidia-smi -q"
    found: list[Registration] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
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
                self.found.append(Registration(name=self._name, evidence=line))
        elif _GPU.match(text):
            self._name = ""
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
        indent, name, value = len(key[1]), key[2], key[3].strip()
        if indent < self._indent or (indent == self._indent and name not in _FIELDS):
            self._indent = -1
            return
        block = self.found[-1]
        if name not in _FIELDS and len(block.health) < _MOST:
            block.health.append((name, value, line))
        elif name in _FIELDS and not block.said(name)[0]:
            block.fields[name] = (value, line)

    def _csv(self, words: list[str], line: Evidence) -> None:
        if len(words) != len(self._columns) or len(self.found) >= _MOST:
            self._columns = []
            return
        values = dict(zip(self._columns, words, strict=True))
        fields = {_COLUMN[column]: (word, line) for column, word in values.items() if column in _COLUMN}
        name = values.get("name", "")
        self.names |= {name} - {""}
        self.found.append(Registration(name=name, evidence=line, fields=fields))

    def judge(self, expected: Expectation) -> list[Check]:
        """Judge whether every GPU joined its NVLink fabric, and the same one."""
        return [judge_registration(self.found, expected)] if self.found else []


def judge_registration(blocks: list[Registration], expected: Expectation) -> Check:
    """Judge whether every GPU of one capture joined its NVLink fabric, and the same one."""
    wanted = "State Completed, Status Success, no ill health"
    check = CheckMaker("fabric-state", expected.known, wanted=wanted, next_command=_NEXT)
    bad: Found = []
    silent: list[Evidence] = []
    for block in blocks:
        part = expected.part_of(block.name)
        (shown_state, line), (shown_status, status_line) = block.said("State"), block.said("Status")
        state, status = shown_state.lower(), shown_status.lower()
        if state == "completed" and "Status" in block.fields:
            line = status_line
        if state in ("", "n/a", "not supported") or (state == "completed" and not status):
            if not part or part.registers:
                silent.append(line)
        elif state != "completed" or status != "success":
            bad.append((f"State {shown_state}, Status {shown_status or 'not shown'}", line))
        elif part and part.rack and block.said("ClusterUUID")[0] == _NO_CLUSTER:
            bad.append(("ClusterUUID zero: outside the rack's NVLink domain", line))
        bad += [(f"{name} {value}", where) for name, value, where in block.health if _is_ill(name, value)]
    for name in ("CliqueId", "ClusterUUID"):
        if len({block.said(name)[0] for block in blocks} - {"", "N/A"}) > 1:
            bad.append((f"{name} differs between GPUs of one host", blocks[0].evidence))
    if bad:
        cannot = "GPUs that are not registered cannot use NVLink"
        return check.of(DEGRADED, bad, f"{cannot}: programs wait, fail, or fall back to the network")
    if silent:
        missing = f"State and Status of the Fabric block, {GPU_NAMES}"
        return check(UNKNOWN, "no fabric state", "not every GPU registers", *silent, missing=missing)
    found = f"{len(blocks)} GPU(s) registered or without need to"
    return check(HEALTHY, found, "joined", blocks[0].said("State")[1])


def _is_ill(name: str, value: str) -> bool:
    """Tell whether a line of the Health block speaks of a fault."""
    word, name = value.lower(), name.lower()
    if name == "bandwidth":
        return "degraded" in word
    if name in ("summary", "incorrect configuration"):
        return word not in ("", "n/a", "none", "healthy", "false", "not supported")
    return ("recovery" in name or "unhealthy" in name) and word in ("true", "yes")
