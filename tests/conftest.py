"""A whole Stable Diffusion of random weights, small enough for tests: all its dimensions differ, so that none can be mixed up."""

import os

os.environ.setdefault("LDM_QUIET", "1")

import pytest


@pytest.fixture(scope="session", autouse=True)
def _no_power_cut():
    """Files of tests need not outlive one: to wait for the disk at each of them took more time than all else that saving does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


@pytest.fixture(autouse=True)
def _gradients_stay_on():
    """A test that leaves gradients switched off would break others far away: it fails itself."""
    import torch

    yield
    if not torch.is_grad_enabled():
        torch.set_grad_enabled(True)
        pytest.fail("gradients are switched off after this test")


@pytest.fixture(scope="session")
def browser():
    """Chromium, one for all tests of a process: Playwright cannot be started twice in one."""
    from tests.browser.servers import chromium

    playwright = pytest.importorskip("playwright.sync_api", reason="NOTICE: no playwright, so no tests in a browser")
    playwright.expect.set_options(timeout=30_000)  # where several workers share the processor, 5 s may be too few
    with playwright.sync_playwright() as p:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = p.chromium.launch(executable_path=chromium(), headless=True, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def weights_dir(monkeypatch, tmp_path):
    """LDM_WEIGHTS_DIR, empty; the hub's cache is empty, too, and whoever asks the network fails the test."""
    from huggingface_hub import HfApi, constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(HfApi, "repo_info", lambda *_, **__: pytest.fail("the hub was asked"))
    (tmp_path / "weights").mkdir()
    monkeypatch.setenv("LDM_WEIGHTS_DIR", str(tmp_path / "weights"))
    return tmp_path / "weights"


@pytest.fixture(scope="session")
def tiny_tokenizer():
    """CLIP's rules over 512 bytes, 40 merges, the start and the end token: 554 entries."""
    from ldm_tutorial.training.tokenizer import train_tokenizer

    text = "a cat in the style of noto, a dog in the style of fluent, an octopus with a hat, a rocket and a hamburger"
    return train_tokenizer([text], vocab_size=554)


@pytest.fixture(scope="session")
def tiny_config(tiny_tokenizer):
    """Pictures of 32x32, latents of 8x8."""
    from ldm_tutorial.config import AutoencoderConfig, CLIPTextConfig, StableDiffusionConfig, UNetConfig

    return StableDiffusionConfig(
        AutoencoderConfig(
            block_out_channels=(8, 12, 20), layers_per_block=1, norm_num_groups=4, scaling_factor=0.7, sample_size=32
        ),
        UNetConfig(
            block_out_channels=(8, 16, 24),
            attention_levels=(True, True, False),
            layers_per_block=1,
            num_attention_heads=2,
            cross_attention_dim=18,
            norm_num_groups=4,
            sample_size=8,
        ),
        CLIPTextConfig(
            vocab_size=len(tiny_tokenizer),
            hidden_size=18,
            intermediate_size=30,
            num_hidden_layers=2,
            num_attention_heads=3,
            projection_dim=14,
        ),
    )


@pytest.fixture(scope="session")
def make_tiny_pipe(tiny_config, tiny_tokenizer):
    """A function that makes a pipeline of random weights, each time the same."""
    import torch

    from ldm_tutorial.clip import CLIPTextModel
    from ldm_tutorial.pipeline import StableDiffusion
    from ldm_tutorial.unet import UNet
    from ldm_tutorial.vae import AutoencoderKL

    def make():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            unet, vae = UNet(tiny_config.unet), AutoencoderKL(tiny_config.vae)
            text_encoder = CLIPTextModel(tiny_config.text_encoder)
            torch.nn.init.normal_(unet.conv_out.weight, std=0.3)  # an answer about as large as noise, so that it matters
            torch.nn.init.normal_(vae.decoder.conv_out.weight, std=0.2)  # and pictures with contrast
        return StableDiffusion(unet, vae, text_encoder, tiny_tokenizer, name="tiny")

    return make


@pytest.fixture(scope="session")
def tiny_pipe(make_tiny_pipe):
    """One pipeline for all tests: leave it as it is, or make your own."""
    return make_tiny_pipe()
