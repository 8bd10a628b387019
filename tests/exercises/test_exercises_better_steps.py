"""The checks of notebook 16 name the mistake in every wrong answer."""

import pytest

from tests.exercises.answers import assert_named

MEAN = "x0 + (h / (1 - math.exp(-h)) - 1) * slope"
SLOPE = "slope = (x0 - before) / h_before"
MIDDLE = "middle = (sigma * sigma_next) ** 0.5"
WHOLE = "x = x0 + sigma_next / sigma * (x - x0)"


@pytest.mark.parametrize(
    ("exercise", "old", "new", "mistake"),
    [
        ("16.1", MEAN, "x0 + h / 2 * slope", "middle of the step"),
        ("16.1", MEAN, "x0 + h * slope", "end of the step"),
        ("16.1", SLOPE, "slope = (before - x0) / h_before", "back to the earlier"),
        ("16.1", SLOPE, "slope = x0 - before", "not divided by h_before"),
        ("16.1", SLOPE, "slope = (x0 - before) / h", "divided by h, the step that comes"),
        ("16.1", MEAN, "x0 + h / (1 - math.exp(-h)) * slope", "the 1 is missing"),
        ("16.1", MEAN, "x0 + (h - 1 + math.exp(-h)) * slope", "that is the integral"),
        ("16.1", MEAN, "x0 + (h / (math.exp(h) - 1) - 1) * slope", "sign of the exponent"),
        ("16.1", "1 - math.exp(-h)", "1 - math.exp(-h_before)", "the exponent is h_before"),
        ("16.1", SLOPE, "h_before, h = sigma_before - sigma, sigma - sigma_next; " + SLOPE, "differences of σ"),
        ("16.1", SLOPE, "h_before, h = h, h_before; " + SLOPE, "swapped"),
        ("16.1", MEAN, "x0", "first order"),
        ("16.1", MEAN, MEAN.replace("x0 + ", ""), "only the change"),
        ("16.1", MEAN, MEAN.replace("x0 + ", "before + "), "starts at x0"),
        ("16.1", SLOPE, "x0, before = before, x0; " + SLOPE, "before is the older"),
        ("16.1", MEAN, "x0[0]", "must be a tensor (7, 2)"),
        ("16.2", "x0 = D(x_middle, middle)", "pass", "first order"),
        ("16.2", MIDDLE, "middle = (sigma + sigma_next) / 2", "the middle in σ"),
        ("16.2", "x0 = D(x_middle, middle)", "x = x_middle; x0 = D(x, middle)", "starts from u"),
        ("16.2", "D(x_middle, middle)", "D(x_middle, sigma)", "the level of the middle"),
        ("16.2", "D(x_middle, middle)", "D(x, middle)", "made at x"),
        ("16.2", WHOLE, "x = x0 + (middle if sigma_next else 0) / sigma * (x - x0)", "stop in the middle"),
        ("16.2", "x0 = D(x_middle, middle)", "x0 = (x0 + D(x_middle, middle)) / 2", "average"),
        ("16.2", "middle / sigma * (x - x0)", "sigma_next / sigma * (x - x0)", "goes all the way"),
        ("16.2", "if sigma_next > 0:", "if True:", "evaluated at σ = 0"),
        ("16.2", "    return x\n", "        return x\n", "after the first step"),
        ("16.2", "zip(sigmas, sigmas[1:])", "zip(sigmas[:-1], sigmas[1:-1])", "the last step"),
        ("16.2", "    return x\n", "    return x[0]\n", "must be a tensor (7, 2)"),
        ("16.3", "line = x0 + (x0 - before) / (2 * r)", "pass", "that is Euler ancestral"),
        ("16.3", "x = line + keep * (x - line)", "x = line + keep**0.5 * (x - line)", "that is the ODE"),
        ("16.3", " + sigma_next * (1 - keep) ** 0.5 * z[i]", "", "no new noise"),
        ("16.3", "sigma_next * (1 - keep) ** 0.5 * z[i]", "sigma_next * z[i]", "all the noise of that level"),
        ("16.3", "sigma_next * (1 - keep) ** 0.5 * z[i]", "sigma_next**2 * (1 - keep) * z[i]", "by a variance"),
        ("16.3", "(1 - keep) ** 0.5", "(1 - keep**2) ** 0.5", "fourth power"),
        ("16.3", "(2 * r)", "r", "at the end of the step"),
        ("16.3", "/ (2 * r)", "* r / 2", "upside down"),
        ("16.3", "x0 + (x0 - before)", "x0 - (x0 - before)", "back to the earlier"),
        ("16.3", "        before = x0\n", "        before = x0 if before is None else before\n", "kept from the first step"),
        ("16.3", "z[i]", "z[0]", "noise of its own"),
        ("16.3", "    return x\n", "        return x\n", "after the first step"),
        ("16.3", "zip(sigmas, sigmas[1:])", "zip(sigmas[:-1], sigmas[1:-1])", "the last step"),
        ("16.3", "    return x\n", "    return x[0]\n", "must be a tensor (7, 2)"),
    ],
)
def test_a_wrong_answer_is_told_its_mistake(exercise, old, new, mistake):
    assert_named(exercise, old, new, mistake)
