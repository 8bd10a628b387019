"""The script that builds the data set: what it does to a picture, and what it says when it cannot."""

import importlib.util
import io
import json
import sys
import tarfile
import zipfile
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


def test_colors_behind_transparency_do_not_bleed_into_the_outline(script):
    pixels = np.zeros((256, 256, 4), np.uint8)
    pixels[:, :, 2] = 255  # blue everywhere, but nowhere to be seen
    pixels[64:192, 64:192] = (255, 0, 0, 255)  # a red square
    drawn = np.asarray(script.centered(Image.fromarray(pixels)))
    assert drawn.shape == (128, 128, 4)
    assert (drawn[40:88, 40:88] == (255, 0, 0, 255)).all()
    assert (drawn[:24, :, 3] == 0).all()
    visible = drawn[drawn[:, :, 3] > 0]
    assert (visible[:, 2] <= visible[:, 0]).all()  # bluish nowhere


def test_a_picture_of_the_right_size_is_not_resampled(script):
    pixels = np.random.default_rng(0).integers(0, 256, (128, 128, 4), np.uint8)
    assert (np.asarray(script.centered(Image.fromarray(pixels))) == pixels).all()


def test_a_picture_that_is_not_square_is_centered_not_stretched(script):
    drawn = np.asarray(script.centered(Image.new("RGBA", (256, 128), "black")))[:, :, 3]
    assert (drawn[40:88] == 255).all()
    assert (drawn[:24] == 0).all()
    assert (drawn[104:] == 0).all()


@pytest.fixture
def drawings(script):
    """One icon, the left half red, with a second name, and mirrored and turned ones, as Iconify writes them."""
    body = '<path fill="red" d="M0 0h5v10H0z"/>'
    aliases = {"left-half": {}, "right-half": {"hFlip": True}, "top-half": {"rotate": 1}, "still-left": {"vFlip": True}}
    aliases = {name: {"parent": "half", **change} for name, change in aliases.items()}
    icons = {"icons": {"half": {"body": body}}, "width": 10, "height": 10, "aliases": aliases}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in (("icons", icons), ("chars", {"1f313": "half", "2b05-fe0f": "left-half"})):
            data = json.dumps(content).encode()
            member = tarfile.TarInfo(f"package/{name}.json")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return script.Drawings(tarfile.open(fileobj=io.BytesIO(buffer.getvalue())))


def test_an_alias_is_a_second_name_unless_it_changes_the_drawing(drawings):
    assert drawings.names == {"1F313": "half", "2B05": "left-half"}
    assert drawings.synonyms("half") == drawings.synonyms("left-half") == {"half", "left-half"}
    assert drawings.synonyms("right-half") == {"right-half"}
    assert "top-half" in drawings
    assert "bottom-half" not in drawings


@pytest.mark.parametrize(
    ("name", "red"),
    [
        ("half", np.s_[:, :64]),
        ("left-half", np.s_[:, :64]),
        ("right-half", np.s_[:, 64:]),
        ("still-left", np.s_[:, :64]),
        ("top-half", np.s_[:64]),
    ],
)
def test_an_alias_is_drawn_mirrored_and_turned_as_it_says(drawings, name, red):
    pytest.importorskip("resvg_py")
    drawn = np.asarray(drawings.render(name))
    assert (drawn[red] == (255, 0, 0, 255)).all()
    assert (drawn[:, :, 3] == 255).mean() == 0.5


def test_names_of_unicode_and_of_the_table_find_firefox_drawings(script, drawings):
    drawings.icons["icons"] = {"dog": {}, "dogside": {}, "robotface": {}, "piñata": {}}
    subjects = [
        {"hexcode": code, "label": label}
        for code, label in (("1F436", "dog face"), ("1F415", "dog"), ("1F916", "robot"), ("1F9A4", "dodo"), ("2B50", "star"))
    ]
    assert script.find_firefox(subjects, drawings) == {"dog face": "dog", "dog": "dogside", "robot": "robotface"}


def test_encoding_loses_nothing_but_in_fluent_and_is_deterministic(script):
    pixels = np.random.default_rng(1).integers(0, 256, (128, 128, 4), np.uint8)
    pixels[:, :, 3] |= 1  # what cannot be seen at all may change
    image = Image.fromarray(pixels)
    assert (np.asarray(Image.open(io.BytesIO(script.encode(image, "noto")))) == pixels).all()
    lossy = np.asarray(Image.open(io.BytesIO(script.encode(image, "fluent"))))
    assert (lossy[:, :, 3] == pixels[:, :, 3]).all()  # the opacity is kept
    assert (lossy[:, :, :3] != pixels[:, :, :3]).any()
    assert script.encode(image, "noto") == script.encode(image, "noto")


def test_an_archive_is_the_same_whenever_it_is_packed(script):
    data = script.pack({"A.webp": b"a", "B.webp": b"b"})
    assert script.pack({"A.webp": b"a", "B.webp": b"b"}) == data
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.namelist() == ["A.webp", "B.webp"]
        assert archive.read("B.webp") == b"b"


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
    files = {"noto.zip": b"a", "blob.zip": b"b", "captions.json": b"{}"}
    script.write(files, tmp_path)
    assert script.compare(files, tmp_path) == []
    (tmp_path / "LICENSES.md").write_text("stays")
    (tmp_path / "noto.zip").write_bytes(b"spoiled")
    (tmp_path / "apple.zip").write_bytes(b"c")
    assert script.compare(files, tmp_path) == ["superfluous: apple.zip", "different: noto.zip"]
    before = (tmp_path / "blob.zip").stat().st_mtime_ns
    script.write(files, tmp_path)
    assert script.compare(files, tmp_path) == []
    assert (tmp_path / "blob.zip").stat().st_mtime_ns == before
    assert (tmp_path / "LICENSES.md").read_text() == "stays"


def test_the_contact_sheet_shows_every_group(script):
    sheet = script.contact_sheet()
    assert sheet.mode == "RGB"
    assert 1000 < sheet.width < sheet.height
    assert np.asarray(sheet)[:, -script.MARGIN // 2 :].min() > 250  # nothing runs over the margin


def test_the_pictures_that_are_shipped_are_written_as_the_script_writes_them(script):
    if script.features.version("webp") != "1.6.0":
        pytest.skip("another libwebp may compress the same pixels differently")
    with zipfile.ZipFile(FOLDER / "noto.zip") as archive:
        data = archive.read("1F419.webp")
    assert script.encode(Image.open(io.BytesIO(data)), "noto") == data
