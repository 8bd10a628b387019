"""Equation 3 and what a recipe changes of it: what is asked, what is the right answer, what an error costs."""

import argparse
from dataclasses import replace

import pytest
import torch
from torch import nn

from ldm_tutorial.schedulers import DDPMScheduler
from ldm_tutorial.training.compute import Compute
from ldm_tutorial.training.objective import Objective, diffusion_loss
from ldm_tutorial.training.recipes import (
    RECIPES,
    Recipe,
    RecipeObjective,
    add_recipe_arguments,
    agreement_weight,
    min_snr_weight,
    recipe_of,
)

CAPTIONS = [
    (f"a {name} in the style of noto", name, f"a {name}") for name in ("cat", "dog", "owl", "bee", "ant", "fox", "cow", "pig")
]
INDICES = torch.arange(8)
WHOLE = slice(0, None, 1)


def states_of(captions):
    """One number says which caption it is: (n, 77, 3)"""
    return torch.arange(float(len(captions)))[:, None, None].expand(-1, 77, 3)


def plain():
    return Objective(Compute(), DDPMScheduler(), CAPTIONS, states_of)


def with_recipe(**options):
    return RecipeObjective(Recipe(**options), Compute(), DDPMScheduler(), CAPTIONS, states_of)


def one_step(objective, mine=WHOLE, seed=0):
    generator = torch.Generator().manual_seed(seed)
    draws = objective.draw(INDICES, (4, 3, 2), generator)
    latents = torch.randn(8, 4, 3, 2, generator=torch.Generator().manual_seed(1))
    return draws, objective.ask(latents[mine], draws, mine)


class Network(nn.Module):
    """Its answer depends on all that it is asked."""

    def __init__(self, factor=0.5):
        super().__init__()
        self.weight, self.asked = nn.Parameter(torch.tensor(factor)), []

    def forward(self, noisy, timesteps, context):
        self.asked.append((noisy, timesteps, context))
        words = context.mean((1, 2))[:, None, None, None]
        return self.weight * noisy + words / 10 + timesteps[:, None, None, None] / 1000


def test_the_plain_objective_is_equation_3():
    objective, unet = plain(), Network()
    draws, batch = one_step(objective)
    loss, mse = objective.loss(unet, batch, unet)
    ((noisy, timesteps, context),) = unet.asked
    a = DDPMScheduler().alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    latents = (noisy - (1 - a).sqrt() * draws.noise) / a.sqrt()
    torch.testing.assert_close(latents, torch.randn(8, 4, 3, 2, generator=torch.Generator().manual_seed(1)), rtol=1e-3, atol=1e-3)
    full = torch.tensor([objective.number[row[0]] for row in CAPTIONS])
    assert torch.equal(context, states_of(objective.number)[full.where(~draws.dropped, 0)])
    assert loss == mse == ((unet(noisy, timesteps, context) - draws.noise) ** 2).mean((1, 2, 3)).mean()


def test_one_caption_in_ten_is_dropped_each_by_itself():
    objective, generator = plain(), torch.Generator().manual_seed(0)
    dropped = torch.stack([objective.draw(INDICES, (1, 1, 1), generator).dropped for _ in range(2000)])
    assert dropped.float().mean().item() == pytest.approx(0.1, abs=0.008)
    assert dropped.float().sum(1).std().item() == pytest.approx((8 * 0.1 * 0.9) ** 0.5, abs=0.05)


