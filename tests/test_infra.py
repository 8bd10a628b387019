"""The ground the project stands on: what is installed, what is shipped, and what the commands say when something is missing."""

import importlib.metadata
import importlib.util
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

import ldm_tutorial
from ldm_tutorial.lessons.notebook import NEEDS_TORCH

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REQUIREMENTS = [Requirement(r) for r in [*PROJECT["dependencies"], *sum(PROJECT["optional-dependencies"].values(), [])]]
PINS = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
SYSTEMS = {
    "Linux": {
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
        "platform_machine": "x86_64",
    },
    "macOS": {
        "sys_platform": "darwin",
        "platform_system": "Darwin",
        "os_name": "posix",
        "platform_machine": "arm64",
    },
    "Windows": {
        "sys_platform": "win32",
        "platform_system": "Windows",
        "os_name": "nt",
        "platform_machine": "AMD64",
    },
}


def applies(requirement, system, python):
    where = {**SYSTEMS[system], "python_version": python, "python_full_version": f"{python}.9", "extra": ""}
    return requirement.marker is None or requirement.marker.evaluate(where)


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


# ---- what is installed


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda r: r.name)
def test_pyproject_asks_for_lower_bounds_only(requirement):
    assert [s.operator for s in requirement.specifier] == [">="]


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("system", SYSTEMS)
def test_constraints_pin_each_dependency_once_and_above_its_bound(system, python):
    for requirement in REQUIREMENTS:
        if applies(requirement, system, python):
            pins = [p for p in PINS if normal(p.name) == normal(requirement.name) and applies(p, system, python)]
            assert len(pins) == 1, f"{requirement.name}: {[str(p) for p in pins]}; `make lock`"
            [pin] = pins[0].specifier
            assert pin.operator == "=="
            assert requirement.specifier.contains(pin.version)


def test_no_pin_of_any_system_lies_below_its_bound():
    for requirement in REQUIREMENTS:
        for pin in PINS:
            if normal(pin.name) == normal(requirement.name):
                assert all(requirement.specifier.contains(p.version) for p in pin.specifier), f"{pin} is not {requirement}"


def test_the_preflight_asks_for_the_torch_of_pyproject():
    [bound] = next(r.specifier for r in REQUIREMENTS if r.name == "torch")
    assert NEEDS_TORCH == tuple(map(int, bound.version.split(".")))


def test_constraints_pin_torch_without_the_name_of_a_build():
    pins = {str(p.specifier) for p in PINS if p.name == "torch" and any(applies(p, s, y) for s in SYSTEMS for y in PYTHONS)}
    assert pins == {"==2.13.0"}


def test_the_files_that_are_begun_first_are_there(pytestconfig):
    conftest = pytestconfig.pluginmanager.get_plugin(str(ROOT / "conftest.py"))
    assert [name for name in conftest.SECONDS if not (ROOT / name).is_file()] == []


@pytest.mark.skipif(os.environ.get("CONSTRAINTS", "constraints.txt") != "constraints.txt", reason="run with other versions")
def test_the_tests_run_with_the_pinned_versions():
    for pin in PINS:
        if (pin.marker is None or pin.marker.evaluate()) and normal(pin.name) in {normal(r.name) for r in REQUIREMENTS}:
            assert pin.specifier.contains(Version(importlib.metadata.version(pin.name)).public), pin


def test_version_is_told_once():
    assert "version" in PROJECT["dynamic"]
    assert re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)[1] == ldm_tutorial.__version__


def test_environment_yml_is_built_after_the_files_are_there():
    """repo2docker (Binder, JupyterHub) installs environment.yml before it copies the project, unless a pip line is local."""
    repo2docker = pytest.importorskip("repo2docker.buildpacks.conda", exc_type=ImportError)
    old = os.getcwd()
    os.chdir(ROOT)
    try:
        build = repo2docker.CondaBuildPack("an-image")
        build.platform = "linux/amd64"
        assert build.detect()
        assert build.environment_yaml["dependencies"][-1]["pip"] == ["-c constraints.txt", "-e .[notebooks]"]
        assert build.python_version in PYTHONS
        assert not build._should_preassemble_env
        dockerfile = build.render()
    finally:
        os.chdir(old)
    assert 0 < dockerfile.index("COPY --chown=1000:1000 src/ ${REPO_DIR}") < dockerfile.index("env update")


