"""The diagrams of the networks show the sizes that the networks have; figures of their insides are what they say."""

import pytest
import torch
from PIL import Image

from ldm_tutorial.config import EMOJI, SD15
from ldm_tutorial.figures.grids import feature_picture, maps_over
from ldm_tutorial.figures.networks import (
    decoder_figure,
    discriminator_figure,
    encoder_figure,
    resnet_block_figure,
    spatial_transformer_figure,
    unet_figure,
)
from ldm_tutorial.figures.plots import matrices, stacked_bars
from ldm_tutorial.lessons.notebook import png
from ldm_tutorial.training.discriminator import PatchDiscriminator
from ldm_tutorial.unet import UNet
from ldm_tutorial.vae import AutoencoderKL


def words(figure):
    return "\n".join(text.get_text() for axes in figure.axes for text in axes.texts)


@pytest.mark.parametrize("config", [EMOJI.unet, SD15.unet], ids=["emoji", "sd15"])
def test_the_u_net_of_the_diagram_is_the_u_net(config):
    """Channels into each residual block, and the channels and sides of every skip, as a real run has them."""
    shown = words(unet_figure(config))
    with torch.device("meta"), torch.no_grad():
        unet = UNet(config)
        kept = [[] for _ in unet.down_blocks]
        for level, block in enumerate(unet.down_blocks):
            block.register_forward_hook(lambda module, inputs, output, level=level: kept[level].extend(output[1]))
        side = config.sample_size
        unet(torch.zeros(1, 4, side, side), torch.zeros(1), torch.zeros(1, 3, config.cross_attention_dim))
    made = [torch.zeros(1, config.block_out_channels[0], side, side, device="meta"), *(x for level in kept for x in level)]
    for level, (block, c) in enumerate(zip(unet.down_blocks, config.block_out_channels)):
        inputs = ", ".join(str(resnet.conv1.in_channels) for resnet in block.resnets)
        assert f"{inputs} → {c}" in shown
        up = unet.up_blocks[len(unet.up_blocks) - 1 - level]
        assert f"{', '.join(str(resnet.conv1.in_channels) for resnet in up.resnets)} → {c}" in shown
        here = [x for x in made if x.shape[-1] == kept[level][0].shape[-1]]
        assert f"skips {', '.join(str(x.shape[1]) for x in here)}" in shown
        assert f"{c} x {here[0].shape[-1]} x {here[0].shape[-1]}" in shown


@pytest.mark.parametrize("config", [EMOJI.vae, SD15.vae], ids=["emoji", "sd15"])
def test_the_autoencoder_of_the_diagrams_is_the_autoencoder(config):
    with torch.device("meta"), torch.no_grad():
        vae, seen = AutoencoderKL(config), {"encoder": [], "decoder": []}
        for name, blocks in (("encoder", vae.encoder.down_blocks), ("decoder", vae.decoder.up_blocks)):
            for block in blocks:
                block.register_forward_hook(lambda module, inputs, output, name=name: seen[name].append(tuple(output.shape)))
        vae.decode(vae.encode(torch.zeros(1, 3, config.sample_size, config.sample_size)).mode())
    for figure, shapes in ((encoder_figure(config), seen["encoder"]), (decoder_figure(config), seen["decoder"])):
        assert len(shapes) == len(config.block_out_channels)
        for _, channels, height, width in shapes:
            assert f"{channels}\n{height} x {width}" in words(figure)


@pytest.mark.parametrize(("channels", "size"), [(64, 256), (6, 112)])
def test_the_discriminator_of_the_diagram_is_the_discriminator(channels, size):
    """The shape of each convolution's result, and the window that one number of it has seen, as gradients show it."""
    network, seen = PatchDiscriminator(channels).eval(), []
    with torch.no_grad():  # each weight positive, so that no gradient cancels or dies
        for p in network.parameters():
            p.abs_()
    for layer in network.layers:
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(lambda module, inputs, output: seen.append(output))
    x = torch.rand(1, 3, size, size, requires_grad=True)
    network(x)
    shown = words(discriminator_figure(channels, size))
    assert len(seen) == 5
    for features in seen:
        _, c, height, width = features.shape
        middle = features[0, 0, height // 2, width // 2]
        [touched] = torch.autograd.grad(middle, x, retain_graph=True)
        rows, columns = (touched[0].abs().sum((0, axis)).count_nonzero().item() for axis in (2, 1))
        assert f"sees {rows}x{columns}" in shown
        assert f"{c}\n{height} x {width}" in shown


def test_only_the_block_with_time_shows_the_time():
    assert "time" not in words(resnet_block_figure(time=False))
    assert "time\nembedding" in words(resnet_block_figure(time=True))


def test_the_transformer_of_the_diagram_has_its_sizes():
    shown = words(spatial_transformer_figure(channels=240, size=5, words=77, width=192, heads=4))
    assert all(text in shown for text in ("240 x 5 x 5", "25 x 240", "77 x 192", "4 heads of 60 channels"))


def test_one_figure_is_always_the_same_bytes():
    assert png(unet_figure(EMOJI.unet)) == png(unet_figure(EMOJI.unet))


def test_positions_with_equal_features_have_one_color_and_others_do_not():
    features = torch.zeros(6, 2, 3)
    features[:, 1, 2] = torch.arange(6.0)
    features[0, 0, 0] = 9
    grid = [[feature_picture(features, side=6).getpixel((x, y)) for x in (1, 3, 5)] for y in (1, 4)]
    assert grid[0][1] == grid[0][2] == grid[1][0] == grid[1][1]
    assert len({grid[0][0], grid[0][1], grid[1][2]}) == 3


def test_a_feature_picture_does_not_depend_on_the_signs_of_the_channels():
    features = torch.randn(5, 4, 4, generator=torch.Generator().manual_seed(0))
    flipped = features * torch.tensor([1.0, -1, 1, -1, -1]).view(5, 1, 1)
    assert feature_picture(features).tobytes() == feature_picture(flipped).tobytes()


def test_a_feature_picture_fits_beside_a_picture_of_emoji():
    assert feature_picture(torch.zeros(5, 4, 4)).size == (EMOJI.vae.sample_size, EMOJI.vae.sample_size)


def test_features_of_a_batch_are_refused():
    with pytest.raises(ValueError, match=r"one picture, \(c, h, w\); got \(2, 5, 4, 4\)"):
        feature_picture(torch.zeros(2, 5, 4, 4))


def test_bars_are_stacked_and_maps_are_labeled():
    bars = stacked_bars({"work": {"a": [1, 2], "b": [3, 5]}}, ["up", "down"])
    ends = sorted(round(patch.get_x() + patch.get_width(), 6) for patch in bars.axes[0].patches)
    assert ends == [1, 2, 4, 7]
    figure = maps_over(Image.new("RGB", (8, 8)), [torch.eye(2), torch.eye(4)], ["cat", "$a_1$"])
    assert [axes.get_title() for axes in figure.axes] == ["drawn", "cat", "$a_1$"]
    assert "0.25" in words(matrices([torch.full((2, 3), 0.25)], ["weights"], "who", "whom"))
