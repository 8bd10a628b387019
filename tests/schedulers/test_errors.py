"""Wrong input: one clear error, which names the argument, its value, and what is allowed."""

import pytest
import torch

from ldm_tutorial.schedulers import SCHEDULERS, make_scheduler, randn

X = torch.zeros(2, 3, 4, 5)


@pytest.mark.parametrize("n", [0, -1, 1001, 10.0, "10", None, True, float("nan")])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_wrong_number_of_steps(name, n):
    scheduler = make_scheduler(name)
    scheduler.set_timesteps(7)
    before = scheduler.timesteps
    wrong = ValueError if isinstance(n, int) else TypeError
    with pytest.raises(wrong, match=r"num_inference_steps=.*whole number, 1 \.\.\. 1000"):
        scheduler.set_timesteps(n)
    assert scheduler.timesteps is before  # nothing half done


@pytest.mark.parametrize("t", [950, 951.5, -1, 1000, float("nan"), torch.tensor(2), torch.tensor([951, 901])])
@pytest.mark.parametrize("name", ["ddpm", "ddim"])
def test_a_timestep_that_is_not_visited(name, t):
    scheduler = make_scheduler(name)
    scheduler.set_timesteps(20)
    with pytest.raises(ValueError, match=r"is not one of the 20 timesteps 951, 901, .*, 101, 51, 1$"):
        scheduler.step(X, t, X)


@pytest.mark.parametrize("name", ["euler", "euler_a"])
def test_a_position_is_not_taken_for_a_timestep(name):
    scheduler = make_scheduler(name)
    scheduler.set_timesteps(5)
    for wrong in (1, 2, 3, 4):
        for method in (lambda t: scheduler.step(X, t, X), lambda t: scheduler.scale_model_input(X, t)):
            with pytest.raises(ValueError, match=r"is not one of the 5 timesteps 999, 749.25, 499.5, 249.75, 0$"):
                method(wrong)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_timestep_may_come_as_tensor_int_or_float(name):
    scheduler = make_scheduler(name)
    scheduler.set_timesteps(6)
    for t in scheduler.timesteps:
        for same in (t, t[None], t.item(), float(t), t.double(), t.numpy()):
            assert scheduler.timesteps[scheduler.index_of(same)] == t


def test_a_timestep_computed_in_float64_is_found():
    scheduler = make_scheduler("euler")
    scheduler.set_timesteps(20)
    assert scheduler.index_of(999 * 18 / 19) == 1  # 946.42105..., in float32 in `timesteps`


@pytest.mark.parametrize("name", SCHEDULERS)
def test_shapes_that_differ(name):
    scheduler = make_scheduler(name)
    with pytest.raises(ValueError, match=r"model_output \(2, 6, 4, 5\) must have the shape of x \(2, 3, 4, 5\)"):
        scheduler.step(torch.zeros(2, 6, 4, 5), 999, X)
    with pytest.raises(ValueError, match=r"noise \(1, 3, 4, 5\) must have the shape of x0 \(2, 3, 4, 5\)"):
        scheduler.add_noise(X, X[:1], 999)
    with pytest.raises(ValueError, match=r"t has 3 values for 2 pictures"):
        scheduler.add_noise(X, X, torch.tensor([1, 2, 3]))


@pytest.mark.parametrize("t", [-1, 1000, float("nan"), torch.tensor([3, 1000])])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_training_timestep_out_of_range(name, t):
    for method in (make_scheduler(name).add_noise, make_scheduler(name).get_velocity):
        with pytest.raises(ValueError, match=r"must lie within 0 \.\.\. 999"):
            method(X, X, t)


def test_only_sigma_space_knows_timesteps_with_fractions():
    make_scheduler("euler").add_noise(X, X, 3.5)
    with pytest.raises(ValueError, match=r"t=\[3.5\] must be whole numbers for DDIMScheduler"):
        make_scheduler("ddim").add_noise(X, X, 3.5)


