"""Flow matching: diffusers' steps, the conversions of the four predictions, its order on the exact world, what fits a model."""

import dataclasses
import itertools
import json
import math
import warnings

import diffusers
import pytest
import torch

from ldm_tutorial.checkpoints import load_checkpoint, save_checkpoint
from ldm_tutorial.inputs import Options
from ldm_tutorial.lessons.toy import GaussianMixture
from ldm_tutorial.pipeline import load_pipeline
from ldm_tutorial.schedulers import (
    FLOW_SCHEDULERS,
    SCHEDULERS,
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    make_scheduler,
    scheduler_class,
    scheduler_from_config,
)
from ldm_tutorial.schedulers.spaces import PREDICTIONS, convert

MIXTURE = GaussianMixture([[1.0, 0.0], [-0.5, 0.8], [-0.5, -0.8]], [0.8, 0.7, 0.6], [0.5, 0.3, 0.2])
OPTIONS = Options(steps=3)


# ---- the same steps as diffusers


@pytest.mark.parametrize("name", FLOW_SCHEDULERS)
@pytest.mark.parametrize("shift", [1.0, 3.0, 0.5])
@pytest.mark.parametrize("T", [1000, 300])
def test_every_evaluation_equals_diffusers(name, shift, T, pictures):
    cls = FLOW_SCHEDULERS[name]
    settings = {"num_train_timesteps": T, "shift": shift}
    off = 2e-6 if name == "flow_euler" else 1e-4  # diffusers' Heun subtracts x - (x - t v) and divides by t, which rounds
    for n in (1, 2, 3, 25, 140):
        ours, theirs = cls(**settings), getattr(diffusers, cls.__name__)(**settings)
        ours.set_timesteps(n)
        theirs.set_timesteps(n)
        torch.testing.assert_close(ours.timesteps, theirs.timesteps, rtol=1e-6, atol=1e-4)
        x = pictures
        for i, (t, their_t) in enumerate(zip(ours.timesteps, theirs.timesteps, strict=True)):
            output = pictures.roll(i)
            expected = theirs.step(output, their_t, x).prev_sample
            torch.testing.assert_close(ours.step(output, t, x).prev_sample, expected, rtol=off, atol=off)
            x = expected


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_noise_is_added_as_diffusers_adds_it(shift, pictures):
    ours, theirs = (cls(shift=shift) for cls in (FlowMatchEulerDiscreteScheduler, diffusers.FlowMatchEulerDiscreteScheduler))
    t = theirs.timesteps[[0, 400, 999]]
    found = ours.add_noise(pictures, pictures.flip(0), t)
    torch.testing.assert_close(found, theirs.scale_noise(pictures, t, pictures.flip(0)), rtol=1e-5, atol=1e-6)
    assert torch.equal(ours.add_noise(pictures, pictures.flip(0), 1000), pictures.flip(0))
    assert torch.equal(ours.add_noise(pictures, pictures.flip(0), 0), pictures)


@pytest.mark.parametrize("name", FLOW_SCHEDULERS)
def test_files_are_exchanged_with_diffusers_without_a_word(name):
    ours = make_scheduler(name, shift=3.0, num_train_timesteps=500)
    theirs = getattr(diffusers, type(ours).__name__)
    config = json.loads(json.dumps(ours.to_config()))
    assert set(config) == {"_class_name", "num_train_timesteps", "shift"}
    made = theirs.from_config(config)
    assert (made.config.shift, made.config.num_train_timesteps) == (3.0, 500)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = scheduler_from_config({**made.config, "_class_name": type(ours).__name__})
    assert type(again) is type(ours) and dataclasses.asdict(again) == dataclasses.asdict(ours)


def test_an_option_that_would_change_the_model_is_refused_and_one_of_the_sampler_ignored_with_a_warning():
    config = FlowMatchEulerDiscreteScheduler().to_config()
    with pytest.raises(ValueError, match="invert_sigmas=True"):
        scheduler_from_config(config | {"invert_sigmas": True})
    with pytest.raises(ValueError, match="prediction_type='epsilon'.*'velocity'"):
        scheduler_from_config(config | {"prediction_type": "epsilon"})
    for key in ("use_dynamic_shifting", "use_karras_sigmas", "stochastic_sampling"):
        with pytest.warns(UserWarning, match=f"ignores .*{key}=True"):
            scheduler_from_config(config | {key: True})


