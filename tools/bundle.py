#!/usr/bin/env python3
"""The whole course in one folder, for rooms without internet: wheels, weights, data, notebooks, checksums and an installer.

    python tools/bundle.py make                                  for this Python on this system, into dist/
    python tools/bundle.py make --target linux 3.12 --target windows 3.12 --target macos 3.12 --zip
    python tools/bundle.py check [FOLDER]                        install it offline, draw, and say what it took

Weights and data are in the project's own wheel. Slides and the reading site go along if they have been built. PyTorch for Linux
comes with CUDA from the package index, several gigabytes: `make` says so before it downloads, and stops unless --cuda asks for
it. --torch PLACE takes PyTorch's wheels from a folder or a page, such as that of its builds without CUDA.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

import install

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
# What a bundle lays beside the environment, so that the notebooks' links lead somewhere; what is the instructor's lies apart.
COURSE = ("notebooks", "images", "docs", "README.md", "CONTRIBUTING.md", "LICENSE", "CITATION.cff")
BUILT = ("site", "slides")  # what `make site` and `make slides` have written
INSTRUCTOR = {"solutions": "notebooks/solutions", "guide": "docs/instructor"}
NOT_COURSE = shutil.ignore_patterns(".ipynb_checkpoints", *(Path(place).name for place in INSTRUCTOR.values()))
# Names of a system -> (as uv calls it, as pip calls it: the oldest first, platform.system(), the machine)
SYSTEMS = {
    "linux": ("x86_64-manylinux_2_28", [f"manylinux_2_{n}_x86_64" for n in (5, 12, 17, 24, 26, 27, 28)], "Linux", "x86_64"),
    "linux-arm": ("aarch64-manylinux_2_28", [f"manylinux_2_{n}_aarch64" for n in (17, 24, 26, 27, 28)], "Linux", "arm64"),
    "macos": (
        "aarch64-apple-darwin",
        [f"macosx_{n}_0_{kind}" for n in (11, 12, 13, 14) for kind in ("arm64", "universal2")],
        "Darwin",
        "arm64",
    ),
    "windows": ("x86_64-pc-windows-msvc", ["win_amd64"], "Windows", "x86_64"),
}
CUDA = re.compile(r"^(nvidia|cuda|triton)\b", re.IGNORECASE)
UNREACHABLE = "http://127.0.0.1:9"  # a proxy that nobody answers


class Stop(Exception):
    """The reason why it cannot go on, and what to do: shown as it is."""


@dataclass(frozen=True)
class Target:
    """A Python on a system."""

    python: str  # "3.12"
    system: str  # as platform.system() says it
    machine: str  # as install.machine() says it

    @property
    def name(self) -> str:
        return f"{self.system}-{self.machine}-py{self.python}".lower()


def here() -> Target:
    return Target("{}.{}".format(*sys.version_info), install.platform.system(), install.machine())


def run(command: list[str], **options) -> str:
    """What it prints. Raises Stop with its message if it fails."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, **options)
    if done.returncode:
        raise Stop(f"{done.stdout}{done.stderr}".strip())
    return done.stdout


# ---- make


def build_wheel(folder: Path) -> Path:
    """The project's own wheel, with weights and data in it."""
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)])
    [wheel] = folder.glob("ldm_tutorial-*.whl")
    return wheel


def requirements_here(wheel: Path, places: list[str]) -> list[str]:
    """NAME==VERSION of every package for this Python, as pip resolves them; nothing is installed."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    report = json.loads(run([*command, *binary(places), f"{wheel}[notebooks]"]))
    found = [entry["metadata"] for entry in report["install"]]
    return sorted(f"{entry['name']}=={entry['version']}" for entry in found if entry["name"] != "ldm-tutorial")


def requirements_of(target: Target, places: list[str]) -> list[str]:
    """The same for another Python or system, whose conditions only uv can weigh from here."""
    run([sys.executable, "-m", "pip", "install", "--quiet", "uv"])
    [system] = [uv for uv, _, *rest in SYSTEMS.values() if rest == [target.system, target.machine]]
    command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", "--extra", "notebooks", "-c", "constraints.txt"]
    where = ["--python-version", target.python, "--python-platform", system, "--only-binary", ":all:"]
    found = [word for place in places for word in ("--find-links", place)]
    text = run([*command, *where, *found, "--no-annotate", "--no-header", "--quiet"])
    return sorted(line.strip() for line in text.splitlines() if "==" in line)


def binary(places: list[str]) -> list[str]:
    """Arguments of pip: wheels only, the tested versions, and further places to look."""
    return ["--only-binary=:all:", "-c", "constraints.txt", *(word for place in places for word in ("--find-links", place))]


def download(target: Target, wanted: list[str], folder: Path, places: list[str]) -> None:
    """The wheels, no more than `wanted`."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *binary(places), "-d", str(folder)]
    if target != here():
        [tags] = [tags for _, tags, *rest in SYSTEMS.values() if rest == [target.system, target.machine]]
        command += ["--python-version", target.python, "--implementation", "cp"]
        command += [word for tag in reversed(tags) for word in ("--platform", tag)]
    run([*command, *wanted])


