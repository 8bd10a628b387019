"""Lines and densities of the notebooks: what is drawn is what was given, and noise is stored in few colors."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from ldm_tutorial.figures.canvas import LINES
from ldm_tutorial.figures.grids import picture_grid
from ldm_tutorial.figures.machine_map import markov_chain
from ldm_tutorial.figures.plots import Panel, density_over_time, line_panels
from ldm_tutorial.lessons.notebook import png


def test_lines_are_those_given_and_differ_without_color():
    x = torch.arange(4)
    points = Panel({"one": ([1, 10], [2, 3])}, "x", "y", xscale="log", points=True)
    figure = line_panels(Panel({"a": (x, x**2), "b": (x, -x)}, "x", "y", "both"), points)
    both, one = figure.axes
    assert [line.get_ydata().tolist() for line in both.lines] == [[0, 1, 4, 9], [0, -1, -2, -3]]
    assert len({line.get_linestyle() for line in both.lines}) == 2
    assert both.get_legend() is not None
    assert one.get_legend() is None
    assert (one.get_xscale(), one.lines[0].get_linestyle()) == ("log", "None")


@pytest.mark.parametrize(
    ("x", "numbers"), [([3, 40], ["5", "10", "20"]), ([6, 75], ["10", "20", "50"]), ([1, 5000], ["1", "10", "100", "1000"])]
)
def test_a_logarithmic_axis_has_plain_numbers_that_do_not_meet(x, numbers):
    figure = line_panels(Panel({"a": (x, [1, 2])}, "x", "y", xscale="log"))
    figure.canvas.draw()
    axis, (low, high) = figure.axes[0].xaxis, figure.axes[0].get_xlim()
    ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
    shown = [tick.label1.get_text() for tick in ticks if low <= tick.get_loc() <= high]
    assert [text for text in shown if text] == numbers


def test_lines_have_colors_and_styles_of_their_own():
    assert len({color for color, _ in LINES}) == len({style for _, style in LINES}) == len(LINES)


def test_each_moment_of_a_density_is_scaled_to_its_peak():
    density = np.array([[1.0, 0.1], [2.0, 0.2], [4.0, 0.1]])  # (x, t)
    figure = density_over_time(density, [-1, 0, 1], [0, 10], np.zeros((2, 2)))
    [image] = figure.axes[0].images
    np.testing.assert_allclose(image.get_array().max(0), [1, 1])
    assert len(figure.axes[0].lines) == 2


def test_noise_in_few_colors_is_small_and_looks_the_same():
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    figure = picture_grid([[Image.fromarray(pixels)]], shown=64)
    full, few = png(figure), png(figure, colors=64)
    assert len(few) < len(full) / 2.5
    pictures = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=float) for data in (full, few)]
    assert np.abs(pictures[0] - pictures[1]).mean() < 20
    assert png(figure, colors=64) == few


def test_few_colors_hold_the_rare_ones():
    rng = np.random.default_rng(0)
    pixels = np.clip(rng.normal((200, 120, 40), 40, (200, 200, 3)), 0, 255).astype(np.uint8)  # orange of all shades
    pixels[:10, :10] = (20, 90, 250)  # a blue patch, 1 of 400 pixels
    stored = np.asarray(Image.open(io.BytesIO(png(Image.fromarray(pixels), colors=128))).convert("RGB"), dtype=int)
    assert np.abs(stored[:10, :10] - (20, 90, 250)).max() <= 8
    assert np.abs(stored - pixels).mean() < 10


def test_the_two_chains_show_four_pictures_and_no_other_number():
    pictures = [Image.new("RGB", (8, 8), color) for color in ("red", "green", "blue", "white")]
    figure = markov_chain(pictures)
    assert [image.get_array()[0, 0].tolist() for image in figure.axes[0].images] == [
        [255, 0, 0],
        [0, 128, 0],
        [0, 0, 255],
        [255, 255, 255],
    ]
    with pytest.raises(ValueError, match="must be four.*got 3"):
        markov_chain(pictures[:3])
