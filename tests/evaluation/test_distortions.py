"""Distortions: the same numbers from the same seed, bounded, and harmless where nothing is asked."""

import pytest
import torch

from ldm_tutorial.evaluation.distortions import (
    add_noise,
    blur,
    distort,
    distort_levels,
    distort_slightly,
    erase,
    move,
    recolor,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def pictures(small_data):
    return small_data.pictures[:9].float() / 127.5 - 1


@pytest.mark.parametrize("change", [move, recolor, blur, add_noise, erase, distort, distort_slightly])
def test_each_changes_pictures_as_its_seed_says(pictures, change):
    before = pictures.clone()
    changed = change(pictures, generator(1))
    assert changed.shape == pictures.shape and torch.equal(pictures, before)
    assert torch.equal(changed, change(pictures, generator(1)))
    assert not torch.equal(changed, change(pictures, generator(2)))


def test_what_comes_out_is_a_picture(pictures):
    extreme = torch.cat([pictures, torch.ones(5, 3, 64, 64), -torch.ones(5, 3, 64, 64)])
    changed = distort(extreme, generator())
    assert changed.isfinite().all() and changed.abs().max() <= 1


def test_slightly_is_less(pictures):
    strongly, slightly = (
        float((change(pictures, generator()) - pictures).abs().mean()) for change in (distort, distort_slightly)
    )
    assert 0 < slightly < strongly / 2


def test_white_stays_white_when_moved():
    white = torch.ones(7, 3, 64, 64)
    assert torch.equal(move(white, generator(), shift=0.3, scale=0.5, degrees=90), white)


def test_moving_by_nothing_changes_nothing(pictures):
    assert torch.allclose(move(pictures, generator(), shift=0, scale=0, degrees=0), pictures, atol=1e-4)


def test_pictures_are_not_mirrored():
    """A dark left half stays on the left."""
    half = torch.ones(64, 3, 64, 64)
    half[:, :, :, :32] = -1
    moved = move(half, generator())
    assert (moved[..., :32].mean(dim=(1, 2, 3)) < moved[..., 32:].mean(dim=(1, 2, 3)) - 1).all()


def test_a_blur_keeps_plain_areas_and_takes_contrast(pictures):
    plain = torch.full((6, 3, 64, 64), 0.3)
    assert torch.allclose(blur(plain, generator()), plain, atol=1e-5)
    assert (blur(pictures, generator()).std(dim=(1, 2, 3)) <= pictures.std(dim=(1, 2, 3)) + 1e-5).all()


def test_at_most_a_sixth_is_erased(pictures):
    changed = (erase(pictures, generator(3)) != pictures).any(dim=1).float().mean(dim=(1, 2))
    assert 0 < changed.max() <= 0.4**2 + 0.02
    assert (changed == 0).any()


def test_levels_are_distorted_as_pictures_are(small_data):
    levels = small_data.pictures[:4]
    expected = ((distort(levels.float() / 127.5 - 1, generator()) + 1) * 127.5).round()
    assert torch.equal(distort_levels(levels, generator()).float(), expected)
