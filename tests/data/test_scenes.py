"""Scenes: what the caption says is what the record says, and what the record says is what the picture shows."""

import colorsys
import re

import pytest
import torch

from ldm_tutorial.data import EmojiDataset
from ldm_tutorial.data.scenes import (
    COLORS,
    COUNTS,
    HALF,
    PLACES,
    SMALL,
    TINTS,
    Scene,
    Thing,
    caption_of,
    compose,
    draw_scenes,
    is_kept_back,
    plural,
    says_a_color,
)

SIZE = 64


@pytest.fixture(scope="module")
def data():
    return EmojiDataset("train")


@pytest.fixture(scope="module")
def scenes(data):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(len(data), (2000,), generator=generator).tolist()
    return [compose(data, row, generator) for row in rows]


def row_of(data, label, style):
    return next(i for i, entry in enumerate(data.entries) if (entry.label, entry.style) == (label, style))


def shown(scene, data):
    """The picture, (3, h, w) in 0 ... 1, and where it is not background, (h, w) bool."""
    picture = (draw_scenes([scene], data.layers, SIZE)[0] + 1) / 2
    return picture, (picture - torch.tensor(scene.shade).view(3, 1, 1)).abs().amax(dim=0) > 0.06


# ---- words against the record


def test_a_caption_says_all_that_was_done_and_nothing_that_was_not(data, scenes):
    for scene in scenes:
        caption, first = caption_of(scene, data.entries), data.entries[scene.things[0].row]
        others = [data.entries[thing.row].label for thing in scene.things]
        said = caption
        for label in sorted(set(others), key=len, reverse=True):
            said = said.replace(plural(first) or label, "X").replace(label, "X")  # words of a label say nothing about the scene
        assert said.endswith(f" in the style of {first.style}")
        tint = scene.things[0].tint
        assert [word for word in re.findall("[a-z]+", said) if word in COLORS] == [w for w in (tint, scene.background) if w], (
            caption
        )
        assert ("small" in said.split()) == (len(scene.things) == 1 and scene.things[0].size == SMALL), caption
        assert [place for place in PLACES if place in said] == ([scene.place] if scene.place else []), caption
        counts = [word for word in COUNTS.values() if word in said.split()]
        assert counts == ([COUNTS[len(scene.things)]] if len(scene.things) > 1 and not scene.relation else []), caption
        assert (f"X {scene.relation} " in said) == bool(scene.relation), caption
        assert caption == f"{caption_of(scene, data.entries, style=False)} in the style of {first.style}"


@pytest.mark.parametrize(
    ("scene", "caption"),
    [
        (
            lambda row: Scene((Thing(row("cat", "noto"), "blue", SMALL, *PLACES["on the left"]),), "yellow", place="on the left"),
            "a small blue cat on the left on a yellow background in the style of noto",
        ),
        (
            lambda row: Scene(tuple(Thing(row("rocket", "flat"), None, HALF, x, 0.5) for x in (0.26, 0.74))),
            "two rockets in the style of flat",
        ),
        (
            lambda row: Scene(
                (Thing(row("cat", "noto"), None, HALF, 0.5, 0.26), Thing(row("owl", "noto"), None, HALF, 0.5, 0.74)),
                "orange",
                relation="above",
            ),
            "a cat above an owl on an orange background in the style of noto",
        ),
        (lambda row: Scene((Thing(row("french fries", "noto"), "red"),)), "red french fries in the style of noto"),
    ],
)
def test_captions_read_like_english(data, scene, caption):
    assert caption_of(scene(lambda label, style: row_of(data, label, style)), data.entries) == caption


def test_the_things_of_a_scene_are_of_one_style(data, scenes):
    for scene in scenes:
        assert len({data.entries[thing.row].style for thing in scene.things}) == 1


def test_every_kind_of_scene_occurs_and_no_label_is_contradicted(data, scenes):
    assert {scene.background for scene in scenes} == {None, *COLORS}
    assert {thing.tint for scene in scenes for thing in scene.things} == {None, *TINTS}
    assert {scene.place for scene in scenes} == {None, *PLACES}
    assert {scene.relation for scene in scenes} == {None, "and", "above"}
    assert {len(scene.things) for scene in scenes} == {1, 2, 3, 4}
    tinted = [data.entries[thing.row].label for scene in scenes for thing in scene.things if thing.tint]
    assert not any(map(says_a_color, tinted))
    assert says_a_color("red apple") and says_a_color("light blue heart") and not says_a_color("shredder")


