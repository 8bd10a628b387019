"""A learner's own copies of the notebooks, in a folder that git ignores, so that running one changes no file of the repository.

They lie beside `notebooks/`, at the same depth, so that all of their links to pictures, pages and code lead to the same places.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ..checkpoints.atomic import write_atomically

OWN_NOTEBOOKS = "my_notebooks"
RECORD = ".copied.json"  # name -> SHA-256 of the version that was copied


def make_working_copy(course: Path) -> list[str]:
    """Copy the notebooks of `course`/notebooks that are not in `course`/my_notebooks yet, and their new versions.

    A copy that was opened, run or edited is the learner's and is never written to. Returns the
    names of those whose original has changed since, such as "04_attention.ipynb". Raises OSError where it could not be written.
    """
    source, target = course / "notebooks", course / OWN_NOTEBOOKS
    target.mkdir(exist_ok=True)
    copied, outdated = read_record(target / RECORD), []
    for path in sorted(source.rglob("*.ipynb")):
        if any(part.startswith(".") for part in path.relative_to(source).parts):
            continue  # JupyterLab's checkpoints
        name, own = path.relative_to(source).as_posix(), target / path.relative_to(source)
        original = path.read_bytes()
        untouched = own.is_file() and copied.get(name) == sha256(own.read_bytes())
        if untouched or not own.exists():
            if not own.exists() or copied[name] != sha256(original):
                own.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(own, original)
            copied[name] = sha256(original)
        elif copied.get(name) != sha256(original):
            outdated.append(name)
    write_atomically(target / RECORD, json.dumps(copied, indent=1).encode())
    return outdated


def read_record(path: Path) -> dict[str, str]:
    """What was copied, and in which version; nothing where the file is missing or damaged: then every copy counts as changed."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def sha256(data: bytes) -> str:
    """The fingerprint of a file's content."""
    return hashlib.sha256(data).hexdigest()
