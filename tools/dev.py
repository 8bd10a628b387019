#!/usr/bin/env python3
"""Everything the Makefile does, on every system:  python tools/dev.py COMMAND [arguments]

Needs Python 3.10 or newer and nothing else; on an older Python it says so. Each command makes or updates the
environment it needs in .venv first, and is done with that in no time when nothing has changed.

    CONSTRAINTS=file   other versions than those in constraints.txt; CONSTRAINTS= (nothing): the newest
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = str(BIN / ("python.exe" if os.name == "nt" else "python"))
VERSION = ".".join(str(part) for part in sys.version_info[:2])
CONSTRAINTS = os.environ.get("CONSTRAINTS", "constraints.txt")
STAMP = VENV / "ldm-tutorial.json"  # what is installed there
NEEDS = (3, 10)


class Stop(Exception):
    """The reason why it cannot go on, and what to do: shown as it is, without a traceback."""


# ---- the commands


def lab(arguments: list[str]) -> int:
    """open JupyterLab at notebook 00; ARGS=--no-browser on a server"""
    check_port(arguments)
    python = environment("notebooks")
    first_picture()
    return run([python, "-m", "ldm_tutorial", "lab", *arguments], replace=True)


def test(arguments: list[str]) -> int:
    """run lint, the package tests and every notebook; ARGS="-k vae" and other pytest arguments pass through"""
    python = environment("notebooks", "train", "web", "docs", "test")
    linted = run([python, "-m", "ruff", "check", "--output-format=concise", "."])
    formatted = run([python, "-m", "ruff", "format", "--check", "--quiet", "."])
    if formatted:
        print("`make lint ARGS=--fix` formats what is not formatted.", flush=True)
    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))):
        print(
            "NOTICE: no Chromium here, so widgets and page are not tested in a browser (Debian: apt install chromium)", flush=True
        )
    if not shutil.which("npm"):
        print("NOTICE: no Node.js here, so web/, the site and the slides are not tested (Debian: apt install npm)", flush=True)
    # two more than processors: some wait for a browser, a server or a kernel to start
    workers = min((os.cpu_count() or 1) + 2, 4)
    # loadfile: a notebook's cells stay on one worker, in order, and so do the tests that need the memory for themselves;
    # without reordering: conftest.py puts the longest files first, where xdist would begin with those of the most tests
    spread = ["-n", str(workers), "--dist", "loadfile", "--no-loadscope-reorder"]
    say = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen([python, "-m", "mypy"], cwd=ROOT, env=activated(), **say) as types:  # beside the tests
        tested = run([python, "-m", "pytest", *spread, *arguments])
        print(types.communicate()[0], end="", flush=True)
    return tested or linted or formatted or types.returncode


def fuzz(arguments: list[str]) -> int:
    """damage files at random for an hour, and read them; ARGS="--seconds 60" for a minute, ARGS="model --case 7" for one case"""
    return run([environment("notebooks", "train", "web", "docs", "test"), "tools/fuzz.py", *arguments])


def monkey(arguments: list[str]) -> int:
    """use the playground at random in a browser, for ten minutes (MONKEY=60 for one; MONKEY_SEED=7 does other things)"""
    python = environment("notebooks", "train", "web", "docs", "test")
    return run([python, "-m", "pytest", "tests/browser/test_monkey.py", *arguments], MONKEY=os.environ.get("MONKEY", "600"))


def mutants(arguments: list[str]) -> int:
    """put small faults into schedulers, pipeline and checkpoints, and see that the tests notice; ARGS=--report for the table"""
    return run([environment("notebooks", "train", "web", "docs", "test"), "tools/mutants.py", *arguments])


def lint(arguments: list[str]) -> int:
    """check code and notebooks with ruff, how they are formatted, and the types with mypy; ARGS=--fix repairs and formats"""
    python = environment("notebooks", "train", "web", "test")
    places = [a for a in arguments if not a.startswith("-")] or ["."]
    checked = run([python, "-m", "ruff", "check", *(a for a in arguments if a.startswith("-")), *places])
    formatted = run([python, "-m", "ruff", "format", *([] if "--fix" in arguments else ["--check"]), *places])
    typed = run([python, "-m", "mypy"])
    carried = run([python, "tools/course.py", "--from"]) if "--fix" in arguments else 0  # what was repaired in notebooks
    return checked or formatted or typed or carried


def course(arguments: list[str]) -> int:
    """generate the notebooks from their masters in course/; ARGS="--from notebooks/04*.ipynb" carries edits back"""
    python = environment("notebooks", "train", "web", "test")
    return run([python, "tools/course.py", *arguments])


def notebooks(arguments: list[str]) -> int:
    """generate the notebooks, run them and store them with their outputs; ARGS="notebooks/04*.ipynb" for some"""
    python = environment("notebooks", "train", "web", "test")
    return run([python, "tools/nbtool.py", "run", *arguments])


def lesson(arguments: list[str]) -> int:
    """run the cells of a teaching path in order and compare their times with its minutes; ARGS=half_day"""
    python = environment("notebooks")
    return run([python, "tools/lesson_times.py", *(arguments or ["two_hours"])])


def translate(arguments: list[str]) -> int:
    """what is translated, in which language: ARGS=de; ARGS="de begin 08" and ARGS="de build" as in docs/translating.md"""
    return run([environment("notebooks", "train", "web", "test"), "tools/translate.py", *arguments])


def web(arguments: list[str]) -> int:
    """build the page that runs the model in a browser tab into web/dist; ARGS="--model FOLDER" for other weights"""
    npm = needs_npm("build the page")
    python = environment("web")
    page = [npm, "--prefix", "web"]
    failed = (
        run([python, "-m", "ldm_tutorial", "export", "web/public/model", *arguments])
        or run([*page, "ci", "--no-audit", "--no-fund", "--loglevel=error"])
        or run([*page, "run", "build"], VITE_REPOSITORY=repository())
    )
    if not failed:
        print("Built in web/dist: files for any web server. To look at them here, in this folder:  python3 -m http.server")
        print("and then in a browser:  http://localhost:8000/web/dist/")
    return failed


def site(arguments: list[str]) -> int:
    """build the reading site into site/: notebooks as they are stored, documents, the package's docstrings"""
    needs_npm("fetch the fonts of the formulas")
    address = repository()
    links = ["--repository", address] if address.startswith("https:") else []
    return run([environment("docs"), "tools/build_site.py", *links, *arguments])


