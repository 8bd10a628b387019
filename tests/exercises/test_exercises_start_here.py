"""The checks of notebook 00 name the mistake in every wrong answer."""

import pytest

from tests.exercises.answers import answer, assert_named, assert_told

SHAPE = "return config.vae.latent_channels, height // f, width // f"
GUIDANCE = "return uncond + scale * (cond - uncond)"


@pytest.mark.parametrize(
    ("exercise", "old", "new", "mistake"),
    [
        ("00.1", SHAPE, "return config.vae.latent_channels, width // f, height // f", "height comes before width"),
        ("00.1", SHAPE, "return config.vae.latent_channels, height, width", "the size of the picture"),
        ("00.1", SHAPE, "return 3, height // f, width // f", "red, green and blue"),
        ("00.1", SHAPE, "return config.vae.latent_channels, height / f, width / f", "divide with //"),
        ("00.1", SHAPE, "return config.vae.latent_channels, height // f**2, width // f**2", "not the one for the area"),
        ("00.1", "f = config.vae.downsampling", "f = 8", "another model's factor"),
        ("00.1", SHAPE, "return height // f, width // f", "has 2 entries"),
        ("00.1", SHAPE, "return height // f * width // f * 4", "a tuple of three numbers"),
        ("00.1", SHAPE, "return 4, 64, 64", "should be (4, 64, 96)"),
        ("00.1", "config.vae.downsampling", "config.downsampling", "raised AttributeError"),
        ("00.2", GUIDANCE, "return cond + scale * (cond - uncond)", "one step too far"),
        ("00.2", GUIDANCE, "return cond + scale * (uncond - cond)", "swapped"),
        ("00.2", GUIDANCE, "return uncond + scale * (uncond - cond)", "flees"),
        ("00.2", GUIDANCE, "return scale * (cond - uncond)", "add uncond"),
        ("00.2", GUIDANCE, "return scale * cond", "making cond longer"),
        ("00.2", GUIDANCE, "return uncond + 7.4 * (cond - uncond)", "are not uncond + scale"),
        ("00.2", GUIDANCE, "cond -= uncond; cond *= scale; cond += uncond; return cond", "changes its inputs"),
        ("00.2", GUIDANCE, "return float((uncond + scale * (cond - uncond)).mean())", "must be a tensor"),
        ("00.2", GUIDANCE, "return torch.cat([uncond, cond])", "must be a tensor (1, 4, 3, 5)"),
        ("00.3", "scheduler.init_noise_sigma * noise", "noise", "unit variance"),
        ("00.3", "scheduler.scale_model_input(x, t), t", "x, t", "gets x as it is"),
        ("00.3", "scheduler.scale_model_input(x, t), t", "(x := scheduler.scale_model_input(x, t)), t", "do not overwrite it"),
        ("00.3", ".prev_sample", ".pred_original_sample", "the prediction of the finished picture"),
        ("00.3", "scale_model_input(x, t), t,", "scale_model_input(x, t), 999,", "same timestep"),
        ("00.3", "encode_prompt(prompt)", 'encode_prompt("")', "never reach"),
        ("00.3", "manual_seed(seed)", "manual_seed(0)", "picture of seed 0"),
        ("00.3", "for t in scheduler.timesteps:", "for t in scheduler.timesteps[:-1]:", "after 7 of 8 steps"),
        ("00.3", "    return x", "    return pipe.decode(x)", "return the latents"),
        ("00.3", "    return x", "    return x[0]", "have (4, 16, 16)"),
        ("00.3", "    return x", "    return -x", "other latents"),
        ("00.3", "pipe.unet(", "pipe.unets(", "raised AttributeError"),
    ],
)
def test_a_wrong_answer_is_told_its_mistake(exercise, old, new, mistake):
    assert_named(exercise, old, new, mistake)


def test_both_scalings_forgotten_are_both_named():
    forgotten = ("scheduler.init_noise_sigma * noise", "noise"), ("scheduler.scale_model_input(x, t), t", "x, t")
    assert_told("00.3", answer("00.3", *forgotten), "neither")
