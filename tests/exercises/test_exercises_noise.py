"""The checks of notebook 01 name the mistake in every wrong answer."""

import pytest

from tests.exercises.answers import assert_named

BATCH = "return alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * noise"
JUMP = "return alpha.sqrt() * x_s + (1 - alpha).sqrt() * noise"
LAST = "return (1 - alpha_bar / before).float()"


@pytest.mark.parametrize(
    ("exercise", "old", "new", "mistake"),
    [
        ("01.1", BATCH, "return alpha_bar * x0 + (1 - alpha_bar) * noise", "root of both"),
        ("01.1", BATCH, "return alpha_bar.sqrt() * x0 + (1 - alpha_bar) * noise", "noise is weighted by 1 - alpha_bar"),
        ("01.1", BATCH, "return alpha_bar * x0 + (1 - alpha_bar).sqrt() * noise", "picture is weighted by alpha_bar"),
        ("01.1", BATCH, "return (1 - alpha_bar).sqrt() * x0 + alpha_bar.sqrt() * noise", "swapped"),
        ("01.1", BATCH, "return x0 + (1 - alpha_bar).sqrt() * noise", "not shrunk"),
        ("01.1", BATCH, "return alpha_bar.sqrt() * x0 + (1 - alpha_bar.sqrt()) * noise", "variances sum to 1"),
        ("01.1", "alpha_bar.view(-1, 1, 1, 1)", "alpha_bar[0]", "noise of the first"),
        ("01.1", "alpha_bar = alpha_bar.view(-1, 1, 1, 1)", "pass", "raised RuntimeError"),
        ("01.1", BATCH, "x0 *= alpha_bar.sqrt(); return x0 + (1 - alpha_bar).sqrt() * noise", "changes its inputs"),
        ("01.1", BATCH, "return (alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * noise)[0]", "must be a tensor (3, 2, 4, 5)"),
        ("01.1", BATCH, "return alpha_bar.sqrt() * x0 - (1 - alpha_bar).sqrt() * noise", "the noise is subtracted"),
        ("01.2", "(1 - betas[s + 1 : t + 1]).prod()", "(1 - betas).cumprod(0)[t]", "not from x_s"),
        ("01.2", "betas[s + 1 : t + 1]", "betas[s : t + 1]", "step s once more"),
        ("01.2", "betas[s + 1 : t + 1]", "betas[s + 1 : t]", "step t is missing"),
        ("01.2", "betas[s + 1 : t + 1]", "betas[s:t]", "both are off by one"),
        ("01.2", JUMP, "return alpha.sqrt() * x_s + (1 - (1 - betas).cumprod(0)[t]).sqrt() * noise", "not 1 - ᾱ_t"),
        ("01.2", JUMP, "return alpha * x_s + (1 - alpha) * noise", "square roots are missing"),
        ("01.2", JUMP, "return alpha.sqrt() * x_s + (1 - alpha) * noise", "weighted by a variance"),
        ("01.2", "(1 - betas[s + 1 : t + 1]).prod()", "1 - betas[s + 1 : t + 1].prod()", "multiply the betas"),
        ("01.2", "(1 - betas[s + 1 : t + 1]).prod()", "(1 - betas[s + 1 : t + 1].sum()).clamp(min=0)", "add the betas up"),
        ("01.2", JUMP, "return x_s", "as it was given"),
        ("01.2", JUMP, "return float(alpha)", "yours is float"),
        ("01.3", LAST, "return alpha_bar.float()", "ᾱ itself"),
        ("01.3", "alpha_bar = snr / (1 + snr)", "return snr", "that is the SNR"),
        ("01.3", "/ k**2", "/ k", "not by k**2"),
        ("01.3", "/ k**2", "* k**2", "need more noise"),
        ("01.3", "alpha_bar = snr / (1 + snr)", "alpha_bar = (1 - betas.double()).cumprod(0) / k**2", "you divide ᾱ"),
        ("01.3", "/ k**2", "/ k**0.5", "counts once too little"),
        ("01.3", "torch.ones_like(alpha_bar[:1])", "alpha_bar[:1]", "the first beta is 0"),
        ("01.3", LAST, "return betas * k**2", "scale the betas"),
        ("01.3", LAST, "return betas", "k is not used"),
        ("01.3", LAST, "return (1 - alpha_bar / before)[1:]", "one beta per timestep, (50,)"),
    ],
)
def test_a_wrong_answer_is_told_its_mistake(exercise, old, new, mistake):
    assert_named(exercise, old, new, mistake)
