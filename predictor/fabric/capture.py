"""All that one file holds: every line goes through every reader once, and files, folders and tools are read.

A file may hold several captures, and each is recognised by what it says, never by its file's name.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Final

from ...data.fabric_parts import Machine, table
from ...data.readers.captured import Line, NotText, stream_lines
from .findings import FileReport, Finding
from .nccl_log import LogReader
from .nccl_tests import TestsReader
from .numa import NumaReader
from .nvlink import FabricReader, LinksReader
from .topology import TopologyReader

COMMANDS: Final = (
    ("nvidia-smi", "topo", "-m"),
    ("nvidia-smi", "nvlink", "--status"),
    ("nvidia-smi", "nvlink", "-e"),
    ("nvidia-smi", "-q"),
    ("numactl", "--hardware"),
)
_MOST_BYTES = 64 << 20
_MOST_FILES = 10_000
_MOST_FAULTS = 64


class FaultReader:
    """Collects the lines that tell of a fault by themselves, whatever printed them."""

    tool = "driver"

    def __init__(self) -> None:
        self.found: list[Finding] = []
        self._why = {entry["text"]: entry["why"] for entry in table()["faults"]}
        self._telling = re.compile("|".join(map(re.escape, self._why)))

    def feed(self, line: Line) -> None:
        """Take one line."""
        if (fault := self._telling.search(line.text.lower())) and len(self.found) < _MOST_FAULTS:
            self.found.append(Finding("driver.fault", self._why[fault[0]], evidence=(line,)))

    def judge(self, machine: Machine) -> Iterator[Finding]:
        """Report the faults; what is known of the machine has no say."""
        yield from self.found


class Capture:
    """All that one file holds, as the readers found it; the names of GPUs it states, the tools it is from."""

    def __init__(self, file: str, stream: IO[bytes]) -> None:
        self.file = file
        self.topology, self.links, self.fabric = TopologyReader(), LinksReader(), FabricReader()
        self.log, self.tests, self.numa, faults = LogReader(), TestsReader(), NumaReader(), FaultReader()
        self.readers = (self.topology, self.links, self.fabric, self.log, self.tests, self.numa, faults)
        for line in stream_lines(stream, file):
            for reader in self.readers:
                reader.feed(line)
        self.topology.end()
        listed = {block.name for block in self.links.found} - {""}
        self.names = listed.union(self.fabric.names, *(run.names for run in self.tests.found))
        self.tools = tuple(reader.tool for reader in self.readers if reader.found)

    def judge(self, machine: Machine) -> Iterator[Finding]:
        """Yield the findings of all captures in the file."""
        # The few NCCL lines beside a table tell of faults; what they leave out is no question.
        beside = self.tests.found and not self.log.edges
        for reader in self.readers:
            found = reader.judge(machine)
            yield from (f for f in found if not (reader is self.log and beside and f.status != "degraded"))


def read_paths(paths: Sequence[str | Path]) -> list[Capture | FileReport]:
    """Read files and folders (walked through, without hidden files); what is no capture becomes a report."""
    read = []
    for given in map(Path, paths):
        stray, files = given.is_dir(), [given]
        if stray:
            files = sorted(path for path in given.rglob("[!.]*") if path.is_file())
        for path in files[:_MOST_FILES]:
            try:
                with path.open("rb") as stream:
                    read.append(_read(stream, str(path), Finding("file.unrecognised"), stray=stray))
            except OSError as error:
                finding = Finding("file.unreadable", error.strerror or str(error))
                read.append(FileReport(file=str(path), findings=(finding,)))
    return read


def _read(stream: IO[bytes], name: str, other: Finding, *, stray: bool) -> Capture | FileReport:
    """Read what may be a capture; else a report that says `other`, without a say where it is `stray`."""
    try:
        capture = Capture(name, stream)
        if capture.tools:
            return capture
    except NotText as error:
        other, stray = Finding(f"file.{error.code}"), stray and error.code != "empty"
    return FileReport(file=name, findings=(other,), stray=stray)


def run_tools(time_limit_s: float = 60.0) -> list[Capture | FileReport]:
    """Run the tools that are installed, reading only, and read what they print.

    time_limit_s: seconds for each tool; one that takes longer is killed and reported. all_reduce_perf runs
    with NCCL_DEBUG=INFO over all GPUs where it is installed. A tool that is not installed has no say.
    """
    found = [_run(command, time_limit_s) for command in COMMANDS]
    gpus = max((len(c.links.found) for c in found if isinstance(c, Capture)), default=0)
    if gpus > 1:
        command = ("all_reduce_perf", "-b", "16K", "-e", "1G", "-f", "2", "-g", str(gpus))
        found.append(_run(command, time_limit_s))
    return found


def _run(command: tuple[str, ...], time_limit_s: float) -> Capture | FileReport:
    """Run one command; its output as a capture, else why there is none."""
    name = " ".join(command)
    if not shutil.which(command[0]):
        return FileReport(file=name, findings=(Finding("file.not-installed", command[0]),), stray=True)
    environment = {**os.environ, "LC_ALL": "C", "NCCL_DEBUG": "INFO"}
    with tempfile.TemporaryFile() as output:
        # Its own session, so that a tool's children end with it.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment,
            start_new_session=True,
        )  # fmt: skip
        try:
            process.wait(time_limit_s)
        except BaseException as error:  # a stop from the keyboard does not reach another session
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            return FileReport(file=name, findings=(Finding("file.timeout", value=time_limit_s),))
        output.seek(0)
        printed = io.BytesIO(output.read(_MOST_BYTES))
    first = printed.getvalue().strip().partition(b"\n")[0].decode("utf-8", "replace")
    other = Finding("file.says", first[:160], process.returncode)
    return _read(printed, name, other, stray=process.returncode == 0)
