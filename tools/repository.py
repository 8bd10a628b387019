#!/usr/bin/env python3
"""Where the project lives on GitHub: one setting, in pyproject.toml, from which every page has its links.

    python tools/repository.py owner/name     sets it: Colab badges and install lines in the notebooks, clone address, citation
    python tools/repository.py ""             unsets it: no page then shows a badge or an install line, since none could work
    python tools/repository.py                only says what it is

Masters in course/ write ORG/REPO for it. The page of web/ takes it from pyproject.toml, too.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACEHOLDER = "ORG/REPO"
NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,38})/[A-Za-z0-9._-]{1,100}")
URLS = re.compile(r'^\[project\.urls\]\nRepository = "https://github\.com/([^"]+)"\n\n', re.MULTILINE)
CITED = re.compile(r"^repository-code: .*\n", re.MULTILINE)
BLOCK = re.compile(r"(?<=<!-- repository -->\n).*?(?=<!-- end of repository -->)", re.DOTALL)
INSTALL = re.compile(r"\Aimport importlib\.util\n.*^ +%pip install -q \"ldm-tutorial[^\n]*\n+", re.DOTALL | re.MULTILINE)
BADGE = re.compile(rf"^.*{PLACEHOLDER}.*\n(?: · )?", re.MULTILINE)  # a line of links that begins with one that needs the name

README = """
[![Open in Colab](images/open_in_colab.svg)](https://colab.research.google.com/github/{name}/blob/main/notebooks/00_start_here.ipynb)

```
git clone https://github.com/{name}
cd {folder}
```

"""


def read(root: Path = ROOT) -> str:
    """ "owner/name", or "" while it is not set."""
    path = root / "pyproject.toml"
    found = URLS.search(path.read_text(encoding="utf-8")) if path.is_file() else None
    return found[1] if found else ""


def named(source: str, name: str) -> str:
    """A cell of a master as a reader sees it: with the name, or without the lines that need one."""
    return source.replace(PLACEHOLDER, name) if name else BADGE.sub("", source)


def unnamed(source: str, master: str, name: str) -> str:
    """The way back: an edited cell as its master writes it."""
    if name:
        return source.replace(name, PLACEHOLDER)
    badge = BADGE.match(master)
    return badge[0] + source if badge else source


def printing(source: str) -> str:
    """A cell without what installs the package in Colab, which prints nothing: what is left has the same outputs."""
    return INSTALL.sub("", source)


def write(name: str, root: Path = ROOT) -> list[str]:
    """Set or unset it in the files that are not generated; returns which have changed. Raises ValueError for no such name."""
    if name and not NAME.fullmatch(name):
        raise ValueError(f"REPO={name}: it is owner/name, as in the address of the repository on GitHub")
    url = f"https://github.com/{name}"
    changes = {
        "pyproject.toml": lambda text: URLS.sub("", text).replace(
            "[project.scripts]\n",
            f'[project.urls]\nRepository = "{url}"\n\n[project.scripts]\n' if name else "[project.scripts]\n",
        ),
        "CITATION.cff": lambda text: CITED.sub("", text).replace(
            "license: MIT\n", f"license: MIT\nrepository-code: {url}\n" if name else "license: MIT\n"
        ),
        "README.md": lambda text: BLOCK.sub(
            lambda _: README.format(name=name, folder=name.partition("/")[2]) if name else "", text
        ),
    }
    changed = []
    for file, change in changes.items():
        before = (root / file).read_text(encoding="utf-8")
        after = change(before)
        if after != before:
            (root / file).write_text(after, encoding="utf-8", newline="\n")
            changed.append(file)
    return changed


def main(words: list[str]) -> int:
    """One word sets the name, none tells it."""
    if words:
        import course  # nbformat and jupytext, which only this needs

        try:
            print("".join(f"{file}: changed\n" for file in write(words[0])), end="")
            for name in course.Course().names():
                for version in course.PUBLISHED:
                    print("".join(f"{line}\n" for line in course.Course().generate(name, version)), end="")
        except (ValueError, OSError) as error:
            print(error, file=sys.stderr)
            return 1
    print(read() or "The repository has no name yet: make badges REPO=owner/name")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
