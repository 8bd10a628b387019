"""Attention: how the positions of a picture listen to each other, and to the words of the prompt.

Shapes: b pictures, n positions (n = h * w), m words, d channels, and `heads` heads of d / heads channels each.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


def attention_weights(q: Tensor, k: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)): how much each query listens to each key; the rows sum to 1.

    (..., n, d), (..., m, d) -> (..., n, m). Vaswani et al. 2017, equation 1.
    """
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5  # (..., n, m)
    return scores.softmax(dim=-1)


class CrossAttention(nn.Module):
    """Multi-head attention: queries from `x`, keys and values from `context` (Vaswani et al. 2017, section 3.2.2).

    (b, n, dim), (b, m, context_dim) -> (b, n, dim)
    """

    def __init__(self, dim: int, context_dim: int, heads: int, bias: bool = False):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(dim, dim, bias=bias)
        self.to_k = nn.Linear(context_dim, dim, bias=bias)
        self.to_v = nn.Linear(context_dim, dim, bias=bias)
        self.to_out = nn.Sequential(nn.Linear(dim, dim))

    def split_heads(self, x: Tensor) -> Tensor:
        """(b, n, dim) -> (b, heads, n, dim / heads)"""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        q = self.split_heads(self.to_q(x))  # (b, heads, n, d)
        k, v = self.split_heads(self.to_k(context)), self.split_heads(self.to_v(context))  # (b, heads, m, d) each
        out = F.scaled_dot_product_attention(q, k, v)  # attention_weights(q, k) @ v, without storing the weights
        return self.to_out(out.transpose(1, 2).flatten(2))  # (b, n, dim)

    def maps(self, x: Tensor, context: Tensor) -> Tensor:
        """The weights that `forward` does not keep: (b, heads, n, m), to look at."""
        return attention_weights(self.split_heads(self.to_q(x)), self.split_heads(self.to_k(context)))


class SelfAttention(CrossAttention):
    """Attention of `x` to itself: (b, n, dim) -> (b, n, dim)"""

    def __init__(self, dim: int, heads: int, bias: bool = False):
        super().__init__(dim, dim, heads, bias)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x, x)


class GEGLU(nn.Module):
    """value * GELU(gate), both linear in `x` (Shazeer 2020): (b, n, dim) -> (b, n, hidden)"""

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.proj = nn.Linear(dim, 2 * hidden)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)  # (b, n, hidden) each
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """Each position by itself, four times as wide inside: (b, n, dim) -> (b, n, dim)"""

    def __init__(self, dim: int):
        super().__init__()
        self.net = nn.Sequential(GEGLU(dim, 4 * dim), nn.Identity(), nn.Linear(4 * dim, dim))  # 1: dropout in LDM

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class TransformerBlock(nn.Module):
    """Listen to the picture, listen to the words, think: each on a normalized copy, each added to `x`.

    (b, n, dim), (b, m, context_dim) -> (b, n, dim). Rombach et al. 2022, appendix E.2.1.
    """

    def __init__(self, dim: int, context_dim: int, heads: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn1 = SelfAttention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.attn2 = CrossAttention(dim, context_dim, heads)
        self.norm3 = nn.LayerNorm(dim)
        self.ff = FeedForward(dim)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), context)
        x = x + self.ff(self.norm3(x))
        return x


class SpatialTransformer(nn.Module):
    """A transformer block over the positions of a feature map, with a residual around it.

    (b, channels, h, w), (b, m, context_dim) -> (b, channels, h, w)
    """

    def __init__(self, channels: int, context_dim: int, heads: int, norm_groups: int):
        super().__init__()
        self.norm = nn.GroupNorm(norm_groups, channels, eps=1e-6)  # 1e-6 here, 1e-5 in the U-Net's residual blocks
        self.proj_in = nn.Conv2d(channels, channels, kernel_size=1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(channels, context_dim, heads)])
        self.proj_out = nn.Conv2d(channels, channels, kernel_size=1)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        tokens = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)  # (b, h * w, channels)
        for block in self.transformer_blocks:
            tokens = block(tokens, context)
        out = tokens.transpose(1, 2).unflatten(2, (h, w))  # (b, channels, h, w)
        return x + self.proj_out(out)
