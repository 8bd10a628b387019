"""Step by step against diffusers, over the grid of options, where diffusers is right. Where it is not, and is left out:

- DDIM takes t - 1000 // n for the next timestep, whatever `timesteps` says: right for "leading", and for "trailing" if n
  divides 1000 (diffusers#11347). Above n = 500 its last "leading" step goes to t = 0 instead of the end.
- DDPM with fixed_large noises the finished picture in its last step, if that is not at t = 0.
- Euler's churn raises x after the model has seen it: test_convergence.py holds ours against the truth instead.
- σ_down² = σ_next² - σ_up², and DDIM's 1 - α_prev - σ², cancel in float32 where noise falls steeply: at the top of the
  cosine schedule 4e-5 is wrong, or everything (NaN). Ours are float64; test_identities.py holds one against the other.
- get_velocity of Euler reads ᾱ at the position of t in `timesteps` instead of at t.
- spacings that begin too low or out of range: test_noise_schedule.py.
"""

import itertools

import diffusers
import pytest
import torch

from ldm_tutorial.schedulers import COURSE, SCHEDULERS, make_scheduler

DIFFUSERS = {name: getattr(diffusers, cls.__name__) for name, cls in SCHEDULERS.items()}
V15 = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
EXTRA = {"ddpm": {"clip_sample": False}, "ddim": {"clip_sample": False, "set_alpha_to_one": False}}


def reference(name, **settings):
    return DIFFUSERS[name](**V15 | EXTRA.get(name, {}) | settings)


def assert_same_steps(ours, theirs, n, pictures, seeded, eta=None):
    """Each step from an x of its own, so that no difference is carried along: equal to float32 rounding.

    In DDPM that is coarser: diffusers computes β = 1 - ᾱ / ᾱ_prev in float32, where it loses up to five digits.
    """
    tolerance = 2e-5 if isinstance(theirs, diffusers.DDPMScheduler) else 2e-6
    ours.set_timesteps(n)
    theirs.set_timesteps(n)
    assert torch.equal(ours.timesteps, theirs.timesteps) or torch.allclose(ours.timesteps, theirs.timesteps, atol=1e-3)
    assert float(ours.init_noise_sigma) == pytest.approx(float(theirs.init_noise_sigma), rel=1e-6)
    for i, t in enumerate(theirs.timesteps):
        x = ours.init_noise_sigma * pictures.roll(i)
        output = pictures.roll(2 * i + 1)
        their_input = theirs.scale_model_input(x, t)
        options = {} if eta is None else {"eta": eta}
        theirs_step = theirs.step(output, t, x, generator=seeded(3, i), **options)
        t = ours.timesteps[i]
        ours_step = ours.step(output, t, x, generator=seeded(3, i))
        torch.testing.assert_close(ours.scale_model_input(x, t), their_input, rtol=1e-5, atol=1e-6)
        for our, their in zip(ours_step, theirs_step.values(), strict=True):
            scale = their.abs().max().item()
            assert (our - their).abs().max().item() <= tolerance * scale, f"step {i}, t={t}"


PREDICTIONS = ["epsilon", "v_prediction"]
SCHEDULES = ["scaled_linear", "linear", "squaredcos_cap_v2"]
SPACINGS = ["leading", "linspace", "trailing"]
GRID = list(itertools.product(PREDICTIONS, SCHEDULES))


@pytest.mark.parametrize(("prediction", "schedule"), GRID)
@pytest.mark.parametrize(
    ("spacing", "variance"),
    [*((spacing, "fixed_small") for spacing in SPACINGS), ("leading", "fixed_large"), ("linspace", "fixed_large")],
)
def test_ddpm_steps_equal_diffusers(spacing, variance, prediction, schedule, pictures, seeded):
    settings = {"timestep_spacing": spacing, "prediction_type": prediction, "beta_schedule": schedule}
    settings |= {"variance_type": variance, "steps_offset": 0 if variance == "fixed_large" else 1}
    for n in (3, 20, 37):
        ours, theirs = make_scheduler("ddpm", **settings), reference("ddpm", **settings)
        assert_same_steps(ours, theirs, n, pictures, seeded)


