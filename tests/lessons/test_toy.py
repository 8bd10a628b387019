"""The Gaussian mixture is exact: against autograd, against integrals done numerically, against its own samples."""

import math

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from ldm_tutorial.lessons.toy import GaussianMixture
from ldm_tutorial.schedulers import make_scheduler

MIXTURE = GaussianMixture([[1.0, 0.0], [-0.5, 0.8], [-0.5, -0.8]], [0.8, 0.3, 0.6], [5.0, 3.0, 2.0])
X = torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def noisy(alpha_bar: float) -> MixtureSameFamily:
    stds = (alpha_bar * MIXTURE.stds**2 + 1 - alpha_bar).sqrt()[:, None].expand(3, 2)
    return MixtureSameFamily(Categorical(MIXTURE.weights), Independent(Normal(math.sqrt(alpha_bar) * MIXTURE.means, stds), 1))


def test_weights_are_normalized():
    assert MIXTURE.weights.tolist() == [0.5, 0.3, 0.2]
    assert GaussianMixture([[0.0], [1.0]], [1.0, 1.0]).weights.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("alpha_bar", [1.0, 0.9, 0.3, 0.0])
def test_log_prob_equals_torch_distributions(alpha_bar):
    torch.testing.assert_close(MIXTURE.log_prob(X, alpha_bar), noisy(alpha_bar).log_prob(X))


@pytest.mark.parametrize("alpha_bar", [1.0, 0.9, 0.3, 0.0])
def test_score_is_the_gradient_of_log_prob(alpha_bar):
    x = X.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(noisy(alpha_bar).log_prob(x).sum(), x)
    torch.testing.assert_close(MIXTURE.score(X, alpha_bar), gradient)


def test_denoised_and_epsilon_are_posterior_means():
    """E[x_0 | x] by Monte Carlo: average x_0 and ε over the samples, weighted by p(x | x_0)."""
    alpha_bar, x = 0.5, torch.tensor([[0.4, 0.3]], dtype=torch.float64)
    x0 = MIXTURE.sample(400_000, torch.Generator().manual_seed(1))
    eps = (x - alpha_bar**0.5 * x0) / (1 - alpha_bar) ** 0.5
    weights = (-0.5 * (eps**2).sum(1)).softmax(0)
    torch.testing.assert_close(MIXTURE.denoised(x, alpha_bar)[0], weights @ x0, rtol=0, atol=0.01)
    torch.testing.assert_close(MIXTURE.epsilon(x, alpha_bar)[0], weights @ eps, rtol=0, atol=0.01)


@pytest.mark.parametrize("alpha_bar", [1.0, 0.9, 0.3, 0.0])
def test_denoised_and_epsilon_make_up_x(alpha_bar):
    x = alpha_bar**0.5 * MIXTURE.denoised(X, alpha_bar) + (1 - alpha_bar) ** 0.5 * MIXTURE.epsilon(X, alpha_bar)
    torch.testing.assert_close(x, X)


def test_each_point_may_have_its_own_noise_level():
    alpha_bar = torch.linspace(0, 1, 50, dtype=torch.float64)
    for method in (MIXTURE.log_prob, MIXTURE.score, MIXTURE.epsilon, MIXTURE.denoised):
        alone = torch.cat([method(X[i : i + 1], alpha_bar[i].item()) for i in range(50)])
        torch.testing.assert_close(method(X, alpha_bar), alone)


def test_samples_have_the_moments_of_the_mixture():
    x = MIXTURE.sample(100_000, torch.Generator().manual_seed(0))
    mean = MIXTURE.weights @ MIXTURE.means
    spread = MIXTURE.means - mean
    covariance = spread.T @ (MIXTURE.weights[:, None] * spread) + (MIXTURE.weights * MIXTURE.stds**2).sum() * torch.eye(2)
    torch.testing.assert_close(x.mean(0), mean, rtol=0, atol=0.015)
    torch.testing.assert_close(x.T.cov(), covariance, rtol=0, atol=0.015)
    assert torch.equal(x, MIXTURE.sample(100_000, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("name", ["ddim", "euler"])
def test_as_model_answers_at_the_level_of_the_schedulers_timestep(name):
    for prediction in ("epsilon", "v_prediction"):
        scheduler = make_scheduler(name, prediction_type=prediction)
        scheduler.set_timesteps(20)
        t = scheduler.timesteps[7]
        alpha_bar = scheduler.alpha_bar_at(t).item()
        eps, x0 = MIXTURE.epsilon(X, alpha_bar), MIXTURE.denoised(X, alpha_bar)
        expected = eps if prediction == "epsilon" else alpha_bar**0.5 * eps - (1 - alpha_bar) ** 0.5 * x0
        found = MIXTURE.as_model(scheduler)(X, t)
        torch.testing.assert_close(found, expected)
        assert MIXTURE.as_model(scheduler)(X.float(), t).dtype == torch.float32


@pytest.mark.parametrize(
    ("means", "stds", "weights"),
    [([0.0, 1.0], [1.0, 1.0], None), ([[0.0]], [1.0, 1.0], None), ([[0.0]], [1.0], [1.0, 2.0])],
)
def test_wrong_shapes_are_an_error(means, stds, weights):
    with pytest.raises(ValueError, match="means, stds and weights must be"):
        GaussianMixture(means, stds, weights)


@pytest.mark.parametrize(("stds", "weights"), [([-1.0], [1.0]), ([1.0], [0.0]), ([float("nan")], [1.0])])
def test_wrong_values_are_an_error(stds, weights):
    with pytest.raises(ValueError, match="stds must be 0 or more, and weights above 0"):
        GaussianMixture([[0.0]], stds, weights)