def slides(arguments: list[str]) -> int:
    """build a reveal.js deck from each notebook into slides/; `make site` then includes them"""
    needs_npm("fetch reveal.js")
    return run([environment("docs"), "tools/build_slides.py", *arguments])


def needs_npm(to: str) -> str:
    npm = shutil.which("npm")
    if not npm:
        raise Stop(f"Node.js 20.19 or newer is needed to {to}, and there is no npm here. From nodejs.org or your system.")
    return npm


def repository() -> str:
    """Where the page's links to notebooks and code lead: to GitHub if `make badges` or the clone names it, or two folders up."""
    named = re.search(r'^Repository = "(https://github\.com/[^"]+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    if named:
        return f"{named[1]}/blob/HEAD"
    asked = ["git", "-C", str(ROOT), "remote", "get-url", "origin"]
    origin = subprocess.run(asked, capture_output=True, text=True).stdout.strip() if shutil.which("git") else ""
    found = re.fullmatch(r"(?:https://|git@|ssh://git@)github\.com[:/]([\w.-]+/[\w.-]+?)(?:\.git)?/?", origin)
    return f"https://github.com/{found[1]}/blob/HEAD" if found else "../.."


def exam(arguments: list[str]) -> int:
    """write a test to print and its key into runs/exams; SEED=7, ARGS="--notebooks 00-03 08 --count 12" """
    python = environment("notebooks", "train", "web", "test")
    seed = [f"--seed={os.environ['SEED']}"] if os.environ.get("SEED") else []
    return run([python, "tools/exam.py", *seed, *arguments])


def wheel(arguments: list[str]) -> int:
    """build the wheel and the source archive into dist/"""
    return run([environment("notebooks", "train", "web", "test"), "-m", "hatchling", "build", "-d", "dist", *arguments])


def badges(arguments: list[str]) -> int:
    """say where the repository is, on every page that needs it: REPO=owner/name; REPO= (nothing) takes it back"""
    return run([environment("notebooks", "train", "web", "test"), "tools/repository.py", *arguments])


def bundle(arguments: list[str]) -> int:
    """pack everything for rooms without internet into dist/: wheels, notebooks, installer; ARGS=--help"""
    return run([environment("notebooks", "train", "web", "test"), "tools/bundle.py", "make", *arguments])


def bundle_check(arguments: list[str]) -> int:
    """install the newest bundle without an internet connection, draw a picture, and say how long it took and how large it is"""
    return run([environment("notebooks", "train", "web", "test"), "tools/bundle.py", "check", *arguments])


def lock(arguments: list[str]) -> int:
    """write constraints.txt anew: the newest versions (ARGS=--upgrade), or only what pyproject.toml has changed"""
    python = environment("notebooks", "train", "web", "test")
    pip("--quiet", "uv")
    compile = ["-m", "uv", "pip", "compile", "pyproject.toml", "-o", "constraints.txt", "--quiet"]
    everywhere = ["--universal", "--python-version", "3.10", "--all-extras"]
    return run([python, *compile, *everywhere, "--no-annotate", "--custom-compile-command", "make lock", *arguments])


def clean(arguments: list[str]) -> int:
    """delete caches and what was built; keep .venv and runs/"""
    for pattern in (
        "dist",
        "site",
        "slides",
        "web/dist",
        "web/public/model",
        "web/tests/recorded",
        "build",
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
        ".hypothesis",
        "*.egg-info",
    ):
        for path in ROOT.glob(pattern):
            shutil.rmtree(path)
    for pattern in ("__pycache__", ".ipynb_checkpoints"):
        for folder in ("ldm_tutorial", "tests", "tools", "notebooks"):
            for path in (ROOT / folder).rglob(pattern):
                shutil.rmtree(path)
    return 0


def distclean(arguments: list[str]) -> int:
    """clean, and delete .venv and web/node_modules too"""
    clean(arguments)
    shutil.rmtree(ROOT / "web" / "node_modules", ignore_errors=True)
    shutil.rmtree(VENV, ignore_errors=True)
    return 0


def help(arguments: list[str]) -> int:
    """show this list"""
    for name, command in COMMANDS.items():
        print(f"  make {name:12} {command.__doc__}")
    print("\nWithout make (Windows):  py tools/dev.py lab --no-browser")
    return 0


COMMANDS = {
    f.__name__.replace("_", "-"): f
    for f in (
        lab,
        test,
        lint,
        fuzz,
        monkey,
        mutants,
        course,
        notebooks,
        exam,
        translate,
        lesson,
        web,
        site,
        slides,
        wheel,
        badges,
        bundle,
        bundle_check,
        lock,
        clean,
        distclean,
        help,
    )
}


# ---- the environment


def environment(*extras: str) -> str:
    """The Python of .venv, with the project and these extras installed in it. A .venv made by hand is used as it is."""
    have, want = stamp(), identity()
    if have and have["made by"] != want["made by"] and not inside_venv():
        shutil.rmtree(VENV)  # moved, or of another Python
        have = {}
    if not Path(PYTHON).exists():
        make_venv()
    want["extras"] = sorted({*extras, *have.get("extras", [])})
    if have and (have["files"], have["extras"]) == (want["files"], want["extras"]):
        return PYTHON
    print("Installing into .venv. The first time this takes some minutes: PyTorch is large.", flush=True)
    began = time.monotonic()
    write_stamp({**want, "files": None})  # until it is done
    quiet = [] if sys.stdout.isatty() else ["--quiet"]
    constrain = ["-c", CONSTRAINTS] if CONSTRAINTS else ["--upgrade"]
    pip(*quiet, *constrain, "-e", f".[{','.join(want['extras'])}]")
    if "test" in want["extras"]:
        pip(*quiet, "--no-deps", "-r", "tests/requirements-no-deps.txt")
    settings = VENV / "share" / "jupyter" / "lab" / "settings"
    settings.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "tools" / "jupyterlab_overrides.json", settings / "overrides.json")
    write_stamp(want)
    print(f"Installed in {time.monotonic() - began:.0f} s.", flush=True)
    return PYTHON


