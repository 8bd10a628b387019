"""From one scheduler to another in the middle of a run: a switch that changes nothing changes nothing, and levels are exact."""

import copy
import itertools
import math

import pytest
import torch

from ldm_tutorial.schedulers import FLOW_SCHEDULERS, SCHEDULERS, make_scheduler, noise_schedule
from ldm_tutorial.schedulers.spaces import VEScheduler
from ldm_tutorial.schedulers.switching import enter, most_steps, rewrite, switch_scheduler

N = 20
GRID = {"timestep_spacing": "trailing"}  # 999, 949 ... 49: whole numbers, for all schedulers the same
ALL = [*SCHEDULERS, *FLOW_SCHEDULERS]
NO_MEMORY = ("ddpm", "ddim", "euler", "euler_a", "flow_euler")
NOISY = ("ddpm", "euler_a")


def planned(name, n=N, **settings):
    spaced = {} if name in FLOW_SCHEDULERS else GRID
    scheduler = make_scheduler(name, **(spaced | settings))
    scheduler.set_timesteps(n)
    return scheduler


def go(scheduler, x, model, generators, timesteps=None):
    """Every x after each evaluation."""
    path = []
    for t in scheduler.timesteps if timesteps is None else timesteps:
        x = scheduler.step(model(scheduler.scale_model_input(x, t), t), t, x, generators).prev_sample
        path.append(x)
    return path


def largest(x, other):
    """The largest difference, relative to the largest number."""
    return ((x - other).abs().max() / other.abs().max()).item()


# ---- a switch that changes nothing


@pytest.mark.parametrize("done", [1, 7, 12, 19])
@pytest.mark.parametrize("name", ALL)
def test_a_copy_goes_on_as_the_run_did(name, done, model, pictures, seeded):
    """With what it keeps of earlier steps and the noise of later ones: also in the middle of Heun's steps."""
    scheduler, generators = planned(name), seeded(3)
    start = scheduler.init_noise_sigma * pictures
    whole = go(scheduler, start, model, generators)

    scheduler, generators = planned(name), seeded(3)
    here = go(scheduler, start, model, generators, scheduler.timesteps[:done])[-1]
    states = [generator.get_state() for generator in generators]
    branch = copy.deepcopy(scheduler)
    go(scheduler, here, model, generators, scheduler.timesteps[done:])  # the run ends, and takes its noise
    for generator, state in zip(generators, states):
        generator.set_state(state)
    assert torch.equal(go(branch, here, model, generators, branch.timesteps[done:])[-1], whole[-1])


@pytest.mark.parametrize("done", [1, 8, 15, 19])
@pytest.mark.parametrize("name", ALL)
def test_entered_at_a_level_of_its_own_it_takes_the_steps_that_were_left(name, done, model, pictures, seeded):
    scheduler, generators = planned(name), seeded(3)
    evaluations = done * scheduler.evaluations_per_step  # of whole steps
    path = go(scheduler, scheduler.init_noise_sigma * pictures, model, generators)
    once_more = planned(name)
    generators = seeded(3)
    here = go(once_more, once_more.init_noise_sigma * pictures, model, generators, once_more.timesteps[:evaluations])[-1]
    other = planned(name)
    x = switch_scheduler(here, once_more.timesteps[evaluations], once_more, other, N - done)
    assert len(other.timesteps) == len(once_more.timesteps) - evaluations
    torch.testing.assert_close(other.timesteps.double(), once_more.timesteps[evaluations:].double(), rtol=1e-6, atol=1e-3)
    end = go(other, x, model, generators)[-1]
    if name == "dpmpp_2m" and done < N - 1:  # its last step is of first order, and needs no memory
        assert 1e-4 < largest(end, path[-1]) < 0.2  # the history is lost: the first step is of first order
    else:
        assert largest(end, path[-1]) < 1e-5


PLANS = [(name, False, spacing) for name in SCHEDULERS for spacing in noise_schedule.SPACINGS]
PLANS += [(name, True, spacing) for name in ("euler", "heun", "dpmpp_2m") for spacing in ("leading", "linspace")]


