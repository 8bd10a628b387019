"""How sure a share or a mean is, and whether two samples differ."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def wilson(right: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927). Raises ValueError unless 0 <= right <= of and of >= 1."""
    if not 0 <= right <= of or of < 1:
        raise ValueError(f"right={right} must be between 0 and of={of}, and that at least 1")
    share, spread = right / of, z * z / of
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / of + spread / (4 * of))
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))  # but for rounding, it holds the share


def bootstrap_interval(values: Tensor, resamples: int = 4000, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of a mean: where it would lie with other seeds, told from these values alone, (n,).

    Draws n of the n values with replacement, again and again (Efron 1979), and cuts off 2.5 % of the means at each end. With
    few values it is too narrow. Raises ValueError unless there are two or more.
    """
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"values must be (n,), of n >= 2; got {tuple(values.shape)}")
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(values), (resamples, len(values)), generator=generator)  # (resamples, n)
    means = values.double()[chosen].mean(dim=1)  # (resamples,)
    low, high = means.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high


def cluster_interval(scores: Tensor) -> tuple[float, float]:
    """The 95 % interval of a mean over prompts and seeds, (prompts, seeds): where it would lie with other prompts.

    The seeds of one prompt are averaged first, and then whole prompts are drawn with replacement: pictures of one prompt are
    alike, so they are not independent. Raises ValueError unless there are two prompts or more.
    """
    if scores.ndim != 2 or len(scores) < 2:
        raise ValueError(f"scores must be (prompts, seeds), of 2 prompts or more; got {tuple(scores.shape)}")
    return bootstrap_interval(scores.mean(dim=1))  # (prompts,): one number for each


def lies_among(drawn: Tensor, real: Tensor, k: int = 3) -> Tensor:
    """Which drawn pictures are no further from some real one than its own k-th nearest real neighbor is: (n, c), (m, c) -> (n,)

    The share is the "precision" of Kynkäänniemi et al. 2019, equations 1 and 2.
    """
    radius = torch.cdist(real, real).kthvalue(min(k + 1, len(real)), dim=1).values  # (m,): the nearest is itself
    return (torch.cdist(drawn, real) <= radius).any(dim=1)


def kernel_distance(x: Tensor, y: Tensor) -> float:
    """How far apart the distributions of two samples of the same prompts are, (n, c) twice: 0 on average if they are one.

    The unbiased squared maximum mean discrepancy under the kernel (x . y / c + 1)^3 (Binkowski et al. 2018, "KID"). Unlike the
    Frechet distance it means the same for a few pictures as for many. Row i of both belongs to prompt i, and so is like the other
    for that reason alone: the two are not compared.

    Raises ValueError unless both hold two or more rows of one length.
    """
    if x.shape != y.shape or x.ndim != 2 or len(x) < 2:
        raise ValueError(f"x and y must both be (n, c), of 2 rows or more; got {tuple(x.shape)}, {tuple(y.shape)}")

    def off_diagonal(a: Tensor, b: Tensor) -> Tensor:
        kernel = (a @ b.T / a.shape[1] + 1) ** 3  # (n, n)
        return (kernel.sum() - kernel.trace()) / (len(a) * (len(a) - 1))

    x, y = x.double(), y.double()
    return (off_diagonal(x, x) + off_diagonal(y, y) - 2 * off_diagonal(x, y)).item()


def energy_test(x: Tensor, y: Tensor, permutations: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Do pictures of the same prompts, drawn in two ways, have the same distribution? (k prompts, m seeds, d) twice.

    Returns the energy coefficient, 0 (the same) ... 1, averaged over the prompts, and the probability of one as large
    if there were no difference (Székely & Rizzo 2013, section 5). Pictures are exchanged within their prompt only, for
    prompts do differ. The two samples must be independent: drawn with different seeds.
    """
    if x.shape != y.shape or x.ndim != 3 or x.shape[1] < 2:
        raise ValueError(f"x and y must both be (prompts, seeds, d), of 2 seeds or more; got {tuple(x.shape)}, {tuple(y.shape)}")
    k, m, _ = x.shape
    both = torch.cat([x, y], dim=1).double()  # (k, 2 m, d)
    distances = torch.cdist(both, both, compute_mode="donot_use_mm_for_euclid_dist")  # (k, 2 m, 2 m)
    sign = torch.cat([torch.ones(m), -torch.ones(m)]).double()  # which sample a picture is of
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(permutations, k, 2 * m, generator=generator).argsort(dim=-1)
    signs = torch.cat([sign.expand(1, k, 2 * m), sign[order]])  # (1 + permutations, k, 2 m): the real one is the first
    # 2 E|x - y| - E|x - x'| - E|y - y'|
    energy = -torch.einsum("pki,kij,pkj->pk", signs, distances, signs) / m**2
    apart = distances.sum(dim=(1, 2)) / (2 * m**2) + energy / 2  # 2 E|x - y|
    coefficient = (energy / apart.clamp(min=1e-12)).mean(dim=1)  # (1 + permutations,)
    as_large = (coefficient >= coefficient[0] - 1e-12).double().mean()  # counts the real one, so it is never 0
    return coefficient[0].item(), as_large.item()