def identity() -> dict[str, str]:
    """What an installation depends on: if "made by" changes, .venv is made anew; if "files" do, installed again."""
    if CONSTRAINTS and not (ROOT / CONSTRAINTS).is_file():
        raise Stop(f"CONSTRAINTS={CONSTRAINTS}: there is no such file.")
    names = [
        "pyproject.toml",
        "tests/requirements-no-deps.txt",
        "tools/jupyterlab_overrides.json",
    ]
    texts = [(ROOT / name).read_bytes() for name in names + [CONSTRAINTS] * bool(CONSTRAINTS)]
    return {"made by": f"Python {VERSION} for {ROOT}", "files": hashlib.sha256(b"\0".join(texts)).hexdigest()}


def stamp() -> dict:
    try:
        return json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}


def write_stamp(state: dict) -> None:
    STAMP.write_text(json.dumps(state))


def inside_venv() -> bool:
    """Whether the Python that runs this is that of .venv, which then cannot be made anew from here."""
    return Path(sys.prefix).resolve() == VENV.resolve()


def make_venv() -> None:
    print(f"Making .venv with Python {VERSION} ({sys.executable})", flush=True)
    try:
        import ensurepip  # noqa: F401  (Debian's Python comes without)
        import venv  # noqa: F401
    except ImportError:
        remedy = f"On Debian and Ubuntu: apt install python{VERSION}-venv; then the same again."
        raise Stop(f"This Python cannot make environments. {remedy}") from None
    made = subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)], capture_output=True, text=True)
    if made.returncode:
        said = (made.stdout + made.stderr).strip()
        raise Stop(f"Could not make .venv with {sys.executable}:\n{said}\nAnother Python: make lab PYTHON=/path/to/python3")