@pytest.mark.parametrize("name, karras, spacing", PLANS)
def test_every_plan_goes_on_to_its_own_end(name, karras, spacing):
    options = {"timestep_spacing": spacing} | ({"use_karras_sigmas": True} if karras else {})
    whole = make_scheduler(name, **options)
    whole.set_timesteps(25)
    per_step = whole.evaluations_per_step
    for done in (1, 10, 24):
        t = whole.timesteps[per_step * done if per_step == 1 else 2 * done - 1]  # where step `done` begins
        other = make_scheduler(name, **options)
        enter(other, whole.sigma_at(t).item(), 25 - done)
        left = whole.timesteps[-len(other.timesteps) :]
        assert len(other.timesteps) == per_step * (25 - done) - (per_step - 1)
        # those that are rounded may be rounded otherwise; fractions are those of linear and of logarithmic interpolation
        torch.testing.assert_close(other.timesteps.double(), left.double(), rtol=0, atol=1.0)
        assert (other.timesteps.unique_consecutive().diff() < 0).all()
        if karras:
            levels = [other.sigma_at(t).item() for t in other.timesteps]
            assert levels == pytest.approx([whole.sigma_at(t).item() for t in left], rel=1e-4)


def test_set_timesteps_makes_a_whole_run_again():
    for name in ALL:
        scheduler, fresh = planned(name), planned(name)
        enter(scheduler, 0.6543, 5)
        assert not torch.equal(scheduler.timesteps, fresh.timesteps)
        scheduler.set_timesteps(N)
        assert torch.equal(scheduler.timesteps, fresh.timesteps) and scheduler.entered is scheduler.entering is None


# ---- from one to another


@pytest.mark.parametrize("done", [1, 6, 13, 19])
@pytest.mark.parametrize(
    "first, second",
    [("ddim", "euler"), ("euler", "ddim"), ("ddpm", "euler_a"), ("euler_a", "ddpm")],
)
def test_two_ways_to_write_one_step_may_be_switched_at_any_time(first, second, done, model, pictures, seeded):
    """DDIM and Euler solve one equation, DDPM and Euler ancestral take one step, with the same noise."""
    to_the_end = {"ddim": {"set_alpha_to_one": True}}
    old, new, whole = (planned(name, **to_the_end.get(name, {})) for name in (first, second, first))
    x = pictures.double()
    unswitched = go(whole, whole.init_noise_sigma * x, model, seeded(3))[-1]
    generators = seeded(3)
    here = go(old, old.init_noise_sigma * x, model, generators, old.timesteps[:done])[-1]
    there = switch_scheduler(here, old.timesteps[done], old, new, N - done)
    end = go(new, there, model, generators)[-1]
    assert largest(end, unswitched) < 1e-4  # σ is kept in float32, as in test_identities


@pytest.mark.parametrize("pair", list(itertools.permutations(SCHEDULERS, 2)), ids="-".join)
def test_the_level_is_that_of_the_latents_for_each_pair(pair, pictures):
    """Of a picture and noise, mixed by the one, the other finds exactly these two; at levels between those of training, too."""
    old, new = make_scheduler(pair[0]), make_scheduler(pair[1])
    old.set_timesteps(13)
    x0, noise = pictures.double(), pictures.double().roll(1)
    for i in (0, 5, 6, 12):  # Euler's default timesteps have fractions
        t = old.timesteps[i]
        steps = min(7, most_steps(new, old.sigma_at(t).item()))
        x = switch_scheduler(old.add_noise(x0, noise, t), t, old, new, steps)
        first = new.timesteps[0]
        assert first.item() == pytest.approx(t.item(), abs=2e-3)
        assert new.sigma_at(first).item() == pytest.approx(old.sigma_at(t).item(), rel=1e-5)
        found = new.step(noise, first, x).pred_original_sample
        assert largest(found, x0) < 1e-4 * max(1, new.sigma_at(first).item())
        levels = [new.sigma_at(t).item() for t in new.timesteps]
        assert levels == sorted(levels, reverse=True)


@pytest.mark.parametrize("sigma", [1e-3, 0.05, 0.7, 14.0, math.inf])
def test_forms_are_those_of_the_same_picture_and_noise(sigma, pictures):
    x0, noise = pictures.double(), pictures.double().roll(1)
    a, s = (1, sigma) if sigma < 100 else (0, 1)
    size = (a**2 + s**2) ** 0.5
    forms = {"ddim": (a / size, s / size), "euler": (1, sigma), "flow_euler": (a / (a + s), s / (a + s))}
    schedulers = {name: make_scheduler(name) for name in forms}
    for one, other in itertools.permutations(forms, 2):
        if sigma == math.inf and "euler" in (one, other):
            continue  # no such level
        (p, q), (p2, q2) = forms[one], forms[other]
        found = rewrite(p * x0 + q * noise, sigma, schedulers[one], schedulers[other])
        assert largest(found, p2 * x0 + q2 * noise) < 1e-5


