"""A grid of pictures has every pixel in its place, whatever the prompt above it says."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ldm_tutorial.figures.canvas import to_picture
from ldm_tutorial.figures.grids import picture_grid

COLORS = [["red", "lime", "blue"], ["yellow", "cyan", "magenta"]]


def pictures(colors=COLORS, size=(16, 12)):
    return [[Image.new("RGB", size, color) for color in row] for row in colors]


def blocks(image):
    """The boxes that are colored, in the order of reading: (width, height, color)."""
    pixels = np.asarray(image).astype(int)
    colored = pixels.max(axis=2) - pixels.min(axis=2) > 100
    rows, columns = np.flatnonzero(colored.any(axis=1)), np.flatnonzero(colored.any(axis=0))
    found = []
    for y in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1):
        for x in np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1):
            if colored[y[0], x[0]]:
                found.append((len(x), len(y), tuple(pixels[y[0], x[0]].tolist())))
    return found


def test_each_picture_is_enlarged_whole_and_in_its_place():
    grid = to_picture(picture_grid(pictures(), ["a", "b", "c"], ["first", "second"], "title", "subtitle", shown=48))
    colors = [Image.new("RGB", (1, 1), color).getpixel((0, 0)) for row in COLORS for color in row]
    assert blocks(grid) == [(64, 48, color) for color in colors]  # 4 times, not a pixel more or less


def test_pixels_are_copied_not_resampled():
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    grid = np.asarray(to_picture(picture_grid([[Image.fromarray(noise)]], shown=1)))
    places = [(y, x) for y in range(grid.shape[0] - 19) for x in range(grid.shape[1] - 19)]
    assert any(np.array_equal(grid[y : y + 20, x : x + 20], noise) for y, x in places)


def test_large_pictures_keep_their_size():
    assert blocks(to_picture(picture_grid(pictures([["red"]], (300, 280)), shown=256))) == [(300, 280, (255, 0, 0))]


def test_the_last_row_may_be_shorter():
    assert len(blocks(to_picture(picture_grid(pictures([["red", "lime"], ["blue"]]))))) == 3


def test_groups_of_columns_are_named_above_them():
    red = [[Image.new("RGB", (16, 12), "red")] * 4] * 2
    grid = picture_grid(red, list("abcd"), ["x", "a\nlong label"], column_groups=["one", "two"])
    places = {text.get_text(): text.get_position() for text in grid.texts}
    for group, (first, second) in {"one": "ab", "two": "cd"}.items():
        assert places[group][0] == pytest.approx((places[first][0] + places[second][0]) / 2)
        assert places[group][1] > places[first][1] > places["x"][1]
    assert len(blocks(to_picture(grid))) == 8


def test_a_label_takes_the_room_of_its_longest_line():
    red = [[Image.new("RGB", (16, 12), "red")]]
    widths = [to_picture(picture_grid(red, row_labels=[label])).width for label in ("abcd", "ab\nabcd\nabc", "abcdabcd")]
    assert widths[0] == widths[1] < widths[2]


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("title", ["", "a $5 cat and a $6 dog", r"\frac{$", "a" * 300, "word " * 500, "猫"])
def test_any_prompt_can_be_the_title(title):
    grid = to_picture(picture_grid(pictures(), title=title, subtitle=title))
    assert grid.height < 1000
    assert len(blocks(grid)) == 6


@pytest.mark.parametrize("label, formula", [("$x_t$", True), ("$5 and $6", False), (r"$\frac{$", False), ("$1$ and $2$", False)])
def test_a_label_that_is_a_formula_is_set_as_one(label, formula):
    grid = picture_grid([[Image.new("RGB", (64, 64), "red")]], [label])
    assert [text.get_parse_math() for text in grid.texts] == [formula]
    to_picture(grid)


def test_pyplot_is_not_needed():
    code = "import sys, ldm_tutorial.figures.grids, ldm_tutorial.figures.plots; assert 'matplotlib.pyplot' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("grid", "labels", "words"),
    [
        ([], {}, r"pictures must be rows of one length; got \[\]"),
        ([[]], {}, r"got \[0\]"),
        (pictures([["red"], ["lime", "blue"]]), {}, r"got \[1, 2\]"),
        ([[Image.new("RGB", (4, 4)), Image.new("RGB", (4, 5))]], {}, r"pictures must have one size; got \[\(4, 4\), \(4, 5\)\]"),
        (pictures(), {"column_labels": ["a"]}, "column_labels has 1 entries for 3"),
        (pictures(), {"row_labels": ["a"]}, "row_labels has 1 entries for 2"),
        (pictures(), {"column_groups": ["a", "b"]}, "column_groups has 2 entries, which do not divide 3"),
        (pictures(), {"column_groups": []}, "column_groups has 0 entries"),
    ],
)
def test_what_is_no_grid_is_named(grid, labels, words):
    with pytest.raises(ValueError, match=words):
        picture_grid(grid, **labels)
