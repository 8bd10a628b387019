"""Distillation: its targets are exact on a world whose answers are known, and a small student beats its teacher in few steps."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from ldm_tutorial import load_pipeline
from ldm_tutorial.checkpoints import save_checkpoint
from ldm_tutorial.checkpoints.tensors import read_tensors
from ldm_tutorial.lessons.toy import GaussianMixture
from ldm_tutorial.schedulers import make_scheduler
from ldm_tutorial.schedulers.few_steps import FEW_STEPS, FewSteps
from ldm_tutorial.training import distill
from ldm_tutorial.training.compute import PRECISIONS, Compute
from ldm_tutorial.training.logs import read_log
from ldm_tutorial.training.loop import learning_rate, set_learning_rate
from ldm_tutorial.training.progressive import Halving, one_step_target, step_to, trailing
from tests.training.small_world import forty

SCHEDULE = make_scheduler("ddpm")
WORDS = torch.zeros(1, 1, 1, dtype=torch.float64)


def halving(steps, guidance=1.0):
    """An objective for points, without prompts, as latents of one pixel."""
    return Halving(steps, guidance, Compute(), SCHEDULE, [("a cat", "cat")], lambda captions: WORDS.repeat(len(captions), 1, 1))


def predictor_of(world):
    """The best teacher there can be: E[ε | z_t] of a mixture, at points (n, d, 1, 1)."""

    def predict(z, timesteps, context):
        return world.epsilon(z.flatten(1), SCHEDULE.alphas_cumprod[timesteps].double())[..., None, None]

    return predict


def draw(predict, z, steps):
    """As the pipeline does: DDIM in so many trailing steps."""
    ddim = trailing(SCHEDULE, steps)
    for t in ddim.timesteps:
        z = ddim.step(predict(z, t.expand(len(z)), WORDS.expand(len(z), -1, -1)), t, z).prev_sample
    return z


def perfect_student(teacher, steps, guidance=1.0):
    """What a round would end with, if it learned its targets without an error: x̃, written as a prediction of the noise."""
    objective = halving(steps, guidance)

    def predict(z, timesteps, context):
        x0 = objective.teacher_target(teacher, z, timesteps, context)
        alpha_bar = objective.alpha_bars(timesteps, objective.levels, 0, z)
        return (z - alpha_bar.sqrt() * x0) / (1 - alpha_bar).sqrt()

    return predict


# ---- the equations


def noise(n, d, seed=0):
    return torch.randn(n, d, 1, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_step_is_that_of_the_scheduler_at_a_level_of_its_own_in_each_row():
    ddim = trailing(SCHEDULE, 8)
    z, eps = noise(8, 3), noise(8, 3, seed=1)
    levels = ddim.alpha_bars.double().view(-1, 1, 1, 1)
    found = step_to(z, eps, levels[:-1], levels[1:])
    for i, t in enumerate(ddim.timesteps):
        torch.testing.assert_close(found[i : i + 1], ddim.step(eps[i : i + 1], t, z[i : i + 1]).prev_sample)


def test_the_steps_of_a_student_are_every_second_of_its_teachers():
    for steps in (1, 2, 3, 4, 5, 7, 8, 13, 16, 25, 32, 64, 100):
        assert trailing(SCHEDULE, 2 * steps).timesteps[::2].tolist() == trailing(SCHEDULE, steps).timesteps.tolist()
    assert trailing(SCHEDULE, 4).timesteps.tolist() == [999, 749, 499, 249]


def test_one_step_with_the_target_ends_where_two_of_the_teacher_do():
    z, eps = noise(5, 2), [noise(5, 2, seed) for seed in (1, 2)]
    random = torch.rand(3, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    here, middle, end = (0.004 + 0.99 * random.sort(0).values).view(3, 5, 1, 1, 1)  # ᾱ rises from step to step
    z_end = step_to(step_to(z, eps[0], here, middle), eps[1], middle, end)
    x0 = one_step_target(z, z_end, here, end)
    eps_tilde = (z - here.sqrt() * x0) / (1 - here).sqrt()
    torch.testing.assert_close(step_to(z, eps_tilde, here, end), z_end)


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_a_perfect_student_draws_in_its_steps_what_the_teacher_does_in_twice_as_many(steps):
    teacher = predictor_of(GaussianMixture([[1.0, 0.0], [-0.5, 0.8], [-0.5, -0.8]], [0.1, 0.2, 0.3]))
    z = noise(50, 2)
    torch.testing.assert_close(draw(perfect_student(teacher, steps), z, steps), draw(teacher, z, 2 * steps), rtol=1e-5, atol=1e-6)


def test_halved_from_256_steps_to_4_it_follows_the_exact_solution_where_the_teacher_in_4_does_not():
    """Of one Gaussian N(m, s²) the ODE's solution is known: what is k standard deviations off the mean stays so."""
    mean, std = torch.tensor([0.6, -0.3]).double(), 0.4
    teacher, z = predictor_of(GaussianMixture(mean[None], [std])), noise(50, 2)
    student = teacher
    for steps in (128, 64, 32, 16, 8, 4):
        student = perfect_student(student, steps)
    first, last = (SCHEDULE.alphas_cumprod[t].double() for t in (999, 0))  # v1.5's last step ends at the lowest noise level
    spread = [(a * std**2 + 1 - a).sqrt() for a in (first, last)]
    exact = last.sqrt() * mean + spread[1] / spread[0] * (z.flatten(1) - first.sqrt() * mean)

    def error(drawn):
        return (drawn.flatten(1) - exact).norm(dim=1).mean()

    in_four = draw(student, z, 4)
    torch.testing.assert_close(in_four, draw(teacher, z, 256), rtol=1e-4, atol=1e-5)
    assert error(in_four) < 0.02 < 0.1 < error(draw(teacher, z, 4))


