"""Settings to and from diffusers' scheduler_config.json: the same file, the same steps, in either library."""

import dataclasses
import json
import warnings

import diffusers
import pytest
import torch

from ldm_tutorial.schedulers import SCHEDULERS, make_scheduler

DIFFUSERS = {name: getattr(diffusers, cls.__name__) for name, cls in SCHEDULERS.items()}

V15_FILE = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}

SETTINGS = [
    ("ddpm", {"variance_type": "fixed_large", "steps_offset": 0}),
    ("ddpm", {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02, "timestep_spacing": "trailing"}),
    ("ddim", {"set_alpha_to_one": True, "prediction_type": "v_prediction"}),
    ("ddim", {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "num_train_timesteps": 500}),
    ("euler", {"use_karras_sigmas": True}),
    ("euler", {"timestep_spacing": "leading", "beta_schedule": "cosine"}),
    ("euler_a", {"timestep_spacing": "trailing", "steps_offset": 0}),
    *((name, {}) for name in SCHEDULERS),
]


def assert_same_first_steps(ours, theirs, pictures, seeded):
    ours.set_timesteps(10)
    theirs.set_timesteps(10)
    torch.testing.assert_close(ours.timesteps, theirs.timesteps, rtol=1e-6, atol=1e-3)
    for i in range(3):
        x = ours.init_noise_sigma * pictures
        theirs.scale_model_input(x, theirs.timesteps[i])
        expected = theirs.step(pictures.roll(1), theirs.timesteps[i], x, generator=seeded(3)).prev_sample
        found = ours.step(pictures.roll(1), ours.timesteps[i], x, generator=seeded(3)).prev_sample
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_no_arguments_and_v15s_own_file_are_the_same_scheduler(name):
    assert SCHEDULERS[name].from_config(V15_FILE).to_config() == SCHEDULERS[name]().to_config()


@pytest.mark.parametrize("name", SCHEDULERS)
def test_v15s_own_file_takes_the_steps_that_diffusers_takes(name, pictures, seeded):
    theirs = DIFFUSERS[name].from_config(V15_FILE)
    assert_same_first_steps(SCHEDULERS[name].from_config(V15_FILE), theirs, pictures, seeded)


@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_diffusers_loads_our_file_and_takes_our_steps(name, settings, tmp_path, pictures, seeded):
    ours = make_scheduler(name, **settings)
    (tmp_path / "scheduler_config.json").write_text(json.dumps(ours.to_config()))
    theirs = DIFFUSERS[name].from_pretrained(tmp_path)
    assert type(theirs).__name__ == type(ours).__name__ == ours.to_config()["_class_name"]
    assert_same_first_steps(ours, theirs, pictures, seeded)


@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_we_load_the_file_of_diffusers_and_take_its_steps(name, settings, tmp_path, pictures, seeded):
    theirs = DIFFUSERS[name].from_config(make_scheduler(name, **settings).to_config())
    theirs.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "scheduler_config.json").read_text())
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # every key that diffusers writes is known
        ours = SCHEDULERS[name].from_config(config)
    assert_same_first_steps(ours, theirs, pictures, seeded)


OTHERS = ["DPMSolverMultistepScheduler", "PNDMScheduler", "UniPCMultistepScheduler", "HeunDiscreteScheduler"]


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("name", SCHEDULERS)
def test_files_of_other_classes_load_without_a_warning(name, other):
    betas = {key: value for key, value in V15_FILE.items() if key.startswith("beta")}
    config = dict(getattr(diffusers, other)(**betas).config)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scheduler = SCHEDULERS[name].from_config(config)
    assert scheduler.beta_schedule == "scaled_linear"


@pytest.mark.parametrize(("name", "settings"), [*SETTINGS, ("ddim", {"eta": 0.5}), ("euler", {"s_churn": 3.0, "s_tmax": 9.0})])
def test_settings_survive_the_file(name, settings):
    ours = make_scheduler(name, **settings)
    again = SCHEDULERS[name].from_config(json.loads(json.dumps(ours.to_config())))
    assert dataclasses.asdict(again) == dataclasses.asdict(ours)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_where_a_file_is_silent_it_means_what_diffusers_makes_of_it(name, pictures, seeded):
    silent = {"_class_name": SCHEDULERS[name].__name__, "clip_sample": False}
    theirs = DIFFUSERS[name].from_config(silent)
    assert_same_first_steps(SCHEDULERS[name].from_config(silent), theirs, pictures, seeded)


