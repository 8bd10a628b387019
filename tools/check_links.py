#!/usr/bin/env python3
"""Ask every web address in the documents and notebooks whether it is still there.  python tools/check_links.py [FILE ...]

Needs the network, so it is no test: a workflow runs it once a week. Links to files of the project are tests (nbtool.py check).
"""

from __future__ import annotations

import json
import re
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ADDRESS = re.compile(r"https?://(?:[^\s<>\"'`()\[\]\\]|\([^\s()]*\))+")
PLACEHOLDER = "ORG/REPO"
LOCAL = re.compile(r"https?://(?:localhost|127\.0\.0\.1)")
SECONDS = 20


def documents() -> list[Path]:
    return [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("notebooks/**/*.ipynb")]


def text_of(path: Path) -> str:
    """What people read: a document whole, of a notebook the cells without their outputs."""
    text = path.read_text(encoding="utf-8")
    return "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"]) if path.suffix == ".ipynb" else text


def addresses(text: str) -> set[str]:
    return {found.rstrip(".,;:!?*_") for found in ADDRESS.findall(text) if PLACEHOLDER not in found}


def problem(address: str) -> str | None:
    """What is wrong with an address, or None. A server that refuses robots (401, 403, 429) has the page all the same."""
    for method in ("HEAD", "GET"):  # some servers do not answer HEAD
        request = urllib.request.Request(address, method=method, headers={"User-Agent": "Mozilla/5.0 (link check)"})
        try:
            with urllib.request.urlopen(request, timeout=SECONDS):
                return None
        except urllib.error.HTTPError as error:
            if error.code in (401, 403, 429):
                return None
            answer = f"answers {error.code}"
        except (urllib.error.URLError, OSError, ValueError) as error:
            answer = f"does not answer: {getattr(error, 'reason', error)}"
    return answer


def main(files: list[str]) -> int:
    used: dict[str, list[str]] = {}
    for path in map(Path, files) if files else documents():
        for address in addresses(text_of(path)):
            if files or not LOCAL.match(address):
                used.setdefault(address, []).append(path.name)
    with ThreadPoolExecutor(8) as pool:
        answers = dict(zip(used, pool.map(problem, used)))
    gone = {address: answer for address, answer in answers.items() if answer}
    for address, answer in sorted(gone.items()):
        print(f"{address} {answer} ({', '.join(sorted(used[address]))})")
    print(f"{len(used)} addresses, {len(gone)} of them gone")
    return bool(gone)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
