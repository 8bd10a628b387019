"""The checks of notebooks 09 to 11 name the mistake in every wrong answer."""

import pytest

from tests.exercises.answers import assert_named

SIGMA = "min(variance, 1 - alpha_bar_prev) ** 0.5"
ANGLE = "torch.acos((a * b).sum((1, 2, 3), keepdim=True) / norms)"
SLERP = "return (torch.sin((1 - fraction) * angle) * a + torch.sin(fraction * angle) * b) / torch.sin(angle)"
LEVELS = "return [*(roots**rho).tolist(), 0.0]"
MIDPOINT = "x = x + (sigma_next - sigma) * (x_middle - D(x_middle, middle)) / middle"
GAMMA = "min(s_churn / n, 2**0.5 - 1) if s_tmin <= sigma <= s_tmax else 0.0"
AGAIN = "x = step(x, model(trial, there), here, there)"


@pytest.mark.parametrize(
    ("exercise", "old", "new", "mistake"),
    [
        ("09.1", SIGMA, "min(variance, 1 - alpha_bar_prev)", "the variance σ²"),
        ("09.1", SIGMA, "variance ** 0.5", "more than all the noise"),
        ("09.1", SIGMA, "min(variance ** 0.5, 1 - alpha_bar_prev)", "that is a variance"),
        ("09.1", "eta**2", "eta", "under the root"),
        ("09.1", "(1 - alpha_bar / alpha_bar_prev)", "(1 - alpha_bar_prev / alpha_bar)", "negative number"),
        ("09.1", "(1 - alpha_bar_prev) / (1 - alpha_bar) * ", "", "fixed_large"),
        ("09.1", "(1 - alpha_bar_prev) / (1 - alpha_bar) *", "(1 - alpha_bar) / (1 - alpha_bar_prev) *", "upside down"),
        ("09.1", SIGMA, "0.123", "σ should be"),
        ("09.2", SLERP, "return (1 - fraction) * a + fraction * b", "straight line"),
        ("09.2", SLERP, "fraction = 1 - fraction; " + SLERP, "swapped"),
        ("09.2", SLERP, SLERP.replace(" / torch.sin(angle)", ""), "divide by sin"),
        ("09.2", ANGLE, ANGLE.replace("torch.acos", ""), "acos is missing"),
        ("09.2", ANGLE, "torch.acos((a * b).sum() / (a.norm() * b.norm()))", "one angle for the whole batch"),
        ("09.2", SLERP, "a *= 1 - fraction; a += fraction * b; return a", "changes its inputs"),
        ("09.2", SLERP, "return a[0]", "must be a tensor (3, 4, 5, 6)"),
        ("09.2", SLERP, "return a + b", "not those of eq. 67"),
        ("09.3", AGAIN, "x = trial", "wrong end"),
        ("09.3", AGAIN, "x = step(trial, model(trial, there), here, there)", "starts from the trial"),
        ("09.3", AGAIN, AGAIN.replace("trial, there)", "trial, here)"), "you tell the model `here`"),
        ("09.3", AGAIN, "x = step(x, (model(x, here) + model(trial, there)) / 2, here, there)", "Heun"),
        ("09.3", "zip(levels, levels[1:])", "zip(levels[::-1], levels[-2::-1])", "that is sampling"),
        ("09.3", "zip(levels, levels[1:])", "zip(levels[:-1], levels[1:-1])", "one level early"),
        ("09.3", "    return x\n", "    return [x]\n", "return the noise alone"),
        ("09.3", "    return x\n", "    return -x\n", "other points"),
        ("10.1", LEVELS, "return (roots**rho).tolist()", "the 0 at the end"),
        ("10.1", LEVELS, "return [*(roots[::-1]**rho).tolist(), 0.0]", "must fall"),
        ("10.1", LEVELS, "return [*roots.tolist(), 0.0]", "these are the roots"),
        ("10.1", "roots = ", "rho = 1; roots = ", "even steps in σ"),
        ("10.1", LEVELS, "return [*np.geomspace(sigma_max, sigma_min, n), 0.0]", "log σ"),
        ("10.1", "roots = ", "rho = 1 / rho; roots = ", "swapped"),
        ("10.1", "(1 / rho), n)", "(1 / rho), n + 1)[:-1]", "divide by n - 1"),
        ("10.1", "(1 / rho), n)", "(1 / rho), n + 2)", "must have 4 values"),
        ("10.1", LEVELS, "return [1.0] * n + [0]", "should be 9; yours is 1"),
        ("10.2", MIDPOINT, "x = x + (sigma_next - sigma) * d", "Euler's method"),
        ("10.2", "middle = (sigma + sigma_next) / 2", "middle = (sigma * sigma_next) ** 0.5", "middle in log σ"),
        ("10.2", MIDPOINT, MIDPOINT.replace("x = x +", "x = x_middle +"), "starts from the middle"),
        ("10.2", MIDPOINT, MIDPOINT.replace("middle)) / middle", "sigma)) / sigma"), "the sigma of the middle"),
        ("10.2", MIDPOINT, MIDPOINT.replace("(sigma_next - sigma)", "(middle - sigma)"), "stop in the middle"),
        ("10.2", "    return x\n", "    return 2 * x\n", "other points"),
        ("10.2", "    return x\n", "    return x[0]\n", "must be a tensor (7, 2)"),
        ("10.3", GAMMA, "0.0", "nothing is churned"),
        ("10.3", "if sigma_next > 0:", "if False:", "correction is missing"),
        ("10.3", "if sigma_next > 0:", "if True:", "NaNs"),
        ("10.3", GAMMA, "min(s_churn / n, 2**0.5 - 1)", "at every level"),
        ("10.3", GAMMA, "s_churn / n if s_tmin <= sigma <= s_tmax else 0.0", "not capped"),
        ("10.3", "(sigma_hat**2 - sigma**2) ** 0.5", "(sigma_hat - sigma)", "variances add"),
        ("10.3", "if gamma > 0:", "if True:", "generator moves on"),
        ("10.3", "n = len(sigmas) - 1", "n = len(sigmas)", "N is the number of steps"),
        ("10.3", "    return x\n", "    return 2 * x\n", "other points"),
        ("11.1", "x / alpha_bar**0.5", "x * alpha_bar**0.5", "divide it away"),
        ("11.1", "x / alpha_bar**0.5", "x / alpha_bar", "the root of ᾱ"),
        ("11.1", "x / alpha_bar**0.5", "x", "x is unchanged"),
        ("11.1", "((1 - alpha_bar) / alpha_bar) ** 0.5", "(1 - alpha_bar) ** 0.5", "at unit scale"),
        ("11.1", "((1 - alpha_bar) / alpha_bar) ** 0.5", "(1 - alpha_bar) / alpha_bar", "a variance"),
        ("11.1", "((1 - alpha_bar) / alpha_bar) ** 0.5", "(alpha_bar / (1 - alpha_bar)) ** 0.5", "upside down"),
        ("11.1", "return x / alpha_bar**0.5, ", "return ", "two things"),
        ("11.1", "((1 - alpha_bar) / alpha_bar) ** 0.5", "0.1", "σ should be"),
        ("11.2", "variance**0.5 * z", "variance * z", "by the variance"),
        ("11.2", "return mean + variance**0.5 * z", "return mean", "no new noise"),
        ("11.2", "sigma_next**2 / sigma**2 * (x - x0)", "sigma_next / sigma * (x - x0)", "Euler's step to σ_next"),
        ("11.2", "mean = x0 + sigma_next**2 / sigma**2 * (x - x0)", "mean = x + sigma_next**2 / sigma**2 * (x0 - x)", "swapped"),
        ("11.2", "variance**0.5 * z", "sigma_next * z", "the new noise has sigma_next"),
        ("11.2", "return mean", "return 2 * mean", "not the posterior's"),
        ("11.3", "x = x + sigma_up * noise", "pass", "no new noise arrives"),
        ("11.3", "(sigma_down - sigma) *", "(sigma_next - sigma) *", "no room is made"),
        ("11.3", "x + sigma_up * noise", "x + sigma_up**2 * noise", "it needs sigma_up"),
        ("11.3", "x + sigma_up * noise", "x + noise", "unit size"),
        ("11.3", "min(sigma_next, eta *", "max(0, eta *", "cap sigma_up"),
        ("11.3", "min(sigma_next, eta *", "min(sigma_next, 1 *", "at η = 0"),
        ("11.3", "    return x\n", "    return 2 * x\n", "other points"),
    ],
)
def test_a_wrong_answer_is_told_its_mistake(exercise, old, new, mistake):
    assert_named(exercise, old, new, mistake)
