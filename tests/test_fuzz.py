"""Random damage to every kind of file that is read, a few hundred cases of it; `make fuzz` goes on for an hour."""

import subprocess
import sys
from pathlib import Path

import fuzz
import pytest

from ldm_tutorial.checkpoints import CheckpointError
from ldm_tutorial.checkpoints.tensors import read_tensors
from ldm_tutorial.images import open_image, read_settings
from ldm_tutorial.training.logs import read_log

FEW = {"model": 40, "folder": 40, "pieces": 20, "ckpt": 200, "picture": 200, "log": 200}


def test_damaged_files_are_read_or_refused_with_the_error_that_is_promised():
    """In a process of its own: what watches it cannot be taken away again."""
    code = f"""
import sys
sys.path.insert(0, {str(Path(fuzz.__file__).parent)!r})
import fuzz
for name, cases in {FEW}.items():
    counts, found = fuzz.fuzz([name], 600, 0, cases)
    assert not found
    assert sum(counts[name].values()) == cases and counts[name]["refused"] > cases / 4, counts
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


# ---- what it has found


def case(name, number, folder):
    good = fuzz.good_files(name, folder)
    return fuzz.try_case(name, folder, good, number)


@pytest.mark.parametrize(
    ("name", "number", "why"),
    [
        ("ckpt", 45, "the name of a class with a zero byte"),
        ("ckpt", 5606, "a zip that says it spans several disks"),
        ("picture", 2358, "a PNG header that is too short"),
        ("log", 45, "bytes that are no UTF-8"),
    ],
)
def test_cases_that_were_wrong_once(tmp_path, name, number, why):
    assert case(name, number, tmp_path / name) in ("read", "refused"), why


def test_a_class_whose_name_is_no_name_is_damage(tmp_path):
    path = tmp_path / "model.ckpt"
    path.write_bytes(b"\x80\x02cpytorch\0lightning\nModel\n)R.")
    with pytest.raises(CheckpointError, match=r"model\.ckpt is not a checkpoint, or it is damaged"):
        read_tensors(path)


def test_a_log_of_other_bytes_names_its_line(tmp_path):
    (tmp_path / "log.jsonl").write_bytes(b'{"step": 1}\n\xff\xfe{"step": 2}')
    with pytest.raises(ValueError, match=r"log\.jsonl, line 2 is not JSON"):
        read_log(tmp_path / "log.jsonl")


@pytest.mark.parametrize("depth", [999, 100_000])
def test_settings_nested_too_deep_are_damaged(tmp_path, depth):
    from PIL import Image, PngImagePlugin

    text = PngImagePlugin.PngInfo()
    text.add_text("software", "ldm_tutorial 1.0")
    text.add_text("scheduler_options", "[" * depth)
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png", pnginfo=text)
    with pytest.raises(ValueError, match=r"the settings in .*x\.png are damaged"):
        read_settings(tmp_path / "x.png")


def test_a_header_of_a_picture_that_is_too_short_names_the_file(tmp_path):
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\2IHDR\0\0\0\0\0\0")
    with pytest.raises(ValueError, match=r"image: cannot read .*x\.png as a picture"):
        open_image(tmp_path / "x.png")


# ---- it would notice


@pytest.mark.parametrize("read", [lambda folder: {}["a"], lambda folder: int("x")])
def test_the_fuzzer_notices_an_error_that_is_not_promised_or_names_no_file(tmp_path, monkeypatch, read):
    good = fuzz.good_files("log", tmp_path / "log")
    monkeypatch.setitem(fuzz.READERS, "log", fuzz.READERS["log"]._replace(read=read))
    with pytest.raises((KeyError, fuzz.Found)):
        fuzz.try_case("log", tmp_path / "log", good, 0)


def test_the_fuzzer_notices_what_a_file_may_not_do(tmp_path):
    code = f"""
import sys
sys.path.insert(0, {str(Path(fuzz.__file__).parent)!r})
import fuzz, os, subprocess, pathlib, time
fuzz.SECONDS = 1
acts = [lambda f: os.system("true"), lambda f: subprocess.run(["true"]), lambda f: open("/evil", "w"), lambda f: time.sleep(9)]
for act in acts[:3] if os.name == "nt" else acts:
    fuzz.READERS["log"] = fuzz.READERS["log"]._replace(read=act)
    fuzz.good_files = lambda name, folder: folder.mkdir() or {{folder / "log.jsonl": b"x"}}
    counts, found = fuzz.fuzz(["log"], 60, 0, 1)
    assert counts["log"]["found"] == 1, found
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
