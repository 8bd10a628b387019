"""The small world for the tests of one module."""

import pytest

from tests.training.small_world import shrink


@pytest.fixture(scope="module")
def small_world():
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        yield