def test_the_first_teacher_is_guided_and_the_student_has_it_in_its_predictions():
    """Two worlds, one without a prompt and one with: guidance takes their difference 3 times."""
    without, with_words = (predictor_of(GaussianMixture([[m]], [0.5])) for m in (0.0, 1.0))

    def teacher(z, timesteps, context):
        said = context[:, 0, 0] > 0
        return torch.where(said.view(-1, 1, 1, 1), with_words(z, timesteps, context), without(z, timesteps, context))

    def guided(z, timesteps, context):
        return without(z, timesteps, context) + 3 * (with_words(z, timesteps, context) - without(z, timesteps, context))

    objective, z, t = halving(4, 3.0), noise(4, 1), trailing(SCHEDULE, 4).timesteps
    words = torch.tensor([1.0, 1.0, 1.0, 0.0]).double().view(4, 1, 1)  # the last row has no prompt
    found = objective.teacher_target(teacher, z, t, words)
    torch.testing.assert_close(found[:3], halving(4).teacher_target(guided, z, t, words)[:3])
    torch.testing.assert_close(found[3:], halving(4).teacher_target(without, z, t, words)[3:])


def test_the_loss_of_a_perfect_student_is_zero_and_of_another_its_weighted_error():
    objective, world = halving(4), predictor_of(GaussianMixture([[0.5, 0.1]], [0.3]))
    draws = objective.draw(torch.zeros(6, dtype=torch.long), (2, 1, 1), torch.Generator().manual_seed(0))
    assert set(draws.timesteps.tolist()) == {999, 749, 499, 249}
    batch = objective.ask(noise(6, 2, seed=5), draws, slice(None))
    loss, mse = objective.loss(perfect_student(world, 4), batch, world)
    assert loss.item() < 1e-8 and mse.item() < 1e-8
    loss, mse = objective.loss(lambda *inputs: perfect_student(world, 4)(*inputs) + 0.1, batch, world)
    alpha_bar = SCHEDULE.alphas_cumprod[batch.timesteps].double()
    snr = alpha_bar / (1 - alpha_bar)
    assert mse.item() == pytest.approx((0.01 / snr).mean().item(), rel=1e-5)
    assert loss.item() == pytest.approx((0.01 / snr * snr.clamp(min=1)).mean().item(), rel=1e-5)


class Correction(nn.Module):
    """A teacher and what is learned beside it: a small network that corrects x̂, and does nothing yet."""

    def __init__(self, teacher):
        super().__init__()
        self.teacher = teacher
        self.layers = nn.Sequential(nn.Linear(3, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2)).double()
        nn.init.zeros_(self.layers[-1].weight)
        nn.init.zeros_(self.layers[-1].bias)

    def forward(self, z, timesteps, context):
        alpha_bar = SCHEDULE.alphas_cumprod[timesteps].double().view(-1, 1, 1, 1)
        more = self.layers(torch.cat([z.flatten(1), timesteps.view(-1, 1) / 500 - 1], dim=1))[..., None, None]
        return self.teacher(z, timesteps, context) - (alpha_bar / (1 - alpha_bar)).sqrt() * more


