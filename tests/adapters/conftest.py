"""LoRAs of random numbers for the tiny pipeline, all of which matter."""

import pytest
import torch

from ldm_tutorial.adapters import new_lora

LAYERS = {  # attention, and a convolution of each kind: 1x1, 3x3, with a stride
    "unet": [
        "conv_in",
        "down_blocks.0.downsamplers.0.conv",
        "down_blocks.1.resnets.0.conv_shortcut",
        "mid_block.attentions.0.proj_in",
        "mid_block.attentions.0.transformer_blocks.0.attn1.to_q",
        "mid_block.attentions.0.transformer_blocks.0.attn2.to_k",
        "mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0",
        "mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj",
        "up_blocks.1.attentions.1.transformer_blocks.0.attn2.to_v",
    ],
    "text_encoder": [
        "text_model.encoder.layers.0.self_attn.q_proj",
        "text_model.encoder.layers.1.self_attn.out_proj",
        "text_model.encoder.layers.1.mlp.fc1",
    ],
}


@pytest.fixture
def pipe(make_tiny_pipe):
    return make_tiny_pipe()


@pytest.fixture(scope="session")
def random_lora():
    """A function: a LoRA for these networks whose updates are about as large as the weights; not attached."""

    def make(networks, rank=3, alpha=2.0, layers=LAYERS, seed=0):
        lora = new_lora(networks, rank, alpha, {part: layers[part] for part in networks})
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for update in lora.by_name().values():
                for matrix in (update.down, update.up):
                    size = matrix.weight[0].numel() ** -0.5
                    matrix.weight.copy_(size * torch.randn(matrix.weight.shape, generator=generator))
        return lora

    return make
