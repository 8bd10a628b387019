"""Packages of npm for tools that need a file of one: an exact version, fetched once, with its checksum."""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(tempfile.gettempdir()) / "ldm_tutorial_npm"  # outlives `make clean`, and is shared by all clones


@dataclass(frozen=True)
class Package:
    """An npm package: its exact version, and its tarball's checksum as npm writes it into a lock file."""

    name: str
    version: str
    integrity: str

    @property
    def tarball(self) -> str:
        return f"{self.name.lstrip('@').replace('/', '-')}-{self.version}.tgz"


def fetch(package: Package, cache: Path = CACHE) -> tarfile.TarFile:
    """Open the package's tarball in `cache`, where `npm pack` puts it. Its checksum must be as pinned."""
    path = cache / package.tarball
    if not path.exists():
        if shutil.which("npm") is None:
            raise SystemExit(
                f"npm is not installed: it is needed to fetch {package.name}@{package.version}. "
                f"Install Node.js, or put {package.tarball} into {cache} yourself."
            )
        cache.mkdir(parents=True, exist_ok=True)
        command = ["npm", "pack", f"{package.name}@{package.version}", "--silent"]
        result = subprocess.run(command, cwd=cache, capture_output=True, text=True)
        if result.returncode or not path.exists():
            raise SystemExit(f"'{' '.join(command)}' failed:\n{result.stderr.strip()}")
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    if integrity != package.integrity:
        raise SystemExit(
            f"{path} has the checksum {integrity}, expected {package.integrity}: delete it, so that it is fetched again."
        )
    return tarfile.open(path)


def unpack(package: Package, names: tuple[str, ...], folder: Path) -> None:
    """Write those files of a package into `folder` whose path in it begins with one of `names`."""
    with fetch(package) as archive:
        for member in archive:
            path = member.name.removeprefix("package/")
            if member.isfile() and ".." not in path and path.startswith(names):
                place = folder / path
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(archive.extractfile(member).read())
