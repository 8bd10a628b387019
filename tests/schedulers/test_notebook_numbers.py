"""The numbers that notebook 08 compares with are still those of the installed diffusers."""

import ast
from pathlib import Path

import nbformat
import pytest
import torch

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "08_ddpm.ipynb"
# The official scheduler_config.json of Stable Diffusion v1.5, as far as DDPM reads it.
V15 = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "clip_sample": False,
    "timestep_spacing": "leading",
}


def numbers_in_the_notebook() -> dict[tuple[str, int], list[float]]:
    [source] = [c.source for c in nbformat.read(NOTEBOOK, 4).cells if c.cell_type == "code" and "DIFFUSERS = {" in c.source]
    assignments = [node for node in ast.parse(source).body if isinstance(node, ast.Assign)]
    [table] = [node.value for node in assignments if ast.unparse(node.targets[0]) == "DIFFUSERS"]
    return ast.literal_eval(table)


@pytest.mark.parametrize(("variance_type", "t"), numbers_in_the_notebook())
def test_the_numbers_of_notebook_08_are_those_of_diffusers(variance_type, t):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDPMScheduler(variance_type=variance_type, **V15)
    scheduler.set_timesteps(20)
    x, eps = torch.linspace(-1.5, 2, 6).view(1, 1, 2, 3), torch.linspace(1, -0.5, 6).view(1, 1, 2, 3)
    found = scheduler.step(eps, t, x, generator=torch.Generator().manual_seed(t)).prev_sample.flatten()
    torch.testing.assert_close(found, torch.tensor(numbers_in_the_notebook()[variance_type, t]), atol=1e-4, rtol=0)
