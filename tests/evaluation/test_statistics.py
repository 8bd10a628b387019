"""Intervals of shares and means, and the two-sample test: against known values, and against what they promise."""

from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ldm_tutorial.evaluation.statistics import bootstrap_interval, cluster_interval, energy_test, lies_among, wilson


def test_wilson_agrees_with_tables():
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)


@given(st.integers(1, 5000).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
def test_the_interval_holds_the_share(share):
    right, of = share
    low, high = wilson(right, of)
    assert 0 <= low <= right / of <= high <= 1


@pytest.mark.parametrize("right, of", [(-1, 5), (6, 5), (0, 0)])
def test_no_share_no_interval(right, of):
    with pytest.raises(ValueError, match="must be between"):
        wilson(right, of)


def test_the_bootstrap_is_all_ways_to_draw_again():
    values = torch.tensor([1.0, 2.0, 0.0, 3.0, -1.0])
    means = torch.tensor([sum(drawn) / 5 for drawn in product(values.tolist(), repeat=5)], dtype=torch.float64)  # all 3125
    exact = means.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    assert bootstrap_interval(values, resamples=40_000) == pytest.approx(exact, abs=0.021)  # means lie 0.2 apart


def test_pictures_of_one_prompt_count_once():
    prompts = torch.tensor([1.0, 2.0, 0.0, 3.0, -1.0])
    alike = prompts[:, None].expand(5, 40)  # forty seeds that say the same
    assert cluster_interval(alike) == pytest.approx(bootstrap_interval(prompts))
    low, high = bootstrap_interval(alike.flatten())
    assert high - low < 0.3 * (cluster_interval(alike)[1] - cluster_interval(alike)[0])


def test_the_clustered_interval_holds_the_truth_where_the_other_does_not():
    generator, held = torch.Generator().manual_seed(0), [0, 0]
    for _ in range(300):
        scores = torch.randn(12, 1, generator=generator) + torch.randn(12, 8, generator=generator)  # a prompt, its seeds
        for i, (low, high) in enumerate((cluster_interval(scores), bootstrap_interval(scores.flatten()))):
            held[i] += low <= 0 <= high
    assert held[0] / 300 > 0.88
    assert held[1] / 300 < 0.75


@pytest.mark.parametrize("shape", [(5,), (1, 4), (2, 3, 4)])
def test_clusters_are_prompts_by_seeds(shape):
    with pytest.raises(ValueError, match=r"scores must be \(prompts, seeds\), of 2 prompts or more"):
        cluster_interval(torch.zeros(shape))


def test_of_many_values_the_bootstrap_is_the_normal_interval():
    values = 3 + 2 * torch.randn(2000, generator=torch.Generator().manual_seed(0))
    mean, half = values.mean().item(), 1.96 * values.std().item() / 2000**0.5
    assert bootstrap_interval(values) == pytest.approx((mean - half, mean + half), abs=0.01)
    assert bootstrap_interval(values) == bootstrap_interval(values)


@pytest.mark.parametrize("n, low, high", [(5, 0.75, 0.9), (30, 0.88, 0.97)])
def test_the_bootstrap_holds_the_truth_about_as_often_as_it_says(n, low, high):
    """Of 400 experiments; with few values less often, as its docstring says."""
    generator = torch.Generator().manual_seed(1)
    found = [bootstrap_interval(torch.randn(n, generator=generator), 400, seed) for seed in range(400)]
    assert low < sum(a <= 0 <= b for a, b in found) / 400 < high


@pytest.mark.parametrize("shape", [(1,), (0,), (3, 2)])
def test_one_value_has_no_interval(shape):
    with pytest.raises(ValueError, match="values must be"):
        bootstrap_interval(torch.zeros(shape))


def samples(k, m, d, shift=0.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    places = 10 * torch.randn(k, 1, d, generator=generator)  # prompts differ far more than seeds do
    return places + torch.randn(k, m, d, generator=generator), places + shift + torch.randn(k, m, d, generator=generator)


def test_the_energy_coefficient_is_its_definition():
    x, y = samples(1, 5, 3)

    def expected(a, b):
        return torch.stack([(p - q).norm() for p in a[0] for q in b[0]]).mean()

    energy = 2 * expected(x, y) - expected(x, x) - expected(y, y)
    coefficient, _ = energy_test(x, y, permutations=1)
    assert coefficient == pytest.approx((energy / (2 * expected(x, y))).item(), abs=1e-5)


def test_a_small_shift_is_found_though_prompts_differ_far_more():
    assert energy_test(*samples(6, 16, 8, shift=0.7))[1] < 0.01


def test_the_same_distribution_is_rarely_called_different():
    """p is uniform if there is no difference: of 40 tests, about 4 lie below 0.1."""
    found = [energy_test(*samples(3, 8, 4, seed=seed), permutations=200)[1] for seed in range(40)]
    assert sum(p < 0.1 for p in found) <= 9
    assert 0.3 < sum(found) / len(found) < 0.7


def test_equal_samples_do_not_differ():
    x, _ = samples(2, 4, 3)
    coefficient, p = energy_test(x, x.clone())
    assert coefficient == pytest.approx(0, abs=1e-9) and p == 1


@pytest.mark.parametrize("shape", [(2, 1, 3), (4, 3)])
def test_samples_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match="2 seeds or more"):
        energy_test(torch.zeros(shape), torch.zeros(shape))


def test_what_lies_among_real_pictures_is_told_from_what_does_not():
    real = torch.tensor([[0.0], [1.0], [2.0], [3.0], [10.0]])  # with k = 1, each reaches 1 far; the last, 7
    drawn = torch.tensor([[-0.9], [-1.1], [2.5], [4.1], [16.9], [17.1]])
    assert lies_among(drawn, real, k=1).tolist() == [True, False, True, True, True, False]
    assert lies_among(real, real).all()
