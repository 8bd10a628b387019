"""The terms of the trainings' objectives, against numbers worked out by other means."""

import sys
import types
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ldm_tutorial.clip import CLIPImageTower
from ldm_tutorial.config import UNetConfig
from ldm_tutorial.schedulers import DDPMScheduler
from ldm_tutorial.training.augment import jitter
from ldm_tutorial.training.autoencoder import psnr
from ldm_tutorial.training.clip import choose_captions, contrastive_loss
from ldm_tutorial.training.diffusion import silence_residuals
from ldm_tutorial.training.discriminator import PatchDiscriminator, adaptive_weight, hinge_loss
from ldm_tutorial.training.ema import EMA
from ldm_tutorial.training.objective import diffusion_loss, sample_timesteps
from ldm_tutorial.training.perceptual import VGG16, PerceptualLoss, read_lpips_heads
from ldm_tutorial.training.recipes import agreement_weight, answer_with_words, dropout_rate, min_snr_weight
from ldm_tutorial.unet import UNet


def test_the_contrastive_loss_of_equal_logits_is_log_n_and_of_a_sure_diagonal_zero():
    assert contrastive_loss(torch.zeros(7, 7)).item() == pytest.approx(torch.tensor(7.0).log().item())
    assert contrastive_loss(100 * torch.eye(7)).item() == pytest.approx(0, abs=1e-6)


def test_half_of_the_captions_are_the_first():
    generator = torch.Generator().manual_seed(0)
    chosen = choose_captions([("a", "b", "c", "d")] * 4000, generator)
    assert chosen.count("a") / 4000 == pytest.approx(0.5 + 0.5 / 4, abs=0.03)
    assert {"b", "c", "d"} < set(chosen)


def test_how_often_the_first_caption_is_chosen_is_the_callers_choice():
    generator = torch.Generator().manual_seed(0)
    assert set(choose_captions([("a", "b")] * 100, generator, first_share=1.0)) == {"a"}
    chosen = choose_captions([("a", "b")] * 4000, generator, first_share=0.8)
    assert chosen.count("a") / 4000 == pytest.approx(0.8 + 0.2 / 2, abs=0.03)


def test_a_silenced_unet_answers_nothing_and_learns_from_the_first_steps():
    config = UNetConfig(
        block_out_channels=(8, 12),
        attention_levels=(False, True),
        layers_per_block=1,
        num_attention_heads=2,
        cross_attention_dim=5,
        norm_num_groups=2,
    )
    torch.manual_seed(0)
    unet = silence_residuals(UNet(config))
    latents, context, target = torch.randn(3, 4, 6, 8), torch.randn(3, 7, 5), torch.randn(3, 4, 6, 8)
    optimizer = torch.optim.Adam(unet.parameters(), lr=0.01)
    silent = unet(latents, torch.tensor([1, 50, 999]), context)
    assert torch.equal(silent, unet.conv_out.bias.view(1, 4, 1, 1).expand_as(silent))
    before = {name: weight.detach().clone() for name, weight in unet.named_parameters()}
    for _ in range(3):  # the output layer wakes first, then what it listens to, then what that listens to
        optimizer.zero_grad()
        ((unet(latents, torch.tensor([1, 50, 999]), context) - target) ** 2).mean().backward()
        optimizer.step()
    assert [name for name, weight in unet.named_parameters() if torch.equal(weight, before[name])] == []


