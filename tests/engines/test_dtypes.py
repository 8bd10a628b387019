"""The fastest precision: native, and measured."""

import numpy as np
import pytest
import torch

from ldm_tutorial import load_pipeline
from ldm_tutorial.engines import dtypes

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("native", "gain", "expected"),
    [(True, 2.0, torch.bfloat16), (True, 1.0, torch.float32), (False, 2.0, torch.float32)],
)
def test_bfloat16_must_be_native_and_faster(monkeypatch, native, gain, expected):
    monkeypatch.setattr(dtypes, "has_bfloat16", lambda: native)
    monkeypatch.setattr(dtypes, "gain_of_bfloat16", lambda: gain)
    assert dtypes.fastest_dtype.__wrapped__(CPU) == expected


def test_the_measurement_is_made_once(monkeypatch):
    dtypes.gain_of_bfloat16.cache_clear()
    first = dtypes.gain_of_bfloat16()
    assert first > 0 and dtypes.gain_of_bfloat16() == first


@pytest.mark.parametrize("dtype", ["fastest", None])
def test_it_is_asked_for_and_not_the_default(monkeypatch, dtype):
    monkeypatch.setattr("ldm_tutorial.pipeline.fastest_dtype", lambda device: torch.bfloat16)
    assert load_pipeline("emoji", "cpu", dtype).dtype == (torch.bfloat16 if dtype else torch.float32)


def test_pictures_in_bfloat16_are_the_same_to_the_eye():
    pictures = []
    for dtype in ("float32", "bfloat16"):
        drawn = load_pipeline("emoji", "cpu", dtype)(["a cat in the style of noto", "a hamburger"], steps=12)
        pictures.append(np.stack([np.asarray(picture, np.int16) for picture in drawn]))
    assert np.abs(pictures[0] - pictures[1]).mean() <= 8  # as on a GPU: tests/test_gpu.py
