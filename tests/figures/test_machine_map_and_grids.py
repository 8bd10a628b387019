"""Grids of pictures, the map of the machine, curves over steps: sizes, what is drawn, and what is refused."""

from itertools import combinations

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from ldm_tutorial.config import EMOJI, SD15
from ldm_tutorial.figures.canvas import PART_COLORS, to_picture
from ldm_tutorial.figures.grids import channel_pictures, picture_grid
from ldm_tutorial.figures.machine_map import machine_map, shapes
from ldm_tutorial.figures.plots import curves_over_steps


def colored(color, size=(64, 64)):
    return Image.new("RGB", size, color)


# ---- grids


def test_a_grid_shows_every_picture_enlarged_by_a_whole_factor():
    figure = picture_grid([[colored("red"), colored("blue")]], ["r", "b"], shown=128)
    pixels = np.asarray(to_picture(figure)).reshape(-1, 3)
    for color in ((255, 0, 0), (0, 0, 255)):
        assert (pixels == color).all(1).sum() == 128 * 128


@pytest.mark.parametrize(
    ("pictures", "labels", "message"),
    [
        ([], None, "rows of one length"),
        ([[colored("red")] * 2, [colored("red")], [colored("red")] * 2], None, "rows of one length"),
        ([[colored("red"), colored("red", (32, 64))]], None, "one size"),
        ([[colored("red")]], ["a", "b"], "column_labels has 2 entries for 1"),
    ],
)
def test_a_grid_refuses_what_does_not_fit(pictures, labels, message):
    with pytest.raises(ValueError, match=message):
        picture_grid(pictures, labels)


# ---- latents


def test_channels_are_purple_below_zero_and_orange_above():
    latents = torch.tensor([[[-2.0, 0.0, 2.0]], [[4.0, 1.0, -4.0]]])  # (2, 1, 3)
    low, zero, high = np.asarray(channel_pictures(latents)[0], dtype=int)[0]
    assert low[2] > low[0]  # purple: more blue than red
    assert high[0] > high[2]  # orange: more red than blue
    assert zero.min() > 240
    assert [p.size for p in channel_pictures(latents)] == [(3, 1)] * 2


def test_channels_share_one_scale_and_end_at_the_limit():
    latents = torch.tensor([[[1.0, 3.0, 9.0]]])
    one, three, nine = np.asarray(channel_pictures(latents, limit=3.0)[0], dtype=int)[0]
    assert (three == nine).all()
    assert (one != three).any()
    assert channel_pictures(torch.zeros(4, 2, 2))[0].getpixel((0, 0)) == channel_pictures(torch.zeros(1, 2, 2))[0].getpixel(
        (0, 0)
    )


def test_channels_are_those_of_one_picture():
    with pytest.raises(ValueError, match=r"one picture, \(c, h, w\); got \(1, 4, 2, 2\)"):
        channel_pictures(torch.zeros(1, 4, 2, 2))


def test_curves_count_steps_from_one_and_differ_in_marker():
    [axes] = curves_over_steps({"a": [10.0, 1.0], "b": [5.0, 2.0, 1.0]}, "levels").axes
    assert axes.get_yscale() == "log"
    assert [list(line.get_xdata()) for line in axes.get_lines()] == [[1, 2], [1, 2, 3]]
    assert len({line.get_marker() for line in axes.get_lines()}) == 2
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b"]


# ---- the map


EYES = {  # linear light as seen by each, Viénot, Brettel & Mollon 1999
    "usual": np.eye(3),
    "protanope": np.array([[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]]),
    "deuteranope": np.array([[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]]),
}


@pytest.mark.parametrize("eyes", EYES)
def test_part_colors_can_be_told_apart_with_any_color_vision(eyes):
    seen = [(EYES[eyes] @ np.array(to_rgb(color)) ** 2.2).clip(0) ** (1 / 2.2) for color in PART_COLORS.values()]
    for a, b in combinations(seen, 2):
        assert np.abs(a - b).max() > 0.2  # of the range of a channel


@pytest.mark.parametrize("config", [EMOJI, SD15], ids=["emoji", "sd15"])
def test_the_shapes_on_the_map_are_those_of_the_networks(config):
    from ldm_tutorial.clip import CLIPTextModel
    from ldm_tutorial.unet import UNet
    from ldm_tutorial.vae import AutoencoderKL

    expected = shapes(config)
    with torch.device("meta"), torch.no_grad():
        ids = torch.zeros(2, *expected["token ids"], dtype=torch.long)
        states = CLIPTextModel(config.text_encoder)(ids)
        vae = AutoencoderKL(config.vae)
        latents = vae.encode(torch.zeros(2, *expected["picture"])).mode()
        noise_pred = UNet(config.unet)(latents, 5, states)
        picture = vae.decode(latents)
    found = {"text embeddings": states, "latents": latents, "predicted noise": noise_pred, "picture": picture}
    for name, x in found.items():
        assert tuple(x.shape) == (2, *expected[name])


def test_the_map_writes_the_shapes_of_every_model():
    texts = [text.get_text() for text in machine_map().axes[0].texts]
    for name, config in (("emoji", EMOJI), ("sd15", SD15)):
        for shape in shapes(config).values():
            assert any(text.startswith(name) and text.endswith(f"({', '.join(map(str, shape))})") for text in texts)


@pytest.mark.parametrize("lit", PART_COLORS)
def test_one_part_of_the_map_is_lit_and_the_others_are_faint(lit):
    edges = {to_rgb(patch.get_edgecolor()) for patch in machine_map(lit=lit).axes[0].patches}
    for part, color in PART_COLORS.items():
        assert (to_rgb(color) in edges) == (part == lit)


def test_the_map_knows_its_parts():
    with pytest.raises(ValueError, match="lit='decoder' must be one of 'text_encoder', 'unet', 'scheduler', 'vae'"):
        machine_map(lit="decoder")