def test_the_devcontainer_installs_extras_that_exist_with_the_pinned_versions():
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    pip, install, *words = shlex.split(container["postCreateCommand"])
    assert (pip, install) == ("pip", "install")
    assert (ROOT / words[words.index("-c") + 1]) == ROOT / "constraints.txt"
    extras = Requirement(words[words.index("-e") + 1].replace(".", "ldm-tutorial", 1)).extras
    assert extras
    assert extras <= set(PROJECT["optional-dependencies"])
    assert container["image"].rpartition(":")[2] in PYTHONS
    assert 8888 in container["forwardPorts"]  # JupyterLab's own


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda p: p.stem)
def test_a_workflow_pins_its_actions_and_ends_in_time(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert "timeout-minutes" in job, name
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step), name
            assert re.fullmatch(r"actions/[\w-]+@v\d+", step.get("uses", "actions/x@v1")), step


def test_workflows_use_one_version_of_an_action_and_pythons_that_are_promised():
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / ".github" / "workflows").glob("*.yml"))
    actions = set(re.findall(r"uses: (\S+)@(\S+)", text))
    assert len({name for name, _ in actions}) == len(actions), sorted(actions)
    named = re.findall(r"python(?:-version)?: (.*)", text)
    assert {version for line in named for version in re.findall(r'"(3\.\d+)"', line)} <= set(PYTHONS)


def test_the_ways_to_install_are_run_with_extras_and_notebooks_that_exist():
    text = (ROOT / ".github" / "workflows" / "runs.yml").read_text(encoding="utf-8")
    assert {e for extras in re.findall(r"\.\[([\w,]+)\]", text) for e in extras.split(",")} <= set(
        PROJECT["optional-dependencies"]
    )
    executed = re.findall(r"notebooks/\w+\.ipynb", text)
    assert executed
    assert all((ROOT / name).is_file() for name in executed)