def check_cuda(target: Target, wanted: list[str], allowed: bool) -> None:
    """Raises Stop if CUDA would come along, and nobody asked for it."""
    cuda = [name for name in wanted if CUDA.match(name)]
    if cuda and not allowed:
        raise Stop(
            f"PyTorch for {target.name} comes with CUDA here: {len(cuda)} more packages, 3 GB or more to download and 5 GB "
            "installed. With --torch PLACE it is taken from a folder or a page of builds without CUDA (PyTorch's install page "
            "names one); with --cuda it comes along. Nothing was downloaded."
        )


def copy_course(folder: Path) -> None:
    """Notebooks with what they link to, what is the instructor's apart, and what has been built."""
    for name in COURSE:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / "course" / name, ignore=NOT_COURSE)
        else:
            (folder / "course").mkdir(exist_ok=True)
            shutil.copy(source, folder / "course" / name)
    for name, place in INSTRUCTOR.items():
        if (ROOT / place).is_dir():
            shutil.copytree(ROOT / place, folder / "instructor" / name, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    for name in BUILT:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name)


def write_sums(folder: Path) -> None:
    """SHA256SUMS of all files but itself: `sha256sum -c SHA256SUMS` reads it, too."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "SHA256SUMS")
    lines = [f"{install.sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / "SHA256SUMS").write_text("".join(lines), encoding="utf-8", newline="\n")


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; one that has several names counts once."""
    found = {(s.st_dev, s.st_ino): s.st_size for s in (p.lstat() for p in [path, *path.rglob("*")] if p.is_file())}
    return sum(found.values())


README = """\
ldm_tutorial {version}: Stable Diffusion from scratch, in notebooks. For rooms without internet.

    python3 install.py              (Windows: py install.py)

checks all files, installs into the folder ldm-tutorial of your home, and draws a picture. It needs {pythons} and
about {gb} GB of disk. `python3 install.py FOLDER --solutions` says where to, and copies the solutions, too. Made for:

{targets}

wheels/      the packages; the project's own holds weights and data
course/      the notebooks and what they link to
instructor/  solutions and the guide: leave this folder out of what learners get
{built}SHA256SUMS   `sha256sum -c SHA256SUMS` checks every file, as install.py does
"""


def make(targets: list[Target], places: list[str], cuda: bool, zipped: bool) -> Path:
    """A bundle in dist/; what was there is replaced only when all of the new one is there."""
    with tempfile.TemporaryDirectory(dir=DIST if DIST.is_dir() else ROOT) as scratch:
        unfinished = Path(scratch) / "bundle"
        wheels = unfinished / "wheels"
        wheels.mkdir(parents=True)
        wheel = build_wheel(wheels)
        version = wheel.name.split("-")[1]
        plans = {
            target: requirements_here(wheel, places) if target == here() else requirements_of(target, places)
            for target in targets
        }
        for target, wanted in plans.items():
            check_cuda(target, wanted, cuda)
        for target, wanted in plans.items():
            print(f"{target.name}: {len(wanted)} packages", flush=True)
            download(target, wanted, wheels, places)
        copy_course(unfinished)
        shutil.copy(ROOT / "tools" / "install.py", unfinished)
        shutil.copy(ROOT / "tools" / "jupyterlab_overrides.json", unfinished / "overrides.json")
        manifest = {"version": version, "targets": [asdict(t) for t in targets]}
        (unfinished / "bundle.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        text = README.format(
            version=version,
            pythons=" or ".join(sorted({f"Python {t.python}" for t in targets})),
            gb=8 if cuda else install.NEEDED_GB,
            targets="\n".join(f"    Python {t.python} on {t.system} ({t.machine})" for t in targets),
            built="".join(f"{name + '/':13}open index.html\n" for name in BUILT if (ROOT / name).is_dir()),
        )
        (unfinished / "README.txt").write_text(text, encoding="utf-8", newline="\n")
        write_sums(unfinished)
        DIST.mkdir(exist_ok=True)
        finished = DIST / f"ldm-tutorial-{version}-{'-and-'.join(t.name for t in targets)}"
        shutil.rmtree(finished, ignore_errors=True)
        unfinished.rename(finished)
    torch = sum(map(size, (finished / "wheels").glob("torch-*")))
    print(f"{finished.relative_to(ROOT)}: {size(finished) / 1e6:,.0f} MB, of that PyTorch {torch / 1e6:,.0f} MB")
    if zipped:
        archive = pack(finished)
        print(f"{archive.relative_to(ROOT)}: {size(archive) / 1e6:,.0f} MB")
    return finished


