"""The shipped emoji: complete, well formed, captioned, and split for good."""

import hashlib
import io
import json
import os
import zipfile
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from ldm_tutorial.data import STYLES, EmojiDataset, canonical_caption, captions_of, with_article
from ldm_tutorial.data.dataset import FOLDER, is_held_out


@pytest.fixture(scope="module")
def dataset():
    return EmojiDataset()


@pytest.fixture(scope="module")
def captions():
    return json.loads((FOLDER / "captions.json").read_text(encoding="utf-8"))


# --- files ---------------------------------------------------------------------------------------------------


def test_the_data_set_has_the_size_its_provenance_states(dataset):
    assert len(dataset) == 7073
    assert len(dataset.subjects) == 1176
    assert Counter(entry.style for entry in dataset.entries) == {
        "noto": 1176,
        "twemoji": 1176,
        "fluent": 1160,
        "flat": 1165,
        "blob": 868,
        "emojione": 852,
        "firefox": 676,
    }


def members(style):
    with zipfile.ZipFile(FOLDER / f"{style}.zip") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize("style", STYLES)
def test_every_picture_is_a_webp_file_of_128x128_with_transparency_and_lossless_but_for_fluent(style):
    for name, data in members(style).items():
        assert (b"VP8L" in data[:64]) == (style != "fluent"), name
        with Image.open(io.BytesIO(data)) as image:
            assert image.size == (128, 128), name
            assert image.mode in ("RGBA", "RGB"), name  # RGB: what fills its square, such as the face in clouds


def test_the_archives_hold_the_listed_pictures_and_no_others(dataset):
    assert {path.name for path in FOLDER.glob("*.zip")} == {f"{style}.zip" for style in STYLES}
    for style in STYLES:
        assert list(members(style)) == [f"{entry.hexcode}.webp" for entry in dataset.entries if entry.style == style]


def test_the_data_set_is_under_25_mb():
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 25e6


def test_every_picture_shows_something_on_white(dataset):
    pixels = dataset.pictures.float()
    assert (pixels.flatten(1).std(dim=1) > 6).all()  # of 255
    border = torch.cat([pixels[:, :, 0], pixels[:, :, -1], pixels[:, :, :, 0], pixels[:, :, :, -1]], dim=-1)
    assert (border == 255).float().mean() > 0.75  # some pictures reach the edge, most do not


def test_no_picture_of_a_style_occurs_twice(dataset):
    for style in STYLES:
        rows = [row for row, entry in enumerate(dataset.entries) if entry.style == style]
        assert len(torch.unique(dataset.pictures[rows].flatten(1), dim=0)) == len(rows)


def test_licenses_name_every_source_with_its_version(captions):
    text = (FOLDER / "LICENSES.md").read_text(encoding="utf-8")
    for source in captions["sources"].values():
        name, version = source.rsplit("@", 1)
        assert f"`{name}` {version}" in text
    for notice in ("Google LLC", "2019 Twitter, Inc", "Microsoft Corporation", "Emoji One", "Mozilla", "Miles Johnson"):
        assert notice in text
    assert "Apache License" in (FOLDER / "LICENSE-APACHE-2.0.txt").read_text(encoding="utf-8")


def test_trademarks_of_microsoft_are_not_shipped(dataset):
    shown = {entry.label for entry in dataset.entries if entry.style in ("fluent", "flat")}
    assert not shown & {"paperclip", "technologist", "video game"}


# --- subjects and words --------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", ["cat", "astronaut", "zombie", "racing car", "chipmunk", "hamburger", "rocket", "octopus"])
def test_the_subjects_of_the_gallery_are_trained_on_in_its_styles(label):
    assert [entry.style for entry in EmojiDataset("train").entries if entry.label == label][:3] == ["noto", "twemoji", "fluent"]


@pytest.mark.parametrize(
    ("word", "label"),
    [
        ("squirrel", "chipmunk"),
        ("burger", "hamburger"),
        ("kitten", "cat"),
        ("car", "racing car"),
        ("mermaid", "merperson"),
        ("heart", "red heart"),
        ("pumpkin", "jack-o-lantern"),
        ("ladybug", "lady beetle"),
    ],
)
def test_everyday_words_find_their_subject(dataset, word, label):
    entry = next(entry for entry in dataset.entries if entry.label == label)
    assert {word, with_article(word), canonical_caption(word, entry.style)} <= set(entry.captions)


