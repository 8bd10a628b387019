"""float32, bfloat16 and float16: every training in each of them, and the sums that half precision would spoil."""

import math
import shutil

import pytest
import torch
from torch import nn

from ldm_tutorial.checkpoints import load_checkpoint
from ldm_tutorial.training.autoencoder import in_float32
from ldm_tutorial.training.compute import PRECISIONS, Compute
from ldm_tutorial.training.discriminator import adaptive_weight
from ldm_tutorial.training.logs import read_log
from ldm_tutorial.vae import DiagonalGaussian
from tests.training.small_world import train

pytestmark = pytest.mark.usefixtures("small_world")


@pytest.fixture(scope="module")
def trained(small_world, tmp_path_factory):
    """A function: precision -> a folder that the three trainings have written in it, one for all tests: copy it to change it."""
    folders = {}

    def folder_of(precision):
        if precision not in folders:
            folders[precision] = folder = tmp_path_factory.mktemp(precision)
            train("clip", folder, "--steps", 3, "--mixed-precision", precision)
            train("autoencoder", folder, "--steps", 3, "--gan-start", 0, "--mixed-precision", precision)
            train("diffusion", folder, "--steps", 3, "--mixed-precision", precision)
        return folders[precision]

    return folder_of


def logs_of(folder):
    return {name: read_log(folder / "training" / name / "log.jsonl") for name in ("clip", "autoencoder", "unet")}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_logs_what_float32_does(trained, precision):
    """In the first step, before small differences grow."""
    float32_logs = logs_of(trained("no"))
    for name, log in logs_of(trained(precision)).items():
        for column in set(log) - {"step", "seconds", "stage", "accuracy", "fooling"}:  # what is near 0, or counts few
            tolerance = 0.1 if column == "gan_weight" else 0.03  # a ratio of gradients with two or three digits
            assert log[column][0] == pytest.approx(float32_logs[name][column][0], rel=tolerance), (name, column)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("options", [("--recipe", "plain"), ("--recipe", "agree", "--distill-empty")])
def test_every_recipe_trains_in_every_precision(trained, tmp_path, precision, options):
    folder = shutil.copytree(trained(precision), tmp_path / "model")
    shutil.rmtree(folder / "training" / "unet")
    train("diffusion", folder, "--steps", 3, "--mixed-precision", precision, "--caption-dropout", 0.5, *options)
    assert all(math.isfinite(loss) for log in logs_of(folder).values() for loss in log["loss"])
    model = load_checkpoint(folder)
    for network in (model.unet, model.vae, model.text_encoder):
        assert all(weight.isfinite().all() and weight.dtype == torch.float32 for weight in network.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_kl_divergence_is_that_of_float32(dtype):
    """exp(15) is too large for float16, and a sum of 1,024 terms has three digits in bfloat16."""
    generator = torch.Generator().manual_seed(0)
    mean, logvar = torch.randn(2, 5, 4, 16, 16, generator=generator).to(dtype)
    for shift in (0, 15):
        posterior = DiagonalGaussian(mean, logvar + shift)
        expected = DiagonalGaussian(mean.double(), (logvar + shift).double()).kl()
        torch.testing.assert_close(in_float32(posterior).kl().double(), expected, rtol=1e-5, atol=0)
        wrong = posterior.kl().double()
        assert not torch.allclose(wrong, expected, rtol=1e-5, atol=0)


def test_the_adaptive_weight_of_small_float16_gradients_is_that_of_float32():
    """A gradient of 1e-8 is 0 in float16; the trainings scale losses up before they take it."""
    torch.manual_seed(0)
    layer, x = nn.Conv2d(3, 3, 3), torch.randn(2, 3, 9, 8)
    weights = {}
    for precision in ("no", "fp16"):
        compute = Compute(precision)
        with compute.autocast():
            out = layer(x).float()
        losses = 1e-5 * out.square().mean(), 1e-5 * out.mean()
        assert all(math.isfinite(loss.item()) for loss in losses)
        (small,) = torch.autograd.grad(losses[1], layer.weight, retain_graph=True)
        weights[precision] = compute.gradient(losses[0], layer.weight, retain_graph=True)[0]
        balance = adaptive_weight(*(loss * 1e4 for loss in losses), layer.weight, compute.gradient)
        weights[precision, "balance"] = balance.item()
    assert small.abs().max() < 0.7 * weights["no"].abs().max()  # float16 without the scale loses what is below 6e-8
    torch.testing.assert_close(weights["fp16"], weights["no"], rtol=2e-2, atol=1e-8)
    assert weights["fp16", "balance"] == pytest.approx(weights["no", "balance"], rel=1e-2)


def test_a_step_whose_gradients_overflow_is_left_out():
    compute, weight = Compute("fp16"), nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([weight], lr=0.1, weight_decay=0.0)
    scale = compute.scaler.get_scale()
    compute.backward((weight * torch.tensor([1.0, math.inf])).sum())
    compute.step(optimizer, max_norm=1.0)
    assert weight.tolist() == [1, 1] and compute.scaler.get_scale() == scale / 2
    optimizer.zero_grad()
    compute.backward((weight * torch.tensor([1.0, -1.0])).sum())
    compute.step(optimizer, max_norm=1.0)
    assert weight.tolist() == pytest.approx([0.9, 1.1])


def test_a_device_without_autocast_is_one_clear_error(monkeypatch):
    def unsupported(*_, **__):
        raise RuntimeError("User specified an unsupported autocast device_type 'mps'")

    monkeypatch.setattr(torch, "autocast", unsupported)
    with pytest.raises(ValueError, match="--mixed-precision bf16: torch .* cannot on cpu; use no"):
        Compute("bf16")
    Compute("no")
