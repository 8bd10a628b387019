"""ldm_tutorial.lessons.alt_texts: each text belongs to one picture of one notebook, and stands beside it in the output."""

import ast
import json
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from ldm_tutorial.lessons.alt_texts import KEYWORD, alt_text, texts

ROOT = Path(__file__).resolve().parent.parent.parent
LONGEST = 60  # characters of a text that may stand in the code


@cache
def cells():
    """(notebook, cell) of all code cells of both editions; a cell that both have once, with its outputs."""
    seen, found = set(), []
    for path in sorted([*(ROOT / "notebooks").glob("*.ipynb"), *(ROOT / "notebooks" / "solutions").glob("*.ipynb")]):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            key = (path.stem, cell["id"], "".join(cell["source"]))
            if cell["cell_type"] == "code" and key not in seen:
                seen.add(key)
                found.append((path, cell))
    return found


def alts(cell):
    """What the cell's code says after `alt=`, where it says it in so many words."""
    try:
        tree = ast.parse("".join(cell["source"]))
    except SyntaxError:  # a line for the shell, or an exercise that is not solved
        return
    for node in ast.walk(tree):
        for keyword in node.keywords if isinstance(node, ast.Call) else ():
            if keyword.arg == "alt" and isinstance(keyword.value, ast.Constant):
                yield keyword.value.value


def test_every_text_is_that_of_one_picture_and_every_keyword_names_one():
    used = Counter(alt for _, cell in cells() for alt in alts(cell) if KEYWORD.fullmatch(alt))
    assert used == Counter(texts().keys())


def test_no_code_is_hidden_behind_a_long_text():
    long = [(path.name, cell["id"], alt) for path, cell in cells() for alt in alts(cell) if len(alt) > LONGEST]
    assert not long, long


def test_the_stored_pictures_have_the_text_of_today():
    for path, cell in cells():
        stored = [output["metadata"]["image/png"]["alt"] for output in cell["outputs"] if "image/png" in output.get("data", {})]
        for alt in alts(cell):
            if stored and KEYWORD.fullmatch(alt):
                assert any(each.startswith(texts()[alt].rstrip(".")) for each in stored), f"{path.name}, {cell['id']}"


def test_words_are_their_own_text():
    assert alt_text("a red field") == "a red field"


def test_a_keyword_that_names_nothing_is_refused():
    with pytest.raises(ValueError, match=r"alt='04-no-such-picture' names no text in alt_texts\.json"):
        alt_text("04-no-such-picture")