def test_combinations_that_are_kept_back_do_not_occur(data, scenes):
    for scene in scenes:
        first = data.entries[scene.things[0].row].label
        assert not (scene.things[0].tint and is_kept_back(f"{scene.things[0].tint} {first}"))
        assert not (scene.background and is_kept_back(f"{first} on {scene.background}"))
        if scene.relation:
            assert not is_kept_back(f"{first} {scene.relation} {data.entries[scene.things[1].row].label}")
    some = [is_kept_back(f"{tint} {label}") for tint in TINTS for label in data.subjects]
    assert 0.09 < sum(some) / len(some) < 0.11


def test_a_seed_composes_the_same_scene(data):
    first, again = (compose(data, 7, torch.Generator().manual_seed(3)) for _ in range(2))
    assert first == again


# ---- the picture against the record


def test_the_background_has_the_color_that_the_caption_says(data, scenes):
    for scene in (scene for scene in scenes[:300] if scene.background):
        picture, _ = shown(scene, data)
        spread = [(sum((a - b) ** 2 for a, b in zip(scene.shade, color)), word) for word, color in COLORS.items()]
        assert min(spread)[1] == scene.background
        here = (picture - torch.tensor(scene.shade).view(3, 1, 1)).abs().amax(dim=0) < 0.01
        assert here.any() or scene.things[0].size == 1.0  # a picture may fill its square


@pytest.mark.parametrize("place", PLACES)
def test_a_small_thing_is_where_the_caption_says(data, place):
    x, y = PLACES[place]
    _, where = shown(Scene((Thing(row_of(data, "cat", "noto"), None, SMALL, x, y),), place=place), data)
    down, across = where.nonzero().float().mean(dim=0) / SIZE
    for word, middle in (("left", across), ("top", down)):
        assert (middle < 0.4) == (word in place), word
    for word, middle in (("right", across), ("bottom", down)):
        assert (middle > 0.6) == (word in place), word
    assert where.float().mean() < 0.25


def test_and_is_from_left_to_right_and_above_is_above(data):
    red, blue = row_of(data, "red heart", "twemoji"), row_of(data, "blue heart", "twemoji")
    for relation, places, axis in (("and", ((0.26, 0.5), (0.74, 0.5)), 1), ("above", ((0.5, 0.26), (0.5, 0.74)), 0)):
        scene = Scene(tuple(Thing(r, None, HALF, *p) for r, p in zip((red, blue), places)), relation=relation)
        picture, _ = shown(scene, data)
        first, second = picture[0] - picture[2] > 0.3, picture[2] - picture[0] > 0.3
        assert first.nonzero()[:, axis].float().max() < second.nonzero()[:, axis].float().min()


@pytest.mark.parametrize("count", COUNTS)
def test_as_many_are_there_as_the_caption_says(data, scenes, count):
    some = [s for s in scenes if len(s.things) == count and not s.relation and not s.background][:5]
    assert len(some) == 5
    for scene in some:
        alone = [shown(Scene((thing,)), data)[1] for thing in scene.things]
        assert (shown(scene, data)[1] == torch.stack(alone).any(dim=0)).all()
        assert torch.stack(alone).sum(dim=0).max() == 1  # none hides another


@pytest.mark.parametrize("tint", TINTS)
@pytest.mark.parametrize(("label", "style"), [("cat", "noto"), ("elephant", "flat"), ("rocket", "fluent"), ("ghost", "blob")])
def test_a_recolored_thing_has_that_color_and_no_other(data, tint, label, style):
    picture, where = shown(Scene((Thing(row_of(data, label, style), tint),)), data)
    pixels = picture[:, where].T
    colorful = pixels[(pixels.amax(dim=1) - pixels.amin(dim=1)) > 0.1]
    hue = colorsys.rgb_to_hsv(*COLORS[tint])[0]
    hues = torch.tensor([colorsys.rgb_to_hsv(*pixel)[0] for pixel in colorful.tolist()])
    apart = (hues - hue).abs()
    assert torch.minimum(apart, 1 - apart).max() < 0.03
    middle = pixels.median(dim=0).values
    nearest = min(TINTS, key=lambda word: (middle - torch.tensor(COLORS[word])).norm())
    assert nearest == tint


# ---- plurals


@pytest.mark.parametrize(
    ("label", "several"),
    [
        ("rocket", "rockets"),
        ("fox", "foxes"),
        ("butterfly", "butterflies"),
        ("monkey", "monkeys"),
        ("mouse", "mice"),
        ("octopus", "octopuses"),
        ("fish", "fish"),
        ("watch", "watches"),
        ("glasses", None),
        ("bread", None),
        ("racing car", None),
        ("astronaut", None),
        ("thumbs up", None),
    ],
)
def test_plurals(data, label, several):
    assert plural(next(entry for entry in data.entries if entry.label == label)) == several