def test_the_recipe_without_options_is_the_plain_objective():
    ours, theirs, unet = with_recipe(), plain(), Network()
    draws, batch = one_step(theirs)
    number = torch.tensor([ours.number[row[0]] for row in CAPTIONS])  # its vocabulary is larger
    latents = torch.randn(8, 4, 3, 2, generator=torch.Generator().manual_seed(1))
    asked = ours.ask(latents, draws._replace(captions=number), WHOLE)
    for name in ("noisy", "timesteps", "target", "weights"):
        assert torch.equal(getattr(asked, name), getattr(batch, name))
    words = {float(ours.number[caption]): float(i) for caption, i in theirs.number.items()}
    assert [words[value] for value in asked.context[:, 0, 0].tolist()] == batch.context[:, 0, 0].tolist()
    batch = replace(batch, context=asked.context)
    for a, b in zip(ours.loss(unet, asked, unet), theirs.loss(unet, batch, unet)):
        assert torch.equal(a, b)
    timesteps = torch.arange(1000)
    assert torch.equal(ours.weights(timesteps), theirs.weights(timesteps))
    assert torch.equal(ours.dropout_rate(timesteps), theirs.dropout_rate(timesteps))
    a, b = (objective.choose_timesteps(9, torch.Generator().manual_seed(0)) for objective in (ours, theirs))
    assert torch.equal(a, b)
    assert ours.choose_captions(range(8), torch.Generator()) == theirs.choose_captions(range(8), torch.Generator())


def test_errors_are_weighted_by_min_snr():
    objective = with_recipe(min_snr_gamma=5.0, snr_offset=1.0)
    unet = Network()
    _, batch = one_step(objective)
    loss, mse = objective.loss(unet, batch, unet)
    each = diffusion_loss(unet, batch.noisy, batch.target, batch.timesteps, batch.context)
    weights = min_snr_weight(objective.schedule.alphas_cumprod, batch.timesteps, 5.0, 1.0)
    assert loss.item() == pytest.approx((each * weights).mean().item()) != mse.item()


def test_without_words_it_learns_what_the_average_answers_with_them():
    objective, unet, average = with_recipe(caption_dropout=0.5, distill_empty=True), Network(), Network(0.2)
    draws, batch = one_step(objective)
    silent = draws.dropped.nonzero().squeeze(1)
    assert 0 < len(silent) < 8
    loss, _ = objective.loss(unet, batch, average)
    ((noisy, timesteps, context),), ((taught, at, heard),) = unet.asked, average.asked
    assert torch.equal(noisy[silent], taught) and torch.equal(timesteps[silent], at)
    assert (context[silent] == 0).all() and torch.equal(heard, objective.states[draws.captions[silent]])
    target = batch.target.clone()
    target[silent] = average(taught, at, heard)
    assert loss.item() == pytest.approx(((unet(noisy, timesteps, context) - target) ** 2).mean().item())
    loss.backward()
    assert average.weight.grad is None


def test_rows_that_should_agree_are_there_twice_with_words_and_without():
    objective = with_recipe(caption_dropout=0.5, agree=10.0)
    draws, batch = one_step(objective)
    twice = draws.dropped.nonzero().squeeze(1)
    p = len(twice)
    assert 0 < p < 8 and len(batch.noisy) == 8 + p and batch.rows == 8 + p
    assert batch.silent.tolist() == list(range(8, 8 + p)) and torch.equal(batch.paired, twice)
    for name in ("noisy", "timesteps", "target", "weights"):
        x = getattr(batch, name)
        assert torch.equal(x[batch.silent], x[twice])
    assert (batch.context[8:] == 0).all() and torch.equal(batch.context[:8], objective.states[draws.captions])


@pytest.mark.parametrize("below", [300, 600])
def test_answers_that_differ_cost_as_much_as_asked_up_to_the_timestep_asked(below):
    objective = with_recipe(caption_dropout=1.0, agree=10.0, agree_below=below, snr_offset=1.0, min_snr_gamma=5.0)
    unet = Network()
    _, batch = one_step(objective)
    loss, _ = objective.loss(unet, batch, unet)
    answers = unet(batch.noisy, batch.timesteps, batch.context)
    at, apart = batch.timesteps[8:], ((answers[:8] - answers[8:]) ** 2).mean((1, 2, 3))
    without = (((answers - batch.target) ** 2).mean((1, 2, 3)) * batch.weights).mean()
    shared = batch.weights[8:] * agreement_weight(at, below)
    assert 0 < shared.sum() < batch.weights[8:].sum()  # some of them late, some not
    assert loss.item() == pytest.approx((without + 10 * (shared * apart).sum() / 16).item(), rel=1e-5)


