"""The checks of notebook 18 name the mistake in every wrong answer."""

import pytest

from tests.exercises.answers import assert_named

TARGET = "return x_t, noise - x0"
MEAN = "x = x + (t_next - t) * (first + second) / 2"
SECOND = "second = velocity(x + (t_next - t) * first, t_next)"


@pytest.mark.parametrize(
    ("exercise", "old", "new", "mistake"),
    [
        ("18.1", "(1 - t) * x0 + t * noise", "t * x0 + (1 - t) * noise", "t counts from the picture"),
        ("18.1", "(1 - t) * x0 + t * noise", "(1 - t).sqrt() * x0 + t.sqrt() * noise", "the roots of the weights"),
        ("18.1", "(1 - t) * x0 + t * noise", "(1 - t**2).sqrt() * x0 + t * noise", "on a circle"),
        ("18.1", "(1 - t) * x0 + t * noise", "x0 + t * noise", "x0 is not weighted"),
        ("18.1", TARGET, "return x_t, x0 - noise", "wrong sign"),
        ("18.1", TARGET, "return x_t, noise", "which diffusion learns"),
        ("18.1", TARGET, "return x_t, x0", "the target is the picture"),
        ("18.1", TARGET, "return x_t, noise + x0", "you add the two"),
        ("18.1", TARGET, "return x_t, t * (noise - x0)", "multiplied by t"),
        ("18.1", TARGET, "return x_t, (1 - t) * noise - t * x0", "this is v"),
        ("18.1", TARGET, "return noise - x0, x_t", "opposite order"),
        ("18.1", TARGET, "return x_t", "return two tensors"),
        ("18.1", "t = t.view(-1, 1, 1, 1)", "t = t[0]", "except for the first of the batch"),
        ("18.1", "t = t.view(-1, 1, 1, 1)", "pass", "do not fit together"),
        ("18.1", TARGET, "return x_t, 2 * (noise - x0)", "2 times as large"),
        ("18.2", "(x_t - t * output) / (1 - t)", "(x_t - t * output) / t", "divide by the other weight"),
        ("18.2", "(x_t - t * output) / (1 - t)", "(x_t - t * output)", "the division by 1 - t is missing"),
        ("18.2", "(x_t - t * output) / (1 - t)", "(x_t - output) / (1 - t)", "has a weight"),
        ("18.2", "(x_t - (1 - t) * output) / t", "(x_t - (1 - t) * output) / (1 - t)", "divide by the other weight"),
        ("18.2", "(x_t - (1 - t) * output) / t", "(x_t - (1 - t) * output)", "the division by t is missing"),
        ("18.2", "a, s, x = a / n, s / n, x_t / n", "x = x_t", "is not at unit scale"),
        ("18.2", "a, s, x = a / n, s / n, x_t / n", "a, s, x = a / n, s / n, x_t", "must be divided by √((1 - t)² + t²), too"),
        ("18.2", "return eps - x0", "return x0 - eps", "wrong sign"),
        ("18.2", "return eps - x0", "return output", "as it is"),
        ("18.2", "return eps - x0", "return x0", "this is x0; the velocity"),
        ("18.2", "return eps - x0", "return 3 * (eps - x0)", "3 times as large"),
        ("18.2", "return eps - x0", "return (eps - x0)[0]", "must be a tensor (5, 2)"),
        ("18.3", SECOND, "second = first", "that is Euler's method"),
        ("18.3", SECOND, SECOND.replace("first, t_next", "first, t"), "give it t_next"),
        ("18.3", SECOND, "second = velocity(x, t_next)", "where Euler's step ends"),
        ("18.3", MEAN, MEAN.replace("x = x +", "x = x + (t_next - t) * first +"), "starts from the same x again"),
        ("18.3", MEAN, MEAN.replace(" / 2", ""), "half of their sum"),
        ("18.3", MEAN, "x = x + (t_next - t) * second", "the second velocity alone"),
        ("18.3", MEAN, f"{MEAN} if t_next > 0 else x + (t_next - t) * first", "the last step is Euler's"),
        ("18.3", "    return x\n", "        return x\n", "after the first step"),
        ("18.3", "zip(times, times[1:])", "zip(times[:-1], times[1:-1])", "the last step is missing"),
        ("18.3", MEAN, "pass", "as it was given"),
        ("18.3", "    return x\n", "    return x + 0.1\n", "too large"),
        ("18.3", "    return x\n", "    return x[0]\n", "must be a tensor (7, 2)"),
    ],
)
def test_a_wrong_answer_is_told_its_mistake(exercise, old, new, mistake):
    assert_named(exercise, old, new, mistake)
