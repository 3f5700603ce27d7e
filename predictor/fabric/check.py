"""Checks a machine from captured output: files in, one verdict out.

Every line of every file goes through every reader once, so a file may hold several captures and a capture is
recognised by what it says, never by its file's name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from .expected import Expectation, Part, of_platform, part_of, table
from .links import LinksReader
from .nccl_log import LogReader
from .nccl_tests import TestsReader
from .numa import NumaReader
from .reading import Evidence, NotText, lines_of
from .registration import RegistrationReader
from .topology import TopologyReader
from .verdict import DEGRADED, UNKNOWN, Check, FileReport, Verdict, together

_MOST_FILES = 10_000
_MOST_FAULTS = 64


class FaultReader:
    """Collects the lines that tell of a fault by themselves, whatever printed them, with what they mean."""

    tool = "driver"

    def __init__(self) -> None:
        self.found: list[tuple[str, Evidence]] = []
        self._reasons = {entry["text"]: entry["why"] for entry in table()["faults"]}
        self._telling = re.compile("|".join(map(re.escape, self._reasons)))

    def feed(self, line: Evidence) -> None:
        """Take one line."""
        if (fault := self._telling.search(line.text.lower())) and len(self.found) < _MOST_FAULTS:
            self.found.append((self._reasons[fault[0]], line))

    def judge(self, expected: Expectation) -> list[Check]:
        """Report the faults; what is expected of the machine has no say."""
        if not self.found:
            return []
        return [
            Check(
                check=self.tool,
                status=DEGRADED,
                found=self.found[0][0],
                expected="no such line",
                why="the driver reports a fault",
                next_command="dmesg | grep -i -e xid -e nvlink",
                evidence=tuple(line for _, line in self.found),
            )
        ]


@dataclass(kw_only=True)
class Capture:
    """All that one file holds, as the readers found it."""

    file: str
    topology: TopologyReader = field(default_factory=TopologyReader)
    links: LinksReader = field(default_factory=LinksReader)
    registration: RegistrationReader = field(default_factory=RegistrationReader)
    log: LogReader = field(default_factory=LogReader)
    tests: TestsReader = field(default_factory=TestsReader)
    numa: NumaReader = field(default_factory=NumaReader)
    faults: FaultReader = field(default_factory=FaultReader)

    def __post_init__(self) -> None:
        self.readers = (
            self.topology, self.links, self.registration, self.log, self.tests, self.numa, self.faults
        )  # fmt: skip

    def read(self, lines: Iterable[Evidence]) -> Capture:
        """Take every line; returns itself."""
        for line in lines:
            for reader in self.readers:
                reader.feed(line)
        self.topology.end()
        return self

    @property
    def names(self) -> set[str]:
        """Product names of GPUs that the file states."""
        listed = {block.name for block in self.links.found if block.name}
        return listed.union(self.registration.names, *(run.names for run in self.tests.found))

    @property
    def kinds(self) -> tuple[str, ...]:
        """The tools whose output the file holds."""
        return tuple(reader.tool for reader in self.readers if reader.found)

    def judge(self, expected: Expectation) -> list[Check]:
        """Return the checks of all captures in the file."""
        checks: list[Check] = []
        for reader in self.readers:
            made = reader.judge(expected)
            if reader is self.log and self.tests.found and not (self.log.edges or self.log.estimates):
                # The few NCCL lines beside a table tell of faults; what they leave out is no question.
                made = [check for check in made if check.status == DEGRADED]
            checks += made
        return checks


def check_paths(paths: Sequence[str | Path], platform: str | None = None) -> Verdict:
    """Judge the captures in files and folders (walked through).

    platform: a name of the catalogue, which sets what is expected; else the GPU names in the captures do.
    Raises UnknownName for a platform that is not known. A file that cannot be read or judged is reported,
    not raised.
    """
    return judge(read_paths(paths), platform)


def read_paths(paths: Sequence[str | Path]) -> list[Capture | FileReport]:
    """Read files and folders; what is no capture becomes a report that says so."""
    return [_read(path, named) for path, named in _files(paths)]


def judge(read: Sequence[Capture | FileReport], platform: str | None = None) -> Verdict:
    """Judge what was read; see `check_paths`."""
    captures = [item for item in read if isinstance(item, Capture)]
    files = [item for item in read if isinstance(item, FileReport)]
    asked = of_platform(platform) if platform else None
    parts = [_one_part(capture.names) for capture in captures]
    kinds = {part.kind: part for part in parts if part}
    shared = next(iter(kinds.values())) if len(kinds) == 1 else None
    alone = {matrix.gpus for capture in captures for matrix in capture.topology.found} == {1}
    checks: list[Check] = []
    for capture, part in zip(captures, parts, strict=True):
        expected = asked or Expectation(part=part or shared, source="named in the captures")
        own = capture.judge(replace(expected, alone=alone))
        own += _contradictions(capture, asked)
        checks += own
        note = "" if own else "states GPU names, and nothing to judge them by"
        status = together(check.status for check in own)
        files.append(FileReport(file=capture.file, status=status, captures=capture.kinds, note=note))
    unread = [report.status for report in files if report.status and not report.captures]
    named = ", ".join(sorted(kinds))
    notes = (f"captures of more than one kind of GPU: {named}: each is judged by its own",)
    return Verdict(
        status=together([*(check.status for check in checks), *unread]),
        platform=asked.platform.name if asked and asked.platform else named,
        checks=tuple(checks),
        files=tuple(files),
        notes=notes if len(kinds) > 1 else (),
    )


def _contradictions(capture: Capture, asked: Expectation | None) -> list[Check]:
    """Return a check where the captures name another GPU than the platform asked for has."""
    if not asked or not asked.part or not asked.platform:
        return []
    link = asked.part.link
    other = [n for n in sorted(capture.names) if (p := part_of(n)) and p.spec and p.link != link]
    if not other:
        return []
    return [
        Check(
            check="platform",
            status=UNKNOWN,
            found=f"the captures name {other[0]}",
            expected=f"{asked.platform.gpu}: {asked.source}",
            why="judged by the wrong platform",
            missing="the right --platform, or none",
        )
    ]


def _one_part(names: set[str]) -> Part | None:
    """Return the kind of GPU that the names state, None where they state none or several."""
    parts = {part.kind: part for name in sorted(names) if (part := part_of(name))}
    return next(iter(parts.values())) if len(parts) == 1 else None


def _files(paths: Sequence[str | Path]) -> Iterator[tuple[Path, bool]]:
    """Yield files with whether they were named; folders are walked in order, hidden files left out."""
    for given in map(Path, paths):
        if given.is_dir():
            yield from ((file, False) for file in islice(_walk(given), _MOST_FILES))
        else:
            yield given, True


def _walk(top: Path) -> Iterator[Path]:
    for folder, subfolders, names in os.walk(top):
        subfolders.sort()
        yield from (Path(folder) / name for name in sorted(names) if not name.startswith("."))


def _read(path: Path, named: bool) -> Capture | FileReport:
    """Read one file; a report where it is no capture. A stray file of a folder has no say in the verdict."""
    try:
        capture = Capture(file=str(path)).read(lines_of(path))
    except NotText as error:
        status = UNKNOWN if named or str(error).startswith("empty") else ""
        return FileReport(file=str(path), status=status, note=str(error))
    except OSError as error:
        return FileReport(file=str(path), status=UNKNOWN, note=f"cannot be read: {error.strerror or error}")
    if capture.kinds:
        return capture
    note = "no tool's output was recognised in it"
    return FileReport(file=str(path), status=UNKNOWN if named else "", note=note)
