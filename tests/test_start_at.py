"""`start_at`: redrawing a picture begins at a noise level that is the same for every scheduler, spacing and number of steps."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ldm_tutorial.images import read_settings, save_image
from ldm_tutorial.inputs import Options, choose_scheduler, timesteps_from, timesteps_to_visit
from ldm_tutorial.pipeline import first_latents
from ldm_tutorial.schedulers import SCHEDULERS, DDIMScheduler, DDPMScheduler, make_scheduler

SPACINGS = st.sampled_from(["leading", "linspace", "trailing"])
KARRAS = ("euler", "heun", "dpmpp_2m")  # those that can space their levels so


def signal_and_noise(inputs):
    """How much of the picture, and how much noise, the loop begins with, at a scale where their squares add to 1."""
    picture, noise = torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 2, 2)
    picture[:, 0], noise[:, 1] = 1, 1
    start = first_latents(inputs, noise, picture)
    return torch.stack([start[0, 0, 0, 0], start[0, 1, 0, 0]]) / start[0, :2, 0, 0].norm()


@given(st.integers(0, 999), st.integers(1, 200), SPACINGS, st.booleans())
@settings(deadline=None, max_examples=40)
def test_the_noise_level_is_the_same_for_all_schedulers_spacings_and_numbers_of_steps(tiny_pipe, t, steps, spacing, karras):
    alpha_bar = DDPMScheduler().alphas_cumprod[t].double()
    expected = torch.stack([alpha_bar.sqrt(), (1 - alpha_bar).sqrt()]).float()
    image = Image.new("RGB", (32, 32))
    for name in SCHEDULERS:
        own = {"timestep_spacing": spacing} | ({"use_karras_sigmas": True} if karras and name in KARRAS else {})
        inputs = tiny_pipe.prepare("a cat", Options(scheduler=name, scheduler_options=own, steps=steps), image, start_at=t)
        torch.testing.assert_close(signal_and_noise(inputs), expected, rtol=1e-4, atol=1e-6)
        levels = inputs.scheduler.sigma_at(inputs.timesteps).tolist()
        assert levels[0] == pytest.approx(math.sqrt((1 - alpha_bar) / alpha_bar), rel=1e-4)
        assert levels == sorted(levels, reverse=True) and 1 <= len(levels) <= inputs.scheduler.evaluations_per_step * (steps + 1)


@pytest.mark.parametrize("name", [*SCHEDULERS])
def test_the_other_levels_are_those_that_the_scheduler_visits_below_it(name):
    scheduler, whole = make_scheduler(name), make_scheduler(name)
    whole.set_timesteps(20)
    taken = timesteps_from(scheduler, 20, 500).tolist()
    below = [t for t in whole.timesteps.tolist() if t <= 499]
    repeated = scheduler.evaluations_per_step
    assert taken == ([500] + below if repeated == 1 else [500] + [t for t in sorted({*below}, reverse=True) for _ in (0, 1)])


def test_strength_is_a_share_of_the_steps_and_means_another_level_for_each_spacing():
    """What `start_at` is for."""
    first = {name: timesteps_to_visit(make_scheduler(name), 10, 0.5)[0].item() for name in ("ddim", "euler")}
    assert first["ddim"] != pytest.approx(first["euler"], abs=30)
    assert {timesteps_from(make_scheduler(name), n, 450)[0].item() for name in SCHEDULERS for n in (3, 10, 40)} == {450}


@pytest.mark.parametrize("name", [*SCHEDULERS])
def test_a_run_from_there_ends_in_a_picture_near_the_one_that_was_given(tiny_pipe, name):
    """Nothing is missing at the end, and the less noise, the nearer."""
    image = Image.linear_gradient("L").resize((32, 32)).convert("RGB")
    known = tiny_pipe.encode(image)
    apart = []
    for t in (0, 150, 950):
        *_, last = tiny_pipe.stream("a cat", image, start_at=t, scheduler=name, steps=12, guidance_scale=1)
        assert last.latents.isfinite().all()
        apart.append((last.latents - known).abs().mean().item())
    assert apart[0] < apart[1] < apart[2]


def test_a_full_run_from_the_first_level_is_that_of_strength_1(tiny_pipe):
    image = Image.new("RGB", (32, 32), "teal")
    options = {"scheduler": "euler", "steps": 6, "seed": 3}
    *_, whole = tiny_pipe.stream("a cat", image, strength=1.0, **options)
    *_, same = tiny_pipe.stream("a cat", image, start_at=999, **options)
    assert torch.equal(whole.latents, same.latents)


def test_inpainting_from_there_begins_with_the_picture(tiny_pipe):
    image, mask = Image.new("RGB", (32, 32), "teal"), Image.new("L", (32, 32), 255)
    assert tiny_pipe.prepare("a cat", Options(), image, mask).from_noise
    inputs = tiny_pipe.prepare("a cat", Options(), image, mask, start_at=700)
    assert not inputs.from_noise and inputs.timesteps[0] == 700
    assert tiny_pipe.inpaint("a cat", image, mask, start_at=300, steps=3, progress=False)[0].info["start_at"] == 300


def test_the_picture_says_where_it_began(tiny_pipe, tmp_path):
    image = Image.new("RGB", (32, 32), "teal")
    [picture] = tiny_pipe.img2img("a cat", image, start_at=400, steps=3, progress=False)
    kept = read_settings(save_image(picture, tmp_path / "cat.png"))
    assert kept["start_at"] == 400 and "strength" not in kept
    assert "start_at" not in tiny_pipe.img2img("a cat", image, steps=3, progress=False)[0].info


def test_a_scheduler_of_the_users_own_stays_as_it_is(tiny_pipe):
    scheduler, image = DDIMScheduler(), Image.new("RGB", (32, 32))
    tiny_pipe.img2img("a cat", image, start_at=400, scheduler=scheduler, steps=3, progress=False)
    assert scheduler.start_at is None and len(scheduler.timesteps) == 1000
    scheduler.start_at = 300
    assert choose_scheduler(scheduler, Options(scheduler=scheduler)).start_at is None
    assert "start_at" not in scheduler.to_config()


@pytest.mark.parametrize(
    ("start_at", "message"),
    [
        (1000, r"start_at=1000 must be a whole number, 0 \.\.\. 999"),
        (-1, "start_at=-1 must be a whole number"),
        (0.5, "start_at=0.5 must be a whole number"),
        ("much", "start_at='much' must be a whole number"),
    ],
)
def test_a_wrong_level_is_named(tiny_pipe, start_at, message):
    with pytest.raises((TypeError, ValueError), match=message):
        tiny_pipe.img2img("a cat", Image.new("RGB", (32, 32)), start_at=start_at)


def test_without_a_picture_there_is_nothing_to_begin_from(tiny_pipe):
    with pytest.raises(ValueError, match="start_at=400 needs an image"):
        tiny_pipe.prepare("a cat", Options(), start_at=400)


@pytest.mark.parametrize("name", ["flow_euler", "flow_heun"])
@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize(("t", "steps"), [(0, 4), (1, 9), (450, 1), (450, 30), (999, 7), (1000, 7)])
def test_on_the_straight_path_of_flow_matching_it_is_the_share_of_noise(name, shift, t, steps):
    scheduler = make_scheduler(name, shift=shift)
    times = timesteps_from(scheduler, steps, t)
    assert times[0].item() == pytest.approx(t, abs=1e-3) and times.tolist() == sorted(times.tolist(), reverse=True)
    picture, noise = torch.full((1, 1, 1, 1), 2.0), torch.full((1, 1, 1, 1), 5.0)
    x = scheduler.add_noise(picture, noise, times[0])
    assert x.item() == pytest.approx((1 - t / 1000) * 2 + t / 1000 * 5, abs=1e-4)
    for time in times:  # the true velocity leads back to the picture
        x = scheduler.step(noise - picture, time, x).prev_sample
    assert x.item() == pytest.approx(2, abs=1e-3)
