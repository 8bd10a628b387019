"""The checks of notebook 08 name the mistake in every wrong answer."""

import pytest

from tests.exercises.answers import answer, assert_named, assert_told

GUESS = "return (x - (1 - alpha_bar) ** 0.5 * eps) / alpha_bar**0.5"
MEAN = "mean = (x - beta / (1 - alpha_bar) ** 0.5 * eps) / alpha**0.5"
STEP = "return mean + variance**0.5 * z"
LAST = "1.0 if last else float(alphas_cumprod[timesteps[i + 1]])"
DICE = "torch.zeros(x.shape) if last else torch.randn(x.shape, generator=generator)"

LOOP_BACKWARDS = "timesteps = timesteps[::-1]\n    for i, t in enumerate(timesteps):"


@pytest.mark.parametrize(
    ("exercise", "old", "new", "mistake"),
    [
        ("08.1", GUESS, "return x - (1 - alpha_bar) ** 0.5 * eps", "still weak"),
        ("08.1", GUESS, "return (x - (1 - alpha_bar) ** 0.5 * eps) * alpha_bar**0.5", "so divide"),
        ("08.1", GUESS, "return (x - (1 - alpha_bar) ** 0.5 * eps) / alpha_bar", "by its square root"),
        ("08.1", GUESS, "return (x + (1 - alpha_bar) ** 0.5 * eps) / alpha_bar**0.5", "once more"),
        ("08.1", GUESS, "return (x - (1 - alpha_bar) * eps) / alpha_bar**0.5", "weight 1 - ᾱ"),
        ("08.1", GUESS, "return (x - eps) / alpha_bar**0.5", "all of eps"),
        ("08.1", GUESS, "return x / alpha_bar**0.5 - (1 - alpha_bar) ** 0.5 * eps", "brackets"),
        ("08.1", GUESS, "return (x - alpha_bar**0.5 * eps) / (1 - alpha_bar) ** 0.5", "swapped"),
        ("08.1", GUESS, "x -= (1 - alpha_bar) ** 0.5 * eps; return x / alpha_bar**0.5", "changes its inputs"),
        ("08.1", GUESS, "return float(x.mean())", "yours is float"),
        ("08.1", GUESS, "return x", "x itself"),
        ("08.2", STEP, "return mean", "no new noise"),
        ("08.2", STEP, "return mean + variance * z", "take its square root"),
        ("08.2", STEP, "return mean + beta**0.5 * z", "fixed_large"),
        ("08.2", STEP, "return mean + z", "full size"),
        ("08.2", "(1 - alpha_bar_prev) / (1 - alpha_bar) * beta", "(1 - alpha_bar) / (1 - alpha_bar_prev) * beta", "upside down"),
        ("08.2", MEAN, "mean = (x - (1 - alpha_bar) ** 0.5 * eps) / alpha_bar**0.5", "ᾱ stands where α"),
        ("08.2", MEAN, "mean = (x - (1 - alpha_bar) / (1 - alpha_bar) ** 0.5 * eps) / alpha_bar**0.5", "ᾱ stands where α"),
        ("08.2", MEAN, "mean = (x - beta / (1 - alpha_bar) * eps) / alpha**0.5", "divide by 1 - ᾱ"),
        ("08.2", MEAN, "mean = (x - beta * eps) / alpha**0.5", "leave that out"),
        ("08.2", MEAN, "mean = x - beta / (1 - alpha_bar) ** 0.5 * eps", "divided by sqrt(α)"),
        ("08.2", STEP, "return mean + variance**0.5 * z + 0.3", "should not be"),
        ("08.2", STEP, "return -mean", "these are not"),
        ("08.2", STEP, "return (mean + variance**0.5 * z)[0]", "yours is (3, 4)"),
        ("08.3", DICE, "torch.zeros(x.shape)", "no new noise"),
        ("08.3", LAST, "float(alphas_cumprod[0 if last else timesteps[i + 1]])", "you use alphas_cumprod[0]"),
        ("08.3", LAST, "float(alphas_cumprod[t] / (alphas_cumprod[t] / alphas_cumprod[t - 1]))", "one training step"),
        ("08.3", "model(x, t)", "model(x, timesteps[0])", "the model gets the first timestep"),
        ("08.3", "    return x", "    return model(x, 0)", "these are other points"),
        ("08.3", "        x = ddpm_step", "        if last: return x\n        x = ddpm_step", "after 5 of 6 steps"),
        ("08.3", "for i, t in enumerate(timesteps):", LOOP_BACKWARDS, "rising order"),
        ("08.3", "    return x", "    return x[0]", "yours is (2,)"),
    ],
)
def test_a_wrong_answer_is_told_its_mistake(exercise, old, new, mistake):
    assert_named(exercise, old, new, mistake)


def test_the_large_variance_is_told_from_the_small():
    small, large = "variance = (1 - alpha_bar_prev) / (1 - alpha_bar) * beta", "variance = beta"
    assert_told("08.3", answer("08.3", (small, large), within="08.2"), "fixed_large")