def test_a_trained_student_is_nearer_to_its_teacher_in_many_steps_than_the_teacher_in_as_few():
    world = GaussianMixture([[1.0, 0.0], [-0.5, 0.8], [-0.5, -0.8]], [0.1, 0.2, 0.3])
    exact, generator = predictor_of(world), torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    teacher, losses = exact, []
    for steps in (4, 2):
        student, objective = Correction(teacher), halving(steps)
        optimizer = torch.optim.Adam(student.layers.parameters())
        for step in range(200):
            set_learning_rate(optimizer, learning_rate(step, 200, peak=1e-2))
            points = world.sample(128, generator)[..., None, None]
            draws = objective.draw(torch.zeros(128, dtype=torch.long), (2, 1, 1), generator)
            loss, _ = objective.loss(student, objective.ask(points, draws, slice(None)), teacher)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        teacher = student.requires_grad_(False)
    for first in (0, 200):
        assert sum(losses[first + 190 : first + 200]) < 0.5 * sum(losses[first : first + 10])
    z = noise(500, 2)
    wanted = draw(exact, z, 8)
    learned, undistilled = ((draw(each, z, 2) - wanted).flatten(1).norm(dim=1).mean().item() for each in (student, exact))
    assert learned < 0.5 * undistilled, (learned, undistilled)


# ---- the training


@pytest.fixture(scope="module")
def teacher(make_tiny_pipe, tmp_path_factory):
    return save_checkpoint(make_tiny_pipe(), tmp_path_factory.mktemp("teacher") / "model")


@pytest.fixture
def train(teacher, monkeypatch):
    monkeypatch.setattr(distill, "EmojiDataset", forty)

    def run(folder, *options):
        parser = argparse.ArgumentParser()
        distill.add_arguments(parser)
        usual = ["--model", teacher, "--folder", folder, "--batch-size", 6, "--log-every", 1, "--rank", 8]
        distill.main(parser.parse_args([str(option) for option in (*usual, "--mixed-precision", "no", *options)]))
        return folder

    return run


def test_a_student_comes_nearer_to_its_teacher_in_many_steps_than_the_teacher_in_as_few(train, teacher, tmp_path):
    """Two evaluations of the network, beside eight, and the four of the guided teacher in two steps."""
    options = ("--teacher-steps", 4, "--student-steps", 2, "--steps", 60, "--batch-size", 8, "--guidance", 2)
    folder = train(tmp_path / "a", *options)
    log = read_log(folder / "training" / "distill" / "log.jsonl")
    assert log["loss"][45:].mean() < 0.8 * log["loss"][:5].mean(), log["loss"]

    pipe, prompts = load_pipeline(teacher, device="cpu"), [entry.captions[0] for entry in forty().entries[:24]]

    def latents(**options):
        trailing = {"scheduler_options": {"timestep_spacing": "trailing"}, "seed": list(range(24))}
        return list(pipe.stream(prompts, **trailing, **options))[-1].latents

    wanted, guided, unguided = (latents(steps=n, guidance_scale=w) for n, w in ((4, 2), (2, 2), (2, 1)))
    pipe.load_lora(folder / "lora.safetensors")
    student, guided, unguided = ((found - wanted).square().mean().item() for found in (latents(), guided, unguided))
    assert student < 0.85 * guided and student < 0.7 * unguided, (student, guided, unguided)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_in_each_precision_it_writes_a_lora_that_says_what_it_is(train, teacher, tmp_path, precision):
    options = ("--teacher-steps", 4, "--student-steps", 1, "--steps", 4, "--sample-every", 3, "--mixed-precision", precision)
    folder = train(tmp_path / "a", *options)
    log = read_log(folder / "training" / "distill" / "log.jsonl")
    assert log["step"].tolist() == [1, 2, 3, 4] and log["student_steps"].tolist() == [2, 2, 1, 1]
    assert (log["loss"] > 0).all() and (log["loss"] < 1e3).all()
    assert [path.name for path in (folder / "training" / "distill" / "samples").iterdir()] == ["0000003.png"]
    tensors, metadata = read_tensors(folder / "lora.safetensors")
    assert metadata == {FEW_STEPS: '{"steps": 1, "guidance_scale": 7.5}'}
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    pipe = load_pipeline(teacher, device="cpu")
    lora = pipe.load_lora(folder / "lora.safetensors")
    assert len(lora.names) == len(distill.layers_of_blocks(pipe.unet)) and pipe("a cat", progress=False)[0].info["steps"] == 1
    moved = max(update.up.weight.abs().max() for update in lora.by_name().values()) > 0
    assert moved or state(folder)["scaler"]["scale"] < 2**16  # the first float16 gradients overflow: their steps are left out
    assert not [name for name in lora.names if name.endswith(("conv_in", "conv_out"))]


