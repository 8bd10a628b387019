"""What the U-Net learns from: latents and captions of all pictures, of the same pictures moved a little, and of scenes.

The autoencoder is frozen, so each example is encoded once. A picture that is seen at several places is not memorized at one. A
scene is a new picture, composed of several, whose caption says what is there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..checkpoints.atomic import atomic_path
from ..checkpoints.tensors import CheckpointError, read_tensors, write_tensors
from ..data import EmojiDataset
from ..data.dataset import SIZE
from ..data.scenes import Scene, caption_of, compose, draw_scenes
from ..images import levels_of, to_unit_range
from ..vae import DiagonalGaussian
from .augment import jitter
from .compute import Compute

PATTERN = (torch.arange(4 * SIZE**2) % 251).byte().view(1, 4, SIZE, SIZE)  # a stand-in for a picture, in digests


@dataclass(frozen=True)
class Examples:
    """What the U-Net learns from: n latents with their captions.

    mean, std  of each example's posterior, unscaled: float16 (n, 4, h, w)
    captions   of each example: the first one says all, with the style
    """

    mean: Tensor
    std: Tensor
    captions: list[tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.captions)


def compose_scenes(data: EmojiDataset, count: int, seed: int) -> list[Scene]:
    """`count` scenes around pictures chosen by chance."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(len(data), (count,), generator=generator).tolist()
    return [compose(data, row, generator) for row in rows]


def all_pictures(data: EmojiDataset, views: int, scenes: list[Scene], seed: int, batch_size: int = 64) -> Iterator[Tensor]:
    """Batches, uint8 (b, 3, h, w): all pictures as they are, then all moved and resized `views` - 1 times, then the scenes."""
    generator = torch.Generator().manual_seed(seed)
    for view in range(views):
        for batch in data.pictures.split(batch_size):
            yield moved(batch, generator) if view else batch
    for start in range(0, len(scenes), batch_size):
        yield levels_of(draw_scenes(scenes[start : start + batch_size], data.layers, data.pictures.shape[-1]))


def moved(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Each picture moved and resized, not mirrored: some emoji differ in left and right only. uint8 (b, 3, h, w) -> the same"""
    return levels_of(jitter(to_unit_range(pictures), generator, flip=False))


def make_examples(
    encode: Callable[[Tensor], DiagonalGaussian],
    data: EmojiDataset,
    views: int,
    scenes: int,
    seed: int,
    compute: Compute,
    encoder: str = "",
    path: Path | None = None,
) -> Examples:
    """Each picture `views` times, and `scenes` composed scenes. The processes share the encoding.

    encode    pictures, uint8 (b, 3, h, w) -> their posterior
    encoder   a text that differs from one encoder to another, such as the digest of its weights
    path      a file that keeps what was encoded. A file of another encoder or of other examples is written again
    """
    composed = compose_scenes(data, scenes, seed)
    captions = [entry.captions for _ in range(views) for entry in data.entries]
    captions += [(caption_of(scene, data.entries), caption_of(scene, data.entries, style=False)) for scene in composed]
    described = f"encoder {encoder}, pictures {digest_of_pictures(data)}, size {data.size}, views {views}, seed {seed}"
    described += f", scenes {digest_of_scenes(composed, len(data), data.size)}"
    tensors = read_kept(path, described)
    if not compute.all(bool(tensors)):  # each process may have a disk of its own

        def moments(pictures: Tensor) -> Tensor:
            posterior = encode(pictures)
            return torch.stack([posterior.mean, posterior.std], dim=1).half()  # (b, 2, 4, h, w)

        mean, std = compute.share_work(moments, all_pictures(data, views, composed, seed)).cpu().unbind(1)
        tensors = {"mean": mean.contiguous(), "std": std.contiguous()}
        if path is not None and compute.is_main:
            write_kept(path, tensors, described)
    return Examples(tensors["mean"], tensors["std"], captions)


# ---- what is kept of one run for the next


def digest_of(network: nn.Module) -> str:
    """The SHA-256 of a network's weights, in float32: the same in every precision that holds them exactly."""
    digest = hashlib.sha256()
    for name, weight in network.state_dict().items():
        digest.update(name.encode() + weight.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()


def digest_of_pictures(data: EmojiDataset) -> str:
    """The SHA-256 of the files of all pictures, which need not be decoded for it, and of how `moved` moves one pattern."""
    digest = hashlib.sha256()
    for entry in data.entries:
        digest.update(hashlib.sha256(entry.file).digest())
    digest.update(moved(PATTERN[:, :3], torch.Generator().manual_seed(0)).numpy().tobytes())
    return digest.hexdigest()


def digest_of_scenes(scenes: list[Scene], rows: int, size: int) -> str:
    """The SHA-256 of what is where in all scenes, and of the pixels of the first 64: of how they are composed, and drawn.

    They are drawn with one pattern as each of the data set's `rows` pictures, which need not be decoded for it.
    """
    pattern = PATTERN.expand(rows, -1, -1, -1)
    digest = hashlib.sha256(repr(scenes).encode())
    for scene in scenes[:64]:
        digest.update(levels_of(draw_scenes([scene], pattern, size)).numpy().tobytes())
    return digest.hexdigest()


def read_kept(path: Path | None, described: str) -> dict[str, Tensor]:
    """The tensors that `write_kept` wrote with this description; {} without such a file, or if it is damaged."""
    if path is None or not path.is_file():
        return {}
    try:
        tensors, metadata = read_tensors(path)
    except CheckpointError:  # a leftover of something else
        return {}
    return tensors if metadata.get("of") == described else {}


def write_kept(path: Path, tensors: dict[str, Tensor], described: str) -> None:
    """Write tensors and what they are of. Raises OSError if that is not possible."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as new:
        write_tensors(new, tensors, metadata={"of": described})
