"""The classifier: it looks at a picture and says which subject it shows, and in which style.

It takes no part in drawing and shares nothing with the CLIP of the U-Net, whose errors it could otherwise share.
`ldm-tutorial train judge` trains it, on the pictures that the U-Net learns from: those that are held out are new to it, too.

It is two small networks. What shows the subject and what shows the style ask for opposite things of a network: a subject must be
known again in any color, size and place, while colors, size and place are what tells one style from another.

Shapes: b pictures, c features (the means of all channels of all levels), d dimensions of an embedding, s features of the style.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..checkpoints.atomic import atomic_path
from ..checkpoints.folder import read_json, write_json
from ..checkpoints.tensors import CheckpointError, load_weights, read_tensors, write_tensors
from ..data import EmojiEntry
from ..images import to_unit_range
from ..weights import JUDGE
from .distortions import distort_levels, distort_slightly

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class JudgeConfig:
    """What the classifier knows (the names, in the order of its answers), and its size.

    Raises ValueError for names that are missing or repeated, and for sizes that are no whole numbers above 0.
    """

    subjects: tuple[str, ...]
    styles: tuple[str, ...]
    channels: tuple[int, ...] = (32, 64, 128, 160)  # of each level; all but the first halve the resolution
    style_channels: tuple[int, ...] = (24, 48, 96)  # the same of the network for the style
    dimensions: int = 96
    size: int = 64  # pixels of what it looks at, along each side; pictures of another size are resized

    def __post_init__(self) -> None:
        for name in ("subjects", "styles"):
            names = getattr(self, name)
            if not isinstance(names, tuple) or not names or {type(n) for n in names} != {str} or len(set(names)) < len(names):
                raise ValueError(f"JudgeConfig: {name} must be one or more names, each once; got {str(names)[:60]}")
        sizes = (*self.channels, *self.style_channels, self.dimensions, self.size)
        if not (self.channels and self.style_channels) or not all(type(size) is int and size >= 1 for size in sizes):
            raise ValueError(
                f"JudgeConfig: channels={self.channels}, style_channels={self.style_channels}, "
                f"dimensions={self.dimensions}, size={self.size} must be 1 or more"
            )


class Verdict(NamedTuple):
    """What the classifier says about b pictures."""

    features: Tensor  # (b, c): what it sees, before it is asked for a name
    cosines: Tensor  # (b, number of subjects): how close to each, -1 ... 1; the largest is its answer
    styles: Tensor  # (b, number of styles): logits


class Block(nn.Module):
    """Two convolutions, added to a shortcut (He et al. 2016): (b, c_in, h, w) -> (b, c_out, h / stride, w / stride)"""

    def __init__(self, c_in: int, c_out: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, kernel_size=3, padding=1, stride=stride, bias=False)
        self.norm1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, kernel_size=3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(c_out)
        self.pool = nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity()
        self.shortcut = nn.Conv2d(c_in, c_out, kernel_size=1, bias=False) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = F.silu(self.norm1(self.conv1(x)))  # (b, c_out, h / stride, w / stride)
        return F.silu(self.shortcut(self.pool(x)) + self.norm2(self.conv2(h)))


class Levels(nn.Module):
    """(b, 3, h, w) -> the channels of each level: (b, channels[i], h / 2**(i + 1), w / 2**(i + 1))"""

    def __init__(self, channels: Sequence[int]):
        super().__init__()
        inputs = (channels[0], *channels[:-1])
        self.stem = nn.Conv2d(3, channels[0], kernel_size=5, padding=2, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(channels[0])
        self.blocks = nn.ModuleList(
            Block(c_in, c_out, stride=1 if i == 0 else 2) for i, (c_in, c_out) in enumerate(zip(inputs, channels))
        )

    def forward(self, pictures: Tensor) -> list[Tensor]:
        x = F.silu(self.norm(self.stem(pictures)))  # (b, channels[0], h / 2, w / 2)
        levels = []
        for block in self.blocks:
            x = block(x)
            levels.append(x)
        return levels


class Judge(nn.Module):
    """(b, 3, h, w) in [-1, 1] -> `Verdict`

    A subject is a direction in the space of embeddings, its proxy, to which all its pictures are drawn (Movshovitz-Attias
    et al. 2017). The angle between proxy and embedding is all that counts.
    """

    def __init__(self, config: JudgeConfig):
        super().__init__()
        self.config = config
        c, s = sum(config.channels), 2 * sum(config.style_channels)
        self.levels = Levels(config.channels)
        self.norm = nn.BatchNorm1d(c, affine=False)  # no feature outweighs another
        self.embed = nn.Linear(c, config.dimensions, bias=False)
        self.proxies = nn.Parameter(torch.randn(len(config.subjects), config.dimensions))
        self.style_levels = Levels(config.style_channels)
        self.style_norm = nn.BatchNorm1d(s, affine=False)
        self.style = nn.Linear(s, len(config.styles))

    def forward(self, pictures: Tensor) -> Verdict:
        return self.answer(self.means(pictures), self.textures(pictures))

    def means(self, pictures: Tensor) -> Tensor:
        """The mean of each channel of each level, (b, c): a subject shows in the whole picture and in its parts."""
        return torch.cat([x.mean(dim=(2, 3)).float() for x in self.levels(pictures)], dim=1)

    def textures(self, pictures: Tensor) -> Tensor:
        """Mean and standard deviation of each channel of each level, (b, s): little of what is where (Gatys et al. 2015)."""
        parts = [x.float().flatten(2) for x in self.style_levels(pictures)]  # (b, channels, positions)
        spreads = [(x.var(dim=2, correction=0) + 1e-5).sqrt() for x in parts]  # with a gradient where all positions are equal
        return torch.cat([*(x.mean(dim=2) for x in parts), *spreads], dim=1)

    def answer(self, means: Tensor, textures: Tensor) -> Verdict:
        """The verdict on (b, c) and (b, s). In training it is computed in float32: a cosine in bfloat16 has two digits."""
        features = self.norm(means)
        embedding = F.normalize(self.embed(features), dim=-1)  # (b, d)
        cosines = embedding @ F.normalize(self.proxies, dim=-1).T  # (b, number of subjects)
        return Verdict(features, cosines, self.style(self.style_norm(textures)))


def judge_loss(verdict: Verdict, subjects: Tensor, styles: Tensor, scale: float = 20.0) -> Tensor:
    """Cross-entropy of the subjects' scaled cosines (Zhai & Wu 2019, equation 5: 1 / 0.05) plus that of the styles.

    `subjects` and `styles` are the right answers' numbers, (b,).
    """
    return F.cross_entropy(scale * verdict.cosines, subjects) + F.cross_entropy(verdict.styles, styles)


def at_size(pictures: Tensor, size: int) -> Tensor:
    """The means of equal areas: uint8 (n, 3, h, w) -> uint8 (n, 3, size, size). Pictures of that size stay as they are.

    Not `images.resize`, whose weights overlap: so a picture of which each pixel was repeated is seen as it was before.
    """
    if pictures.shape[-2:] == (size, size):
        return pictures
    parts = [F.interpolate(part.float(), size=(size, size), mode="area").round().byte() for part in pictures.split(256)]
    return torch.cat(parts)


@torch.no_grad()
def look(judge: Judge, pictures: Tensor, batch_size: int = 256) -> Verdict:
    """The verdict on many pictures, uint8 (n, 3, h, w), on the CPU. Raises ValueError for tensors of another kind."""
    if pictures.dtype != torch.uint8 or pictures.ndim != 4 or pictures.shape[1] != 3:
        raise ValueError(f"pictures must be uint8 (n, 3, h, w); got {pictures.dtype} {tuple(pictures.shape)}")
    device, pictures = judge.proxies.device, at_size(pictures, judge.config.size)
    parts = [judge(to_unit_range(batch.to(device))) for batch in pictures.split(batch_size)]
    return Verdict(*(torch.cat(tensors).cpu() for tensors in zip(*parts)))


def look_at_distorted(judge: Judge, pictures: Tensor, generator: torch.Generator) -> Verdict:
    """The verdict on pictures, uint8 (n, 3, h, w), distorted as in its training: the style of those distorted slightly."""
    strongly = look(judge, distort_levels(pictures, generator))
    return strongly._replace(styles=look(judge, distort_levels(pictures, generator, distort_slightly)).styles)


def right_answers(config: JudgeConfig, entries: Sequence[EmojiEntry]) -> tuple[Tensor, Tensor]:
    """The numbers of the entries' subject and style: (n,) twice. Raises ValueError for a name unknown to the classifier."""
    columns = []
    for kind, known, names in (
        ("subject", config.subjects, [entry.label for entry in entries]),
        ("style", config.styles, [entry.style for entry in entries]),
    ):
        number = {name: i for i, name in enumerate(known)}
        unknown = sorted(set(names) - number.keys())
        if unknown:
            raise ValueError(f"the classifier does not know the {kind} {unknown[0]!r}: it was trained on another data set")
        columns.append(torch.tensor([number[name] for name in names], dtype=torch.long))
    return columns[0], columns[1]