@pytest.mark.parametrize(("prediction", "schedule"), GRID)
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("to_one", [False, True])
def test_ddim_steps_equal_diffusers(eta, to_one, prediction, schedule, pictures, seeded):
    settings = {"prediction_type": prediction, "beta_schedule": schedule, "set_alpha_to_one": to_one}
    for spacing, n in [("leading", 3), ("leading", 20), ("leading", 37), ("trailing", 10), ("trailing", 50)]:
        if eta == 1 and schedule == "squaredcos_cap_v2" and spacing == "trailing":
            continue  # diffusers is not exact there: see above
        settings["timestep_spacing"] = spacing
        ours, theirs = make_scheduler("ddim", eta=eta, **settings), reference("ddim", **settings)
        assert_same_steps(ours, theirs, n, pictures, seeded, eta)


@pytest.mark.parametrize(("prediction", "schedule"), GRID)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("karras", [False, True])
def test_euler_steps_equal_diffusers(karras, spacing, prediction, schedule, pictures, seeded):
    settings = {"timestep_spacing": spacing, "prediction_type": prediction, "beta_schedule": schedule}
    settings |= {"use_karras_sigmas": karras}
    for n in (3, 20, 37):
        assert_same_steps(make_scheduler("euler", **settings), reference("euler", **settings), n, pictures, seeded)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize(
    ("spacing", "schedule"),
    [*itertools.product(SPACINGS, ["scaled_linear", "linear"]), ("leading", "squaredcos_cap_v2")],
)
def test_euler_ancestral_steps_equal_diffusers(spacing, prediction, schedule, pictures, seeded):
    settings = {"timestep_spacing": spacing, "prediction_type": prediction, "beta_schedule": schedule}
    for n in (3, 20, 37):
        assert_same_steps(make_scheduler("euler_a", **settings), reference("euler_a", **settings), n, pictures, seeded)


@pytest.mark.parametrize("name", COURSE)
def test_zero_terminal_snr_steps_equal_diffusers(name, pictures, seeded):
    settings = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}
    assert_same_steps(make_scheduler(name, **settings), reference(name, **settings), 20, pictures, seeded)


@pytest.mark.parametrize("name", COURSE)
def test_a_thousand_steps_equal_diffusers(name, pictures, seeded):
    settings = {"steps_offset": 0}  # with 1, diffusers' first timestep would be 1000
    assert_same_steps(make_scheduler(name, **settings), reference(name, **settings), 1000, pictures, seeded)


@pytest.mark.parametrize("name", COURSE)
def test_a_whole_run_with_v15_defaults_equals_diffusers(name, model, pictures, seeded):
    ours, theirs = make_scheduler(name), reference(name)
    results = []
    for scheduler in (ours, theirs):
        scheduler.set_timesteps(25)
        x, generators = scheduler.init_noise_sigma * pictures, seeded(3)
        for t in scheduler.timesteps:
            output = model(scheduler.scale_model_input(x, t), t)
            x = scheduler.step(output, t, x, generator=generators).prev_sample
        results.append(x)
    scale = results[1].abs().max()
    assert (results[0] - results[1]).abs().max() <= 1e-4 * scale


@pytest.mark.parametrize("name", COURSE)
def test_add_noise_equals_diffusers(name, pictures):
    x0, noise = pictures, pictures.roll(1)
    ours, theirs = make_scheduler(name), reference(name)
    t = torch.tensor([0, 500, 999])  # training: any timestep, before set_timesteps
    torch.testing.assert_close(ours.add_noise(x0, noise, t), theirs.add_noise(x0, noise, t))
    ours.set_timesteps(20)
    theirs.set_timesteps(20)
    t = ours.timesteps[[3, 10, 19]]  # sampling: image to image
    torch.testing.assert_close(ours.add_noise(x0, noise, t), theirs.add_noise(x0, noise, t))


@pytest.mark.parametrize("name", ["ddpm", "ddim"])
def test_get_velocity_equals_diffusers(name, pictures):
    t = torch.tensor([0, 500, 999])
    ours, theirs = (s.get_velocity(pictures, pictures.roll(1), t) for s in (make_scheduler(name), reference(name)))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", ["euler", "euler_a"])
def test_get_velocity_is_the_same_in_sigma_space(name, pictures):
    t = torch.tensor([0, 500, 999])
    ours, ddpm = (s.get_velocity(pictures, pictures.roll(1), t) for s in (make_scheduler(name), make_scheduler("ddpm")))
    torch.testing.assert_close(ours, ddpm)