def test_the_page_on_where_it_runs_names_commands_and_files_that_exist(dev):
    text = (ROOT / "docs" / "running.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL))
    named = set(re.findall(r"\bmake ([a-z-]+)", code)) | set(re.findall(r"\bpy tools/dev\.py ([a-z-]+)", code))
    assert {"lab", "bundle"} <= named <= set(dev.COMMANDS)
    for name in re.findall(r"\b(?:tools|notebooks)/\w+\.(?:py|ipynb)", text):
        assert (ROOT / name).is_file(), name
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (ROOT / "docs" / target).exists(), target


# ---- what is shipped


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The names in the wheel and in the source archive, built without the network."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    [wheel], [archive] = folder.glob("*.whl"), folder.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as z, tarfile.open(archive) as t:
        return set(z.namelist()), {n.split("/", 1)[1] for n in t.getnames() if "/" in n}, wheel.stat().st_size


def shipped_files():
    """What git has in the package, or in a copy without git what is there."""
    done = subprocess.run(["git", "ls-files", "-z", "ldm_tutorial"], cwd=ROOT, capture_output=True, text=True)
    return {name for name in done.stdout.split("\0") if name and (ROOT / name).exists()}


def test_wheel_and_source_archive_hold_the_package_with_data_and_weights(built):
    wheel, archive, _ = built
    for names in (wheel, archive):
        assert shipped_files() <= names
        assert "ldm_tutorial/weights/emoji/model_index.json" in names
        assert "ldm_tutorial/weights/emoji/unet/diffusion_pytorch_model.safetensors" in names
        assert any(n.startswith("ldm_tutorial/data/emoji/") for n in names)
    assert {"README.md", "LICENSE", "pyproject.toml"} <= archive


def test_wheel_and_source_archive_hold_nothing_else(built):
    wheel, archive, _ = built
    assert {n.split("/")[0] for n in wheel} == {
        "ldm_tutorial",
        f"ldm_tutorial-{ldm_tutorial.__version__}.dist-info",
    }
    unwanted = [n for n in wheel | archive if re.search(r"^(tests|notebooks|runs)/|__pycache__|\.(tmp|partial)$", n)]
    assert not unwanted


def test_wheel_is_light(built):
    assert built[2] < 75e6  # the weights of emoji, 56 MB in float16, and its pictures, 19 MB: neither compresses well


def test_nothing_that_is_stored_names_a_registry_or_a_folder_of_one_machine():
    done = subprocess.run(
        ["git", "grep", "-I", "-l", "-E", "/work/(main|shared)|pypi[.]org|pythonhosted[.]org|registry[.]npmjs"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stdout.replace("tests/test_infra.py\n", "") == ""


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda p: p.name)
def test_workflow_uses_actions_by_their_major_version(path):
    uses = re.findall(r"uses: (\S+)", path.read_text())
    assert uses
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", use) for use in uses), uses


def test_workflow_runs_the_tests_on_every_system_and_python_promised():
    import yaml

    job = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())["jobs"]["test"]
    assert {name.split("-")[0] for name in job["strategy"]["matrix"]["os"]} == {"ubuntu", "macos", "windows"}
    assert job["strategy"]["matrix"]["python"] == PYTHONS
    assert [c.split(" :: ")[-1] for c in PROJECT["classifiers"] if "Python :: 3." in c] == PYTHONS
    assert "python tools/dev.py test" in job["steps"][-1]["run"]


# ---- the commands


def load_dev(folder):
    """tools/dev.py as it would be in another folder."""
    (folder / "tools").mkdir()
    (folder / "tests").mkdir()
    for name in (
        "pyproject.toml",
        "constraints.txt",
        "tests/requirements-no-deps.txt",
        "tools/dev.py",
        "tools/jupyterlab_overrides.json",
    ):
        shutil.copy(ROOT / name, folder / name)
    spec = importlib.util.spec_from_file_location("dev_in_a_folder", folder / "tools" / "dev.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def dev(tmp_path, monkeypatch):
    """The commands in an empty folder, with the calls of pip recorded instead of made."""
    monkeypatch.delenv("CONSTRAINTS", raising=False)
    module = load_dev(tmp_path)
    module.pip_calls = []
    monkeypatch.setattr(module, "pip", lambda *arguments: module.pip_calls.append([a for a in arguments if a != "--quiet"]))
    return module


def run_dev(*arguments, code="pass"):
    """tools/dev.py in a Python that `code` has changed first."""
    lines = ["import runpy, sys", code, f"sys.argv = {['dev.py', *arguments]!r}"]
    lines.append("runpy.run_path('tools/dev.py', run_name='__main__')")
    return subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True)


def one_message(done):
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr.strip()


def test_help_tells_every_command():
    done = run_dev("help")
    assert done.returncode == 0
    for command in (*re.search(r"COMMANDS := (.*)", (ROOT / "Makefile").read_text())[1].split(), "help"):
        assert re.search(rf"make {command} +\w", done.stdout)


def test_makefile_has_the_commands_of_dev_py(dev):
    makefile = (ROOT / "Makefile").read_text()
    assert ["help", *re.search(r"COMMANDS := (.*)", makefile)[1].split()] == [
        "help",
        *(c for c in dev.COMMANDS if c != "help"),
    ]


def test_an_unknown_command_lists_what_there_is():
    assert "'tset' is not a command; there are: lab, test" in one_message(run_dev("tset"))


def test_an_old_python_says_what_is_needed():
    message = one_message(run_dev("lab", code="sys.version_info = (3, 8, 18, 'final', 0)"))
    assert message.startswith("Python 3.10 or newer is needed; this is")
    assert "PYTHON=" in message


@pytest.mark.skipif(os.name == "nt", reason="no make")
def test_make_without_a_new_enough_python_says_where_to_get_one(tmp_path):
    fake = tmp_path / "python3"
    fake.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.8.18" && exit 0\nexit 1\n')
    fake.chmod(0o755)
    (tmp_path / "head").symlink_to(shutil.which("head"))
    make = shutil.which("make") or pytest.skip("no make")
    done = subprocess.run([make, "lab"], cwd=ROOT, capture_output=True, text=True, env={"PATH": str(tmp_path)})
    assert done.returncode == 2
    assert "Python 3.10 or newer is needed, and none was found (Python 3.8.18)" in done.stderr
    assert "make lab PYTHON=" in done.stderr


def test_a_python_that_cannot_make_environments_names_the_package(dev, monkeypatch):
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    with pytest.raises(dev.Stop, match=r"apt install python3\.\d+-venv"):
        dev.environment("notebooks")
    assert not dev.VENV.exists()


@pytest.mark.parametrize("form", [["--port={}"], ["--port", "{}"], ["--ServerApp.port={}"]])
def test_a_port_in_use_is_said(dev, form):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        with pytest.raises(dev.Stop, match=f"Port {port} is in use"):
            dev.check_port([f.format(port) for f in form])
    dev.check_port([f.format(port) for f in form])  # free again


@pytest.mark.parametrize("port", ["0", "70000", "abc", ""])
def test_a_port_that_is_none_is_said(dev, port):
    with pytest.raises(dev.Stop, match="a number from 1 to 65535"):
        dev.check_port([f"--port={port}"])


# The ends of what pip 23 to 26 write.
NO_NETWORK = """WARNING: Retrying (Retry(total=0, ...)) after connection broken by \
'NewConnectionError('<pip._vendor.urllib3.connection.HTTPSConnection object at 0x7f>: \
Failed to establish a new connection: [Errno -3] Temporary failure in name resolution')'
ERROR: Could not find a version that satisfies the requirement hatchling (from versions: none)
ERROR: No matching distribution found for hatchling"""
NO_WHEEL = """ERROR: Could not find a version that satisfies the requirement torch==2.13.0 (from versions: 2.16.0)
ERROR: No matching distribution found for torch==2.13.0"""
FULL_DISK = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (NO_NETWORK, "No network"),
        (NO_WHEEL, "No packages for Python"),
        (FULL_DISK, "The disk is full"),
        ("?", "distclean"),
    ],
)
def test_why_pip_failed_is_one_sentence(dev, said, message):
    assert message in dev.why_pip_failed(said)
    assert "\n" not in dev.why_pip_failed(said)