def test_pure_noise_has_the_highest_level_that_is_finite():
    settings = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}
    old, new = make_scheduler("ddim", **settings), make_scheduler("euler", **settings)
    old.set_timesteps(5)
    x = switch_scheduler(torch.ones(1, 1, 1, 1), old.timesteps[0], old, new, 5)
    assert x.item() == pytest.approx(new.init_noise_sigma, rel=1e-5) == pytest.approx(4096, rel=1e-3)
    assert new.timesteps.tolist() == old.timesteps.tolist()


@pytest.mark.parametrize("shift", [1.0, 3.0, 0.5])
def test_flow_matching_changes_its_solver_on_one_grid(shift, model, pictures, seeded):
    """Euler and Heun begin at the same level, and the straight line's end is that of either."""
    old, new = planned("flow_euler", shift=shift), planned("flow_heun", shift=shift)
    x0, noise = pictures, pictures.roll(1)
    x = old.add_noise(x0, noise, old.timesteps[9])
    x = switch_scheduler(x, old.timesteps[9], old, new, 11)
    assert torch.allclose(new.timesteps.unique_consecutive().flip(0).unique(), old.timesteps[9:].flip(0), rtol=1e-4)
    for t in new.timesteps:
        x = new.step(noise - x0, t, x).prev_sample
    torch.testing.assert_close(x, x0, rtol=1e-4, atol=1e-4)


def test_a_switch_halfway_is_as_good_as_the_better_solver_below_it():
    """On the mixture whose ODE is known: Heun from the middle on is nearer to the truth than Euler to the end."""
    from tests.schedulers.test_convergence import HIGHEST, MIXTURE, truth

    start, exact = truth(HIGHEST)
    off = {}
    for second in ("euler", "heun", "dpmpp_2m"):
        old, new = make_scheduler("euler"), make_scheduler(second)
        old.set_timesteps(160)
        x = go(old, start, MIXTURE.as_model(old), None, old.timesteps[:80])[-1]
        x = switch_scheduler(x, old.timesteps[80], old, new, 20)
        end = go(new, x, MIXTURE.as_model(new), None)[-1]
        off[second] = (end - exact).square().sum(1).mean().sqrt().item()
    assert off["heun"] < off["euler"] / 3 and off["dpmpp_2m"] < off["euler"] / 2, off


# ---- what is refused


def test_wrong_numbers_of_steps_are_named_and_change_nothing():
    scheduler = planned("ddim")
    before = scheduler.timesteps.clone()
    for steps, error in ((0, ValueError), (1.5, TypeError), (500, ValueError)):
        with pytest.raises(error, match=rf"steps={steps} must be a whole number, 1 \.\.\. \d+"):
            enter(scheduler, 0.6543, steps)
    assert torch.equal(scheduler.timesteps, before)
    for name in ALL:
        for sigma in (0.001, 0.0295, 0.1, 3.0):
            scheduler = planned(name)
            most = most_steps(scheduler, sigma)
            enter(scheduler, sigma, most)
            t = scheduler.timesteps.unique_consecutive()
            assert len(t) == most and (t.diff() < 0).all() and t[-1] >= 0


def test_churn_would_need_noise_first():
    with pytest.raises(ValueError, match="s_churn=10: a run with churn cannot be entered"):
        enter(make_scheduler("euler", s_churn=10.0), 1.0, 5)


def test_schedulers_of_other_models_are_refused(pictures):
    old = planned("ddim")
    for other, words in (
        (make_scheduler("euler", prediction_type="v_prediction"), "predicts 'v_prediction' in 1000 timesteps"),
        (
            make_scheduler("euler", num_train_timesteps=500),
            "'epsilon' in 500 timesteps, the run is of one with 'epsilon' in 1000",
        ),
        (make_scheduler("flow_euler"), "predicts 'velocity'"),
    ):
        with pytest.raises(ValueError, match=words):
            switch_scheduler(pictures, old.timesteps[3], old, other, 4)


def test_each_way_to_write_x_says_how_large_it_is():
    for name in ALL:
        scheduler = make_scheduler(name)
        for t in (20, 500, 900):
            sigma = scheduler.sigma_at(t).item()
            ones = scheduler.add_noise(torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), t).item()
            assert scheduler.scale_at(sigma) == pytest.approx(ones * (sigma**2 + 1) ** 0.5, rel=1e-5)
            assert scheduler.timestep_at(sigma) == pytest.approx(t, abs=1e-3)
        if isinstance(scheduler, VEScheduler):
            x = torch.ones(1, 1, 1, 1)
            t = scheduler.timesteps[600]
            assert scheduler.scale_model_input(x, t).item() == pytest.approx(1 / scheduler.scale_at(scheduler.sigma_at(t).item()))