def test_a_wrong_setting():
    for shift in (0.0, -1.0, math.inf):
        with pytest.raises(ValueError, match=f"shift={shift:g}".replace("+", ".")):
            FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler = FlowMatchEulerDiscreteScheduler()
    for n in (0, 1001):
        with pytest.raises(ValueError, match=f"num_inference_steps={n} "):
            scheduler.set_timesteps(n)
    with pytest.raises(ValueError, match=r"must lie within 0 \.\.\. 1000"):
        scheduler.add_noise(torch.zeros(2, 3), torch.zeros(2, 3), 1000.5)


# ---- the conversions


def mixed(kind, x0, eps, a, s):
    """A prediction of this kind, from its definition."""
    angle = math.atan2(s, a)
    return {
        "epsilon": eps,
        "sample": x0,
        "v_prediction": math.cos(angle) * eps - math.sin(angle) * x0,
        "velocity": eps - x0,
    }[kind]


@pytest.mark.parametrize(("given", "wanted"), [*itertools.product(PREDICTIONS, PREDICTIONS)])
@pytest.mark.parametrize(("a", "s"), [(0.8, 0.6), (0.3, 0.7), (1.0, 14.6)], ids=["preserving", "straight", "exploding"])
def test_each_prediction_becomes_each_other_and_comes_back(given, wanted, a, s, pictures):
    x0, eps = pictures.double(), pictures.double().flip(0)
    x, prediction = a * x0 + s * eps, mixed(given, x0, eps, a, s)
    found = convert(prediction, x, given, wanted, a, s)
    torch.testing.assert_close(found, mixed(wanted, x0, eps, a, s))
    torch.testing.assert_close(convert(found, x, wanted, given, a, s), prediction)


def test_the_conversions_are_those_of_the_schedulers(pictures):
    x, output, t = pictures.double(), pictures.double().flip(0), 601
    for kind in ("epsilon", "v_prediction"):
        ddim, euler = (cls(prediction_type=kind) for cls in (DDIMScheduler, EulerDiscreteScheduler))
        alpha_bar, sigma = ddim.alpha_bar_at(t).item(), euler.sigma_at(t).item()
        a, s = alpha_bar**0.5, (1 - alpha_bar) ** 0.5
        x0, eps = ddim.predict(output, x, alpha_bar)
        torch.testing.assert_close(convert(output, x, kind, "sample", a, s), x0)
        torch.testing.assert_close(convert(output, x, kind, "epsilon", a, s), eps)
        torch.testing.assert_close(convert(output, x, kind, "sample", 1.0, sigma), euler.predict(output, x, sigma))
    noisy = DDIMScheduler().add_noise(x, output, t)
    v = DDIMScheduler().get_velocity(x, output, t)
    torch.testing.assert_close(convert(v, noisy, "v_prediction", "velocity", a, s), output - x)
    flow = FlowMatchEulerDiscreteScheduler()
    torch.testing.assert_close(convert(output, x, "velocity", "sample", 0.25, 0.75), flow.predict(output, x, 0.75)[0])
    assert torch.equal(flow.get_velocity(x, output, t), output - x)


def test_an_unknown_prediction_is_refused_by_name(pictures):
    with pytest.raises(ValueError, match="given='noise'.*'epsilon', 'sample', 'v_prediction', 'velocity'"):
        convert(pictures, pictures, "noise", "velocity", 0.5, 0.5)
    with pytest.raises(ValueError, match="wanted='flow'"):
        convert(pictures, pictures, "epsilon", "flow", 0.5, 0.5)


def test_levels_are_those_of_diffusion_in_another_unit():
    flow = FlowMatchEulerDiscreteScheduler()
    t = torch.tensor([100.0, 500.0, 900.0])
    torch.testing.assert_close(flow.sigma_at(t), (t / (1000 - t)).double())
    assert flow.alpha_bar_at(1000).item() == 0 and flow.alpha_bar_at(0).item() == 1
    assert flow.sigma_at(1000).item() == math.inf