def test_pip_failing_ends_in_that_sentence(tmp_path):
    module = load_dev(tmp_path)
    module.PYTHON = sys.executable
    with pytest.raises(module.Stop, match="pip could not install|No packages|No network"):
        module.pip("--no-index", "--quiet", "a-package-that-is-not-there")


@pytest.mark.skipif(os.name == "nt", reason="no signals")
def test_pip_being_killed_is_said(tmp_path):
    module = load_dev(tmp_path)
    module.PYTHON = str(tmp_path / "python")
    Path(module.PYTHON).write_text("#!/bin/sh\nkill -9 $$\n")
    Path(module.PYTHON).chmod(0o755)
    with pytest.raises(module.Stop, match="signal 9"):
        module.pip("x")


def test_the_environment_is_made_once_and_extended(dev):
    dev.environment("notebooks")
    assert dev.pip_calls == [["-c", "constraints.txt", "-e", ".[notebooks]"]]
    settings = json.loads((dev.VENV / "share" / "jupyter" / "lab" / "settings" / "overrides.json").read_text())
    assert settings["@jupyterlab/apputils-extension:notification"]["fetchNews"] == "false"
    assert Path(dev.PYTHON).exists()

    dev.environment("notebooks")
    assert len(dev.pip_calls) == 1
    dev.environment("notebooks", "test")
    assert dev.pip_calls[1:] == [
        ["-c", "constraints.txt", "-e", ".[notebooks,test]"],
        ["--no-deps", "-r", "tests/requirements-no-deps.txt"],
    ]
    dev.environment("notebooks")
    assert len(dev.pip_calls) == 3


