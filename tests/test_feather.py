"""The edge of what is inpainted, blended: no pixel outside of the mask changes, and the step in color at the edge is smaller."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from ldm_tutorial.images import feathered, read_settings, save_image
from ldm_tutorial.inputs import Options

QUICK = {"steps": 3, "seed": 2, "progress": False}


def picture(width=64, height=48):
    """Smooth, so that an edge is one of the painting."""
    ramp = np.linspace(60, 180, width)[None, :, None] + np.linspace(0, 40, height)[:, None, None] + np.zeros(3)
    return Image.fromarray(ramp.astype(np.uint8))


def right_part(width=64, height=48, first=24):
    mask = Image.new("L", (width, height))
    mask.paste(255, (first, 0, width, height))
    return mask


def levels(image):
    return np.asarray(image, dtype=np.int16)


def test_the_edge_rises_evenly_inside_of_the_mask():
    mask = torch.zeros(1, 1, 3, 10)
    mask[..., 4:] = 1
    assert feathered(mask, 3)[0, 0, 1].tolist() == [0, 0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1]  # the picture's own border is no edge
    assert torch.equal(feathered(mask, 0), mask)


@given(st.integers(0, 6), st.integers(0, 2**30))
@settings(deadline=None, max_examples=40)
def test_what_is_0_stays_0_for_any_mask_and_width(width, seed):
    mask = (torch.rand(1, 1, 9, 12, generator=torch.Generator().manual_seed(seed)) > 0.3).float()
    soft = feathered(mask, width)
    assert (soft[mask == 0] == 0).all() and (soft[mask == 1] > 0).all() and (soft <= 1).all()
    assert torch.equal(feathered(mask, width + 1) <= soft + 1e-6, torch.ones_like(mask, dtype=torch.bool))  # wider is softer
    assert (feathered(torch.ones(1, 1, 9, 12), width) == 1).all()


@pytest.mark.parametrize("feather", [0, 1, 5, 12])
def test_pixels_outside_of_the_mask_are_those_of_the_picture(tiny_pipe, feather):
    image, mask = picture(), Image.new("L", (64, 48))
    ImageDraw.Draw(mask).ellipse((13, 7, 50, 41), fill=255)
    [painted] = tiny_pipe.inpaint("a cat", image, mask, feather=feather, **QUICK)
    outside = np.asarray(mask) == 0
    assert np.array_equal(levels(painted)[outside], levels(image)[outside])
    assert (levels(painted) != levels(image)).any(-1)[~outside].mean() > 0.9


def test_the_step_across_the_edge_falls_with_the_width(tiny_pipe):
    """The largest change from a column to the next, near the edge, beyond that of the picture and of the painting."""
    image, mask = picture(), right_part()
    steps = []
    for feather in (0, 3, 8):
        [painted] = tiny_pipe.inpaint("a cat", image, mask, feather=feather, **QUICK)
        across = np.abs(np.diff(levels(painted), axis=1)).mean((0, 2))  # (63,)
        steps.append(across[23])  # from the last column outside to the first inside
    assert steps[0] > 10 and steps[1] < steps[0] / 2 and steps[2] < steps[1]


def test_the_middle_is_painted_as_without(tiny_pipe):
    image, mask = picture(), right_part()
    plain, soft = (levels(tiny_pipe.inpaint("a cat", image, mask, feather=n, **QUICK)[0]) for n in (0, 6))
    assert np.array_equal(plain[:, 24 + 6 :], soft[:, 24 + 6 :]) and (plain != soft)[:, 24:30].any()


def test_a_mask_narrower_than_the_edge_is_painted_thinly(tiny_pipe):
    image, mask = picture(), Image.new("L", (64, 48))
    mask.paste(255, (20, 0, 24, 48))
    [painted] = tiny_pipe.inpaint("a cat", image, mask, feather=9, **QUICK)
    changed = np.abs(levels(painted) - levels(image)).sum((0, 2)) > 0
    assert changed[20:24].all() and not changed[:20].any() and not changed[24:].any()


def test_the_picture_says_so(tiny_pipe, tmp_path):
    image, mask = picture(), right_part()
    kept = read_settings(save_image(tiny_pipe.inpaint("a cat", image, mask, feather=4, **QUICK)[0], tmp_path / "a.png"))
    assert kept["feather"] == 4
    assert "feather" not in tiny_pipe.inpaint("a cat", image, mask, **QUICK)[0].info


@pytest.mark.parametrize(("feather", "message"), [(-1, "feather=-1 must be a whole"), (1.5, "feather=1.5 must be a whole")])
def test_a_wrong_width_is_named(tiny_pipe, feather, message):
    with pytest.raises((TypeError, ValueError), match=message):
        tiny_pipe.inpaint("a cat", picture(), right_part(), feather=feather)


def test_without_a_mask_there_is_no_edge(tiny_pipe):
    with pytest.raises(ValueError, match="feather=4 needs a mask"):
        tiny_pipe.prepare("a cat", Options(), picture(), feather=4)
