"""CLIP: the text encoder that Stable Diffusion listens to, and the small image tower it is trained with here.

Radford et al. 2021. Shapes: b prompts, m = 77 tokens, d = hidden_size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import CLIPTextConfig


def quick_gelu(x: Tensor) -> Tensor:
    """x * sigmoid(1.702 x), the approximation of GELU that CLIP was trained with; up to 0.02 away from the exact one."""
    return x * torch.sigmoid(1.702 * x)


class CLIPEmbeddings(nn.Module):
    """A vector for each token plus a vector for each position: (b, m) integers -> (b, m, d)

    Raises ValueError for more tokens than there are positions.
    """

    def __init__(self, config: CLIPTextConfig):
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = nn.Embedding(config.max_position_embeddings, config.hidden_size)

    def forward(self, input_ids: Tensor) -> Tensor:
        m, positions = input_ids.shape[1], self.position_embedding.num_embeddings
        if m > positions:
            raise ValueError(f"input_ids has {m} tokens a prompt; this text encoder reads at most {positions}")
        return self.token_embedding(input_ids) + self.position_embedding.weight[:m]


class CLIPAttention(nn.Module):
    """Causal multi-head self-attention: token i listens to tokens 0..i. (b, m, d) -> (b, m, d)"""

    def __init__(self, config: CLIPTextConfig):
        super().__init__()
        d = config.hidden_size
        self.heads = config.num_attention_heads
        self.q_proj = nn.Linear(d, d)
        self.k_proj = nn.Linear(d, d)
        self.v_proj = nn.Linear(d, d)
        self.out_proj = nn.Linear(d, d)

    def forward(self, x: Tensor) -> Tensor:
        # (b, m, d) -> (b, heads, m, d / heads)
        q, k, v = (p(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # no padding mask: all 77 positions count
        return self.out_proj(out.transpose(1, 2).flatten(2))


class CLIPMLP(nn.Module):
    """Each token by itself, four times as wide inside: (b, m, d) -> (b, m, d)"""

    def __init__(self, config: CLIPTextConfig):
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(quick_gelu(self.fc1(x)))


class CLIPLayer(nn.Module):
    """Attention, then MLP, each on a normalized copy and added: (b, m, d) -> (b, m, d)"""

    def __init__(self, config: CLIPTextConfig):
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.hidden_size)
        self.self_attn = CLIPAttention(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size)
        self.mlp = CLIPMLP(config)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class CLIPTextModel(nn.Module):
    """`CLIPTextModel(config)(input_ids)` -> the last hidden states, normalized: (b, m) integers -> (b, m, d)

    clip_skip: how many of the last layers are left out. The normalization after them stays, as in diffusers: the U-Net was
    trained on what comes out of it.
    """

    def __init__(self, config: CLIPTextConfig):
        super().__init__()
        self.config = config
        layers = nn.ModuleList([CLIPLayer(config) for _ in range(config.num_hidden_layers)])
        self.text_model = nn.ModuleDict(  # the names that checkpoints use
            {
                "embeddings": CLIPEmbeddings(config),
                "encoder": nn.ModuleDict({"layers": layers}),
                "final_layer_norm": nn.LayerNorm(config.hidden_size),
            }
        )

    def forward(self, input_ids: Tensor, clip_skip: int = 0) -> Tensor:
        x = self.text_model.embeddings(input_ids)
        layers = list(self.text_model.encoder.layers)
        for layer in layers[: len(layers) - clip_skip]:
            x = layer(x)
        return self.text_model.final_layer_norm(x)


class CLIPImageTower(nn.Module):
    """A small convolutional picture encoder; `features` at five resolutions also serve as the perceptual loss's backbone.

    (b, 3, h, w) in [-1, 1] -> (b, projection_dim), not normalized. Used in training only; a picture never enters Stable
    Diffusion through it.
    """

    def __init__(self, projection_dim: int, channels: tuple[int, ...] = (16, 32, 64, 96, 160)):
        super().__init__()
        inputs = (3, *channels[:-1])
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(c_in, c_out, kernel_size=3, padding=1, stride=1 if i == 0 else 2, bias=False),
                nn.BatchNorm2d(c_out),
                nn.SiLU(),
                nn.Conv2d(c_out, c_out, kernel_size=3, padding=1, bias=False),
                nn.BatchNorm2d(c_out),
                nn.SiLU(),
            )
            for i, (c_in, c_out) in enumerate(zip(inputs, channels))
        )
        self.projection = nn.Linear(channels[-1], projection_dim, bias=False)

    def features(self, x: Tensor) -> list[Tensor]:
        """The result of each stage, from full resolution to 1/16 of it."""
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        return self.projection(self.features(x)[-1].mean(dim=(2, 3)))


class CLIP(nn.Module):
    """Both towers and the temperature: what contrastive training trains (Radford et al. 2021, figure 3).

    The text's summary is the state of the first end token of each row: the same token in every prompt, after the whole text.
    """

    def __init__(self, config: CLIPTextConfig):
        super().__init__()
        self.text_encoder = CLIPTextModel(config)
        self.text_projection = nn.Linear(config.hidden_size, config.projection_dim, bias=False)
        self.image_tower = CLIPImageTower(config.projection_dim)
        self.logit_scale = nn.Parameter(torch.tensor(1 / 0.07).log())
        # Small embeddings at the start. PyTorch's default has unit variance: beside such large numbers, the small numbers that
        # the layers add to them would hardly count.
        nn.init.normal_(self.text_encoder.text_model.embeddings.token_embedding.weight, std=0.02)
        nn.init.normal_(self.text_encoder.text_model.embeddings.position_embedding.weight, std=0.01)

    def encode_text(self, input_ids: Tensor) -> Tensor:
        """(b, m) -> (b, projection_dim), of length 1"""
        states = self.text_encoder(input_ids)  # (b, m, d)
        end = (input_ids == self.text_encoder.config.eos_token_id).int().argmax(dim=-1)  # (b,): the first end token
        return F.normalize(self.text_projection(states[torch.arange(len(states)), end]), dim=-1)

    def encode_image(self, pictures: Tensor) -> Tensor:
        """(b, 3, h, w) -> (b, projection_dim), of length 1"""
        return F.normalize(self.image_tower(pictures), dim=-1)

    def forward(self, pictures: Tensor, input_ids: Tensor) -> Tensor:
        """Scaled cosine similarities, pictures by prompts: (b, b)"""
        return self.similarities(self.encode_image(pictures), self.encode_text(input_ids))

    def similarities(self, images: Tensor, texts: Tensor) -> Tensor:
        """Scaled cosines of vectors of length 1: (b, d), (c, d) -> (b, c). The scale is at most 100 (section 2.5)."""
        scale = self.logit_scale.exp().clamp(max=100.0)
        return scale * images @ texts.T
