"""A seed is one picture: on every device, in every dtype, in every batch; and a step without noise draws none."""

import pytest
import torch

from ldm_tutorial.schedulers import SCHEDULERS, make_scheduler, randn

STOCHASTIC = [("ddpm", {}), ("ddim", {"eta": 1.0}), ("euler", {"s_churn": 10.0}), ("euler_a", {})]
DETERMINISTIC = [("ddim", {}), ("euler", {}), ("euler_a", {"eta": 0.0})]


def run(scheduler, model, x, generators):
    scheduler.set_timesteps(8)
    for t in scheduler.timesteps:
        x = scheduler.step(model(scheduler.scale_model_input(x, t), t), t, x, generators).prev_sample
    return x


def test_noise_of_a_list_is_that_of_its_generators_one_by_one(seeded):
    noise = randn((3, 4, 5, 6), seeded(3))
    alone = [torch.randn(1, 4, 5, 6, generator=g) for g in seeded(3)]
    assert torch.equal(noise, torch.cat(alone))


def test_one_generator_is_for_the_whole_batch():
    noise = randn((3, 4), torch.Generator().manual_seed(5))
    assert torch.equal(noise, torch.randn(3, 4, generator=torch.Generator().manual_seed(5)))


def test_without_a_generator_the_global_one_is_used():
    torch.manual_seed(3)
    expected = torch.randn(2, 3)
    torch.manual_seed(3)
    assert torch.equal(randn((2, 3)), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_noise_is_drawn_in_float32_and_then_cast(dtype, seeded):
    assert torch.equal(randn((2, 3, 4), seeded(2), "cpu", dtype), randn((2, 3, 4), seeded(2)).to(dtype))


def test_noise_goes_to_the_device_that_is_asked_for(seeded):
    assert randn((2, 3), seeded(2), device="meta").device.type == "meta"


@pytest.mark.parametrize(("name", "settings"), STOCHASTIC)
def test_a_picture_does_not_depend_on_the_others_of_its_batch(name, settings, model, pictures, seeded):
    together = run(make_scheduler(name, **settings), model, pictures, seeded(3))
    for i in range(3):
        alone = run(make_scheduler(name, **settings), model, pictures[i : i + 1], seeded(1, first=i))
        torch.testing.assert_close(together[i : i + 1], alone)
    moved = run(make_scheduler(name, **settings), model, pictures[[2, 0]], [seeded(3)[2], seeded(3)[0]])
    torch.testing.assert_close(moved, together[[2, 0]])


@pytest.mark.parametrize(("name", "settings"), STOCHASTIC)
def test_another_seed_is_another_picture(name, settings, model, pictures, seeded):
    one, other = (run(make_scheduler(name, **settings), model, pictures, seeded(3, first)) for first in (0, 10))
    assert (one - other).abs().max() > 0.01


@pytest.mark.parametrize(("name", "settings"), DETERMINISTIC)
def test_a_step_that_adds_no_noise_draws_none(name, settings, model, pictures):
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    run(make_scheduler(name, **settings), model, pictures, generator)
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize(("name", "settings"), [*STOCHASTIC, ("ddpm", {"variance_type": "fixed_large"})])
def test_the_last_step_draws_no_noise(name, settings, pictures):
    if name == "ddim":
        settings = {**settings, "set_alpha_to_one": True}
    scheduler = make_scheduler(name, **settings)
    scheduler.set_timesteps(5)
    drawn = []
    for t in scheduler.timesteps:
        generator = torch.Generator().manual_seed(0)
        before = generator.get_state()
        scheduler.step(pictures.roll(1), t, pictures, generator)
        drawn.append(not torch.equal(generator.get_state(), before))
    assert drawn[-1] is False
    assert any(drawn)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_steps_keep_the_dtype_and_compute_in_float32_or_wider(name, dtype, pictures, seeded):
    scheduler, wide = make_scheduler(name), make_scheduler(name)
    scheduler.set_timesteps(10)
    wide.set_timesteps(10)
    x, output, t = pictures.to(dtype), pictures.roll(1).to(dtype), scheduler.timesteps[4]
    step = scheduler.step(output, t, x, seeded(3))
    exact = wide.step(output.double(), t, x.double(), seeded(3))
    for found, expected in zip(step, exact, strict=True):
        assert found.dtype == dtype
        torch.testing.assert_close(
            found,
            expected.to(dtype),
            rtol=1e-5 if dtype == torch.float64 else None,
            atol=None if dtype != torch.float64 else 1e-6,
        )
    assert scheduler.scale_model_input(x, t).dtype == dtype
    assert scheduler.add_noise(x, output, t).dtype == dtype
    assert scheduler.get_velocity(x, output, t).dtype == dtype


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_step_leaves_its_inputs_alone(name, pictures):
    scheduler = make_scheduler(name)
    scheduler.set_timesteps(4)
    x, output = pictures.clone(), pictures.roll(1)
    kept = output.clone()
    scheduler.step(output, scheduler.timesteps[0], x)
    scheduler.scale_model_input(x, scheduler.timesteps[0])
    scheduler.add_noise(x, output, scheduler.timesteps[0])
    assert torch.equal(x, pictures)
    assert torch.equal(output, kept)
