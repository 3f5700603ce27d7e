"""Every generated part of a document is what the program makes of it today."""

from __future__ import annotations

import pytest

from .pages import PARTS, ROOT, Part


@pytest.mark.parametrize("part", PARTS, ids=lambda part: f"{part.page} {part.name}".strip())
def test_a_generated_part_is_up_to_date(part: Part) -> None:
    if not part.makeable:
        pytest.skip(f"no collected sources at {part.needs}; set ROOFCAST_SHARED")
    text = (ROOT / part.page).read_text(encoding="utf-8")
    assert text == part.in_place(text), "python -m tests.docs.pages rewrites it"
