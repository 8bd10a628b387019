"""The numbers of diffusers that notebooks 09 to 12 and 16 compare with: diffusers itself gives them, now."""

import ast

import diffusers
import nbformat
import pytest
import torch
from nbtool import ROOT

V15 = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


def stored(notebook: str) -> dict:
    """The table DIFFUSERS of a notebook."""
    for cell in nbformat.read(ROOT / "notebooks" / notebook, 4).cells:
        if cell.cell_type == "code" and "DIFFUSERS = {" in cell.source:
            assigned = [node for node in ast.parse(cell.source).body if isinstance(node, ast.Assign)]
            return ast.literal_eval(next(node.value for node in assigned if ast.unparse(node.targets[0]) == "DIFFUSERS"))
    raise AssertionError(f"{notebook} has no table DIFFUSERS")


def run(scheduler, **options) -> list[float]:
    """Five steps from a ramp, with tanh(0.7 x + 0.001 t) in place of a network."""
    scheduler.set_timesteps(5)
    x = float(scheduler.init_noise_sigma) * torch.linspace(-1.5, 2, 6).view(1, 1, 2, 3)
    for t in scheduler.timesteps:
        output = torch.tanh(0.7 * scheduler.scale_model_input(x, t) + 0.001 * t)
        x = scheduler.step(output, t, x, **options).prev_sample
    return x.flatten().tolist()


def test_ddim():
    table = stored("09_ddim.ipynb")
    assert list(table) == [0.0, 1.0]
    for eta, numbers in table.items():
        scheduler = diffusers.DDIMScheduler(**V15, clip_sample=False, set_alpha_to_one=False)
        assert run(scheduler, eta=eta, generator=torch.Generator().manual_seed(0)) == pytest.approx(numbers, abs=1e-4)


def test_euler():
    table = stored("10_euler.ipynb")
    assert list(table) == [False, True]
    for use_karras_sigmas, numbers in table.items():
        scheduler = diffusers.EulerDiscreteScheduler(**V15, use_karras_sigmas=use_karras_sigmas)
        assert run(scheduler) == pytest.approx(numbers, abs=1e-3)


def test_euler_ancestral():
    table = stored("11_euler_ancestral.ipynb")
    assert list(table) == [1.0]  # diffusers has no other eta
    assert run(diffusers.EulerAncestralDiscreteScheduler(**V15), generator=torch.Generator().manual_seed(0)) == pytest.approx(
        table[1.0], abs=1e-3
    )


def test_heun_and_dpm_solver():
    table = stored("16_better_steps.ipynb")
    assert list(table) == ["heun", "dpmpp_2m"]
    for name, scheduler in (("heun", diffusers.HeunDiscreteScheduler), ("dpmpp_2m", diffusers.DPMSolverMultistepScheduler)):
        assert run(scheduler(**V15)) == pytest.approx(table[name], abs=1e-3)


def test_guidance_with_rescaling():
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

    table = stored("12_guidance_and_the_pipeline.ipynb")
    assert list(table) == [0.0, 0.7]
    cond = torch.linspace(-1.5, 2, 6).view(1, 1, 2, 3)
    guided = cond.tanh() + 7.5 * (cond - cond.tanh())
    for phi, numbers in table.items():
        rescaled = rescale_noise_cfg(guided, cond, guidance_rescale=phi)
        assert rescaled.flatten().tolist() == pytest.approx(numbers, abs=1e-4)
