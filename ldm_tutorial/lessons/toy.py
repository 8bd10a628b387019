"""A world so small that the perfect noise predictor is known: points from a mixture of Gaussians.

For real pictures nobody knows what a diffusion model should answer. For this mixture it is a formula. Nothing
is trained and nothing approximated, so that what a scheduler gets wrong is the scheduler's own error.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..schedulers import Scheduler


class GaussianMixture:
    """p(x_0) = Σ_k w_k N(x_0; m_k, s_k² I), and the same after noise: x = sqrt(ᾱ) x_0 + sqrt(1 - ᾱ) ε.

    Noise keeps a Gaussian Gaussian: component k becomes N(sqrt(ᾱ) m_k, v_k I) with v_k = ᾱ s_k² + 1 - ᾱ.

    means (k, d), stds (k,), weights (k,), normalized here; equal if None. In all methods x is (b, d), and
    alpha_bar, ᾱ in [0, 1], is a number or (b,). Computed on the device and in the dtype of x.
    """

    def __init__(
        self,
        means: Tensor | Sequence[Sequence[float]],
        stds: Tensor | Sequence[float],
        weights: Tensor | Sequence[float] | None = None,
    ) -> None:
        self.means = torch.as_tensor(means).double()
        self.stds = torch.as_tensor(stds).double()
        k = len(self.means)
        self.weights = torch.ones(k).double() if weights is None else torch.as_tensor(weights).double()
        if self.means.ndim != 2 or self.stds.shape != (k,) or self.weights.shape != (k,):
            shapes = [tuple(p.shape) for p in (self.means, self.stds, self.weights)]
            raise ValueError(f"means, stds and weights must be (k, d), (k,) and (k,); got {shapes}")
        if not ((self.stds >= 0).all() and (self.weights > 0).all()):
            raise ValueError("stds must be 0 or more, and weights above 0")
        self.weights = self.weights / self.weights.sum()

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n points x_0, (n, d) float64."""
        k = torch.multinomial(self.weights, n, replacement=True, generator=generator)  # (n,)
        noise = torch.randn(n, self.means.shape[1], generator=generator, dtype=torch.float64)
        return self.means[k] + self.stds[k, None] * noise

    def components(self, x: Tensor, alpha_bar: Tensor | float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """At x: log w_k N(x; ...), (b, k); x - mean, (b, k, d); v_k, (1 | b, k); ᾱ, (1 | b, 1)."""
        means, stds, weights = (p.to(x) for p in (self.means, self.stds, self.weights))
        a = torch.as_tensor(alpha_bar, dtype=torch.float64).to(x).view(-1, 1)  # (b | 1, 1)
        variance = a * stds**2 + 1 - a  # (b | 1, k)
        offset = x[:, None, :] - a[:, :, None].sqrt() * means  # (b, k, d)
        log_scale = -0.5 * x.shape[1] * (2 * torch.pi * variance).log()
        log_joint = weights.log() + log_scale - 0.5 * (offset**2).sum(-1) / variance  # (b, k)
        return log_joint, offset, variance, a

    def log_prob(self, x: Tensor, alpha_bar: Tensor | float = 1.0) -> Tensor:
        """log p(x) of the noisy mixture, (b,)."""
        return self.components(x, alpha_bar)[0].logsumexp(1)

    def score(self, x: Tensor, alpha_bar: Tensor | float) -> Tensor:
        """∇ log p(x) of the noisy mixture, (b, d): towards each component, by how likely x comes from it."""
        log_joint, offset, variance, _ = self.components(x, alpha_bar)
        share = log_joint.softmax(1)  # p(k | x), (b, k)
        return -((share / variance)[..., None] * offset).sum(1)

    def epsilon(self, x: Tensor, alpha_bar: Tensor | float) -> Tensor:
        """E[ε | x], (b, d): the best prediction of the noise, -sqrt(1 - ᾱ) times the score."""
        a = torch.as_tensor(alpha_bar, dtype=torch.float64).to(x).view(-1, 1)
        return -(1 - a).sqrt() * self.score(x, alpha_bar)

    def denoised(self, x: Tensor, alpha_bar: Tensor | float) -> Tensor:
        """E[x_0 | x], (b, d): the best prediction of the clean point."""
        log_joint, offset, variance, a = self.components(x, alpha_bar)
        gain = a.sqrt() * self.stds.to(x) ** 2 / variance  # (b | 1, k)
        guess = self.means.to(x) + gain[..., None] * offset  # E[x_0 | x, k], (b, k, d)
        return (log_joint.softmax(1)[..., None] * guess).sum(1)

    def as_model(self, scheduler: Scheduler) -> Callable[[Tensor, Tensor | float], Tensor]:
        """The best U-Net that training on this mixture, with this scheduler's noise, could give.

        model(scheduler.scale_model_input(x, t), t) is what `scheduler.step` takes: E[ε | x], or E[v | x] with
        prediction_type "v_prediction", or E[ε - x_0 | x] for a scheduler of flow matching.
        """

        def model(x: Tensor, t: Tensor | float) -> Tensor:
            a = scheduler.alpha_bar_at(t).to(x)[:, None]  # (b | 1, 1)
            if scheduler.prediction_type == "velocity":
                x = x * (a.sqrt() + (1 - a).sqrt())  # from (1 - t) x_0 + t ε to sqrt(ᾱ) x_0 + sqrt(1 - ᾱ) ε
                return self.epsilon(x, a) - self.denoised(x, a)
            eps = self.epsilon(x, a)
            if scheduler.prediction_type == "epsilon":
                return eps
            return a.sqrt() * eps - (1 - a).sqrt() * self.denoised(x, a)

        return model


def energy_distance(a: Tensor, b: Tensor) -> float:
    """How different two clouds of points are as distributions: 2 E|a - b| - E|a - a'| - E|b - b'|. 0 for the same distribution.

    a (n, d) and b (m, d) are drawn from the two distributions to be compared. Székely & Rizzo 2013, equation 2; without the pairs
    of a point with itself, so that two samples of one distribution give 0 on average.
    """
    within = [torch.pdist(points).mean() for points in (a, b)]
    return (2 * torch.cdist(a, b).mean() - sum(within)).item()
