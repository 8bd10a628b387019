"""What the pictures of the notebooks show, in words, for those who cannot see them: alt_texts.json, by keyword.

A text is longer than the code beside it, so a cell names it: `show(figure, alt="04-map")`. The keyword is the cell's id, with a
number behind it for a second picture.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

KEYWORD = re.compile(r"[0-9]{2}[a-z]?-[a-z0-9-]+")


@cache
def texts() -> dict[str, str]:
    """Keyword -> alt text, of all notebooks in order."""
    return json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))


def alt_text(alt: str) -> str:
    """The text that a keyword stands for; anything else is a text itself.

    Raises ValueError for an empty text and for a keyword that names none.
    """
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError(f"alt={alt!r} must say what the picture shows, for those who cannot see it")
    if KEYWORD.fullmatch(alt) and alt not in texts():
        raise ValueError(f"alt={alt!r} names no text in {Path(__file__).with_suffix('.json').name}; say what the picture shows")
    return texts().get(alt, alt)
