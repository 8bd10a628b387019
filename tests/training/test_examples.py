"""What the U-Net learns from: each example is the picture that its captions name."""

import io
import math
from functools import partial

import pytest
import torch
from PIL import Image

from ldm_tutorial.data import EmojiDataset, scenes
from ldm_tutorial.data.dataset import EmojiEntry
from ldm_tutorial.data.scenes import caption_of, draw_scenes
from ldm_tutorial.images import to_unit_range
from ldm_tutorial.training.augment import jitter
from ldm_tutorial.training.compute import Compute
from ldm_tutorial.training.examples import compose_scenes, digest_of, make_examples
from ldm_tutorial.vae import DiagonalGaussian

examples_of = partial(make_examples, compute=Compute("no"))


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
    examples = examples_of(encode, data, views=2, scenes=10, seed=3)
    assert len(examples) == len(examples.mean) == len(examples.std) == 90
    pictures = thumbnails(data.pictures.float() / 127.5 - 1)
    assert (examples.mean[:40].float() - pictures).abs().max() < 0.01
    assert examples.captions[:40] == examples.captions[40:80] == [entry.captions for entry in data.entries]
    composed = compose_scenes(data, 10, seed=3)
    assert (examples.mean[80:].float() - thumbnails(draw_scenes(composed, data.layers, 128))).abs().max() < 0.01
    for scene, (full, without) in zip(composed, examples.captions[80:]):
        assert (full, without) == (caption_of(scene, data.entries), caption_of(scene, data.entries, style=False))


def test_further_views_are_the_same_pictures_moved_a_little_and_not_mirrored(data):
    mean = examples_of(encode, data, views=3, scenes=0, seed=0).mean.float()
    first, second, third = mean.split(40)

    def difference(a, b):
        return (a - b).abs().flatten(1).mean(dim=1)  # (n, 3, h, w) twice -> (n,)

    uneven = difference(first, first.flip(-1)) > 0.2  # left and right differ: one can see whether it is mirrored
    assert uneven.sum() >= 8
    for view in (second, third):
        assert (difference(view, first) > 0).all()
        assert difference(view, first).mean() < difference(first.roll(1, dims=0), first).mean()
        assert (difference(view, first) < difference(view, first.flip(-1)))[uneven].all()
    assert (second != third).any()


def nothing(pictures):
    pytest.fail("what is kept was encoded again")


def test_what_was_encoded_is_read_again(data, tmp_path):
    path = tmp_path / "examples.safetensors"
    first = examples_of(encode, data, views=1, scenes=5, seed=0, encoder="a", path=path)
    again = examples_of(nothing, data, views=1, scenes=5, seed=0, encoder="a", path=path)
    assert torch.equal(first.mean, again.mean) and torch.equal(first.std, again.std) and first.captions == again.captions
    assert (first.std - 0.1).abs().max() < 1e-3


@pytest.mark.parametrize("change", [{"encoder": "b"}, {"views": 2}, {"scenes": 6}, {"seed": 1}, {"data": 39}])
def test_what_is_kept_of_another_encoder_or_of_other_examples_is_encoded_anew(data, tmp_path, change):
    path = tmp_path / "examples.safetensors"
    of = {"views": 1, "scenes": 5, "seed": 0, "encoder": "a", "path": path}
    examples_of(lambda pictures: encode(255 - pictures), data, **of)
    if "data" in change:
        fewer = EmojiDataset("train", "blob")
        fewer.entries = data.entries[: change["data"]]
        data, change = fewer, {}
    found = examples_of(encode, data, **(of | change))
    expected = examples_of(encode, data, **(of | change | {"path": None}))
    assert torch.equal(found.mean, expected.mean) and found.captions == expected.captions
    again = examples_of(nothing, data, **(of | change))  # and it is kept
    assert torch.equal(again.mean, expected.mean)


CHANGES = {  # of the code that composes scenes and of the code that draws them: in the module data.scenes
    "size of a small thing": ("SMALL", 0.4),
    "color of a subject": ("tinted", lambda picture, tint: 1 - picture[:3]),
    "resizing": ("resample", lambda x, side: torch.nn.functional.interpolate(x, (side, side))),
}


@pytest.mark.parametrize("change", CHANGES)
def test_scenes_that_are_composed_or_drawn_in_another_way_are_encoded_anew(data, tmp_path, monkeypatch, change):
    path = tmp_path / "examples.safetensors"
    of = {"views": 1, "scenes": 20, "seed": 0, "encoder": "a", "path": path}
    before = examples_of(encode, data, **of)
    monkeypatch.setattr(scenes, *CHANGES[change])
    after = examples_of(encode, data, **of)
    assert torch.equal(after.mean[:40], before.mean[:40]) and not torch.equal(after.mean[40:], before.mean[40:])
    assert torch.equal(examples_of(nothing, data, **of).mean, after.mean)


def test_pictures_that_are_moved_in_another_way_are_encoded_anew(data, tmp_path, monkeypatch):
    of = {"views": 2, "scenes": 0, "seed": 0, "encoder": "a", "path": tmp_path / "examples.safetensors"}
    before = examples_of(encode, data, **of)
    monkeypatch.setattr("ldm_tutorial.training.examples.jitter", partial(jitter, shift=0.2))
    after = examples_of(encode, data, **of)
    assert torch.equal(after.mean[:40], before.mean[:40]) and not torch.equal(after.mean[40:], before.mean[40:])
    assert torch.equal(examples_of(nothing, data, **of).mean, after.mean)


def test_a_data_set_of_as_many_other_pictures_is_encoded_anew(data, tmp_path):
    """As after a new drawing of one emoji: entries and captions stay what they were."""
    of = {"views": 1, "scenes": 0, "seed": 0, "encoder": "a", "path": tmp_path / "examples.safetensors"}
    examples_of(encode, data, **of)
    redrawn = EmojiDataset("train", "blob")
    redrawn.entries = [Redrawn(*data.entries[0]), *data.entries[1:]]
    assert redrawn.entries == data.entries
    found = examples_of(encode, redrawn, **of).mean.float()
    assert (found[0] - thumbnails(to_unit_range(redrawn.pictures[:1]))).abs().max() < 0.01


class Redrawn(EmojiEntry):
    """The same entry with another picture."""

    @property
    def file(self):
        file = io.BytesIO()
        Image.new("RGBA", (128, 128), "red").save(file, "webp", lossless=True)
        return file.getvalue()


def test_a_leftover_that_is_no_file_of_tensors_is_replaced(data, tmp_path):
    path = tmp_path / "examples.safetensors"
    path.write_text("an interrupted download")
    examples_of(encode, data, views=1, scenes=0, seed=0, encoder="a", path=path)
    examples_of(nothing, data, views=1, scenes=0, seed=0, encoder="a", path=path)


def test_a_digest_tells_an_encoder_from_one_that_differs_in_one_weight():
    layers = [torch.nn.Conv2d(3, 4, 3) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    assert digest_of(layers[0]) == digest_of(layers[1])
    with torch.no_grad():
        a, b = layers[1].weight[0, 0, 0, :2].tolist()
        layers[1].weight[0, 0, 0, :2] = torch.tensor([b, a])  # the sum stays
    assert digest_of(layers[0]) != digest_of(layers[1])