# ---- the exact world


def run(scheduler, model, x):
    for t in scheduler.timesteps:
        x = scheduler.step(model(x, t), t, x).prev_sample
    return x


def exact(x, n=400):
    """Along dx/dt = v(x, t) from 1 to 0 by Runge-Kutta of order 4."""
    scheduler = FlowMatchEulerDiscreteScheduler()
    model, h = MIXTURE.as_model(scheduler), -1 / n
    for i in range(n):
        t = 1 + i * h
        k1 = model(x, 1000 * t)
        k2 = model(x + h / 2 * k1, 1000 * (t + h / 2))
        k3 = model(x + h / 2 * k2, 1000 * (t + h / 2))
        k4 = model(x + h * k3, max(1000 * (t + h), 0.0))
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return x


def test_the_toys_velocity_is_the_mean_of_the_velocities_that_pass_there():
    """E[ε - x0 | x], by weighing many straight lines: those that pass near x count."""
    generator = torch.Generator().manual_seed(0)
    x0, eps = MIXTURE.sample(400_000, generator), torch.randn(400_000, 2, generator=generator).double()
    scheduler = FlowMatchEulerDiscreteScheduler()
    for t in (300.0, 700.0):
        passing = scheduler.add_noise(x0, eps, t)
        for x in ([0.4, 0.1], [-0.3, 0.5]):
            x = torch.tensor(x).double()
            near = ((passing - x) ** 2).sum(1) < 0.05**2
            expected = (eps - x0)[near].mean(0)
            found = MIXTURE.as_model(scheduler)(x[None], t)[0]
            assert (found - expected).abs().max() < 5 / near.sum() ** 0.5


@pytest.mark.parametrize(("name", "order"), [("flow_euler", 1), ("flow_heun", 2)])
def test_it_is_of_the_order_that_it_should_be(name, order):
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    goal, found = exact(x), []
    for n in (10, 20, 40, 80):
        scheduler = make_scheduler(name)
        scheduler.set_timesteps(n)
        found.append((run(scheduler, MIXTURE.as_model(scheduler), x) - goal).pow(2).mean().sqrt().item())
    measured = math.log(found[0] / found[-1]) / math.log(8)
    assert order - 0.2 < measured < order + 0.35, found


