"""Pages with parts that the tests generate."""

from __future__ import annotations

from pathlib import Path


def replace_or_compare(page: Path, name: str, text: str, regenerate: bool) -> None:
    """Check that the part of a page between the markers `name` is `text`, or make it so."""
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    before, rest = page.read_text(encoding="utf-8").split(begin)
    found, after = rest.split(end)
    if regenerate:
        page.write_text(before + begin + text + "\n" + end + after, encoding="utf-8")
    else:
        assert found.strip() == text.strip(), "run pytest tests/golden --regenerate"
