"""What people read holds no word that codespell knows as a misspelling: documents, code, and the cells of the notebooks."""

import subprocess
import sys

import check_links
import nbtool

# No words: a token of a byte-pair lesson, a typing error that a test makes, a node of `ast`, two names of Firefox OS drawings
KNOWN = "ther,levle,notin,perservere,hampster"


def test_no_word_is_misspelled(tmp_path):
    for path in nbtool.all_notebooks():  # their outputs hold pictures, which are no words
        (tmp_path / f"{path.parent.name}_{path.stem}.txt").write_text(check_links.text_of(path), encoding="utf-8")
    code = [nbtool.ROOT / name for name in ("ldm_tutorial", "tests", "tools")]
    texts = [*nbtool.ROOT.glob("*.md"), *nbtool.ROOT.glob("docs/**/*.md"), *(p for folder in code for p in folder.rglob("*.py"))]
    command = [sys.executable, "-m", "codespell_lib", "-L", KNOWN, str(tmp_path), *map(str, texts)]
    found = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert (found.returncode, found.stdout) == (0, ""), found.stdout + found.stderr


def test_a_misspelled_word_would_be_found(tmp_path):
    wrong = "rec" + "ieve"
    (tmp_path / "page.txt").write_text(f"You {wrong} a picture.")
    found = subprocess.run([sys.executable, "-m", "codespell_lib", str(tmp_path)], capture_output=True, encoding="utf-8")
    assert wrong in found.stdout
