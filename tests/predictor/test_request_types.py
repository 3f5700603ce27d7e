"""Keywords are typed: an editor completes them, and a type checker finds a misspelt one before it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

SNIPPET = """
from roofcast.predictor import Predictor, predict
from roofcast.predictor.audit import audit

predictor = Predictor.load()
predict(model="llama-3.1-8b", gpu="h100", tp=2, concurrency=8, isl=1000.0, disagg=None)
audit(predictor, model="llama-3.1-8b", gpu="h100", tpot_ms=20)
predict(model="llama-3.1-8b", concurency=8)
predictor.predict(model="llama-3.1-8b", tp="two")
predictor.explain(model="llama-3.1-8b", isll=8)
audit(predictor, model="llama-3.1-8b", tpot_mss=8)
"""
FAULTS = {8: '"concurency"', 9: '"tp"', 10: '"isll"', 11: '"tpot_mss"'}


def test_a_type_checker_finds_a_misspelt_keyword(repo_root: Path, tmp_path: Path) -> None:
    api = pytest.importorskip("mypy.api")
    (snippet := tmp_path / "snippet.py").write_text(SNIPPET, encoding="utf-8")
    settings = [
        "--config-file",
        str(repo_root / "pyproject.toml"),
        "--cache-dir",
        str(repo_root / ".mypy_cache"),
    ]
    out, err, code = api.run([*settings, "--no-error-summary", str(snippet)])
    found = {int(line.split(":")[1]): line for line in out.splitlines() if ": error: " in line}
    assert (code, err, sorted(found)) == (1, "", sorted(FAULTS)), out
    assert all(words in found[line] for line, words in FAULTS.items()), out
