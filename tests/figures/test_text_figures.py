"""Figures of the text encoder show the tokens, sizes and cosines that they were given."""

import pytest
import torch
from matplotlib.colors import to_hex
from PIL import Image

from ldm_tutorial.clip import CLIPTextModel
from ldm_tutorial.config import EMOJI, SD15
from ldm_tutorial.figures.text import CELL_LOOKS, likeness, nearest_prompts, readable, text_encoder_figure, token_grid

START, END = "<|startoftext|>", "<|endoftext|>"


def words(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_each_token_has_its_place_and_what_was_cut_has_none():
    figure = token_grid([START, "chip", "munk</w>", END, END, END], lost=["in</w>", "the</w>"], columns=4)
    assert words(figure) == [
        "start",
        "0",
        "chip-",
        "1",
        "munk",
        "2",
        "end",
        "3",
        "end",
        "4",
        "end",
        "5",
        "cut, never read:",
        "in",
        "the",
    ]
    [axes] = figure.axes
    kinds = ["start", "word", "word", "end", "padding", "padding", "lost", "lost"]
    assert [to_hex(patch.get_facecolor()).upper() for patch in axes.patches] == [CELL_LOOKS[kind][0] for kind in kinds]
    assert [(round(p.get_x()), int(p.get_y())) for p in axes.patches[:6]] == [(0, 0), (1, 0), (2, 0), (3, 0), (0, 1), (1, 1)]


@pytest.mark.parametrize("tokens", [[], ["a</w>", END], [START, "a</w>"]])
def test_tokens_without_start_or_end_are_refused(tokens):
    with pytest.raises(ValueError, match="must begin with the start token and hold an end token"):
        token_grid(tokens)


def test_a_dollar_sign_in_a_prompt_is_no_mathematics():
    assert "$x_2$" in words(token_grid([START, "$x_2$</w>", END]))
    assert (readable("chip"), readable("munk</w>")) == ("chip-", "munk")


@pytest.mark.parametrize("config", [EMOJI.text_encoder, SD15.text_encoder], ids=["emoji", "sd15"])
def test_the_text_encoder_of_the_diagram_is_the_text_encoder(config):
    with torch.device("meta"), torch.no_grad():
        model = CLIPTextModel(config)
        states = model(torch.zeros(1, config.max_position_embeddings, dtype=torch.long))
    shown, layer = "\n".join(words(text_encoder_figure(config))), model.text_model.encoder.layers[0]
    vocabulary, d = model.text_model.embeddings.token_embedding.weight.shape
    for size in (
        f"{vocabulary:,} tokens",
        f"{len(model.text_model.encoder.layers)} x\nlayer",
        f"states\n{states.shape[1]} x {states.shape[2]}",
        f"Linear\n{d} → {layer.mlp.fc1.out_features}",
        f"Linear\n{layer.mlp.fc2.in_features} → {d}",
        f"{layer.self_attn.heads} heads of {d // layer.self_attn.heads}",
    ):
        assert size in shown


def test_a_table_of_cosines_shows_them_below_their_pictures():
    pictures = [Image.new("RGB", (4, 4), color) for color in ("red", "green", "blue")]
    cosines = torch.tensor([[1.0, 0.26, -0.5], [-0.04, 0.9, 0.0]])
    figure = likeness([cosines, -cosines], ["before", "after"], pictures, ["a cat", "a dog"])
    assert words(figure)[:6] == ["1.0", "0.3", "-0.5", "0.0", "0.9", "0.0"]
    assert [text.get_text() for text in figure.texts] == ["before", "after"]
    drawn = [axes.images[0].get_array() for axes in figure.axes]
    assert [tuple(image[0, 0].tolist()) for image in drawn[:3]] == [(255, 0, 0), (0, 128, 0), (0, 0, 255)]
    torch.testing.assert_close(torch.tensor(drawn[3].data), cosines)
    with pytest.raises(ValueError, match=r"\(captions, pictures\) = \(2, 3\); got \(3, 2\)"):
        likeness([cosines.T], ["before"], pictures, ["a cat", "a dog"])


def test_bars_are_as_long_as_the_cosines_and_none_points_backward():
    figure = nearest_prompts([Image.new("RGB", (4, 4))], [["a cat", "a $2 bill"]], [[0.75, -0.1]])
    assert words(figure) == ["0.75  a cat", "-0.10  a $2 bill"]
    assert [bar.get_width() for bar in figure.axes[1].patches] == [0.75, 0.0]