def test_an_interrupted_or_outdated_installation_is_done_again(dev, monkeypatch):
    made = []
    monkeypatch.setattr(
        dev,
        "make_venv",
        lambda: (made.append(1), Path(dev.PYTHON).parent.mkdir(parents=True), Path(dev.PYTHON).touch()),
    )

    def interrupted(*arguments):
        raise dev.Stop("no network")

    with monkeypatch.context() as m:
        m.setattr(dev, "pip", interrupted)
        with pytest.raises(dev.Stop):
            dev.environment("notebooks")
    dev.environment("notebooks")
    assert (len(made), len(dev.pip_calls)) == (1, 1)

    (dev.ROOT / "constraints.txt").write_text("torch==2.13.1\n")
    dev.environment("notebooks")
    assert (len(made), len(dev.pip_calls)) == (1, 2)

    monkeypatch.setattr(dev, "VERSION", "3.99")  # another Python: another environment
    dev.environment("notebooks")
    assert (len(made), len(dev.pip_calls)) == (2, 3)


def test_an_environment_made_by_hand_is_not_made_anew(dev, monkeypatch):
    monkeypatch.setattr(dev, "make_venv", lambda: pytest.fail("made anew"))
    Path(dev.PYTHON).parent.mkdir(parents=True)
    Path(dev.PYTHON).touch()
    dev.environment("notebooks")
    assert len(dev.pip_calls) == 1


def test_constraints_can_be_left_out_or_named(dev, monkeypatch):
    monkeypatch.setattr(dev, "make_venv", lambda: (Path(dev.PYTHON).parent.mkdir(parents=True), Path(dev.PYTHON).touch()))
    monkeypatch.setattr(dev, "CONSTRAINTS", "")
    dev.environment("notebooks")
    assert dev.pip_calls == [["--upgrade", "-e", ".[notebooks]"]]
    monkeypatch.setattr(dev, "CONSTRAINTS", "nowhere.txt")
    with pytest.raises(dev.Stop, match=r"nowhere\.txt: there is no such file"):
        dev.environment("notebooks")


def test_a_model_that_does_not_draw_stops_before_jupyterlab_opens(dev, monkeypatch):
    monkeypatch.setattr(dev, "environment", lambda *extras: sys.executable)
    monkeypatch.setattr(dev, "run", lambda command, replace=False: 1)
    with pytest.raises(dev.Stop, match="ldm_tutorial info"):
        dev.lab([])


def test_the_first_picture_is_drawn_once(dev, monkeypatch):
    dev.VENV.mkdir()
    calls = []
    monkeypatch.setattr(dev, "run", lambda command, replace=False: calls.append(command) or 0)
    dev.first_picture()
    dev.first_picture()
    assert len(calls) == 1
    assert calls[0][1:4] == ["-m", "ldm_tutorial", "generate"]


def test_the_page_is_exported_then_built(dev, monkeypatch):
    monkeypatch.setattr(dev, "environment", lambda *extras: f"python with {extras}")
    monkeypatch.setattr(dev.shutil, "which", lambda name: name if name == "npm" else None)
    calls = []
    monkeypatch.setattr(dev, "run", lambda command, **variables: calls.append((command, variables)) or 0)
    assert dev.web(["--model", "runs/emoji"]) == 0
    assert [command[0] for command, _ in calls] == ["python with ('web',)", "npm", "npm"]
    assert calls[0][0][3:] == ["export", "web/public/model", "--model", "runs/emoji"]
    assert calls[2][1] == {"VITE_REPOSITORY": "../.."}


