"""The twelve drawings: always the same, of one style, each another subject, with captions."""

import pytest
import torch

from ldm_tutorial.data import EmojiDataset
from ldm_tutorial.data.drawings import DRAWINGS, draw_blueprint, write_drawings
from ldm_tutorial.data.own_pictures import read_own_pictures


def test_they_are_read_as_own_pictures_with_their_captions(tmp_path):
    own = read_own_pictures(write_drawings(tmp_path / "drawings", size=64), size=64)
    assert len(own) == 12 and own.pictures.shape == (12, 3, 64, 64)
    captions = dict(zip(own.names, own.captions))
    assert captions["umbrella.png"] == "an umbrella in the style of blueprint"
    assert captions["light_bulb.png"] == "a light bulb in the style of blueprint"


def test_a_drawing_is_always_the_same_and_sizes_show_the_same():
    assert draw_blueprint("snail", 64).tobytes() == draw_blueprint("snail", 64).tobytes()
    large, small = (draw_blueprint("snail", size).resize((32, 32)) for size in (256, 64))
    difference = torch.tensor(list(large.convert("L").tobytes())) - torch.tensor(list(small.convert("L").tobytes()))
    assert difference.float().abs().mean() < 4


def test_their_style_is_one_and_no_emoji_has_it():
    """White lines on blue: every sheet is blue for the most part, and has white in it; hardly an emoji does."""

    def blue_and_white(pixels):  # (3, h, w)
        r, g, b = pixels.int()
        blue, white = (b > r + 60) & (b > g + 30), (r > 200) & (g > 200) & (b > 200)
        return blue.float().mean().item(), white.float().mean().item()

    for subject in DRAWINGS:
        pixels = torch.frombuffer(bytearray(draw_blueprint(subject, 64).tobytes()), dtype=torch.uint8)
        blue, white = blue_and_white(pixels.view(64, 64, 3).permute(2, 0, 1))
        assert 0.6 < blue < 0.95 and 0.04 < white < 0.3, (subject, blue, white)
    emoji = EmojiDataset("train")
    emoji.entries = emoji.entries[::40]
    assert max(blue_and_white(pixels)[0] for pixels in emoji.pictures) < 0.6


def test_their_subjects_are_known_to_the_model_that_learns_them():
    assert set(DRAWINGS) <= set(EmojiDataset().subjects)


def test_another_subject_is_refused():
    with pytest.raises(ValueError, match="subject='cat' must be one of 'house', 'sailboat'"):
        draw_blueprint("cat")