def accuracy(verdict: Verdict, subjects: Tensor, styles: Tensor) -> tuple[float, float]:
    """The shares of n verdicts that name the right subject and the right style; the right ones' numbers, (n,)."""
    right = verdict.cosines.argmax(dim=1) == subjects, verdict.styles.argmax(dim=1) == styles
    return right[0].float().mean().item(), right[1].float().mean().item()


# ---- files


def save_judge(judge: Judge, folder: str | Path, dtype: torch.dtype | None = None) -> Path:
    """Weights and names into a folder, in one go. Raises OSError, as `checkpoints.save_component` does."""
    with atomic_path(folder, folder=True) as new:
        write_json(new / "config.json", asdict(judge.config))
        write_tensors(new / WEIGHTS, judge.state_dict(), dtype)
    return Path(folder)


def load_judge(folder: str | Path = JUDGE, device: torch.device | str = "cpu") -> Judge:
    """The classifier of a folder, in float32 and eval mode.

    Raises:
        FileNotFoundError: there is none.
        CheckpointError: its files are damaged, or do not fit each other.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"there is no classifier in {folder}; `ldm-tutorial train judge` trains one")
    source, settings = folder / "config.json", read_json(folder / "config.json")
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
    try:
        judge = Judge(JudgeConfig(**values))
    except (ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{source}: no classifier can be built from it: {error}") from error
    load_weights(judge, read_tensors(folder / WEIGHTS)[0], folder / WEIGHTS, device, torch.float32)
    return judge.eval()
