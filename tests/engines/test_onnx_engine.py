"""ONNX Runtime draws what PyTorch draws."""

import logging
import subprocess
import sys

import pytest
import torch

from ldm_tutorial.engines import as_written, make_engine
from ldm_tutorial.engines.onnx import ExportedUNet, errors_only

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def pipe(make_tiny_pipe):
    pipe = make_tiny_pipe()
    pipe.engine = make_engine("onnx", pipe.unet)
    return pipe


@pytest.fixture
def asked(pipe, monkeypatch):
    """How many pictures were left to ONNX Runtime, step by step."""
    counts, answer = [], type(pipe.engine).answer
    monkeypatch.setattr(type(pipe.engine), "answer", lambda self, x, *rest: (counts.append(len(x)), answer(self, x, *rest))[1])
    return counts


@pytest.mark.parametrize("scheduler", ["ddim", "euler_a"])
@pytest.mark.parametrize("count", [1, 3])
def test_a_run_is_that_of_pytorch(pipe, make_tiny_pipe, asked, scheduler, count):
    options = {"steps": 4, "seed": 3, "num_images": count, "scheduler": scheduler}
    ours = list(pipe.stream("a cat", **options))
    assert asked == [2 * count] * 4
    other = make_tiny_pipe()
    other.engine = as_written
    for step, expected in zip(ours, other.stream("a cat", **options), strict=True):
        tolerance = 3e-5 * max(1, expected.latents.abs().max().item())  # Euler begins at 15 times the scale of latents
        torch.testing.assert_close(step.latents, expected.latents, rtol=0, atol=tolerance)


def test_by_itself_the_network_is_pytorchs(pipe, make_tiny_pipe, asked):
    x, words = torch.randn(2, 4, 8, 8), torch.randn(2, 77, 18)
    with torch.no_grad():
        assert torch.equal(pipe.unet(x, 5, words), make_tiny_pipe().unet(x, 5, words))
    assert asked == [] and repr(pipe.unet).startswith("UNet(")


def test_other_sizes_and_those_who_look_inside_are_served_by_pytorch(pipe, asked):
    list(pipe.stream("a cat", steps=4, height=64, width=32))
    hook = pipe.unet.mid_block.register_forward_hook(lambda *_: seen.append(1))
    seen = []
    list(pipe.stream("a cat", steps=4))
    hook.remove()
    assert asked == [] and seen == [1] * 4


def test_it_does_not_answer_for_another_network(pipe, make_tiny_pipe, asked):
    """Of two pipelines with this engine, one is given the U-Net of the other."""
    other = make_tiny_pipe()
    with torch.no_grad():
        other.unet.conv_out.bias.add_(1)
    other.engine = as_written
    expected = list(other.stream("a cat", steps=2))[-1].latents
    other.unet.__class__, other.engine = ExportedUNet, pipe.engine
    torch.testing.assert_close(list(other.stream("a cat", steps=2))[-1].latents, expected, rtol=0, atol=1e-4)
    assert asked == []


def test_the_export_leaves_pytorchs_log_as_it_was(pipe):
    logger = logging.getLogger("torch.onnx")
    assert logger.level == logging.NOTSET
    with errors_only(logger.name):
        assert not logger.isEnabledFor(logging.WARNING)
    assert logger.level == logging.NOTSET


def test_half_precision_is_refused(make_tiny_pipe):
    with pytest.raises(ValueError, match='engine="onnx" needs device="cpu" and dtype="float32"'):
        make_engine("onnx", make_tiny_pipe().unet.bfloat16())


def test_without_onnx_it_says_what_to_install(make_tiny_pipe, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r'onnxruntime is not installed: pip install "ldm-tutorial\[web\]"'):
        make_engine("onnx", make_tiny_pipe().unet)


def test_drawing_by_pytorch_does_not_import_it():
    draw = "load_pipeline('emoji')('a cat', steps=2)"
    code = f"import sys; from ldm_tutorial import load_pipeline; {draw}; assert 'onnx' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
