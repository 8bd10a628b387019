"""A folder of pictures as a training sees it; what cannot be used is named, all at once."""

import numpy as np
import pytest
from PIL import Image

from ldm_tutorial.data.own_pictures import caption_from_name, read_own_pictures

NAMES = ["a_cat.png", "a_dog.png", "a_fox.jpg", "an_owl.webp", "a_cow.png"]


def picture(seed, size=(40, 30), mode="RGB"):
    """Noise in blocks of ten pixels."""
    blocks = np.random.default_rng(seed).integers(0, 256, (size[1] // 10, size[0] // 10, len(mode)), dtype=np.uint8)
    return Image.fromarray(blocks.repeat(10, 0).repeat(10, 1), mode)


@pytest.fixture
def folder(tmp_path):
    for i, name in enumerate(NAMES):
        picture(i).save(tmp_path / name)
    return tmp_path


def refused(folder, *words, size=20):
    with pytest.raises(ValueError) as caught:
        read_own_pictures(folder, size)
    for word in words:
        assert word in str(caught.value), str(caught.value)
    return str(caught.value)


def test_names_are_captions_and_pictures_in_the_order_of_their_names(folder):
    own = read_own_pictures(folder, size=20)
    assert own.names == tuple(sorted(NAMES)) and len(own) == 5
    assert own.captions == ("a cat", "a cow", "a dog", "a fox", "an owl")
    assert own.pictures.shape == (5, 3, 20, 20) and str(own.pictures.dtype) == "torch.uint8"


@pytest.mark.parametrize(
    "name, caption",
    [
        ("a_cat_on_a_mat_2.png", "a cat on a mat"),
        ("a cat (12).jpg", "a cat"),
        ("house-3.png", "house"),
        ("IMG_2041.JPG", ""),
        ("DSC00012.jpg", ""),
        ("20240105-1233.jpg", ""),
        ("Screen Shot 2024.png", ""),
        ("image.png", ""),
        ("imagery of a lake.png", "imagery of a lake"),
    ],
)
def test_the_name_of_a_camera_is_no_caption(name, caption):
    assert caption_from_name(name) == caption


@pytest.mark.parametrize("heading", ["file_name,text", "text,more,file_name", "file_name,caption"])
def test_a_table_comes_first(folder, heading):
    columns = heading.split(",")
    rows = [{"file_name": n, "text": f'"{i}, the  one"', "caption": f'"{i}, the  one"', "more": "x"} for i, n in enumerate(NAMES)]
    lines = [heading, *(",".join(row[c] for c in columns) for row in rows)]
    (folder / "metadata.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    (folder / "captions.txt").write_text("nobody reads this")
    own = read_own_pictures(folder, size=20)
    assert dict(zip(own.names, own.captions)) == {name: f"{i}, the one" for i, name in enumerate(NAMES)}


def test_then_a_list(folder):
    (folder / "captions.txt").write_text(
        "\n".join(f"{name}: number {i}: ünique " for i, name in enumerate(NAMES)) + "\n\n", "utf-8"
    )
    own = read_own_pictures(folder, size=20)
    assert dict(zip(own.names, own.captions)) == {name: f"number {i}: ünique" for i, name in enumerate(NAMES)}


def test_then_a_text_beside_each(folder):
    for name in NAMES:
        (folder / name).with_suffix(".txt").write_text(f"text of {name}\nsecond line\n")
    assert read_own_pictures(folder, size=20).captions[0] == "text of a_cat.png"


def test_a_picture_is_upright_on_white_and_its_middle_is_cut_out(tmp_path, folder):
    wide = Image.new("RGB", (60, 30), "red")
    wide.paste("blue", (15, 0, 45, 30))
    wide.save(folder / "a_cat.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter, clockwise
    top = Image.new("RGB", (30, 30), "black")
    top.paste("white", (0, 0, 15, 30))  # on the left in the file: above, as it was taken
    top.save(folder / "a_fox.jpg", exif=exif, quality=95)
    clear = Image.new("RGBA", (30, 30), (0, 0, 0, 0))
    clear.save(folder / "an_owl.webp", lossless=True)
    own = dict(zip(NAMES, range(5)))
    read = read_own_pictures(folder, size=30)
    by_name = dict(zip(read.names, read.pictures))
    assert set(own) == set(by_name)
    assert np.abs(by_name["a_cat.png"].float().mean((1, 2)).numpy() - [0, 0, 255]).max() < 3
    fox = by_name["a_fox.jpg"].float().mean(0)
    assert fox[:13].min() > 200 and fox[17:].max() < 50
    assert (by_name["an_owl.webp"] == 255).all()


def test_all_that_is_wrong_is_said_at_once(folder):
    (folder / "a_cat.png").write_bytes(b"not a picture")
    picture(7, (40, 10)).save(folder / "a_dog.png")
    picture(2).save(folder / "same.png")
    picture(2).save(folder / "a_fox.png")
    picture(9).save(folder / "IMG_1.png")
    (folder / "a_fox.jpg").unlink()
    message = refused(
        folder,
        f"{folder} cannot be used",
        "a_cat.png: cannot read it as a picture",
        "a_dog.png: is 40x10, too small: at least 20 pixels along each side",
        "same.png: is the same picture as a_fox.png",
        "IMG_1.png: has no caption",
    )
    assert len(message.splitlines()) == 5


def test_of_many_problems_ten_are_shown(folder):
    for i in range(12):
        picture(20 + i).save(folder / f"IMG_{i}.png")
    assert refused(folder, "  and 2 more").count("has no caption") == 10


def test_five_are_the_least(folder):
    (folder / "a_cat.png").unlink()
    refused(folder, "holds 4 pictures", "at least 5 are needed")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        read_own_pictures(folder / "nowhere", 20)


@pytest.mark.parametrize(
    "file, content, words",
    [
        ("metadata.csv", "name,text\na_cat.png,x", "must have the columns file_name and text; it has name, text"),
        ("metadata.csv", "", "must have the columns file_name and text; it has none"),
        ("metadata.csv", "file_name,text\na_cat.png,x\na_cat.png,y", "has two captions of 'a_cat.png'"),
        ("metadata.csv", "file_name,text\nb_cat.png,x", "there is a caption, but no picture, of 'b_cat.png'"),
        ("metadata.csv", "file_name,text\na_cat.png,x", "a_cow.png: has no caption"),
        ("captions.txt", "a_cat.png a cat", "line 1, must be a file's name, a colon and its caption"),
        ("captions.txt", "a_cat.png: a cat", "a_cow.png: has no caption"),
        ("a_cat.txt", "a cat", "a_cow.png: has no caption"),
    ],
)
def test_captions_that_cannot_be_used_are_named(folder, file, content, words):
    (folder / file).write_text(content)
    refused(folder, words)


def test_captions_must_be_utf8(folder):
    (folder / "captions.txt").write_bytes(b"a_cat.png: \xff")
    refused(folder, "captions.txt is not text in UTF-8")