def test_timesteps_are_uniform_and_cover_the_range_evenly():
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([sample_timesteps(10, 1000, generator) for _ in range(2000)])  # (2000, 10)
    assert all((column // 100).unique().tolist() == [i] for i, column in enumerate(draws.T))
    assert draws.float().mean().item() == pytest.approx(499.5, abs=3)
    assert draws.min() >= 0 and draws.max() <= 999


@pytest.mark.parametrize("batch_size, draw", [(64, 70_194), (2048, 15_810)])
def test_no_timestep_lies_behind_the_last(batch_size, draw):
    """float32 rounds the end of the last slice up to 1: once in a million rows, and then training stopped with an error."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(draw):
        torch.rand(batch_size, generator=generator)
    timesteps = sample_timesteps(batch_size, 1000, generator)
    assert timesteps.max() == 999 and (timesteps.sort().values == timesteps).all()


def test_with_power_one_half_half_of_the_timesteps_lie_above_seven_tenths_of_the_range():
    generator = torch.Generator().manual_seed(0)
    draws = torch.cat([sample_timesteps(10, 1000, generator, power=0.5) for _ in range(2000)])
    assert (draws >= 707).float().mean().item() == pytest.approx(0.5, abs=0.005)
    assert (draws < 200).float().mean().item() == pytest.approx(0.04, abs=0.005)
    assert draws.min() >= 0 and draws.max() <= 999


def test_min_snr_weight_is_one_where_noise_prevails_and_falls_with_the_snr():
    alphas_cumprod = DDPMScheduler().alphas_cumprod
    weight = min_snr_weight(alphas_cumprod, torch.arange(1000), gamma=5.0)
    snr = alphas_cumprod / (1 - alphas_cumprod)
    assert torch.allclose(weight, torch.minimum(snr, torch.tensor(5.0)) / snr)
    assert (weight[snr <= 5] == 1).all() and weight[0] < 0.01


def test_with_offset_one_an_error_of_the_noise_counts_as_one_of_the_velocity():
    alphas_cumprod = DDPMScheduler().alphas_cumprod.double()
    t = torch.arange(1000)
    alpha_bar = alphas_cumprod[t]
    x_t, eps, guess = torch.randn(3, 1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def velocity(noise):
        x0 = (x_t - (1 - alpha_bar).sqrt() * noise) / alpha_bar.sqrt()
        return alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * x0

    weight = min_snr_weight(alphas_cumprod, t, gamma=float("inf"), offset=1.0)
    assert torch.allclose(weight * (guess - eps) ** 2, (velocity(guess) - velocity(eps)) ** 2)


def test_captions_are_dropped_as_often_as_asked_in_noise_and_in_clean_latents_and_in_between_in_between():
    timesteps = torch.arange(1001)
    assert torch.equal(dropout_rate(timesteps, 1000, early=0.1, late=0.1), torch.full((1001,), 0.1))
    rates = dropout_rate(timesteps, 1000, early=0.1, late=0.5)
    assert rates[0] == 0.5 and rates[1000] == pytest.approx(0.1) and rates[500] == pytest.approx(0.4)
    assert (rates.diff() < 0).all()


def test_who_learns_the_answers_with_words_learns_the_right_one_without():
    """Two words, one latent that each could have: the guess without words is the mean of the two, whichever target is used."""

    class Heard(nn.Module):
        def forward(self, noisy, timesteps, context):
            return context.mean((1, 2))[:, None, None, None].expand_as(noisy)

    words = torch.tensor([-1.0, 3.0]).repeat(2000)[:, None, None].expand(-1, 77, 4)
    noisy, timesteps, n = torch.zeros(4000, 1, 2, 2), torch.zeros(4000, dtype=torch.long), len(words)
    noise = words.mean((1, 2))[:, None, None, None] + torch.randn(n, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    taught = answer_with_words(Heard(), noisy, timesteps, words)
    guesses = torch.linspace(-1, 3, 81)
    for target in (noise, taught):
        losses = [
            diffusion_loss(lambda x, t, c, g=g: torch.full_like(x, g), noisy, target, timesteps, words).mean() for g in guesses
        ]
        assert guesses[torch.stack(losses).argmin()].item() == pytest.approx(1, abs=0.051)
    assert taught.var() < 0.85 * noise.var()  # and nearer to it


def test_two_answers_should_agree_where_the_latents_tell_all_and_not_where_they_tell_nothing():
    weights = agreement_weight(torch.arange(1000), below=300)
    assert (weights[:301] == 1).all() and weights[375] == 0.5 and (weights[450:] == 0).all() and (weights.diff() <= 0).all()


def test_psnr_of_a_constant_error():
    pictures = torch.zeros(2, 3, 4, 4)
    assert psnr(pictures, pictures + 0.2).tolist() == pytest.approx([20.0, 20.0], abs=1e-4)  # 20 log10(2 / 0.2)


def test_the_average_starts_with_the_weights_and_follows_slowly():
    model = nn.Linear(2, 2)
    ema = EMA(model, decay=0.9)
    for expected in (2 / 11, 3 / 12, 4 / 13):
        before = ema.model.weight.clone()
        with torch.no_grad():
            model.weight += 1
        ema.update(model)
        torch.testing.assert_close(ema.model.weight.data, expected * before + (1 - expected) * model.weight.data)
    for _ in range(200):
        ema.update(model)
    torch.testing.assert_close(ema.model.weight.data, model.weight.data)


def test_jitter_keeps_white_white_and_moves_each_picture_differently():
    generator = torch.Generator().manual_seed(0)
    assert (jitter(torch.ones(3, 3, 16, 16), generator) > 0.999).all()
    squares = torch.ones(4, 3, 16, 16)
    squares[:, :, 5:9, 4:8] = -1
    moved = jitter(squares, generator)
    assert moved.amin() >= -1.001 and moved.amax() <= 1.001
    assert all((moved[0] - moved[i]).abs().max() > 0.05 for i in (1, 2, 3))
    torch.testing.assert_close(jitter(squares, torch.Generator().manual_seed(0), 0, 0, flip=False), squares)


def test_the_discriminator_gives_a_verdict_a_patch_of_70_pixels():
    discriminator = PatchDiscriminator(channels=4).eval()
    x = torch.randn(2, 3, 96, 96, requires_grad=True)
    verdicts = discriminator(x)
    assert verdicts.shape == (2, 1, 10, 10)
    verdicts[0, 0, 5, 5].backward()
    seen = x.grad[0].abs().sum(0).nonzero()
    assert (seen.max(0).values - seen.min(0).values + 1).tolist() == [70, 70]


def test_the_hinge_forgives_verdicts_beyond_the_margin():
    assert hinge_loss(torch.tensor([1.5]), torch.tensor([-2.0])) == 0
    assert hinge_loss(torch.tensor([0.0]), torch.tensor([0.0])) == 1


def test_the_adaptive_weight_balances_the_gradients_at_the_last_layer():
    layer = nn.Linear(3, 3)
    out = layer(torch.randn(5, 3))
    data_loss, fooling = out.square().mean(), 100 * out.mean()
    weight = adaptive_weight(data_loss, fooling, layer.weight)
    (a,) = torch.autograd.grad(data_loss, layer.weight, retain_graph=True)
    (b,) = torch.autograd.grad(weight * fooling, layer.weight)
    assert b.norm().item() == pytest.approx(a.norm().item(), rel=1e-3)
    assert not weight.requires_grad


def test_the_perceptual_loss_is_zero_for_equal_pictures_and_never_trains_its_backbone():
    loss = PerceptualLoss(CLIPImageTower(8)).train()
    x, y = torch.rand(2, 3, 32, 32) * 2 - 1, torch.rand(2, 3, 32, 32) * 2 - 1
    assert loss(x, x).tolist() == [0, 0]
    assert (loss(x, y) > 0).all()
    assert not any(module.training for module in loss.modules())
    assert not any(p.requires_grad for p in loss.parameters())


def test_with_vgg16_and_its_heads_the_loss_is_lpips(tmp_path, monkeypatch):
    """Against the package `lpips`, with its trained heads and random convolutions (the trained ones are a download)."""

    def torchvision_vgg16(**_):  # lpips imports torchvision for this network only
        layers = []
        for i, stage in enumerate(VGG16.STAGES):
            layers += [nn.MaxPool2d(2)] * bool(i)
            for a, b in zip(stage, stage[1:]):
                layers += [nn.Conv2d(a, b, 3, padding=1), nn.ReLU()]
        return types.SimpleNamespace(features=nn.Sequential(*layers))

    torchvision, models = types.ModuleType("torchvision"), types.ModuleType("torchvision.models")
    torchvision.models, models.vgg16 = models, torchvision_vgg16
    monkeypatch.setitem(sys.modules, "torchvision", torchvision)
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    lpips = pytest.importorskip("lpips")
    reference = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False).eval()

    convolutions = [m for m in reference.net.modules() if isinstance(m, nn.Conv2d)]
    for conv in convolutions:  # keep the signal alive through thirteen layers
        nn.init.kaiming_normal_(conv.weight)
    source, n = {}, 0
    for conv in convolutions:
        source[f"features.{n}.weight"], source[f"features.{n}.bias"] = conv.weight.data, conv.bias.data
        n += 2
    source["classifier.0.weight"] = torch.zeros(1)
    torch.save(source, tmp_path / "vgg16.pth")
    heads = read_lpips_heads(Path(lpips.__file__).parent / "weights" / "v0.1" / "vgg.pth")
    ours = PerceptualLoss(VGG16.from_torchvision(tmp_path / "vgg16.pth"), heads)

    x, y = torch.rand(2, 3, 48, 40) * 2 - 1, torch.rand(2, 3, 48, 40) * 2 - 1
    with torch.no_grad():
        expected = reference(x, y).flatten()
        torch.testing.assert_close(ours(x, y), expected, rtol=1e-4, atol=1e-6)
    assert F.l1_loss(ours(x, x), torch.zeros(2)) == 0


def test_a_file_that_is_not_vgg16_is_refused(tmp_path):
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="13 convolutions"):
        VGG16.from_torchvision(tmp_path / "other.pth")
