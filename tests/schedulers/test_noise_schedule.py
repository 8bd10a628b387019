"""The noise levels: figures known from Stable Diffusion v1.5, the papers' formulas, and diffusers to the last bit."""

import math
import warnings

import diffusers
import numpy as np
import pytest
import torch

from ldm_tutorial.schedulers import COURSE, SCHEDULERS, make_scheduler
from ldm_tutorial.schedulers import noise_schedule as ns

DIFFUSERS = {name: getattr(diffusers, cls.__name__) for name, cls in SCHEDULERS.items()}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_v15_noise_levels_have_their_known_values(name):
    scheduler = make_scheduler(name)
    assert scheduler.alphas_cumprod.dtype == torch.float32
    assert scheduler.alphas_cumprod[0].item() == pytest.approx(0.99915, abs=1e-7)
    assert scheduler.alphas_cumprod[-1].item() == pytest.approx(0.0046601, abs=1e-7)
    assert scheduler.alphas_cumprod[-1].sqrt().item() == pytest.approx(0.06826, abs=1e-5)
    assert scheduler.sigma_at(0).item() == pytest.approx(0.029167, abs=1e-6)
    assert scheduler.sigma_at(999).item() == pytest.approx(14.61464, abs=1e-5)


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_noise_levels_equal_diffusers_bit_by_bit(name, schedule, rescale):
    if rescale and "rescale_betas_zero_snr" in SCHEDULERS[name].beyond_diffusers:
        pytest.skip("diffusers' class has no rescale_betas_zero_snr")
    settings = {
        "beta_start": 0.0007,
        "beta_end": 0.013,
        "beta_schedule": schedule,
        "prediction_type": "v_prediction",
        **({"rescale_betas_zero_snr": True} if rescale else {}),
    }
    ours, theirs = make_scheduler(name, **settings), DIFFUSERS[name](**settings)
    assert torch.equal(ours.betas, theirs.betas)
    assert torch.equal(ours.alphas_cumprod, theirs.alphas_cumprod)
    if hasattr(ours, "sigmas"):
        assert torch.equal(ours.sigmas.unique(), theirs.sigmas.unique())  # Heun's are there twice in diffusers


def test_scaled_linear_is_the_square_of_a_straight_line():
    betas = ns.scaled_linear_betas(1000, 0.00085, 0.012).double()
    assert betas[[0, -1]].tolist() == pytest.approx([0.00085, 0.012])
    assert betas.sqrt().diff().std() < 1e-7
    assert (betas - ns.linear_betas(1000, 0.00085, 0.012)).abs().max() > 1e-3  # the trap: not the straight line itself


