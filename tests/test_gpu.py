"""What only a GPU can show; skipped without one. `pytest -m gpu` runs nothing else."""

import numpy as np
import pytest
import torch

from ldm_tutorial import load_pipeline

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]


def levels(pictures):
    return np.stack([np.asarray(picture, dtype=np.int16) for picture in pictures])


@pytest.fixture(scope="module")
def on_cpu():
    return load_pipeline("emoji", device="cpu")


def test_the_default_on_a_gpu_is_float16_with_the_channels_last():
    pipe = load_pipeline("emoji")
    assert (pipe.device.type, pipe.dtype) == ("cuda", torch.float16)
    assert pipe.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("scheduler", ["ddpm", "ddim", "euler", "euler_a"])
def test_one_seed_is_one_picture_on_the_cpu_and_on_a_gpu(on_cpu, scheduler):
    pipe = load_pipeline("emoji", device="cuda", dtype="float32")
    here, there = (levels(p("a cat in the style of noto", scheduler=scheduler, seed=3)) for p in (on_cpu, pipe))
    assert np.abs(here - there).mean() <= 1


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_on_a_gpu_draws_the_same_picture_to_the_eye(on_cpu, dtype):
    pipe = load_pipeline("emoji", device="cuda", dtype=dtype)
    here, there = (levels(p("a cat in the style of noto", seed=3)) for p in (on_cpu, pipe))
    assert np.abs(here - there).mean() <= 8


def test_redrawing_and_inpainting_work_on_a_gpu(on_cpu):
    pipe = load_pipeline("emoji", device="cuda")
    (cat,) = on_cpu("a cat in the style of noto", steps=5)
    mask = cat.convert("L").point(lambda level: 255 * (level < 128))
    assert pipe.img2img("a dog", cat, steps=5)[0].size == cat.size
    (painted,) = pipe.inpaint("a dog", cat, mask, steps=5)
    black = np.asarray(mask) < 128
    assert np.array_equal(np.asarray(painted)[black], np.asarray(cat)[black])
