"""The checks of notebook 07 name the mistake in every wrong answer."""

import pytest

from tests.exercises.answers import assert_named

DROP = "torch.rand(len(chosen), generator=generator) < p"
CAP, NOISY = "snr.clamp(max=gamma)", "noisy = alpha_bar.sqrt() * latents + (1 - alpha_bar).sqrt() * noise"
V, MEAN = "alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * latents", "(error**2).mean((1, 2, 3))"


@pytest.mark.parametrize(
    ("exercise", "old", "new", "mistake"),
    [
        ("07.1", DROP, "torch.rand(1, generator=generator).expand(len(chosen)) < p", "dropped together or none"),
        ("07.1", DROP, "torch.rand(len(chosen), generator=generator) > p", "the wrong way round"),
        ("07.1", DROP, "torch.rand(len(chosen)) < p", "draw from the one you are given"),
        ("07.1", DROP, "torch.randperm(len(chosen), generator=generator)[:2]", "each time exactly 2 are dropped"),
        ("07.1", DROP, "torch.rand(len(chosen), generator=generator) < p / 2", "should be dropped, and yours are"),
        ("07.1", DROP, "torch.rand(len(chosen), generator=generator) < 0 * p", "no caption is ever dropped"),
        ("07.1", "chosen = chosen.clone()", "pass", "clone it first"),
        ("07.1", "] = 0", "] = -1", "become 0, the empty caption; yours holds -1"),
        ("07.1", "return chosen", "return chosen * 1.0", "whole numbers, int64"),
        ("07.1", "return chosen", "return chosen[chosen > 0]", "a tensor (12,)"),
        ("07.1", "return chosen", "return chosen.tolist()", "yours is list"),
        ("07.2", CAP, "snr.clamp(min=gamma)", "the larger of the two"),
        ("07.2", "snr = alpha_bar / (1 - alpha_bar)", "snr = (1 - alpha_bar) / alpha_bar", "upside down"),
        ("07.2", "snr = alpha_bar / (1 - alpha_bar)", "snr = (alpha_bar / (1 - alpha_bar)) ** 0.5", "no root"),
        ("07.2", "snr = alpha_bar / (1 - alpha_bar)", "snr = alpha_bar", "you use ᾱ itself"),
        ("07.2", CAP, "snr", "nothing is capped"),
        ("07.2", CAP, "snr.clamp(max=5.0)", "your γ is always 5"),
        ("07.2", '"epsilon": snr,', '"epsilon": 1,', "so divide"),
        ("07.2", '"sample": 1,', '"sample": snr,', "that is the weight for epsilon"),
        ("07.2", '"v_prediction": snr + 1', '"v_prediction": snr', "for v_prediction and γ = 5: that is the weight for epsilon"),
        ("07.2", '"epsilon": snr,', '"epsilon": snr + 1,', "for epsilon and γ = 5: that is the weight for v_prediction"),
        ("07.2", '"epsilon": snr,', '"epsilon": 1 / snr,', "you multiply where you should divide"),
        ("07.2", CAP + " / divisor", "(snr / divisor).clamp(max=gamma)", "cap the SNR, then divide"),
        ("07.2", CAP + " / divisor", "(" + CAP + " / divisor).sum()", "a weight for each ᾱ, a tensor (6,); yours is ()"),
        ("07.2", CAP + " / divisor", CAP + " / divisor + 1", "the weight should be"),
        ("07.3", V, "noise", "the target is still ε"),
        ("07.3", V, "latents", "the target is the clean picture"),
        ("07.3", V, "(1 - alpha_bar).sqrt() * latents - alpha_bar.sqrt() * noise", "the wrong sign"),
        ("07.3", V, "alpha_bar.sqrt() * noise + (1 - alpha_bar).sqrt() * latents", "v is a difference"),
        ("07.3", V, "(1 - alpha_bar).sqrt() * noise - alpha_bar.sqrt() * latents", "swapped in v"),
        ("07.3", V, "alpha_bar * noise - (1 - alpha_bar) * latents", "v takes the roots"),
        ("07.3", NOISY, "noisy = alpha_bar.sqrt() * latents + (1 - alpha_bar) * noise", "has lost its root"),
        ("07.3", NOISY, "noisy = alpha_bar * latents + (1 - alpha_bar) * noise", "x_t takes their roots"),
        ("07.3", NOISY, "noisy = alpha_bar.sqrt() * noise + (1 - alpha_bar).sqrt() * latents", "swapped in x_t"),
        ("07.3", NOISY, "noisy = latents", "noise must be mixed in"),
        ("07.3", NOISY, "noisy = latents + noise", "is not weighted"),
        ("07.3", ".view(-1, 1, 1, 1)", "", "raised RuntimeError"),
        ("07.3", MEAN, MEAN + ".mean()", "yours is one for the batch"),
        ("07.3", MEAN, "(error**2).sum((1, 2, 3))", "that is the sum"),
        ("07.3", MEAN, "error.abs().mean((1, 2, 3))", "mean *absolute* error"),
        ("07.3", MEAN, "(error**2).mean((2, 3))", "yours is (3, 4)"),
        ("07.3", MEAN, MEAN + " + 1", "the loss of the first latent should be"),
        ("07.3", "(noisy, timesteps, context)", "(noisy, timesteps / 1000, context)", "the timesteps as they are"),
        ("07.3", "(noisy, timesteps, context)", "(noisy, timesteps, 0 * context)", "the context as it is"),
        ("07.3", "unet(noisy, timesteps, context) - v", "noisy - v", "never called"),
    ],
)
def test_a_wrong_answer_is_told_its_mistake(exercise, old, new, mistake):
    assert_named(exercise, old, new, mistake)
