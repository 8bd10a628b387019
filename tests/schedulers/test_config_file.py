"""Settings to and from diffusers' scheduler_config.json: the same file, the same steps, in either library."""

import dataclasses
import inspect
import json
import warnings

import diffusers
import pytest
import torch

from ldm_tutorial.schedulers import COURSE, SCHEDULERS, make_scheduler, scheduler_from_config
from ldm_tutorial.schedulers.config_file import OTHER_SAMPLERS

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
    torch.testing.assert_close(ours.timesteps.double(), theirs.timesteps.double(), rtol=1e-6, atol=1e-3)
    for i in range(3):
        x = ours.init_noise_sigma * pictures
        theirs.scale_model_input(x, theirs.timesteps[i])
        options = {"generator": seeded(3)} if "generator" in inspect.signature(theirs.step).parameters else {}
        expected = theirs.step(pictures.roll(1), theirs.timesteps[i], x, **options).prev_sample
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
def test_where_a_file_is_silent_it_means_what_diffusers_pipeline_makes_of_it(name, pictures, seeded):
    """diffusers' schedulers take steps_offset=0 and clip_sample=True; its Stable Diffusion pipelines then set 1 and False."""
    silent = {"_class_name": SCHEDULERS[name].__name__}
    theirs = DIFFUSERS[name].from_config(silent | {"steps_offset": 1, "clip_sample": False})
    assert_same_first_steps(SCHEDULERS[name].from_config(silent), theirs, pictures, seeded)


def test_null_means_silent():
    assert SCHEDULERS["ddpm"].from_config({**V15_FILE, "variance_type": None}).variance_type == "fixed_small"


def test_unknown_keys_are_ignored_with_a_warning():
    with pytest.warns(UserWarning, match="flux_capacitor"):
        SCHEDULERS["ddim"].from_config({**V15_FILE, "flux_capacitor": 1.21})


FORWARD_PROCESSES = [
    {"trained_betas": [0.1, 0.2]},
    {"use_flow_sigmas": True},
    {"timestep_type": "continuous"},
    {"prediction_type": "sample"},
    {"prediction_type": "flow_prediction"},
    {"beta_schedule": "sigmoid"},
    {"num_train_timesteps": "many"},
    {"beta_start": -0.1},
    {"rescale_betas_zero_snr": True},
]


@pytest.mark.parametrize("option", [*FORWARD_PROCESSES, {"timestep_spacing": "random"}], ids=str)
@pytest.mark.parametrize("name", SCHEDULERS)
def test_another_forward_process_and_a_wrong_value_are_errors_that_name_them(name, option):
    with pytest.raises(ValueError, match=next(iter(option))):
        SCHEDULERS[name].from_config(V15_FILE | option)


@pytest.mark.parametrize("option", [{"clip_sample": True}, {"thresholding": True}], ids=str)
@pytest.mark.parametrize("name", SCHEDULERS)
def test_an_option_of_the_sampler_that_is_not_supported_is_ignored_with_a_warning(name, option):
    key, value = next(iter(option.items()))
    with pytest.warns(UserWarning, match=f"{SCHEDULERS[name].__name__} ignores .*{key}={value}"):
        scheduler = SCHEDULERS[name].from_config(V15_FILE | option)
    assert scheduler.to_config() == SCHEDULERS[name]().to_config()


def test_the_file_that_diffusers_writes_for_its_own_ddpm_loads():
    """It clips by default, which suits pictures and not latents: it must not keep the whole model from loading."""
    with pytest.warns(UserWarning, match="ignores .*clip_sample=True"):
        scheduler = scheduler_from_config(dict(diffusers.DDPMScheduler().config, _class_name="DDPMScheduler"))
    assert type(scheduler) is SCHEDULERS["ddpm"]


@pytest.mark.parametrize(
    "option",
    [
        {"final_sigmas_type": "sigma_min"},
        {"use_exponential_sigmas": True},
        {"use_beta_sigmas": True},
        {"interpolation_type": "log_linear"},
        {"sigma_max": 10.0},
    ],
    ids=str,
)
def test_an_unsupported_option_of_sigma_levels_concerns_euler_only(option):
    with pytest.warns(UserWarning, match=f"EulerDiscreteScheduler ignores .*{next(iter(option))}="):
        SCHEDULERS["euler"].from_config(V15_FILE | option)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SCHEDULERS["ddim"].from_config(V15_FILE | option)


# ---- which class


def test_each_class_of_ours_comes_back_from_its_file():
    for cls in SCHEDULERS.values():
        assert type(scheduler_from_config(cls().to_config())) is cls


@pytest.mark.parametrize("name", ["PNDMScheduler", "UniPCMultistepScheduler", "LMSDiscreteScheduler", None])
def test_other_samplers_of_the_same_forward_process_become_ddim(name):
    scheduler = scheduler_from_config(V15_FILE | {"_class_name": name})
    assert type(scheduler) is SCHEDULERS["ddim"]
    assert scheduler.to_config() == SCHEDULERS["ddim"]().to_config()


def test_the_other_samplers_are_diffusers_own_and_know_nothing_but_betas():
    for name in OTHER_SAMPLERS:
        parameters = inspect.signature(getattr(diffusers, name)).parameters
        if "kwargs" in parameters:
            continue  # diffusers' stand-in for a class that needs a package which is not installed
        assert {"beta_start", "beta_end", "beta_schedule", "prediction_type"} <= set(parameters), name


@pytest.mark.parametrize(
    "name",
    ["FlowMatchLCMScheduler", "EDMEulerScheduler", "CogVideoXDDIMScheduler", "Mine"],
)
def test_a_class_that_may_have_another_forward_process_is_refused_by_name(name):
    with pytest.raises(ValueError, match=f"_class_name='{name}' in a scheduler config is not supported"):
        scheduler_from_config({"_class_name": name, "num_train_timesteps": 1000, "shift": 3.0})


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


def test_schedulers_come_in_a_fixed_order_those_of_the_course_first():
    assert COURSE == ("ddpm", "ddim", "euler", "euler_a")
    assert tuple(SCHEDULERS)[:4] == COURSE


def test_each_scheduler_has_a_name_a_title_and_a_look_of_its_own():
    labels = [cls.label for cls in SCHEDULERS.values()]
    names = [name for label in labels for name in (label.name, *label.aliases)]
    titles, colors, markers = ([getattr(label, part) for label in labels] for part in ("title", "color", "marker"))
    for distinct in (names, titles, colors, markers):
        assert len(set(distinct)) == len(distinct), distinct
    for cls in SCHEDULERS.values():
        assert "label" in vars(cls)  # not that of its base
        for name in (cls.label.name, cls.label.title, *cls.label.aliases, cls.__name__):
            assert type(make_scheduler(name)) is cls


def test_looks_are_of_okabe_and_ito_s_colors():
    palette = {"#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"}
    assert {cls.label.color for cls in SCHEDULERS.values()} <= palette


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