@pytest.mark.parametrize("word", ["o'clock", "facing right", "family", "skin tone", "flag:", "keycap", ":"])
def test_what_is_left_out_is_left_out(dataset, word):
    assert not [label for label in dataset.subjects if word in label]


def test_no_man_or_woman_stands_beside_the_neutral_person(dataset):
    labels = set(dataset.subjects)
    people = {"astronaut", "zombie", "detective", "person running", "merperson", "pregnant person"}
    assert people <= labels
    assert not labels & {f"{who} {person}" for who in ("man", "woman") for person in labels}
    assert not labels & {"man running", "woman running", "mermaid", "merman", "pregnant woman", "pregnant man"}


def test_a_label_names_one_subject_and_is_the_tag_of_no_other(captions):
    labels = [subject["label"] for subject in captions["subjects"]]
    tags = {tag for subject in captions["subjects"] for tag in subject["tags"]}
    assert len(set(labels)) == len(labels)
    assert not tags & set(labels)


def test_tags_say_something(captions):
    count = Counter(tag for subject in captions["subjects"] for tag in subject["tags"])
    assert max(count.values()) <= 20
    assert all(tag == tag.lower() and len(tag) > 1 and not any(map(str.isdigit, tag)) for tag in count)
    assert not count.keys() & {"animal", "omg", "<3", "100"}
    assert count["face"] == 1  # an everyday word: the slightly smiling face has it, 160 others do not


def test_the_first_captions_are_the_canonical_one_and_the_label(dataset):
    for entry in dataset.entries:
        assert entry.captions[0] == canonical_caption(entry.label, entry.style)
        assert entry.captions[1] == entry.label
        assert len(set(entry.captions)) == len(entry.captions)
    assert len({entry.captions[0] for entry in dataset.entries}) == len(dataset)


def test_captions_of_a_chipmunk():
    assert captions_of("chipmunk", ["squirrel"], "noto") == (
        "a chipmunk in the style of noto",
        "chipmunk",
        "a chipmunk",
        "a squirrel in the style of noto",
        "squirrel",
        "a squirrel",
    )
    assert captions_of("french fries", [], "noto") == ("french fries in the style of noto", "french fries")


@pytest.mark.parametrize(
    "phrase",
    [
        "a cat",
        "an octopus",
        "an hourglass done",
        "a unicorn",
        "an umbrella",
        "a ufo",
        "an unamused face",
        "an x-ray",
        "a one-piece swimsuit",
        "an oncoming bus",
        "a ewe",
        "a bus",
        "a cactus",
        "a rhinoceros",
        "a dress",
        "a face with tears of joy",
        "a face holding back tears",
        "a person lifting weights",
        "a map of japan",
        "a nest with eggs",
        "a sunrise over mountains",
    ],
)
def test_a_singular_has_its_article(phrase):
    assert with_article(phrase.split(" ", 1)[1]) == phrase


@pytest.mark.parametrize(
    "name",
    [
        "eyes",
        "glasses",
        "french fries",
        "cherries",
        "two hearts",
        "people hugging",
        "people with bunny ears",
        "rightwards pushing hands",
        "busts in silhouette",
    ],
)
def test_a_plural_has_no_article(name):
    assert with_article(name) == name


# --- splits --------------------------------------------------------------------------------------------------


def test_the_held_out_list_is_what_the_hash_says(dataset):
    listed = json.loads((FOLDER / "held_out.json").read_text())
    names = [f"{entry.label}/{entry.style}" for entry in dataset.entries]
    assert listed == [name for name in names if int(hashlib.sha256(name.encode()).hexdigest(), 16) % 13 == 4]
    assert listed == [f"{entry.label}/{entry.style}" for entry in EmojiDataset("held_out").entries]
    assert len(listed) == 547


def test_the_rule_of_the_hash_never_changes():
    assert [style for style in STYLES if is_held_out("cat", style)] == ["flat", "firefox"]  # these two are tests


def test_splits_are_disjoint_and_cover_everything(dataset):
    train, held_out = EmojiDataset("train").entries, EmojiDataset("held_out").entries
    assert not set(train) & set(held_out)
    assert sorted(train + held_out) == sorted(dataset.entries)


def test_every_subject_is_trained_on_in_some_style_and_all_but_one_in_two(dataset):
    styles = Counter(entry.label for entry in EmojiDataset("train").entries)
    assert styles.keys() == set(dataset.subjects)
    assert sum(count < 2 for count in styles.values()) == 1


