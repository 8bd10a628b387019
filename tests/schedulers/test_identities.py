"""The four schedulers are one step in sigma space: on one grid of noise levels, with the same noise, they agree."""

import pytest
import torch

from ldm_tutorial.schedulers import make_scheduler


class OnOneGrid:
    """DDIM and DDPM on integer timesteps, and Euler on the same: "leading" and "trailing" round for both."""

    def __init__(self, spacing: str, schedule: str, prediction: str, n: int):
        self.n = n
        self.settings = {"timestep_spacing": spacing, "beta_schedule": schedule, "prediction_type": prediction}

    def run(self, name, model, pictures, seeded, **settings):
        """Every x on the way, as x = x0 + σ ε in float64."""
        if name == "ddim":
            settings.setdefault("set_alpha_to_one", True)
        scheduler = make_scheduler(name, **self.settings, **settings)
        scheduler.set_timesteps(self.n)
        top = scheduler.sigma_at(scheduler.timesteps[0]).item()
        x = (top**2 + 1) ** 0.5 * pictures.double()
        to_sigma_space = torch.ones(self.n + 1).double()
        if name in ("ddpm", "ddim"):
            to_sigma_space = scheduler.alpha_bars.double() ** -0.5
            x = x / to_sigma_space[0]
        generators, path = seeded(3), []
        for i, t in enumerate(scheduler.timesteps):
            x = scheduler.step(model(scheduler.scale_model_input(x, t), t), t, x, generators).prev_sample
            path.append(x * to_sigma_space[i + 1])
        return torch.stack(path)


GRIDS = [
    OnOneGrid("leading", "scaled_linear", "epsilon", 20),
    OnOneGrid("leading", "scaled_linear", "v_prediction", 33),
    OnOneGrid("trailing", "linear", "epsilon", 7),
    OnOneGrid("trailing", "squaredcos_cap_v2", "v_prediction", 25),  # where float32 would not do
    OnOneGrid("trailing", "scaled_linear", "epsilon", 1000),
]


@pytest.fixture(params=GRIDS, ids=lambda grid: f"{'-'.join(grid.settings.values())}-{grid.n}")
def run(request, model, pictures, seeded):
    return lambda name, **settings: request.param.run(name, model, pictures, seeded, **settings)


def assert_equal(paths, others):
    """To the rounding of σ, which the sigma-space schedulers keep in float32."""
    scale = others.flatten(1).abs().amax(1)
    assert ((paths - others).flatten(1).abs().amax(1) / scale).max() < 1e-4


def test_ddpm_equals_ddim_with_eta_1(run):
    torch.testing.assert_close(run("ddpm"), run("ddim", eta=1.0), rtol=1e-9, atol=1e-9)


def test_ddpm_equals_euler_ancestral(run):
    assert_equal(run("ddpm"), run("euler_a"))


def test_ddim_equals_euler(run):
    assert_equal(run("ddim"), run("euler"))


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0, 3.0])
def test_ddim_equals_euler_ancestral_at_every_eta(run, eta):
    assert_equal(run("ddim", eta=eta), run("euler_a", eta=eta))


def test_euler_ancestral_with_eta_0_is_euler(run):
    torch.testing.assert_close(run("euler_a", eta=0.0), run("euler"), rtol=1e-12, atol=1e-12)


def test_noise_makes_a_difference(run):
    assert (run("ddpm") - run("ddim")).abs().max() > 0.1
    assert (run("ddim", eta=0.4) - run("ddim", eta=1.0)).abs().max() > 0.1
    assert (run("ddpm", variance_type="fixed_large") - run("ddpm")).abs().max() > 1e-3


def test_predictions_of_noise_and_of_velocity_take_the_same_step(pictures):
    x0, noise = pictures, pictures.roll(1)
    for name in ("ddpm", "ddim", "euler", "euler_a"):
        eps, v = (make_scheduler(name, prediction_type=p) for p in ("epsilon", "v_prediction"))
        for scheduler in (eps, v):
            scheduler.set_timesteps(10)
        for t in eps.timesteps:
            x = eps.add_noise(x0, noise, t)
            steps = (
                eps.step(noise, t, x, generator=torch.Generator().manual_seed(1)),
                v.step(v.get_velocity(x0, noise, t), t, x, generator=torch.Generator().manual_seed(1)),
            )
            for of_eps, of_v in zip(*steps, strict=True):
                torch.testing.assert_close(of_eps, of_v, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(steps[1].pred_original_sample, x0, rtol=1e-4, atol=1e-4)