def test_on_ddims_levels_it_takes_ddims_steps():
    """x at unit scale divided by sqrt(ᾱ) + sqrt(1 - ᾱ) is x on the straight line: to first order both keep x0 and ε."""
    ddim = DDIMScheduler(timestep_spacing="trailing", set_alpha_to_one=True)
    ddim.set_timesteps(12)
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    goal = run(ddim, MIXTURE.as_model(ddim), x)
    signal, noise = ddim.alpha_bars.double().sqrt(), (1 - ddim.alpha_bars.double()).sqrt()
    times = noise / (signal + noise)
    flow = FlowMatchEulerDiscreteScheduler()
    x = x / (signal[0] + noise[0])
    for time, time_next in itertools.pairwise(times.tolist()):
        x = x + (time_next - time) * MIXTURE.as_model(flow)(x, 1000 * time)
    torch.testing.assert_close(x, goal, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", FLOW_SCHEDULERS)
def test_a_single_picture_is_reached_in_one_step(name):
    """The conditional path is straight."""
    scheduler, world = make_scheduler(name), GaussianMixture([[0.3, -0.2]], [0.0])
    scheduler.set_timesteps(1)
    end = run(scheduler, world.as_model(scheduler), torch.randn(9, 2, generator=torch.Generator().manual_seed(0)).double())
    torch.testing.assert_close(end, world.means.expand(9, 2))


def test_heuns_order_of_calls_is_checked(pictures):
    scheduler = FlowMatchHeunDiscreteScheduler()
    scheduler.set_timesteps(3)
    first, second = scheduler.timesteps[:2].tolist()
    scheduler.step(pictures, first, pictures)
    with pytest.raises(ValueError, match="is out of order: .*FlowMatchHeunDiscreteScheduler"):
        scheduler.step(pictures, first, pictures)
    scheduler.step(pictures, second, pictures)


# ---- which scheduler fits which model


def test_each_has_a_name_a_title_and_a_look_of_its_own():
    labels = [cls.label for cls in (*SCHEDULERS.values(), *FLOW_SCHEDULERS.values())]
    names = [name for label in labels for name in (label.name, *label.aliases)]
    looks = [(label.color, label.marker) for label in labels]
    for distinct in (names, [label.title for label in labels], looks):
        assert len(set(distinct)) == len(distinct), distinct
    assert scheduler_class("Flow-Euler") is scheduler_class("FlowMatchEulerDiscreteScheduler") is FLOW_SCHEDULERS["flow_euler"]


@pytest.fixture
def flow_pipe(tiny_pipe, tmp_path):
    parts = {"unet": tiny_pipe.unet, "vae": tiny_pipe.vae, "text_encoder": tiny_pipe.text_encoder}
    parts |= {"tokenizer": tiny_pipe.tokenizer, "scheduler": FlowMatchEulerDiscreteScheduler(shift=2.0)}
    save_checkpoint(parts, tmp_path / "flow")
    return load_pipeline(tmp_path / "flow", device="cpu")


def test_a_model_trained_by_flow_matching_draws_with_its_own_scheduler(flow_pipe):
    assert isinstance(flow_pipe.scheduler, FlowMatchEulerDiscreteScheduler)
    steps = list(flow_pipe.stream("a cat", steps=3, seed=1))
    torch.testing.assert_close([step.timestep for step in steps], flow_pipe.prepare("a cat", OPTIONS).timesteps.tolist())
    [picture] = flow_pipe("a cat", steps=3, seed=1, progress=False)
    assert picture.tobytes() == flow_pipe.decode(steps[-1].latents)[0].tobytes()
    assert (picture.info["scheduler"], picture.info["scheduler_options"]) == ("flow_euler", {"shift": 2.0})


def test_another_scheduler_of_flow_matching_inherits_what_the_model_says(flow_pipe):
    [picture] = flow_pipe("a cat", scheduler="flow_heun", steps=2, progress=False)
    assert (picture.info["scheduler"], picture.info["scheduler_options"]) == ("flow_heun", {"shift": 2.0})
    [redrawn] = flow_pipe.img2img("a cat", picture, strength=0.5, steps=4, scheduler_options={"shift": 1.0}, progress=False)
    assert redrawn.info["scheduler_options"] == {}


@pytest.mark.parametrize("chosen", ["ddim", "euler_a", DDIMScheduler()], ids=str)
def test_a_scheduler_of_diffusion_does_not_fit_it(flow_pipe, chosen):
    expected = r"does not fit this model, which was trained by flow matching and predicts 'velocity'; choose one of 'flow_euler'"
    with pytest.raises(ValueError, match=expected):
        flow_pipe("a cat", scheduler=chosen, steps=2, progress=False)


@pytest.mark.parametrize("chosen", ["flow_euler", "flow heun", FlowMatchEulerDiscreteScheduler()], ids=str)
def test_and_those_of_flow_matching_fit_no_model_of_diffusion(tiny_pipe, chosen):
    expected = r"does not fit this model, which was trained by diffusion and predicts 'epsilon'; choose one of 'ddpm', 'ddim'"
    with pytest.raises(ValueError, match=expected):
        tiny_pipe("a cat", scheduler=chosen, steps=2, progress=False)


def test_a_single_file_keeps_the_scheduler(flow_pipe, tmp_path):
    parts = {"unet": flow_pipe.unet, "vae": flow_pipe.vae, "text_encoder": flow_pipe.text_encoder}
    save_checkpoint(parts | {"tokenizer": flow_pipe.tokenizer, "scheduler": flow_pipe.scheduler}, tmp_path / "flow.safetensors")
    scheduler = load_checkpoint(tmp_path / "flow.safetensors").scheduler
    assert isinstance(scheduler, FlowMatchEulerDiscreteScheduler) and scheduler.shift == 2.0