def pip(*arguments: str) -> None:
    """pip install, with its words passed on; a failure ends in one sentence that says what to do."""
    command = [PYTHON, "-m", "pip", "install", "--disable-pip-version-check", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, errors="replace")
    said = []
    for line in process.stderr:
        sys.stderr.write(line)
        said.append(line)
    if process.wait() < 0:
        raise Stop(f"pip was stopped from outside (signal {-process.returncode}): too little memory? Then the same again.")
    if process.returncode:
        raise Stop(why_pip_failed("".join(said)))


def why_pip_failed(said: str) -> str:
    def has(*words: str) -> bool:
        return any(word in said for word in words)

    if has("No space left", "Errno 28"):
        return "The disk is full. Installing needs about 2 GB, with CUDA about 8 GB. Make room, then the same again."
    if has(
        "NewConnectionError",
        "NameResolutionError",
        "name resolution",
        "getaddrinfo",
        "Network is unreachable",
        "ConnectTimeout",
        "ReadTimeout",
        "ProxyError",
        "Connection refused",
        "Connection reset",
        "RemoteDisconnected",
    ):
        return "No network: pip could not reach the package index. Connect (or set up your proxy for pip), then the same again."
    if has(
        "No matching distribution",
        "Could not find a version",
        "requires a different Python",
        "ResolutionImpossible",
    ):
        return (
            f"No packages for Python {VERSION} on this system (pip's message is above). Tested are Python 3.10 to 3.13: "
            "make lab PYTHON=/path/to/python3.12"
        )
    return "pip could not install the project; its message is above. Then the same again, or `make distclean` to start afresh."


# ---- starting JupyterLab


def first_picture() -> None:
    """Once after each installation: the shipped model draws, so that a broken installation shows here and not in a lesson."""
    installed = stamp()
    if installed.get("drew"):
        return
    picture = Path("runs") / "first_picture.png"
    (ROOT / "runs").mkdir(exist_ok=True)
    print("A first picture, to see that everything works:", flush=True)
    command = [
        PYTHON,
        "-m",
        "ldm_tutorial",
        "generate",
        "a cat in the style of noto",
        "--seed",
        "0",
        "-o",
        str(picture),
    ]
    if run(command):
        raise Stop(
            "Installed, but the model could not draw; its message is above. Please report it with what this prints:\n"
            f"  {Path(PYTHON).relative_to(ROOT)} -m ldm_tutorial info"
        )
    write_stamp({**installed, "drew": True})


def check_port(arguments: list[str]) -> None:
    """A port named by the user is that or nothing. With none named JupyterLab takes the next free one by itself."""
    for i, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name in ("--port", "--ServerApp.port"):
            value = value or (arguments[i + 1] if i + 1 < len(arguments) else "")
            if not value.isdigit() or not 0 < int(value) < 65536:
                raise Stop(f"{name} takes a number from 1 to 65535, not {value!r}.")
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", int(value))) == 0:
                    remedy = f"Name another, or leave {name} out: JupyterLab then takes the next free one."
                    raise Stop(f"Port {value} is in use. {remedy}")


# ---- running things


def run(command: list[str], replace: bool = False, **variables: str) -> int:
    """Run it in the project's folder as if .venv were activated. `replace`: become it, so that Ctrl-C is its own."""
    env = activated(**variables)
    sys.stdout.flush()
    os.chdir(ROOT)
    if replace and os.name != "nt":
        os.execve(command[0], command, env)
    return subprocess.run(command, env=env).returncode


def activated(**variables: str) -> dict[str, str]:
    """The environment variables as if .venv were activated."""
    return {**os.environ, **variables, "VIRTUAL_ENV": str(VENV), "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"}


def main() -> int:
    command, *arguments = sys.argv[1:] or ["help"]
    try:
        if sys.version_info < NEEDS:
            raise Stop(
                "Python {}.{} or newer is needed; this is {} ({}). Another one: make {} PYTHON=/path/to/python3.12".format(
                    *NEEDS, sys.version.split()[0], sys.executable, command
                )
            )
        if command not in COMMANDS:
            raise Stop(f"{command!r} is not a command; there are: {', '.join(COMMANDS)}")
        return COMMANDS[command](arguments)
    except Stop as reason:
        print(f"\n{reason}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
