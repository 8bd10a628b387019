"""Sharpness, speckle, the way back from a noisy picture, and the distance of two samples."""

import pytest
import torch

from ldm_tutorial.evaluation.detail import WayBack, mean_gradient, speckle, taken_back
from ldm_tutorial.evaluation.drawing import Request, draw_all
from ldm_tutorial.evaluation.metrics import distance
from ldm_tutorial.evaluation.statistics import kernel_distance


def blurred(pictures):
    soft = torch.nn.functional.avg_pool2d(pictures.float(), 5, stride=1, padding=2, count_include_pad=False)
    return soft.round().byte()


def test_sharpness_is_the_mean_step_from_pixel_to_pixel():
    stripes = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    stripes[..., ::2] = 100  # each step across is 100, each step down 0
    assert mean_gradient(stripes).tolist() == [50.0]


def test_blur_makes_pictures_less_sharp_and_noise_sharper(small_data):
    pictures = small_data.pictures[:8]
    noise = 20 * torch.randn(pictures.shape, generator=torch.Generator().manual_seed(0))
    noisy = (pictures.float() + noise).clamp(0, 255).byte()
    assert (mean_gradient(blurred(pictures)) < mean_gradient(pictures)).all()
    assert (mean_gradient(noisy) > mean_gradient(pictures)).all()


def test_speckle_is_what_is_off_white_where_it_is_white_around(small_data):
    picture = torch.full((1, 3, 32, 32), 255, dtype=torch.uint8)
    assert speckle(picture) == 0
    picture[:, :, :, 16:] = 0  # something black is no speckle
    assert speckle(picture) == 0
    picture[:, :, ::4, ::4] = 245  # one pixel in sixteen is 10 levels off
    assert speckle(picture) == pytest.approx(10 / 16, rel=0.1)
    assert torch.tensor(speckle(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))).isnan()  # nothing is white


@pytest.fixture
def way(reference):
    return WayBack([reference.full(i) for i in reference.trained[:3]], strengths=(0.1, 0.4), guidance=(1.0, 7.5))


@pytest.fixture
def drawn(make_pipe, small_judge, way):
    return draw_all(make_pipe(), small_judge, way.requests(), progress=False)


def test_a_way_back_that_loses_nothing_loses_0_levels(make_pipe, small_data, way, drawn, monkeypatch):
    pipe, asked = make_pipe(), []

    def lossless(prompt, image, strength, **options):
        asked.append((prompt, strength, options["guidance_scale"], options["seed"], options["steps"], options["scheduler"]))
        return image

    monkeypatch.setattr(pipe, "img2img", lossless)
    numbers = [question.request.seed for question in way.questions]
    real = small_data.pictures[numbers]
    table = way.table(pipe, real, real, drawn)
    assert [[figure.value for figure in figures] for _, figures in table.rows] == [[0, 0, 0], [0, 0, 0]]
    captions = [small_data.entries[i].captions[0] for i in numbers]
    assert asked == [(captions, s, g, numbers, 50, "ddim") for g in (1.0, 7.5) for s in (0.1, 0.4)]


def test_what_is_lost_is_the_distance_to_the_reconstruction(make_pipe, small_data, way, drawn, monkeypatch):
    pipe = make_pipe()
    monkeypatch.setattr(pipe, "img2img", lambda prompt, image, strength, **options: image)
    real = small_data.pictures[[question.request.seed for question in way.questions]]
    table = way.table(pipe, real, 255 - real, drawn)
    expected = distance(real, 255 - real).mean().item()
    assert [figure.value for figure in table.rows[0][1]] == pytest.approx([expected] * 3)


def test_a_way_back_is_the_same_in_batches_and_at_once(make_pipe, small_data):
    pipe, pictures = make_pipe(), small_data.pictures[:3]
    requests = [Request(f"number {i}", seed=i) for i in range(3)]
    at_once = taken_back(pipe, pictures, requests, 0.3, 4.0)
    assert distance(at_once, taken_back(pipe, pictures, requests, 0.3, 4.0, batch_size=2)).max() < 1


# ---- kernel distance


def normal(n, mean=0.0, scale=1.0, seed=0):
    return mean + scale * torch.randn(n, 12, generator=torch.Generator().manual_seed(seed))


def test_the_kernel_distance_of_one_distribution_is_zero_on_average_however_few():
    few = [kernel_distance(normal(20, seed=2 * i), normal(20, seed=2 * i + 1)) for i in range(60)]
    mean = torch.tensor(few).mean()
    assert abs(mean) < 3 * torch.tensor(few).std() / 60**0.5


def test_another_mean_another_width_and_fewer_kinds_are_told():
    same = abs(kernel_distance(normal(200), normal(200, seed=1)))
    for other in (normal(200, mean=0.5, seed=1), normal(200, scale=1.5, seed=1), normal(4, seed=1).repeat(50, 1)):
        assert kernel_distance(normal(200), other) > 5 * same


def test_that_row_i_of_both_is_of_one_prompt_does_not_matter():
    own = normal(300, seed=5)
    assert abs(kernel_distance(own, own)) < 1e-9  # of other rows, the two are the same sample
    nearly = own + normal(300, scale=0.01, seed=6)
    assert abs(kernel_distance(own, nearly)) < 0.05


@pytest.mark.parametrize("shapes", [((1, 4), (1, 4)), ((3, 4), (3, 5)), ((4, 4), (3, 4)), ((3,), (3,))])
def test_samples_that_cannot_be_compared_are_named(shapes):
    with pytest.raises(ValueError, match="x and y must both be"):
        kernel_distance(*(torch.zeros(shape) for shape in shapes))