@pytest.mark.parametrize("options", [{}, {"agree": 10.0}, {"distill_empty": True}, {"agree": 10.0, "distill_empty": True}])
def test_the_mean_of_two_processes_losses_is_the_loss_of_the_whole_batch(options):
    """However unevenly the captions without words are spread over them."""
    objective, unet = with_recipe(caption_dropout=0.5, **options), Network()
    draws, whole = one_step(objective, seed=1)
    halves = [one_step(objective, slice(rank, None, 2), seed=1)[1] for rank in (0, 1)]
    assert draws.dropped[::2].sum() != draws.dropped[1::2].sum()
    expected = objective.loss(unet, whole, unet)
    found = [objective.loss(unet, half, unet) for half in halves]
    for whole_value, *parts in zip(expected, *found):
        assert (sum(parts) / 2).item() == pytest.approx(whole_value.item(), rel=1e-5)


def test_the_agreement_can_begin_after_a_share_of_the_training():
    recipe = replace(RECIPES["agree"], agree_from=0.6)
    assert recipe.at(0.6) == recipe.at(1.0) == recipe
    before = recipe.at(0.59)
    assert (before.agree, before.late_dropout) == (0.0, None)
    assert replace(before, agree=recipe.agree, late_dropout=recipe.late_dropout) == recipe  # and nothing else differs
    assert RECIPES["agree"].at(0.0) == RECIPES["agree"]


# ---- the command line


def parse(*options):
    parser = argparse.ArgumentParser()
    add_recipe_arguments(parser)
    return recipe_of(parser.parse_args([str(option) for option in options]))


def test_the_stages_of_the_model_card_can_still_be_asked_for():
    shares = ("--first-caption", 0.45, "--bare-caption", 0.1, "--label-caption", 0.2)
    assert parse(*shares, "--late-dropout", 0.5, "--agree", 10, "--timestep-power", 0.75) == RECIPES["agree"]
    distilled = parse(*shares, "--late-dropout", 0.5, "--distill-empty", "--timestep-power", 0.75)
    assert distilled == replace(RECIPES["agree"], agree=0.0, distill_empty=True)
    words = RECIPES["words"]
    assert parse() == words == Recipe(first_caption=0.85, timestep_power=0.5, min_snr_gamma=5.0, snr_offset=1.0)
    assert parse("--first-caption", 0.75, "--snr-offset", 0, "--timestep-power", 1) == replace(
        words, first_caption=0.75, snr_offset=0.0, timestep_power=1.0
    )


def test_options_take_precedence_over_the_recipe_they_start_from():
    assert parse("--recipe", "plain") == Recipe()
    assert parse("--recipe", "agree", "--agree", 5) == replace(RECIPES["agree"], agree=5.0)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"caption_dropout": 1.5}, "--caption-dropout: a share from 0 to 1, not 1.5"),
        ({"late_dropout": -0.1}, "--late-dropout: a share from 0 to 1, not -0.1"),
        ({"first_caption": 0.9, "label_caption": 0.2}, "--first-caption, --bare-caption, --label-caption: .* add up to 1.1"),
        ({"agree": -1.0}, "--agree: 0 or more, not -1"),
        ({"agree_below": 0.0}, "--agree-below: above 0, not 0"),
        ({"agree_from": 1.1}, "--agree-from: a share from 0 to 1, not 1.1"),
        ({"timestep_power": 0.0}, "--timestep-power: above 0, not 0"),
        ({"min_snr_gamma": float("nan")}, "--min-snr-gamma: above 0, not nan"),
    ],
)
def test_what_means_nothing_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**options)
