"""The checks of notebook 15 name the mistake in every wrong answer."""

import pytest

from tests.exercises.answers import assert_named

SLOPES, HEUN = "budget // 2 if guided else budget", "(slopes + 1) // 2"
CHOSEN = "torch.randint(len(d), (4000, len(d)), generator=torch.Generator().manual_seed(0))"
MEANS, QUANTILES, RETURN = "d[chosen].mean(dim=1)", "[0.025, 0.975]", "return low, high"
APART = "a[chosen].mean(dim=1) - b[chosen.flip(1).roll(1, 0)].mean(dim=1)"
PERMUTED = "torch.rand(4000, len(d)).argsort(dim=1)"
BEST = "return sum(x * math.comb(i, k - 1) for i, x in enumerate(ranked)) / math.comb(n, k)"
REPLACED = "return sum(x * (((i + 1) / n) ** k - (i / n) ** k) for i, x in enumerate(ranked))"


@pytest.mark.parametrize(
    ("exercise", "old", "new", "mistake"),
    [
        ("15.1", SLOPES, "budget", "with guidance each slope costs two evaluations"),
        ("15.1", SLOPES, "budget if guided else budget // 2", "with guidance each slope costs two evaluations"),
        ("15.1", SLOPES, "budget // 2", "it is guidance that doubles the cost"),
        ("15.1", SLOPES, "budget / 2 if guided else budget", "use // instead of /"),
        ("15.1", HEUN, "slopes", "as for Euler"),
        ("15.1", HEUN, "slopes // 2", "one more fits"),
        ("15.1", SLOPES, "(budget + 1) // 2 if guided else budget", "round down"),
        ("15.1", "else slopes", "else slopes - 1", "and fit; yours are 24"),
        ("15.2", "d = a - b", "d = b - a", "the sign"),
        ("15.2", MEANS, APART, "so the pairs are lost"),
        ("15.2", CHOSEN, PERMUTED, "draw with replacement"),
        ("15.2", MEANS, "d", "quantiles of the single differences"),
        ("15.2", QUANTILES, "[0.05, 0.95]", "one of 90 %"),
        ("15.2", QUANTILES, "[0.975, 0.025]", "low must be the smaller one"),
        ("15.2", RETURN, "e = d.std().item() / len(d) ** 0.5; return d.mean() - e, d.mean() + e", "one standard error"),
        ("15.2", MEANS, "d[chosen].median(dim=1).values", "that of the median"),
        ("15.2", RETURN, "return low", "return two numbers"),
        ("15.2", RETURN, "return low - 1, high + 1", "should be about"),
        ("15.3", "sorted(scores)", "scores", "not in order"),
        ("15.3", "sorted(scores)", "sorted(scores, reverse=True)", "the expected *worst*"),
        ("15.3", "sorted(scores), len", "(scores.sort(), scores)[1], len", "sorts the list that it was given"),
        ("15.3", BEST, REPLACED, "drawing with replacement"),
        ("15.3", BEST, "return max(scores)", "the best of all"),
        ("15.3", BEST, "return max(scores[:k])", "the best of the first k"),
        ("15.3", BEST, "return sum(ranked[-k:]) / k", "the mean of the k best"),
        ("15.3", " / math.comb(n, k)", "", "divide by the number of choices"),
        ("15.3", "math.comb(n, k)", "n**k", "n^k counts order"),
        ("15.3", "math.comb(i, k - 1)", "math.comb(i + 1, k)", "the mean of the best should be"),
        ("15.3", BEST, f"{BEST} + 0.003", "Do you draw at random?"),
    ],
)
def test_a_wrong_answer_is_told_its_mistake(exercise, old, new, mistake):
    assert_named(exercise, old, new, mistake)