def test_null_means_silent():
    assert SCHEDULERS["ddpm"].from_config({**V15_FILE, "variance_type": None}).variance_type == "fixed_small"


def test_unknown_keys_are_ignored_with_a_warning():
    with pytest.warns(UserWarning, match="flux_capacitor"):
        SCHEDULERS["ddim"].from_config({**V15_FILE, "flux_capacitor": 1.21})


UNSUPPORTED = [
    {"thresholding": True},
    {"clip_sample": True},
    {"trained_betas": [0.1, 0.2]},
    {"prediction_type": "sample"},
    {"prediction_type": "flow_prediction"},
    {"beta_schedule": "sigmoid"},
    {"timestep_spacing": "random"},
    {"num_train_timesteps": "many"},
    {"beta_start": -0.1},
    {"rescale_betas_zero_snr": True},
]


@pytest.mark.parametrize("option", UNSUPPORTED, ids=str)
@pytest.mark.parametrize("name", SCHEDULERS)
def test_an_unsupported_option_is_an_error_that_names_it(name, option):
    with pytest.raises(ValueError, match=next(iter(option))):
        SCHEDULERS[name].from_config(V15_FILE | option)


@pytest.mark.parametrize(
    "option",
    [
        {"final_sigmas_type": "sigma_min"},
        {"use_exponential_sigmas": True},
        {"use_beta_sigmas": True},
        {"interpolation_type": "log_linear"},
        {"timestep_type": "continuous"},
        {"sigma_max": 10.0},
    ],
    ids=str,
)
def test_an_unsupported_option_of_sigma_levels_concerns_euler_only(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        SCHEDULERS["euler"].from_config(V15_FILE | option)
    SCHEDULERS["ddim"].from_config(V15_FILE | option)


def test_ddpm_refuses_a_variance_it_cannot_make():
    with pytest.raises(ValueError, match="variance_type='learned_range'.*fixed_small"):
        SCHEDULERS["ddpm"].from_config({**V15_FILE, "variance_type": "learned_range"})
    SCHEDULERS["ddim"].from_config({**V15_FILE, "variance_type": "learned_range"})  # not a word to DDIM


def test_a_config_that_is_no_dict_is_an_error():
    with pytest.raises(TypeError, match="must be a dict"):
        SCHEDULERS["ddim"].from_config("scheduler_config.json")


# ---- make_scheduler

NAMES = {
    "ddpm": "DDPMScheduler",
    "DDIM": "DDIMScheduler",
    "Euler": "EulerDiscreteScheduler",
    "euler_a": "EulerAncestralDiscreteScheduler",
    "euler a": "EulerAncestralDiscreteScheduler",
    "Euler-A": "EulerAncestralDiscreteScheduler",
    "euler_ancestral": "EulerAncestralDiscreteScheduler",
    "Euler Ancestral": "EulerAncestralDiscreteScheduler",
    "DDIMScheduler": "DDIMScheduler",
}


@pytest.mark.parametrize(("name", "expected"), NAMES.items())
def test_names_in_any_spelling(name, expected):
    assert type(make_scheduler(name)).__name__ == expected


def test_schedulers_come_in_a_fixed_order():
    assert list(SCHEDULERS) == ["ddpm", "ddim", "euler", "euler_a"]


@pytest.mark.parametrize("name", ["plms", "", "euler__a", None, 3])
def test_an_unknown_name_is_an_error_that_lists_the_known(name):
    with pytest.raises(ValueError, match="'ddpm', 'ddim', 'euler', 'euler_a'"):
        make_scheduler(name)


def test_a_setting_that_does_not_exist_is_an_error_that_lists_those_that_do():
    with pytest.raises(ValueError, match="DDPMScheduler has no setting 'eta'; it has .*variance_type"):
        make_scheduler("ddpm", eta=0.5)


def test_overrides_go_before_the_file():
    scheduler = make_scheduler("euler", V15_FILE, use_karras_sigmas=True, beta_end=0.02)
    assert scheduler.use_karras_sigmas
    assert scheduler.beta_end == 0.02  # not the file's 0.012
    assert scheduler.beta_start == 0.00085
