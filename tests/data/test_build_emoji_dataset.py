"""The script that builds the data set: what it does to a picture, and what it says when it cannot."""

import importlib.util
import io
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ldm_tutorial.data.dataset import FOLDER

SCRIPT = Path(__file__).parents[2] / "tools" / "build_emoji_dataset.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("build_emoji_dataset", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def png(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_colors_behind_transparency_do_not_bleed_into_the_outline(script):
    pixels = np.zeros((256, 256, 4), np.uint8)
    pixels[:, :, 2] = 255  # blue everywhere, but nowhere to be seen
    pixels[64:192, 64:192] = (255, 0, 0, 255)  # a red square
    drawn = np.asarray(script.draw_on_white(png(Image.fromarray(pixels))))
    assert drawn.shape == (64, 64, 3)
    assert (drawn[20:44, 20:44] == (255, 0, 0)).all()
    assert (drawn[:12] == 255).all()
    assert (drawn[:, :, 2] <= drawn[:, :, 0]).all()  # bluish nowhere


def test_a_picture_that_is_64x64_is_not_resampled(script):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    assert (np.asarray(script.draw_on_white(png(Image.fromarray(pixels)))) == pixels).all()


def test_a_picture_that_is_not_square_is_centered_not_stretched(script):
    drawn = np.asarray(script.draw_on_white(png(Image.new("RGBA", (128, 64), "black"))))
    assert (drawn[20:44] == 0).all()
    assert (drawn[:12] == 255).all()
    assert (drawn[52:] == 255).all()


def test_encoding_loses_nothing_and_is_deterministic(script):
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    data = script.encode(Image.fromarray(pixels))
    assert (np.asarray(Image.open(io.BytesIO(data))) == pixels).all()
    assert script.encode(Image.fromarray(pixels)) == data


def test_the_man_and_the_woman_have_a_neutral_version_only_if_it_exists(script):
    known = {"1F9DF", "1F9D1-200D-1F680"}
    assert script.neutral_version("1F9DF-200D-2642", known) == "1F9DF"  # man zombie
    assert script.neutral_version("1F469-200D-1F680", known) == "1F9D1-200D-1F680"  # woman astronaut
    assert script.neutral_version("1F469-200D-1F3A4", known) is None  # the singer is not known here
    assert script.neutral_version("1F469", known) is None  # a woman is a woman


@pytest.mark.parametrize(
    ("label", "clean"),
    [
        ("T-Rex", "t-rex"),
        ("man’s shoe", "man's shoe"),
        ("person: bald", "bald person"),
        ("person: red hair", "person with red hair"),
    ],
)
def test_labels_are_cleaned(script, label, clean):
    assert script.clean_label(label) == clean


def test_without_npm_the_error_says_what_to_install(script, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="npm is not installed.*emojibase-data@17.0.0.*Install Node.js"):
        script.fetch(script.LABELS, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_damaged_package_is_refused(script, tmp_path):
    with tarfile.open(tmp_path / script.LABELS.tarball, "w:gz"):
        pass
    with pytest.raises(SystemExit, match="has the checksum sha512-.*, expected sha512-.*delete it"):
        script.fetch(script.LABELS, tmp_path)


def test_writing_touches_only_what_differs(script, tmp_path):
    files = {"noto/A.webp": b"a", "noto/B.webp": b"b", "captions.json": b"{}"}
    script.write(files, tmp_path)
    assert script.compare(files, tmp_path) == []
    (tmp_path / "LICENSES.md").write_text("stays")
    (tmp_path / "noto" / "A.webp").write_bytes(b"spoiled")
    (tmp_path / "noto" / "C.webp").write_bytes(b"c")
    assert script.compare(files, tmp_path) == ["superfluous: noto/C.webp", "different: noto/A.webp"]
    before = (tmp_path / "noto" / "B.webp").stat().st_mtime_ns
    script.write(files, tmp_path)
    assert script.compare(files, tmp_path) == []
    assert (tmp_path / "noto" / "B.webp").stat().st_mtime_ns == before
    assert (tmp_path / "LICENSES.md").read_text() == "stays"


def test_the_contact_sheet_shows_every_group(script):
    sheet = script.contact_sheet()
    assert sheet.mode == "RGB"
    assert 1000 < sheet.width < sheet.height
    assert np.asarray(sheet)[:, -script.MARGIN // 2 :].min() > 250  # nothing runs over the margin


def test_the_pictures_that_are_shipped_are_written_as_the_script_writes_them(script):
    if script.features.version("webp") != "1.6.0":
        pytest.skip("another libwebp may compress the same pixels differently")
    data = (FOLDER / "noto" / "1F419.webp").read_bytes()
    assert script.encode(Image.open(io.BytesIO(data))) == data
