"""What is measured without the judge: reconstruction, memorization, interpolation."""

import numpy as np
import pytest
import torch
from PIL import Image

from ldm_tutorial.evaluation.autoencoder import encode_and_decode, measure_autoencoder, white_near_and_far
from ldm_tutorial.evaluation.interpolation import between_prompts, between_seeds, largest_jump, slerp
from ldm_tutorial.evaluation.memorization import copy_ratio, memorization_figures, nearest, seed_figures
from ldm_tutorial.evaluation.metrics import decibels, distance


def values(figures):
    return {figure.key.split(".")[-1]: figure.value for figure in figures}


def noisy(pictures, levels, seed=0):
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(seed))
    return (pictures.float() + levels * noise).round().clamp(0, 255).byte()


# ---- the autoencoder


def test_a_perfect_autoencoder_has_nothing_to_report(small_data):
    pictures = small_data.pictures[:6]
    found = values(measure_autoencoder(pictures, torch.randn(6, 4, 16, 16), pictures))
    assert found["psnr"] > 60 and found["color_shift"] == found["halo"] == found["white"] == 0


def test_decibels_follow_the_error(small_data):
    pictures = torch.full((2, 3, 8, 8), 100, dtype=torch.uint8)
    assert decibels(pictures, pictures + 10).tolist() == pytest.approx([28.13, 28.13], abs=0.01)  # 20 log10(255 / 10)


def test_a_halo_is_told_from_a_gray_background():
    picture = torch.full((1, 3, 32, 32), 255, dtype=torch.uint8)
    picture[:, :, 12:20, 12:20] = 0
    near, far = white_near_and_far(picture)
    assert near.sum() == 14 * 14 - 8 * 8 and far.sum() == 32 * 32 - 14 * 14
    halo = picture.clone()
    halo[:, 1][near] = 245
    found = values(measure_autoencoder(picture, torch.zeros(1, 4, 8, 8), halo))
    assert found["halo"] == pytest.approx(10) and found["white"] == 0


def test_a_color_shift_is_measured_where_there_is_color():
    picture = torch.full((1, 3, 32, 32), 255, dtype=torch.uint8)
    picture[:, :, 8:24, 8:24] = 100
    red = picture.clone()
    red[:, 0, 8:24, 8:24] = 104
    assert values(measure_autoencoder(picture, torch.zeros(1, 4, 8, 8), red))["color_shift"] == pytest.approx(4)


def test_a_picture_of_nothing_but_ink_has_no_white_to_measure():
    black = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    found = measure_autoencoder(black, torch.zeros(1, 4, 4, 4), black)
    assert {figure.text() for figure in found if figure.key in ("autoencoder.halo", "autoencoder.white")} == {"not measured"}


def test_reconstructing_is_what_the_pipeline_does(make_pipe, small_data):
    pipe, pictures = make_pipe(), small_data.pictures[:5]
    latents, decoded = encode_and_decode(pipe, pictures, batch_size=2)
    expected = pipe.encode(pictures.float() / 127.5 - 1)
    assert torch.allclose(latents, expected, atol=1e-4)
    assert np.abs(np.asarray(pipe.decode(expected)[4]).astype(int) - decoded[4].permute(1, 2, 0).numpy()).max() <= 1


# ---- memorization


def test_the_nearest_picture_is_found_and_its_distance_is_in_levels(small_data):
    pictures = small_data.pictures
    found, chosen = nearest(noisy(pictures[[5, 3, 20]], 4), pictures, batch_size=2)
    assert chosen.tolist() == [5, 3, 20]
    assert found.tolist() == pytest.approx([3.3, 3.3, 3.3], abs=0.8)  # white and black cut the noise off


def test_a_reconstruction_has_ratio_one_and_a_new_picture_a_large_one(small_data):
    pictures, half = small_data.pictures, len(small_data) // 3 * 3 // 2 // 3 * 3

    def blurred(some):
        return noisy(some, 6, seed=1)

    known = pictures[:half]
    ratios, chosen = copy_ratio(noisy(known, 6, seed=1), known, blurred)
    assert torch.equal(chosen, torch.arange(half)) and ratios.tolist() == pytest.approx([1] * half, abs=0.05)
    fresh, _ = copy_ratio(pictures[half:], known, blurred)  # other subjects
    assert fresh.median() > 5
    figures = values(memorization_figures("trained", "pairs", torch.cat([ratios, fresh]), torch.ones(len(pictures)).bool()))
    assert figures["trained"] == 1.0  # the last of three of this name: all were of the subject asked for
    assert memorization_figures("trained", "pairs", ratios, ratios > 0)[0].value == 1
    assert memorization_figures("trained", "pairs", fresh, fresh > 0)[0].value < 0.2


def test_seeds_that_change_nothing_have_no_diversity(small_data):
    same = [small_data.pictures[i].expand(4, 3, 64, 64) for i in (0, 9)]
    figures = {figure.key: figure.value for figure in seed_figures(same)}
    assert figures["diversity.seeds"] == 0
    assert figures["diversity.prompts"] == pytest.approx(distance(same[0], same[1])[0].item())


# ---- interpolation


def test_slerp_ends_at_its_ends_and_keeps_the_length():
    a, b = torch.randn(2, 1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    b = b * a.norm() / b.norm()
    assert torch.allclose(slerp(a, b, 0.0), a, atol=1e-5) and torch.allclose(slerp(a, b, 1.0), b, atol=1e-5)
    assert slerp(a, b, 0.4).norm().item() == pytest.approx(a.norm().item(), rel=1e-4)
    assert torch.equal(slerp(a, a, 0.3), a)


def test_a_path_begins_and_ends_with_what_the_pipeline_draws(tiny_pipe):
    def pixels(pictures):
        return np.stack([np.asarray(picture) for picture in pictures]).astype(int)

    ends = tiny_pipe(["a cat", "a dog"], seed=[7, 7], progress=False)
    path = between_prompts(tiny_pipe, "a cat", "a dog", seed=7, count=3)
    assert np.abs(pixels([path[0], path[-1]]) - pixels(ends)).max() <= 1
    ends = tiny_pipe(["a cat", "a cat"], seed=[7, 8], progress=False)
    path = between_seeds(tiny_pipe, "a cat", 7, 8, count=3)
    assert np.abs(pixels([path[0], path[-1]]) - pixels(ends)).max() <= 1
    assert np.abs(pixels(path)[1] - pixels(path)[0]).max() > 1


def test_a_jump_is_told_from_an_even_way():
    grays = [Image.new("RGB", (8, 8), (level,) * 3) for level in (0, 50, 100, 150, 200)]
    assert largest_jump(grays) == pytest.approx(0.25)
    assert largest_jump([grays[0]] * 2 + [grays[4]] * 3) == 1
    assert largest_jump([grays[0]] * 3) == 0
