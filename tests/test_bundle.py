"""The bundle for rooms without internet: what its installer refuses, what it keeps, and what goes into it.

`make bundle` and `make bundle-check` are run whole in the workflow `bundle`: they need a package index, and minutes.
"""

import json
import re
import subprocess
import sys
import zipfile
from dataclasses import asdict
from pathlib import Path

import bundle
import install
import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def packed(tmp_path):
    """A small bundle for this Python, with the real installer, one wheel and one notebook."""
    folder = tmp_path / "bundle"
    for name, text in {
        "wheels/a-1-py3-none-any.whl": "PK",
        "course/notebooks/00.ipynb": "{}",
        "instructor/solutions/00.ipynb": "s",
    }.items():
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(text)
    (folder / "install.py").write_bytes((ROOT / "tools" / "install.py").read_bytes())
    write_manifest(folder, bundle.here())
    return folder


def write_manifest(folder, *targets):
    (folder / "bundle.json").write_text(json.dumps({"version": "0.1.0", "targets": [asdict(t) for t in targets]}))
    bundle.write_sums(folder)


def refused(folder):
    """What the installer says, once it has stopped before it wrote anything."""
    target = folder.parent / "target"
    done = subprocess.run([sys.executable, str(folder / "install.py"), str(target)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert not target.exists()
    return done.stderr.strip()


def test_a_damaged_wheel_is_named_and_nothing_is_installed(packed):
    (packed / "wheels" / "a-1-py3-none-any.whl").write_text("PQ")
    assert refused(packed) == "wheels/a-1-py3-none-any.whl is damaged. Copy the bundle again; nothing was installed."


def test_a_missing_file_is_named(packed):
    (packed / "course" / "notebooks" / "00.ipynb").unlink()
    assert refused(packed) == "course/notebooks/00.ipynb is missing. Copy the bundle again; nothing was installed."


def test_of_many_damaged_files_five_are_named(packed):
    for i in range(9):
        (packed / "wheels" / f"{i}.whl").write_text("x")
    bundle.write_sums(packed)
    for i in range(9):
        (packed / "wheels" / f"{i}.whl").unlink()
    assert "wheels/4.whl is missing (and 4 more)." in refused(packed)


def test_without_checksums_nothing_is_trusted(packed):
    (packed / "SHA256SUMS").unlink()
    assert re.search(r"SHA256SUMS is missing: copy the whole bundle again", refused(packed))


def test_another_python_is_told_which_one_to_use(packed):
    here = bundle.here()
    write_manifest(packed, bundle.Target("3.99", here.system, here.machine))
    said = refused(packed)
    assert said.startswith(f"This bundle is for Python 3.99 on {here.system} ({here.machine}), and this is Python {here.python}")
    assert said.endswith("Run it with that Python: python3.99 install.py")


def test_another_system_is_told_to_ask_for_its_own(packed):
    write_manifest(packed, bundle.Target(bundle.here().python, "Plan9", "x86_64"))
    assert refused(packed).endswith("Ask for a bundle for yours.")


def test_a_bundle_whose_packages_do_not_suffice_shows_pips_message(packed):
    done = subprocess.run([sys.executable, str(packed / "install.py"), str(packed.parent / "t")], capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "No matching distribution found for ldm-tutorial" in done.stderr
    assert done.stderr.strip().endswith("The packages could not be installed: its message is above.")


def test_what_a_learner_has_changed_is_kept(tmp_path):
    source, target = tmp_path / "course", tmp_path / "home"
    for name in ("notebooks/00.ipynb", "notebooks/01.ipynb", "README.md"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    assert install.copy_course(source, target) == []
    (target / "notebooks" / "01.ipynb").write_text("mine")
    (target / "README.md").unlink()
    assert install.copy_course(source, target) == ["notebooks/01.ipynb"]
    assert (target / "notebooks" / "01.ipynb").read_text() == "mine"
    assert (target / "README.md").read_text() == "README.md"


def test_the_checksums_are_those_that_sha256sum_reads(packed):
    lines = (packed / "SHA256SUMS").read_text().splitlines()
    assert all(re.fullmatch(r"[0-9a-f]{64}  [\w./-]+", line) for line in lines)
    named = {line[66:] for line in lines}
    assert named == {p.relative_to(packed).as_posix() for p in packed.rglob("*") if p.is_file()} - {"SHA256SUMS"}
    assert install.check_files(packed) == len(lines)


def test_the_zip_file_holds_the_folder(packed):
    archive = bundle.pack(packed)
    with zipfile.ZipFile(archive) as z:
        assert z.testzip() is None
        assert {n.split("/", 1)[1] for n in z.namelist()} == {
            p.relative_to(packed).as_posix() for p in packed.rglob("*") if p.is_file()
        }


def test_solutions_and_guide_lie_apart(tmp_path):
    bundle.copy_course(tmp_path)
    assert (tmp_path / "course" / "notebooks" / "00_start_here.ipynb").is_file()
    assert {p.name for p in (tmp_path / "instructor" / "solutions").glob("*.ipynb")} == {
        p.name for p in (ROOT / "notebooks" / "solutions").glob("*.ipynb")
    }
    assert not list((tmp_path / "course").rglob("solutions")) and not list((tmp_path / "course").rglob("instructor"))


def test_the_pictures_of_the_notebooks_go_along(tmp_path):
    bundle.copy_course(tmp_path)
    course = tmp_path / "course"
    for path in (course / "notebooks").glob("*.ipynb"):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            for link in (
                re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", "".join(cell["source"])) if cell["cell_type"] == "markdown" else ()
            ):
                assert link.startswith("http") or (path.parent / link).is_file(), f"{path.name}: {link}"


@pytest.mark.parametrize("package", ["nvidia-cublas==13.1", "triton==3.7", "cuda-bindings==13.0"])
def test_cuda_is_not_downloaded_unasked(package):
    wanted = ["torch==2.13.0", "numpy==2.4.0", package]
    with pytest.raises(bundle.Stop, match=r"1 more packages, 3 GB or more.*Nothing was downloaded"):
        bundle.check_cuda(bundle.here(), wanted, allowed=False)
    bundle.check_cuda(bundle.here(), wanted, allowed=True)
    bundle.check_cuda(bundle.here(), wanted[:2], allowed=False)


@pytest.mark.parametrize("words", [("solaris", "3.12"), ("linux", "3.9"), ("linux", "12")])
def test_a_target_that_there_is_none_for_is_refused(words):
    with pytest.raises(bundle.Stop, match="--target"):
        bundle.target(*words)


def test_a_file_with_two_names_counts_once(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 1000)
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    assert bundle.size(tmp_path) == 1000


def test_the_installer_needs_nothing_but_the_standard_library():
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(ROOT / "tools" / "install.py"), "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "without internet" in done.stdout


def test_without_a_bundle_check_says_how_to_make_one(monkeypatch, tmp_path):
    monkeypatch.setattr(bundle, "DIST", tmp_path)
    with pytest.raises(bundle.Stop, match="First: make bundle"):
        bundle.newest()
