"""Checks a machine from captured output: files in, one verdict out.

Every line of every file goes through every reader once, so a file may hold several captures and a capture is
recognised by what it says, never by its file's name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from .expected import Expectation, Part, of_platform, part_of, table
from .judge_links import judge_links, judge_registration, judge_topology
from .judge_numa import judge_numa
from .judge_traffic import judge_log, judge_tests
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
    faults: list[tuple[str, Evidence]] = field(default_factory=list)

    def read(self, lines: Iterable[Evidence]) -> Capture:
        """Take every line; returns itself."""
        readers = (self.topology, self.links, self.registration, self.log, self.tests, self.numa)
        reasons = {entry["text"]: entry["why"] for entry in table()["faults"]}
        telling = re.compile("|".join(map(re.escape, reasons)))
        for line in lines:
            for reader in readers:
                reader.feed(line)
            if (fault := telling.search(line.text.lower())) and len(self.faults) < _MOST_FAULTS:
                self.faults.append((reasons[fault[0]], line))
        for reader in readers:
            reader.end()
        return self

    @property
    def names(self) -> set[str]:
        """Product names of GPUs that the file states."""
        tables = set().union(*(t.names for t in self.tests.found)) if self.tests.found else set()
        return tables | {b.name for b in self.links.found if b.name} | self.registration.names | {
            b.name for b in self.registration.found if b.name
        }  # fmt: skip

    @property
    def kinds(self) -> tuple[str, ...]:
        """The tools whose output the file holds."""
        found = {
            "nvidia-smi topo -m": self.topology.found,
            "nvidia-smi nvlink": self.links.found,
            "nvidia-smi -q": self.registration.found,
            "NCCL log": self.log.first or self.log.edges,
            "nccl-tests": self.tests.found,
            "numactl": self.numa.found,
            "driver": self.faults,
        }
        return tuple(name for name, facts in found.items() if facts)

    def judge(self, expected: Expectation) -> list[Check]:
        """Return the checks of all captures in the file."""
        checks = [judge_topology(matrix, expected) for matrix in self.topology.found]
        if self.links.found:
            checks += judge_links(self.links.found, expected)
        if self.registration.found:
            checks.append(judge_registration(self.registration.found, expected))
        # The few NCCL lines that stand beside a table tell of faults; what they leave out is no question.
        alone = bool(self.log.edges or self.log.estimates or not self.tests.found)
        checks += [c for c in judge_log(self.log, expected) if alone or c.status == DEGRADED]
        checks += [judge_tests(run, expected) for run in self.tests.found]
        checks += [judge_numa(hardware, expected) for hardware in self.numa.found]
        if self.faults:
            checks.append(
                Check(
                    check="driver", status=DEGRADED, found=self.faults[0][0], expected="no such line",
                    why="the driver reports a fault", evidence=tuple(line for _, line in self.faults),
                    next_command="dmesg | grep -i -e xid -e nvlink",
                )
            )  # fmt: skip
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


def verdict_of_folder(path: str | Path) -> Verdict:
    """Judge a folder of captures of one machine; what `check_paths` does without a platform."""
    return check_paths([path])


def judge(read: Sequence[Capture | FileReport], platform: str | None = None) -> Verdict:
    """Judge what was read; see `check_paths`."""
    captures = [item for item in read if isinstance(item, Capture)]
    asked = of_platform(platform) if platform else None
    parts = {capture.file: _one_part(capture.names) for capture in captures}
    kinds = {part.spec.name if part.spec else part.name: part for part in parts.values() if part}
    notes = []
    if len(kinds) > 1:
        notes.append(
            f"captures of more than one kind of GPU: {', '.join(sorted(kinds))}: each is judged by its own"
        )
    shared = next(iter(kinds.values())) if len(kinds) == 1 else None
    sizes = {matrix.gpus for capture in captures for matrix in capture.topology.found}
    checks: list[Check] = []
    files = [item for item in read if isinstance(item, FileReport)]
    for capture in captures:
        part = parts[capture.file] or shared
        expected = asked or (
            Expectation(part=part, source="named in the captures") if part else Expectation()
        )
        expected = replace(expected, alone=sizes == {1})
        own = capture.judge(expected)
        own += _contradictions(capture, asked)
        checks += own
        note = "" if own else "states GPU names, and nothing to judge them by"
        status = together(check.status for check in own)
        files.append(FileReport(file=capture.file, status=status, captures=capture.kinds, note=note))
    status = together(
        [*(check.status for check in checks), *(f.status for f in files if not f.captures and f.status)]
    )
    name = asked.platform.name if asked and asked.platform else ", ".join(sorted(kinds))
    return Verdict(status=status, platform=name, checks=tuple(checks), files=tuple(files), notes=tuple(notes))


def _contradictions(capture: Capture, asked: Expectation | None) -> list[Check]:
    """Return a check where the captures name another GPU than the platform asked for has."""
    if not asked or not asked.part or not asked.platform:
        return []
    wanted = asked.part.spec
    other = [
        n for n in sorted(capture.names) if (p := part_of(n)) and p.spec and wanted and p.link != wanted.link
    ]
    if not other:
        return []
    return [
        Check(
            check="platform", status=UNKNOWN, found=f"the captures name {other[0]}",
            expected=f"{asked.platform.gpu}: {asked.source}", why="judged by the wrong platform",
            missing="the right --platform, or none",
        )
    ]  # fmt: skip


def _one_part(names: set[str]) -> Part | None:
    """Return the kind of GPU that the names state, None where they state none or several."""
    parts = {part.spec.name if part.spec else part.name: part for n in names if (part := part_of(n))}
    return next(iter(parts.values())) if len(parts) == 1 else None


def _files(paths: Sequence[str | Path]) -> Iterator[tuple[Path, bool]]:
    """Yield files with whether they were named; folders are walked in order, hidden files left out."""
    count = 0
    for given in map(Path, paths):
        if not given.is_dir():
            yield given, True
            continue
        for folder, subfolders, names in os.walk(given):
            subfolders.sort()
            for name in sorted(names):
                if not name.startswith(".") and count < _MOST_FILES:
                    count += 1
                    yield Path(folder) / name, False


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
