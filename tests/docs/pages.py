"""The parts of documents that the program writes: `python -m tests.docs.pages` rewrites them all.

A part stands in its page between `<!-- NAME: begin -->` and `<!-- NAME: end -->`; a test compares each with
what is made anew. A part that is made of collected sources is left as it is where they are absent.
"""

from __future__ import annotations

import json
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
from ..markdown import markdown_table
from . import audit_tables, fabric_tables, kernels, physics_tables
from .request_types import request_types

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

    def in_place(self, text: str) -> str:
        """Return a page's text with the part made anew."""
        if not self.name:
            return self.make()
        before, rest = text.split(begin := f"<!-- {self.name}: begin -->\n")
        _, after = rest.split(end := f"<!-- {self.name}: end -->")
        return f"{before}{begin}{self.make().strip()}\n{end}{after}"


def run(arguments: list[str], directory: str | Path) -> subprocess.CompletedProcess[str]:
    """Run roofcast as a user would, in a terminal of fixed width without colours."""
    environment = {**os.environ, "COLUMNS": WIDTH, "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"}
    environment.pop("FORCE_COLOR", None)
    reading = {"text": True, "encoding": "utf-8", "capture_output": True}
    return subprocess.run([*PROGRAM, *arguments], cwd=directory, env=environment, **reading)


def first_command(page: str = "README.md") -> str:
    """Return what a page's first command prints, as a block."""
    text = (ROOT / page).read_text(encoding="utf-8")
    (command,) = re.findall(r"\A.*?^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    words = shlex.split(command.replace("\\\n", " ").partition("roofcast ")[2])
    with tempfile.TemporaryDirectory() as directory:
        done = run(words, directory)
    done.check_returncode()
    lines = (line.rstrip() for line in done.stdout.strip("\n").splitlines())
    return "```text\n" + "\n".join(lines) + "\n```"


METRICS = {"tpot_ms": "TPOT", "ttft_ms": "TTFT", "output_tok_s": "throughput"}
UNSEEN = {
    "configuration": "configuration", "family": "GPU × model × engine", "platform": "GPU", "model": "model",
    "source": "source of measurements",
}  # fmt: skip


def accuracy() -> str:
    """Return the median errors by what training never saw, with the coverage of the intervals."""
    report = json.loads((ROOT / "docs" / "accuracy.json").read_text(encoding="utf-8"))
    found = {(e["protocol"], e["metric"]): e for e in report["overall"]}
    heads = [f"{name}, {found['source', metric]['rows']:,} rows" for metric, name in METRICS.items()]
    rows = []
    for protocol, words in UNSEEN.items():
        of = [found[protocol, metric] for metric in METRICS]
        names = [f"{name}_median_ape" for name in ("baseline", "pure_ml", "neighbour")]
        cells = [f"**{e['blend_median_ape']:.1f}** ({', '.join(f'{e[n]:.1f}' for n in names)})" for e in of]
        covered = sorted({round(100 * e["coverage"]) for e in of})
        rows.append([words, *cells, " to ".join(map(str, (covered[0], *covered[1:][-1:])))])
    return markdown_table(["never seen", *heads, "covered"], rows)


FABRIC, KERNELS = SHARED / "fabric", SHARED / "catalogue" / "kernel_gemv_weight_bw.csv"
MAKERS: dict[str, tuple[Callable[[], str], ...]] = {
    "README.md": (first_command, accuracy),
    "docs/physics.md": (
        physics_tables.parallelism, physics_tables.percentiles, physics_tables.coefficients,
        physics_tables.agreement, physics_tables.worked_examples,
    ),
    "docs/audit.md": (audit_tables.projections, audit_tables.thresholds),
}  # fmt: skip
PARTS = (
    *(
        Part(page=page, name=make.__name__.replace("_", " "), make=make)
        for page, makers in MAKERS.items()
        for make in makers
    ),
    Part(page="docs/curve.md", name="first command", make=partial(first_command, "docs/curve.md")),
    *(Part(page=f"docs/{page}", name=name, make=make) for (page, name), make in chapter_page.TABLES.items()),
    *(
        Part(
            page="docs/fabric.md", name=make.__name__, make=partial(make, FABRIC), needs=FABRIC / "INDEX.csv"
        )
        for make in (fabric_tables.confusion, fabric_tables.collectives, fabric_tables.example)
    ),
    Part(page="predictor/request_types.py", make=request_types),
    Part(page="data/kernels.toml", make=lambda: kernels.summary(SHARED), needs=KERNELS),
)


def main() -> None:
    """Rewrite every part."""
    for part in PARTS:
        path = ROOT / part.page
        if part.makeable:
            path.write_text(part.in_place(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
