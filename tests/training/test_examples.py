"""What the U-Net learns from: each example is the picture that its captions name."""

import math

import pytest
import torch

from ldm_tutorial.data import EmojiDataset
from ldm_tutorial.data.scenes import caption_of, draw
from ldm_tutorial.images import to_unit_range
from ldm_tutorial.training.examples import compose_scenes, make_examples
from ldm_tutorial.vae import DiagonalGaussian


def encode(pictures):
    """Latents that are the picture itself at 1/8 of its size, with a little noise: so one can see what was encoded."""
    small = thumbnails(to_unit_range(pictures))
    return DiagonalGaussian(small, torch.full_like(small, 2 * math.log(0.1)))


@pytest.fixture(scope="module")
def data():
    data = EmojiDataset("train", "blob")
    data.entries = data.entries[::20][:40]
    return data


def thumbnails(pictures):
    return torch.nn.functional.avg_pool2d(pictures, 8)


def test_each_example_is_what_its_captions_name(data):
    examples = make_examples(encode, data, views=2, scenes=10, seed=3)
    assert len(examples) == len(examples.mean) == len(examples.std) == 90
    pictures = thumbnails(data.pictures.float() / 127.5 - 1)
    assert (examples.mean[:40].float() - pictures).abs().max() < 0.01
    assert examples.captions[:40] == examples.captions[40:80] == [entry.captions for entry in data.entries]
    scenes = compose_scenes(data, 10, seed=3)
    assert (examples.mean[80:].float() - thumbnails(draw(scenes, data.layers, 128))).abs().max() < 0.01
    for scene, (full, without) in zip(scenes, examples.captions[80:]):
        assert (full, without) == (caption_of(scene, data.entries), caption_of(scene, data.entries, style=False))


def test_further_views_are_the_same_pictures_moved_a_little_and_not_mirrored(data):
    mean = make_examples(encode, data, views=3, scenes=0, seed=0).mean.float()
    first, second, third = mean.split(40)
    near = [(view - first).abs().flatten(1).mean(dim=1) for view in (second, third)]
    far = (first.flip(-1) - second).abs().flatten(1).mean(dim=1)
    apart = (first.roll(1, dims=0) - first).abs().flatten(1).mean(dim=1)
    assert all((distance > 0).all() and distance.mean() < apart.mean() for distance in near)
    assert near[0].mean() < far.mean()
    assert (second != third).any()


def test_what_was_encoded_is_read_again_and_other_examples_are_refused(data, tmp_path):
    path = tmp_path / "examples.safetensors"
    first = make_examples(encode, data, views=1, scenes=5, seed=0, path=path)
    again = make_examples(None, data, views=1, scenes=5, seed=0, path=path)
    assert torch.equal(first.mean, again.mean) and first.captions == again.captions
    assert (first.std - 0.1).abs().max() < 1e-3
    with pytest.raises(ValueError, match="examples.safetensors holds 45 examples; asked for are 85: delete it"):
        make_examples(None, data, views=2, scenes=5, seed=0, path=path)