def state(folder):
    return torch.load(folder / "training" / "distill" / "state.pt", weights_only=True)["state"]


def leaves(content, place=""):
    if isinstance(content, dict | list):
        for key, value in content.items() if isinstance(content, dict) else enumerate(content):
            yield from leaves(value, f"{place}.{key}")
    elif isinstance(content, torch.Tensor):
        yield place, content


def different(a, b):
    ours, theirs = dict(leaves(a)), dict(leaves(b))
    assert ours.keys() == theirs.keys() and len(ours) > 50
    return [key for key in ours if not torch.equal(ours[key], theirs[key])]


def test_killed_at_every_step_in_turn_it_ends_with_the_bits_of_one_left_alone(train, tmp_path, monkeypatch):
    options = ("--teacher-steps", 4, "--student-steps", 1, "--steps", 4, "--save-every", 1, "--batch-size", 2)
    whole, draw, kill_at = train(tmp_path / "whole", *options), distill.batch_indices, []

    def killing(n, batch_size, step, seed):
        if step in kill_at:
            raise KeyboardInterrupt
        return draw(n, batch_size, step, seed)

    monkeypatch.setattr(distill, "batch_indices", killing)
    for kill_at[:] in [[step] for step in range(4)]:
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "killed", *options)
    kill_at.clear()
    train(tmp_path / "killed", *options)
    assert different(state(whole), state(tmp_path / "killed")) == []
    assert (whole / "lora.safetensors").read_bytes() == (tmp_path / "killed" / "lora.safetensors").read_bytes()
    assert len(different(state(whole)["student"], state(whole)["teacher"])) > 50  # the second round has begun, and gone on


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_two_processes_take_the_steps_of_one(teacher, tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "LDM_QUIET": "1", "CUDA_VISIBLE_DEVICES": ""}
    script = Path(__file__).with_name("distill_in_two.py")
    done = subprocess.run(
        [sys.executable, script, tmp_path, teacher], env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one, two, also = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("one-0", "two-0", "two-1"))
    assert different(two, also) == []
    theirs = dict(leaves(two))
    for key, expected in leaves(one):
        torch.testing.assert_close(theirs[key], expected, rtol=1e-3, atol=2e-5, msg=lambda text, key=key: f"{key}: {text}")
    logs = [read_log(tmp_path / name / "training" / "distill" / "log.jsonl") for name in ("one", "two")]
    assert logs[0]["loss"] == pytest.approx(logs[1]["loss"], rel=1e-3)


@pytest.mark.parametrize(
    "options, words",
    [
        (("--teacher-steps", 24, "--student-steps", 4), "--teacher-steps 24 must be --student-steps 4, doubled: 8, 16, 32"),
        (("--teacher-steps", 4), "--teacher-steps 4 must be --student-steps 4, doubled"),
        (("--student-steps", 0), "--student-steps=0 must be a whole number, 1 or more"),
        (("--steps", 100), "--steps 100 must be a multiple of the rounds, 3: 32 steps to 4"),
        (("--guidance", "nan"), "--guidance=nan must be a finite number"),
        (("--output", "student.pt"), "--output student.pt must end in .safetensors"),
        (("--rank", 0), "rank=0 must be"),
        (("--model", "nowhere"), "nowhere"),
    ],
)
def test_what_means_nothing_is_refused_before_anything_is_learned(train, tmp_path, options, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        train(tmp_path / "a", *options)
    assert not list(tmp_path.glob("**/*.jsonl")) and not list(tmp_path.glob("**/lora.safetensors"))


def test_a_distilled_model_is_no_teacher_and_the_teacher_is_that_of_the_folder(make_tiny_pipe, tmp_path):
    pipe, parser = make_tiny_pipe(), argparse.ArgumentParser()
    pipe.scheduler.few_steps = FewSteps(4, 2.0)
    folder = save_checkpoint(pipe, tmp_path / "model")
    distill.add_arguments(parser)
    with pytest.raises(ValueError, match="model is distilled already, to 4 steps"):
        distill.main(parser.parse_args(["--folder", str(folder)]))