def pack(folder: Path) -> Path:
    """The folder as a zip file beside it. Wheels are compressed already."""
    archive = folder.with_name(folder.name + ".zip")
    with zipfile.ZipFile(archive, "w") as z:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                how = zipfile.ZIP_STORED if path.suffix == ".whl" else zipfile.ZIP_DEFLATED
                z.write(path, Path(folder.name) / path.relative_to(folder), how)
    return archive


# ---- check


def without_network() -> tuple[list[str], str]:
    """What to put before a command so that it has no internet connection, and how that is called."""
    tried = subprocess.run(["unshare", "-rn", "true"], capture_output=True) if shutil.which("unshare") else None
    if tried is not None and tried.returncode == 0:
        return ["unshare", "-rn"], "in a network of its own, which leads nowhere"
    return [], "behind a proxy that does not answer"


def check(folder: Path) -> None:
    """Install a bundle offline, and look at the picture that it draws. Raises Stop if anything fails."""
    from PIL import Image

    before, how = without_network()
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch) / "home"
        home.mkdir()
        clean = {
            name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON", "HF_", "VIRTUAL_ENV"))
        }
        clean |= dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), UNREACHABLE)
        clean |= {"HOME": str(home), "USERPROFILE": str(home), "PIP_CONFIG_FILE": os.devnull}
        began = time.monotonic()
        print(f"Installing {folder.name} {how}.", flush=True)
        python = getattr(sys, "_base_executable", sys.executable)
        print(run([*before, python, str(folder / "install.py"), "--solutions"], env=clean).strip())
        seconds, course = time.monotonic() - began, home / "ldm-tutorial"
        with Image.open(course / "first_picture.png") as picture:
            levels = picture.convert("L").getextrema()
        if levels[1] - levels[0] < 50:
            raise Stop(f"first_picture.png is blank: its gray levels go from {levels[0]} to {levels[1]}.")
        environment_python = course / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        run([*before, str(environment_python), "-m", "pip", "check"], env=clean)
        print(
            f"Installed and drawn in {seconds:.0f} s without an internet connection. "
            f"The bundle has {size(folder) / 1e6:,.0f} MB, what was installed {size(course) / 1e6:,.0f} MB."
        )


def newest() -> Path:
    """The bundle that was made last. Raises Stop if there is none."""
    found = sorted(DIST.glob("ldm-tutorial-*/install.py"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise Stop("There is no bundle in dist/. First: make bundle")
    return found[-1].parent


# ---- the command line


def target(system: str, python: str) -> Target:
    """Raises Stop for what PyTorch and the project are not made for."""
    if system not in SYSTEMS:
        raise Stop(f"--target {system}: one of {', '.join(SYSTEMS)}")
    if not re.fullmatch(r"3\.1[0-9]", python):
        raise Stop(f"--target {system} {python}: a Python from 3.10 on, such as 3.12")
    return Target(python, *SYSTEMS[system][2:])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    maker = commands.add_parser("make", help="make a bundle in dist/")
    systems = f"{', '.join(SYSTEMS)}; may be repeated (default: this Python on this system)"
    maker.add_argument("--target", nargs=2, action="append", metavar=("SYSTEM", "PYTHON"), help=systems)
    maker.add_argument(
        "--torch", action="append", default=[], metavar="PLACE", help="a folder or a page with PyTorch's wheels to take"
    )
    maker.add_argument("--cuda", action="store_true", help="take CUDA along, several gigabytes")
    maker.add_argument("--zip", action="store_true", help="also as one file")
    checker = commands.add_parser("check", help="install a bundle without an internet connection, and draw")
    checker.add_argument("folder", nargs="?", type=Path, help="the bundle (default: the newest in dist/)")
    args = parser.parse_args()
    try:
        if args.command == "check":
            check((args.folder or newest()).resolve())
        else:
            targets = list(dict.fromkeys(target(*words) for words in args.target)) if args.target else [here()]
            make(targets, args.torch, args.cuda, args.zip)
    except Stop as reason:
        print(f"\n{reason}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
