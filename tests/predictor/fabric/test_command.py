"""The command: exit codes, JSON, a table for people, and tools that are run here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from roofcast.predictor.fabric.capture import COMMANDS, Capture, run_tools
from roofcast.predictor.fabric.findings import FileReport

from .test_captures import H100, status

HEALTHY, DEGRADED = status(H100, 1, 18, 26.562), status(H100, 1, 18, 26.562, gpu0=[7])


def roofcast(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "roofcast.predictor", "fabric", "check", *arguments]
    environment = os.environ | ({"PATH": path} if path else {})
    return subprocess.run(command, text=True, capture_output=True, env=environment)


@pytest.mark.parametrize(
    ("text", "status", "code"),
    [(HEALTHY, "healthy", 0), (DEGRADED, "degraded", 1), ("hello\n", "unknown", 2)],
)
def test_the_exit_code_can_gate_a_job_and_people_see_why(
    text: str, status: str, code: int, tmp_path: Path
) -> None:
    (tmp_path / "links.txt").write_text(text)
    done = roofcast(str(tmp_path / "links.txt"), "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["status"]) == (code, status)
    assert [*found] == ["schema", "status", "reason", "platform", "checks", "files", "notes"]
    wanted = ["check", "status", "found", "expected", "why", "missing", "next_command", "evidence"]
    for check in found["checks"]:
        assert [*check] == wanted
        assert all([*line] == ["file", "line", "text"] for line in check["evidence"])
    assert [[*file] for file in found["files"]] == [["file", "status", "captures", "note"]]
    printed = roofcast(str(tmp_path / "links.txt")).stdout
    assert printed.splitlines()[-1].startswith(f"{status}: ")
    if status == "degraded":
        assert all(words in printed for words in ("links.txt:9: Link 7", "expected: ", "next: nvidia-smi"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "add --run"), (("--run", "--time-limit", "0"), "seconds above 0"),
        (("x", "--platform", "hgx-b20"), "hgx-b200"),
    ],
)  # fmt: skip
def test_a_wrong_call_is_one_line_and_exit_code_2(arguments: tuple[str, ...], words: str) -> None:
    done = roofcast(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert words in line


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that alone is on the path, for programs that stand in for the tools."""
    monkeypatch.setenv("PATH", f"{tmp_path}")
    return tmp_path


def stand_in(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)


def note(item: Capture | FileReport) -> tuple[str, str, str]:
    assert isinstance(item, FileReport)
    (finding,) = item.findings
    return finding.code.removeprefix("file."), finding.subject, item.status


@pytest.mark.parametrize(
    ("body", "limit", "wanted"),
    [
        ("/bin/sleep 60 & /bin/sleep 60", 0.3, ("timeout", "", "unknown")),
        ("echo no such thing >&2; exit 3", 60.0, ("says", "no such thing", "unknown")),
    ],
)
def test_a_tool_is_ended_where_it_hangs_quoted_where_it_fails_and_named_where_it_lacks(
    body: str, limit: float, wanted: tuple[str, str, str], tools: Path
) -> None:
    stand_in(tools, "numactl", body)
    *absent, made = map(note, run_tools(limit))
    assert made == wanted
    assert absent == [("not-installed", command[0], "") for command in COMMANDS[:-1]]


def test_a_stop_ends_the_tool_too(tools: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    new, pid = tmp_path / "new", tmp_path / "pid"
    stand_in(tools, "numactl", f"echo $$ > {new}; /bin/mv {new} {pid}; /bin/sleep 60")
    waits = subprocess.Popen.wait

    def stopped(process: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        if timeout is None:
            return waits(process)
        while not pid.exists():
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "wait", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_tools(5.0)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_what_the_tools_print_here_is_judged(tools: Path) -> None:
    listed = tools / "status"
    listed.write_text(DEGRADED)
    stand_in(tools, "nvidia-smi", f'[ "$1 $2" = "nvlink --status" ] && /bin/cat {listed}')
    done = roofcast("--run", "--json", path=str(tools))
    found = json.loads(done.stdout)
    assert found["status"] == "degraded"
    assert found["checks"][0]["evidence"][0]["file"] == "nvidia-smi nvlink --status"


def test_no_command_that_is_run_changes_a_setting() -> None:
    allowed = {"nvidia-smi", "topo", "-m", "nvlink", "--status", "-e", "-q", "numactl", "--hardware"}
    assert {word for command in COMMANDS for word in command} == allowed