def test_the_page_is_not_built_of_a_failed_export(dev, monkeypatch):
    monkeypatch.setattr(dev, "environment", lambda *extras: "python")
    monkeypatch.setattr(dev.shutil, "which", lambda name: name)
    calls = []
    monkeypatch.setattr(dev, "run", lambda command, **variables: calls.append(command) or 2)
    assert dev.web([]) == 2
    assert len(calls) == 1


def test_the_page_says_when_there_is_no_node(dev, monkeypatch):
    monkeypatch.setattr(dev.shutil, "which", lambda name: None)
    with pytest.raises(dev.Stop, match=r"Node\.js 20\.19 or newer is needed"):
        dev.web([])


@pytest.mark.parametrize(
    "origin, url",
    [
        ("https://github.com/ORG/REPO.git", "https://github.com/ORG/REPO/blob/HEAD"),
        ("git@github.com:ORG/REPO.git", "https://github.com/ORG/REPO/blob/HEAD"),
        ("/somewhere/else.git", "../.."),
        ("", "../.."),
    ],
)
def test_the_pages_links_lead_to_the_clones_origin(dev, monkeypatch, origin, url):
    monkeypatch.setattr(dev.shutil, "which", lambda name: name)
    monkeypatch.setattr(dev.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, stdout=f"{origin}\n"))
    assert dev.repository() == url


def test_the_pages_links_lead_to_the_repository_that_make_badges_has_set(dev):
    project = dev.ROOT / "pyproject.toml"
    urls = '[project.urls]\nRepository = "https://github.com/ada/engine"\n\n[project.scripts]'
    project.write_text(project.read_text().replace("[project.scripts]", urls))
    assert dev.repository() == "https://github.com/ada/engine/blob/HEAD"


def test_ci_installs_what_is_missing_and_runs_the_tests_and_nothing_else(tmp_path):
    """.ci/run with every program but bash and dirname replaced by one that writes down how it was called."""
    bash = shutil.which("bash")
    if not bash or os.name == "nt":
        pytest.skip("no bash")
    (tmp_path / "dirname").symlink_to(shutil.which("dirname"))
    for name in ("make", "apt-get"):
        program = tmp_path / name
        program.write_text(f'#!{bash}\necho "{name} $*" >>"{tmp_path}/log"\n')
        program.chmod(0o755)
    subprocess.run([bash, ".ci/run"], cwd=ROOT, check=True, env={"PATH": str(tmp_path)})
    calls = (tmp_path / "log").read_text().splitlines()
    assert [(c.split()[0], c.split()[-1]) for c in calls] == [
        ("apt-get", "update"),
        ("apt-get", "npm"),
        ("make", "test"),
    ]
    assert calls[1].split()[-2:] == ["chromium", "npm"]

    (tmp_path / "log").unlink()
    for name in ("chromium", "npm"):
        (tmp_path / name).symlink_to(bash)
    subprocess.run([bash, ".ci/run"], cwd=ROOT, check=True, env={"PATH": str(tmp_path)})
    assert (tmp_path / "log").read_text() == "make test\n"


def test_the_python_line_of_the_makefile_and_dev_py_agree_with_pyproject(dev):
    assert PROJECT["requires-python"] == ">={}.{}".format(*dev.NEEDS)
    assert "sys.version_info < ({}, {})".format(*dev.NEEDS) in (ROOT / "Makefile").read_text()


def test_no_page_of_voila_asks_another_machine():
    """Voilà reads this file where it is started; its own template links two icon sheets of a CDN, whose icons it also holds."""
    headers = json.loads((ROOT / "voila.json").read_text(encoding="utf-8"))["Voila"]["tornado_settings"]["headers"]
    rules = dict(rule.strip().split(" ", 1) for rule in headers["Content-Security-Policy"].split(";"))
    assert set(rules["default-src"].split()) == {"'self'", "'unsafe-inline'", "'unsafe-eval'", "data:", "blob:"}
    assert set(rules) == {"default-src", "frame-ancestors"}  # nothing that would allow more
