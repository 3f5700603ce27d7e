"""The parts of documents that the program writes: `python -m tests.docs.pages` rewrites them all.

A part stands in its page between `<!-- NAME: begin -->` and `<!-- NAME: end -->`; `test_pages.py` compares
each with what is made anew. A part that is made of collected sources is left as it is where they are absent.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..golden import chapter_page
from . import accuracy_table, audit_tables, fabric_tables, kernels, physics_tables

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("ROOFCAST_SHARED", ROOT.parent / "shared"))
WIDTH = "100"
PROGRAM = [sys.executable, "-m", "roofcast.predictor"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A generated part of a page; without a name the whole file. `needs`: the source it is made of."""

    page: str
    name: str = ""
    make: Callable[[], str]
    needs: Path | None = None

    @property
    def makeable(self) -> bool:
        """Whether what it is made of is there."""
        return self.needs is None or self.needs.exists()

    def shown(self, text: str) -> str:
        """Return the part that a page's text holds."""
        return self._split(text)[1]

    def in_place(self, text: str) -> str:
        """Return a page's text with the part made anew."""
        before, _, after = self._split(text)
        return before + self.made() + after

    def made(self) -> str:
        """Return the part as it should be."""
        return self.make() if not self.name else f"{self.make().strip()}\n"

    def _split(self, text: str) -> tuple[str, str, str]:
        if not self.name:
            return "", text, ""
        before, rest = text.split(begin := f"<!-- {self.name}: begin -->\n")
        found, after = rest.split(end := f"<!-- {self.name}: end -->")
        return before + begin, found, end + after


def run(arguments: list[str], directory: str | Path) -> subprocess.CompletedProcess[str]:
    """Run roofcast as a user would, in a terminal of fixed width without colours."""
    environment = {**os.environ, "COLUMNS": WIDTH, "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"}
    environment.pop("FORCE_COLOR", None)
    return subprocess.run(
        [*PROGRAM, *arguments],
        cwd=directory,
        env=environment,
        text=True,
        encoding="utf-8",
        capture_output=True,
    )


def first_command() -> str:
    """Return what the README's first command prints, as a block."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"\A.*?^```sh\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    words = shlex.split(command.replace("\\\n", " ").partition("bin/roofcast ")[2])
    with tempfile.TemporaryDirectory() as directory:
        done = run(words, directory)
    done.check_returncode()
    lines = (line.rstrip() for line in done.stdout.strip("\n").splitlines())
    return "```text\n" + "\n".join(lines) + "\n```"


def accuracy() -> str:
    """Return the README's table of errors."""
    return accuracy_table.table(ROOT / "docs" / "accuracy.json")


PARTS = (
    Part(page="README.md", name="first command", make=first_command),
    Part(page="README.md", name="accuracy", make=accuracy),
    Part(page="docs/physics.md", name="parallelism", make=physics_tables.parallelism),
    Part(page="docs/physics.md", name="percentiles", make=physics_tables.percentiles),
    Part(page="docs/physics.md", name="coefficients", make=physics_tables.coefficients),
    Part(page="docs/physics.md", name="agreement", make=physics_tables.agreement),
    Part(page="docs/physics.md", name="worked examples", make=physics_tables.worked_examples),
    *(Part(page=f"docs/{page}", name=name, make=make) for (page, name), make in chapter_page.TABLES.items()),
    Part(page="docs/audit.md", name="projections", make=audit_tables.projections),
    Part(page="docs/audit.md", name="thresholds", make=audit_tables.thresholds),
    *(
        Part(
            page="docs/fabric.md",
            name=make.__name__,
            make=partial(make, SHARED / "fabric"),
            needs=SHARED / "fabric" / "INDEX.csv",
        )
        for make in (fabric_tables.confusion, fabric_tables.collectives, fabric_tables.example)
    ),
    Part(
        page="data/kernels.toml",
        make=lambda: kernels.summary(SHARED),
        needs=SHARED / "catalogue" / "kernel_gemv_weight_bw.csv",
    ),
)


def main() -> None:
    """Rewrite every part."""
    for part in PARTS:
        path = ROOT / part.page
        if part.makeable:
            path.write_text(part.in_place(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
