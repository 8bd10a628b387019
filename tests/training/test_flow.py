"""Flow matching in place of diffusion: what is asked, what is the right answer, and that all else is the same."""

import json

import pytest
import torch

from ldm_tutorial.pipeline import load_pipeline
from ldm_tutorial.schedulers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from ldm_tutorial.training.compute import Compute
from ldm_tutorial.training.flow import DENSITIES, FlowObjective, sample_times
from ldm_tutorial.training.recipes import RECIPES, Recipe, RecipeObjective
from tests.training.small_world import train
from tests.training.test_recipes import CAPTIONS, INDICES, WHOLE, Network, states_of

LATENTS = torch.randn(8, 4, 3, 2, generator=torch.Generator().manual_seed(1))


def flow(density="uniform", **options):
    return FlowObjective(density, Recipe(**options), Compute(), FlowMatchEulerDiscreteScheduler(), CAPTIONS, states_of)


def draws_of(objective, seed=0):
    return objective.draw(INDICES, (4, 3, 2), torch.Generator().manual_seed(seed))


def test_it_asks_on_the_straight_line_for_its_slope():
    objective, unet = flow(), Network()
    draws = draws_of(objective)
    batch = objective.ask(LATENTS, draws, WHOLE)
    t = (draws.timesteps / 1000).view(-1, 1, 1, 1)
    torch.testing.assert_close(batch.noisy, (1 - t) * LATENTS + t * draws.noise)
    assert torch.equal(batch.target, draws.noise - LATENTS)
    assert torch.equal(batch.timesteps, draws.timesteps) and (batch.timesteps % 1 != 0).any()
    loss, mse = objective.loss(unet, batch, unet)
    answers = unet(batch.noisy, batch.timesteps, batch.context)
    assert loss.item() == mse.item() == pytest.approx(((answers - (draws.noise - LATENTS)) ** 2).mean().item())


@pytest.mark.parametrize("density", DENSITIES)
def test_of_one_step_all_else_is_the_same_numbers_as_for_diffusion(density):
    recipe, compute = RECIPES["words"], Compute()
    ours = FlowObjective(density, recipe, compute, FlowMatchEulerDiscreteScheduler(), CAPTIONS, states_of)
    theirs = RecipeObjective(recipe, compute, DDPMScheduler(), CAPTIONS, states_of)
    for name in ("encoding", "captions", "dropped", "noise"):
        assert torch.equal(getattr(draws_of(ours), name), getattr(draws_of(theirs), name)), name


def test_rows_that_should_agree_have_the_velocity_as_their_target_too():
    objective = flow(caption_dropout=0.5, agree=10.0)
    draws = draws_of(objective)
    batch = objective.ask(LATENTS, draws, WHOLE)
    assert len(batch.silent) and torch.equal(batch.target[batch.silent], (draws.noise - LATENTS)[batch.paired])


def test_two_processes_have_the_rows_of_one_between_them():
    objective = flow()
    draws = draws_of(objective)
    whole = objective.ask(LATENTS, draws, WHOLE)
    halves = [objective.ask(LATENTS[mine], draws, mine) for mine in (slice(0, None, 2), slice(1, None, 2))]
    for name in ("noisy", "timesteps", "context", "target", "weights"):
        for first, half in enumerate(halves):
            assert torch.equal(getattr(half, name), getattr(whole, name)[first::2]), name


def test_uniform_times_cover_the_range_evenly_and_logit_normal_ones_its_middle():
    generator = torch.Generator().manual_seed(0)
    uniform, normal = (torch.stack([sample_times(10, generator, d) for _ in range(2000)]) for d in DENSITIES)  # (2000, 10)
    assert all((10 * column).long().unique().tolist() == [i] for i, column in enumerate(uniform.T))
    logits = normal.flatten().logit()
    assert logits.mean().item() == pytest.approx(0, abs=0.02) and logits.std().item() == pytest.approx(1, abs=0.02)
    torch.testing.assert_close(normal.flatten().median(), torch.tensor(0.5), atol=0.01, rtol=0)


def test_no_time_lies_behind_pure_noise():
    """As in test_losses.py: float32 rounds the end of the last slice up to 1, where the normal quantile is infinite."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(70_194):
        torch.rand(64, generator=generator)
    times = sample_times(64, generator, "logit-normal")
    assert times.isfinite().all() and times.max() == 1


# ---- the training


def test_a_model_trained_so_draws_by_itself(tmp_path, small_world):
    train("clip", tmp_path, "--steps", 1)
    train("autoencoder", tmp_path, "--steps", 1)
    train("diffusion", tmp_path, "--steps", 3, "--sample-every", 2, "--objective", "flow")
    assert json.loads((tmp_path / "scheduler" / "scheduler_config.json").read_text())["_class_name"].startswith("FlowMatchEuler")
    assert [path.name for path in tmp_path.glob("training/unet/samples/*.png")] == ["0000002.png"]
    [picture] = load_pipeline(tmp_path, device="cpu")("a cat", steps=2, progress=False)
    assert picture.info["scheduler"] == "flow_euler"


def test_options_of_the_other_objective_are_refused_before_anything_is_computed(tmp_path):
    for name in ("--timestep-power", "--min-snr-gamma", "--snr-offset"):
        with pytest.raises(ValueError, match=f"{name}: only with --objective diffusion"):
            train("diffusion", tmp_path, "--steps", 1, "--objective", "flow", name, 1)
    with pytest.raises(ValueError, match="--timestep-density uniform: only with --objective flow"):
        train("diffusion", tmp_path, "--steps", 1, "--timestep-density", "uniform")
    assert not list(tmp_path.iterdir())
