"""Runs the tools that are installed, reading only, each within a time limit.

Nothing here changes a setting: the driver's tools only list, numactl only prints, nccl-tests only measures.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import tempfile
from typing import Final

from .check import Capture
from .reading import NotText, stream_lines
from .verdict import UNKNOWN, FileReport

COMMANDS: Final = (
    ("nvidia-smi", "topo", "-m"),
    ("nvidia-smi", "nvlink", "--status"),
    ("nvidia-smi", "nvlink", "-e"),
    ("nvidia-smi", "-q"),
    ("numactl", "--hardware"),
)
_MOST_BYTES = 64 << 20


def run_tools(time_limit_s: float = 60.0) -> list[Capture | FileReport]:
    """Run every tool that is on the path and read what it prints; `judge` makes the verdict.

    time_limit_s: seconds for each tool; one that takes longer is killed and reported. all_reduce_perf runs
    with NCCL_DEBUG=INFO over all GPUs where it is installed. A tool that is not installed is reported without
    a say in the verdict.
    """
    found = [_run(command, time_limit_s) for command in COMMANDS]
    gpus = max((len(c.links.found) for c in found if isinstance(c, Capture)), default=0)
    if gpus > 1:
        found.append(
            _run(("all_reduce_perf", "-b", "16K", "-e", "1G", "-f", "2", "-g", str(gpus)), time_limit_s)
        )
    return found


def _run(command: tuple[str, ...], time_limit_s: float) -> Capture | FileReport:
    """Run one command; its output as a capture, else why there is none."""
    name = " ".join(command)
    if not shutil.which(command[0]):
        return FileReport(file=name, status="", note=f"{command[0]} is not installed")
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
            return FileReport(file=name, status=UNKNOWN, note=f"no answer within {time_limit_s:g} s")
        output.seek(0)
        printed = output.read(_MOST_BYTES)
    try:
        capture = Capture(file=name).read(stream_lines(io.BytesIO(printed), name))
    except NotText:
        return FileReport(file=name, status=UNKNOWN, note=f"printed nothing, exit code {process.returncode}")
    if capture.kinds:
        return capture
    first = printed.decode("utf-8", "replace").strip().partition("\n")[0]
    return FileReport(file=name, status=UNKNOWN if process.returncode else "", note=f"says: {first[:160]}")
