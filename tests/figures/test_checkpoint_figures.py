"""The figures of files, numbers and memory show what files, numbers and memory are."""

import re

import pytest
import torch

from ldm_tutorial.checkpoints.tensors import write_tensors
from ldm_tutorial.config import EMOJI, SD15
from ldm_tutorial.figures.checkpoints import block_names, file_layout, name_map
from ldm_tutorial.figures.hardware import TYPES, float_bits, memory_bars, number_ranges, smallest
from ldm_tutorial.lessons.memory import GIB
from ldm_tutorial.lessons.notebook import png


def words(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_every_layer_of_the_blocks_is_in_the_map_once():
    blocks = block_names(SD15.unet)
    assert set(blocks) == {f"{side}_blocks.{n}" for side in ("input", "output") for n in range(12)} | {"middle_block"}
    layers = [ours for layers in blocks.values() for ours in layers.values()]
    assert len(layers) == len(set(layers)) == 1 + 2 * 4 + 3 * 4 + 16 + 6 + 2  # conv_in, ResNets, transformers, resampling, middle
    assert blocks["output_blocks.2"] == {"0": "up_blocks.0.resnets.2", "1": "up_blocks.0.upsamplers.0"}
    assert blocks["output_blocks.5"]["2"] == "up_blocks.1.upsamplers.0"


@pytest.mark.parametrize("config", [SD15.unet, EMOJI.unet], ids=["sd15", "emoji"])
def test_the_map_shows_the_names(config):
    shown = words(name_map(config))
    blocks = block_names(config)
    assert [name for name in shown if re.match("(in|out)put_blocks|middle", name)] != []
    assert set(blocks) <= set(shown)
    for kind in ("down", "up"):
        levels = [name for name in shown if name.startswith(f"{kind}_blocks.")]
        assert sorted(levels) == [f"{kind}_blocks.{i}" for i in range(len(config.block_out_channels))]
    assert sum("sampler" in name for name in shown) == 2 * (len(config.block_out_channels) - 1)


def test_the_layout_is_that_of_the_file(tmp_path):
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"b": torch.zeros(3, 5), "a": torch.zeros(1001, dtype=torch.float16)}, metadata={"who": "me"})
    shown = " ".join(words(file_layout(path, shown=1)))
    length = int.from_bytes(path.read_bytes()[:8], "little")
    for text in (f"{length} bytes of JSON", "2 names", f"{60 + 2002:,} bytes", f"{path.stat().st_size:,}", "and 1 more"):
        assert text in shown
    assert ("F32 [3, 5]" in shown and "bytes 0 to 60" in shown) or ("F16 [1001]" in shown and "bytes 0 to 2,002" in shown)


def test_the_bits_are_those_of_the_types():
    for dtype, (sign, exponent, fraction) in TYPES.items():
        assert sign + exponent + fraction == 8 * dtype.itemsize
        assert torch.finfo(dtype).eps == 2.0**-fraction
        assert torch.finfo(dtype).max == (2 - 2.0**-fraction) * 2.0 ** (2 ** (exponent - 1) - 1)
    assert words(float_bits()).count("e") == sum(exponent for _, exponent, _ in TYPES.values())


def test_the_smallest_numbers_are_the_smallest():
    for dtype in (torch.float16, torch.bfloat16):
        normal, tiny = smallest(dtype)
        assert torch.tensor(tiny, dtype=torch.float64).to(dtype) > 0
        assert torch.tensor(tiny / 2.1, dtype=torch.float64).to(dtype) == 0
        assert torch.tensor(normal, dtype=torch.float64).to(dtype).item() == normal


def test_the_ranges_hold_all_numbers_but_zero():
    figure = number_ranges({"some": torch.tensor([0.0, -1e-3, 2e-3, 10.0]), "more": torch.tensor([5.0])})
    shares = [line.get_ydata().sum() for line in figure.axes[0].lines[:2]]
    assert shares == pytest.approx([100, 100])
    bars = {round(10 ** (bar.get_x() + bar.get_width())) for bar in figure.axes[1].patches if bar.get_width() < 20}
    assert 65504 in bars


def test_a_bar_is_the_weights_the_reserve_and_the_largest_peak():
    account = {"weights": 2 * GIB, "text": GIB // 8, "unet": GIB // 2, "decoder": GIB // 4}
    figure = memory_bars({"mine": account, "other": {**account, "decoder": 3 * GIB}}, cards=(4,), reserve=GIB)
    assert words(figure) == ["3.5", "6.0"]
    assert [t.get_text() for t in figure.axes[0].get_legend().get_texts()] == [
        "weights",
        "reserve",
        "peak in the U-Net",
        "peak in the decoder",
    ]


def test_the_same_figure_is_the_same_bytes():
    assert png(name_map(EMOJI.unet)) == png(name_map(EMOJI.unet))
    assert png(float_bits()) == png(float_bits())