WRONG_SETTINGS = [
    ("ddim", {"beta_schedule": "quadratic"}, r"beta_schedule='quadratic'.*'linear', 'scaled_linear', .*'cosine'"),
    ("ddim", {"prediction_type": "sample"}, r"prediction_type='sample'.*'epsilon', 'v_prediction'"),
    ("ddim", {"timestep_spacing": "log"}, r"timestep_spacing='log'.*'leading', 'linspace', 'trailing'"),
    ("ddim", {"beta_start": 0.02, "beta_end": 0.01}, r"beta_start=0.02, beta_end=0.01 must satisfy"),
    ("ddim", {"beta_end": 1.0}, r"beta_end=1.0 must satisfy"),
    ("ddim", {"beta_end": float("nan")}, r"beta_end=nan must be a finite number"),
    ("ddim", {"num_train_timesteps": 1}, r"num_train_timesteps=1 must be a whole number, 2 \.\.\. 100000"),
    ("ddim", {"steps_offset": -1}, r"steps_offset=-1 must be a whole number, 0 or more"),
    ("ddim", {"set_alpha_to_one": "no"}, r"set_alpha_to_one='no'.*False, True"),
    ("ddim", {"eta": -0.1}, r"eta=-0.1 must be a finite number, 0 or more"),
    ("ddim", {"eta": float("nan")}, r"eta=nan must be a finite number, 0 or more"),
    ("ddpm", {"variance_type": "learned"}, r"variance_type='learned'.*'fixed_small', 'fixed_large'"),
    ("euler", {"s_churn": -1.0}, r"s_churn=-1.0 must be a finite number, 0 or more"),
    ("euler", {"s_noise": float("inf")}, r"s_noise=inf must be a finite number, 0 or more"),
    ("euler", {"s_tmax": -1.0}, r"s_tmax=-1.0 must be a number, 0 or more"),
    ("euler", {"use_karras_sigmas": "yes"}, r"use_karras_sigmas='yes'.*False, True"),
]


@pytest.mark.parametrize(("name", "settings", "message"), WRONG_SETTINGS)
def test_a_wrong_setting(name, settings, message):
    with pytest.raises(ValueError, match=message):
        make_scheduler(name, **settings)


WRONG_KINDS = [
    ("ddim", {"beta_start": "0.1"}, r"beta_start='0.1' must be a finite number"),
    ("ddim", {"num_train_timesteps": 1000.0}, r"num_train_timesteps=1000.0 must be a whole number"),
    ("euler_a", {"eta": None}, r"eta=None must be a finite number, 0 or more"),
]


@pytest.mark.parametrize(("name", "settings", "message"), WRONG_KINDS)
def test_a_setting_of_the_wrong_kind(name, settings, message):
    with pytest.raises(TypeError, match=message):
        make_scheduler(name, **settings)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_zero_terminal_snr_needs_v_prediction(name):
    with pytest.raises(ValueError, match="rescale_betas_zero_snr=True needs prediction_type='v_prediction'"):
        make_scheduler(name, rescale_betas_zero_snr=True)


@pytest.mark.parametrize(
    ("generator", "message"),
    [
        ([torch.Generator()], "a list of 1 for 2 pictures"),
        ([torch.Generator()] * 3, "a list of 3 for 2 pictures"),
        (0, "must be a CPU torch.Generator, or a list of one each; got 0"),
        ("cpu", "got 'cpu'"),
        ([0, 1], "got 0"),
    ],
)
def test_a_wrong_generator(generator, message):
    with pytest.raises(ValueError, match=message):
        randn((2, 3), generator)


class OnAnotherDevice(torch.Generator):
    """A machine without a GPU has no generator on one: this says it were."""

    device = torch.device("cuda")


def test_a_generator_on_a_gpu_would_make_another_picture():
    with pytest.raises(ValueError, match=r"must be a CPU torch.Generator, or a list of one each; got cuda"):
        randn((2, 3), OnAnotherDevice())
