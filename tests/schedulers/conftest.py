"""A model for tests that compare: any function of (x, t) will do, as long as both sides ask the same one."""

import pytest
import torch


@pytest.fixture(scope="session")
def model():
    def model(x: torch.Tensor, t) -> torch.Tensor:
        return torch.tanh(0.7 * x + 0.001 * float(t)) + 0.1 * x.flip(-1)

    return model


@pytest.fixture
def pictures() -> torch.Tensor:
    """Noise of three small pictures, all dimensions distinct: (3, 4, 5, 6)."""
    return torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def seeded():
    """seeded(3) -> three CPU generators, one per picture."""
    return lambda n, first=0: [torch.Generator().manual_seed(first + i) for i in range(n)]