def test_styles_choose_their_pictures(dataset):
    fluent = EmojiDataset(styles=("fluent",))
    assert fluent.entries == [entry for entry in dataset.entries if entry.style == "fluent"]
    assert EmojiDataset(styles="fluent").entries == fluent.entries
    assert EmojiDataset(styles=("fluent", "noto")).entries == EmojiDataset(styles=("noto", "fluent")).entries


# --- the data set as torch sees it ---------------------------------------------------------------------------


def test_an_item_is_the_picture_of_its_file_between_minus_1_and_1(dataset):
    row = next(row for row, entry in enumerate(dataset.entries) if entry.label == "octopus")
    item = dataset[row]
    assert item.picture.shape == (3, 128, 128)
    assert item.picture.dtype == torch.float32
    assert item.picture.min() >= -1
    assert item.picture.max() == 1  # white
    assert (item.subject, item.style) == ("octopus", "noto")
    assert item.captions[0] == "an octopus in the style of noto"
    file = Image.open(io.BytesIO(members("noto")["1F419.webp"]))
    pixels = np.asarray(file).astype(float)
    opacity = pixels[:, :, 3:] / 255
    expected = opacity * pixels[:, :, :3] + (1 - opacity) * 255
    np.testing.assert_allclose((item.picture.permute(1, 2, 0).numpy() + 1) * 127.5, expected, atol=1.01)


def test_layers_are_the_pictures_without_their_background():
    data = EmojiDataset("held_out", "blob")
    assert (data.layers.shape, data.layers.dtype) == ((len(data), 4, 128, 128), torch.uint8)
    color, opacity = data.layers[:, :3].float(), data.layers[:, 3:].float() / 255
    assert (opacity * color + (1 - opacity) * 255 - data.pictures.float()).abs().max() <= 1.01
    assert (opacity == 0).float().mean() > 0.2


def test_a_picture_comes_on_any_background_and_in_any_smaller_size(dataset):
    entry = next(entry for entry in dataset.entries if entry.label == "octopus")
    assert entry.picture(background="red").getpixel((0, 0)) == (255, 0, 0)
    small = EmojiDataset("held_out", "noto", size=64)
    large = EmojiDataset("held_out", "noto")
    assert small.pictures.shape == (len(large), 3, 64, 64)
    halves = torch.nn.functional.avg_pool2d(large.pictures.float(), 2)
    assert (small.pictures.float() - halves).abs().mean() < 4  # of 255: the same pictures, by another filter
    assert small[0].picture.shape == (3, 64, 64)


@pytest.mark.parametrize("size", [0, -64, 256, 64.0, "64", True])
def test_a_size_that_cannot_be_is_named_with_what_is_allowed(size):
    with pytest.raises(ValueError, match=rf"size is {size!r}; allowed is a whole number from 1 to 128"):
        EmojiDataset(size=size)


class Opened(torch.utils.data.Dataset):
    """Pictures opened one by one, as a learner's own data set would do it."""

    def __init__(self, entries):
        self.entries = entries

    def __len__(self):
        return len(self.entries)

    def __getitem__(self, index):
        return torch.from_numpy(np.array(self.entries[index].open()))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_processes_that_load_the_pictures_do_not_disturb_each_other(dataset):
    opened = Opened(dataset.entries[:200])
    expected = [opened[row] for row in range(200)]  # so the archives are open before the processes begin
    loader = torch.utils.data.DataLoader(opened, batch_size=None, num_workers=2, multiprocessing_context="fork")
    assert all(torch.equal(found, right) for found, right in zip(loader, expected, strict=True))


def test_the_data_set_iterates_and_ends():
    held_out = EmojiDataset("held_out")
    assert [item.subject for item in held_out] == [entry.label for entry in held_out.entries]
    assert held_out.pictures.shape == (len(held_out), 3, 128, 128)
    assert held_out.pictures.dtype == torch.uint8


@pytest.mark.parametrize("split", ["test", "", None, 3])
def test_an_unknown_split_is_named_with_what_is_allowed(split):
    with pytest.raises(ValueError, match=rf"split is {split!r}; .*'all', 'train', 'held_out'"):
        EmojiDataset(split=split)


@pytest.mark.parametrize("styles", [("picasso",), "Noto", (), ("noto", 3), ([],)])
def test_an_unknown_style_is_named_with_what_is_allowed(styles):
    with pytest.raises(ValueError, match=r"styles is .*; .*'noto', 'twemoji', 'fluent', 'flat', 'blob', 'emojione', 'firefox'"):
        EmojiDataset(styles=styles)
