#!/usr/bin/env python3
"""Install the course from this folder, without internet:  python3 install.py [FOLDER]

It checks every file against SHA256SUMS, makes an environment in FOLDER/.venv (default: ldm-tutorial in your home folder),
installs the packages of wheels/ into it, lays the notebooks beside it, and draws a picture. What you have changed in a notebook
stays.

    --solutions     copy the solutions, too
    --no-picture    do not draw

Needs the Python that the bundle was made for, and nothing else. `make bundle` of the project made it.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
NEEDED_GB = 2.5


class Stop(Exception):
    """The reason why it cannot go on, and what to do: shown as it is, without a traceback."""


def check_python(targets):
    """Whether the bundle holds packages for this Python on this system. Raises Stop."""
    here = {"python": "{}.{}".format(*sys.version_info), "system": platform.system(), "machine": machine()}
    if here in targets:
        return
    said = ["Python {python} on {system} ({machine})".format(**target) for target in targets]
    found = "this is Python {python} on {system} ({machine})".format(**here)
    same = [target for target in targets if (target["system"], target["machine"]) == (here["system"], here["machine"])]
    remedy = "Run it with that Python: python{} install.py".format(same[0]["python"]) if same else "Ask for a bundle for yours."
    raise Stop("This bundle is for {}, and {}. {}".format("; ".join(said), found, remedy))


def machine():
    """The processor's architecture, by one name on every system."""
    name = platform.machine().lower()
    return {"amd64": "x86_64", "aarch64": "arm64"}.get(name, name)


def check_files(folder):
    """How many files SHA256SUMS lists; every one is there and whole. Raises Stop with the first few that are not."""
    sums = folder / "SHA256SUMS"
    if not sums.is_file():
        raise Stop(f"{sums} is missing: copy the whole bundle again.")
    wrong, listed = [], 0
    for line in sums.read_text(encoding="utf-8").splitlines():
        expected, _, name = line.partition("  ")
        path = folder / name
        listed += 1
        if not path.is_file():
            wrong.append(f"{name} is missing")
        elif sha256(path) != expected:
            wrong.append(f"{name} is damaged")
    if wrong:
        more = f" (and {len(wrong) - 5} more)" if len(wrong) > 5 else ""
        raise Stop("{}{}. Copy the bundle again; nothing was installed.".format("; ".join(wrong[:5]), more))
    return listed


def sha256(path):
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def make_environment(venv):
    """An environment of this Python, afresh; returns its python."""
    try:
        import ensurepip  # noqa: F401  (Debian's Python comes without)
    except ImportError:
        name = "python{}.{}-venv".format(*sys.version_info)
        raise Stop(f"This Python cannot make environments. On Debian and Ubuntu: apt install {name}") from None
    run([sys.executable, "-m", "venv", "--clear", str(venv)], f"could not make {venv}")
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def run(command, problem):
    """Run it, without what pip has been told elsewhere; its output is shown if it fails. Raises Stop."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PIP_")}
    environment.update(PIP_CONFIG_FILE=os.devnull, PIP_DISABLE_PIP_VERSION_CHECK="1", HF_HUB_OFFLINE="1")
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    if done.returncode:
        raise Stop(f"{done.stdout.strip()}\n{problem}: its message is above.")
    return done.stdout


def copy_course(source, target):
    """Copy what is not there yet, and files that are the same as before; what was changed stays. Returns the names of those."""
    kept = []
    for path in sorted(source.rglob("*")):
        to = target / path.relative_to(source)
        if path.is_dir():
            continue
        if not to.exists():
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(path), str(to))
        elif sha256(to) != sha256(path):
            kept.append(path.relative_to(source).as_posix())
    return kept


def link_package(python, link):
    """The package's code under the name by which the notebooks link to it. Where the system has no such links, none is made."""
    package = Path(run([python, "-c", "import os, ldm_tutorial as l; print(os.path.dirname(l.__file__))"], "No package").strip())
    if os.path.lexists(str(link)):
        return
    try:
        link.symlink_to(package, target_is_directory=True)
    except OSError:  # Windows without the right to make links
        return


def install(folder, solutions, picture):
    manifest = json.loads((HERE / "bundle.json").read_text(encoding="utf-8"))
    check_python(manifest["targets"])
    began = time.monotonic()
    files = check_files(HERE)
    print(f"{files} files are whole.", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(str(folder)).free / 1e9
    if free < NEEDED_GB:
        raise Stop(f"{folder} has {free:.1f} GB free, and {NEEDED_GB} GB are needed.")
    print(f"Installing into {folder}. This takes some minutes.", flush=True)
    python = str(make_environment(folder / ".venv"))
    project = "ldm-tutorial[notebooks]=={}".format(manifest["version"])
    pip = [python, "-m", "pip", "install", "--no-index", "--find-links", str(HERE / "wheels"), "--quiet", project]
    run(pip, "The packages could not be installed")
    settings = folder / ".venv" / "share" / "jupyter" / "lab" / "settings"
    settings.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(str(HERE / "overrides.json"), str(settings / "overrides.json"))
    kept = copy_course(HERE / "course", folder)
    if solutions:
        kept += copy_course(HERE / "instructor" / "solutions", folder / "notebooks" / "solutions")
    link_package(python, folder / "ldm_tutorial")
    if kept:
        print("Kept as you changed them: " + ", ".join(kept))
    if picture:
        prompt = ["a cat in the style of noto", "--seed", "0", "-o", str(folder / "first_picture.png")]
        said = run([python, "-m", "ldm_tutorial", "generate", *prompt], "Installed, but the model could not draw")
        print(said.strip().splitlines()[-1] if said.strip() else "A first picture: first_picture.png")
    print(f"Done in {time.monotonic() - began:.0f} s. To begin:\n\n  {python} -m ldm_tutorial lab\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path.home() / "ldm-tutorial", metavar="FOLDER")
    parser.add_argument("--solutions", action="store_true", help="copy the solutions, too")
    parser.add_argument("--no-picture", action="store_true", help="do not draw")
    args = parser.parse_args()
    try:
        install(args.folder.resolve(), args.solutions, not args.no_picture)
    except Stop as reason:
        print(f"\n{reason}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
