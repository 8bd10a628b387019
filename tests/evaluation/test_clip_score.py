"""The CLIP score is the cosine of the two towers' vectors, picture by picture."""

import pytest
import torch
from PIL import Image

from ldm_tutorial.clip import CLIP
from ldm_tutorial.data import EmojiDataset
from ldm_tutorial.evaluation.clip_score import clip_scores
from ldm_tutorial.images import to_tensor
from ldm_tutorial.inputs import tokenize
from ldm_tutorial.training.clip import SIDE, half_size

PROMPTS = ["a cat", "an octopus with a hat", "a cat"]


@pytest.fixture(scope="module")
def clip(tiny_config):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CLIP(tiny_config.text_encoder).eval()


@pytest.fixture(scope="module")
def pictures():
    return [Image.effect_noise((32, 32), sigma).convert("RGB") for sigma in (20, 80, 150)]


def test_a_score_is_a_cosine(clip, pictures, tiny_tokenizer):
    found = clip_scores(clip, tiny_tokenizer, pictures, PROMPTS)
    assert found.shape == (3,)
    with torch.no_grad():
        for picture, prompt, score in zip(pictures, PROMPTS, found):
            image = clip.image_tower(to_tensor(picture))  # not of length 1
            states = clip.text_encoder(tokenize(tiny_tokenizer, [prompt]))[0]
            text = clip.text_projection(states[place_of_end(tiny_tokenizer, prompt)])
            torch.testing.assert_close(torch.cosine_similarity(image[0], text, dim=0), score, atol=1e-5, rtol=0)
    assert found.unique().numel() == 3


def place_of_end(tokenizer, prompt):
    """After the start token and those of the prompt."""
    return 1 + len(tokenizer(prompt, add_special_tokens=False).input_ids)


def test_the_order_is_that_of_the_pictures(clip, pictures, tiny_tokenizer):
    forward = clip_scores(clip, tiny_tokenizer, pictures, PROMPTS)
    backward = clip_scores(clip, tiny_tokenizer, pictures[::-1], PROMPTS[::-1])
    torch.testing.assert_close(forward, backward.flip(0))


@pytest.mark.parametrize("factor", [2, 8])
def test_a_large_picture_is_looked_at_in_the_size_that_clip_was_trained_on(clip, tiny_tokenizer, factor):
    assert half_size(EmojiDataset(styles="noto").layers[:1]).shape[-1] == SIDE
    small = [Image.effect_noise((SIDE, SIDE), 80).convert("RGB")]
    large = [small[0].resize((factor * SIDE, factor * SIDE), Image.Resampling.NEAREST)]
    expected = clip_scores(clip, tiny_tokenizer, small, PROMPTS[:1])
    torch.testing.assert_close(clip_scores(clip, tiny_tokenizer, large, PROMPTS[:1]), expected)


@pytest.mark.parametrize("count", [0, 2])
def test_each_picture_needs_its_prompt(clip, pictures, tiny_tokenizer, count):
    with pytest.raises(ValueError, match=f"one prompt for each picture, and at least one; got 3 for {count}"):
        clip_scores(clip, tiny_tokenizer, pictures[:count], PROMPTS)