def test_cosine_schedule_follows_its_equation_and_is_capped():
    betas = ns.cosine_betas(1000)
    assert betas.max().item() == pytest.approx(0.999)
    alpha_bar = (1 - betas.double()).cumprod(0)
    for t in (0, 250, 500, 900):  # eq. 17 of improved DDPM, where the papers' t is ours + 1
        f = [math.cos((s / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 for s in (t + 1, 0)]
        assert alpha_bar[t].item() == pytest.approx(f[0] / f[1], rel=1e-5)


def test_cosine_goes_by_both_of_its_names():
    by_either_name = [make_scheduler("ddim", beta_schedule=name) for name in ("cosine", "squaredcos_cap_v2")]
    assert torch.equal(by_either_name[0].betas, by_either_name[1].betas)
    assert by_either_name[0].to_config()["beta_schedule"] == "squaredcos_cap_v2"  # the name that diffusers reads


def test_zero_terminal_snr_leaves_no_picture_at_the_end_and_the_start_alone():
    betas = ns.scaled_linear_betas(1000, 0.00085, 0.012)
    before, after = (1 - betas).cumprod(0), (1 - ns.rescale_zero_terminal_snr(betas)).cumprod(0)
    assert after[-1] == 0
    assert after[0].item() == pytest.approx(before[0].item(), rel=1e-6)
    assert (after.diff() < 0).all()
    stretch = (after.sqrt() / (before.sqrt() - before[-1].sqrt()))[:-1]  # Algorithm 1 is linear in sqrt(ᾱ)
    assert stretch.max() - stretch.min() < 1e-4


# (spacing, n, timesteps): from running diffusers with v1.5's settings
DISCRETE = [
    ("leading", 20, range(951, 0, -50)),
    ("leading", 30, range(958, 0, -33)),
    ("trailing", 10, range(999, 0, -100)),
    ("linspace", 3, [999, 500, 0]),
]


@pytest.mark.parametrize("name", ["ddpm", "ddim"])
@pytest.mark.parametrize(("spacing", "n", "expected"), DISCRETE)
def test_discrete_timesteps_have_their_known_values(name, spacing, n, expected):
    scheduler = make_scheduler(name, timestep_spacing=spacing)
    scheduler.set_timesteps(n)
    assert scheduler.timesteps.tolist() == list(expected)
    assert scheduler.timesteps.dtype == torch.int64


@pytest.mark.parametrize("name", ["euler", "euler_a"])
def test_euler_timesteps_keep_their_fractions(name):
    scheduler = make_scheduler(name)
    scheduler.set_timesteps(20)
    assert scheduler.timesteps.tolist() == pytest.approx([999 - i * 999 / 19 for i in range(20)], abs=1e-4)
    assert scheduler.sigmas[[0, -2, -1]].tolist() == pytest.approx([14.61464, 0.029167, 0], abs=1e-5)


def test_karras_levels_have_their_known_values():
    scheduler = make_scheduler("euler", use_karras_sigmas=True)
    scheduler.set_timesteps(10)
    sigmas = [14.6146, 9.1029, 5.4784, 3.1686, 1.7494, 0.9141, 0.4469, 0.2014, 0.0819, 0.0292, 0]
    timesteps = [999, 916.28, 815.04, 687.15, 523.20, 327.15, 145.94, 40.86, 6.73, 0]
    assert scheduler.sigmas.tolist() == pytest.approx(sigmas, abs=1e-4)
    assert scheduler.timesteps.tolist() == pytest.approx(timesteps, abs=0.01)


@pytest.mark.parametrize("spacing", ns.SPACINGS)
@pytest.mark.parametrize("name", COURSE)
def test_timesteps_equal_diffusers_for_every_number_of_steps(name, spacing):
    ours = make_scheduler(name, timestep_spacing=spacing)
    theirs = DIFFUSERS[name](timestep_spacing=spacing, steps_offset=1)
    different = []
    for n in range(1, 1001):
        ours.set_timesteps(n)
        theirs.set_timesteps(n)
        if not np.array_equal(ours.timesteps.numpy(), theirs.timesteps.numpy()):
            different.append(n)
    if spacing == "linspace":
        assert different == [1]  # diffusers' one step is at t = 0, where there is no noise to take away
    elif spacing == "leading":  # 1: at t = 1; 1000: begins at t = 1000, which does not exist; the others: begin below t = 890
        assert different == [1, *(n for n in range(2, 1000) if 1000 % n > 100), 1000]
        assert not {*range(2, 102)} & {*different}
    else:
        for n in different:  # where diffusers takes n + 1 steps, the last of them at t = -1
            theirs.set_timesteps(n)
            ours.set_timesteps(n)
            assert theirs.timesteps[-1] == -1
            assert torch.equal(theirs.timesteps[:-1], ours.timesteps)


# ---- where a run begins: pure noise belongs at the end of training


@pytest.mark.parametrize("spacing", ns.SPACINGS)
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_single_step_begins_where_training_ended(name, spacing):
    for schedule in ns.BETA_SCHEDULES:
        scheduler = make_scheduler(name, timestep_spacing=spacing, beta_schedule=schedule)
        scheduler.set_timesteps(1)
        assert scheduler.timesteps.tolist() == [999]


@pytest.mark.parametrize("offset", [0, 1, 40])
@pytest.mark.parametrize("T", [1000, 500, 37])
@pytest.mark.parametrize("spacing", ns.SPACINGS)
def test_every_number_of_steps_begins_within_a_stride_and_a_tenth_of_the_end(spacing, T, offset):
    for n in range(1, T + 1):
        first = ns.spaced_timesteps(spacing, n, T, offset)[0]
        assert T - 1 - first <= T / n + T / 10, n


@pytest.mark.parametrize(("n", "first"), [(334, 998), (501, 999), (600, 999)])
def test_leading_timesteps_are_spread_over_all_of_training(n, first):
    """diffusers begins at 667, 501 and 600: it takes steps of 2, 1 and 1, and never sees the rest."""
    t = ns.spaced_timesteps("leading", n, 1000, steps_offset=1)
    assert (t[0], t[-1], len(set(t))) == (first, 1, n)
    assert {*np.diff(t)} == {-1, -2} if n > 500 else {*np.diff(t)} == {-2, -3}


@pytest.mark.parametrize("name", COURSE)
def test_a_start_where_pure_noise_does_not_belong_is_said_with_its_remedy(name):
    scheduler = make_scheduler(name, timestep_spacing="leading")
    with pytest.warns(
        UserWarning, match="begins at timestep 501 of 999, where the model expects 27% of the variance .* 'trailing'"
    ) as found:
        scheduler.set_timesteps(2)
    assert [warning.filename for warning in found] == [__file__]


@pytest.mark.parametrize("spacing", ns.SPACINGS)
@pytest.mark.parametrize("name", SCHEDULERS)
def test_nothing_is_said_of_a_start_that_is_right(name, spacing):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scheduler = make_scheduler(name, timestep_spacing=spacing)
        for n in (1, *range(3, 1001)):
            scheduler.set_timesteps(n)
            assert scheduler.alphas_cumprod[int(scheduler.timesteps[0])] < 1 / 8


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_new_scheduler_visits_every_training_timestep(name):
    assert list(dict.fromkeys(make_scheduler(name).timesteps.tolist())) == list(range(999, -1, -1))
