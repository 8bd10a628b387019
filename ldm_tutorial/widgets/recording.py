"""One denoising run, kept whole: latents, predicted noise, predicted pictures, and attention maps. No widget in here."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ..attention import TransformerBlock
from ..pipeline import StableDiffusion
from ..unet import UNet
from .drawing import draw_frames, options_of


@dataclass(eq=False)
class Recording:
    """Of one picture; entry i of each list is step i."""

    prompt: str
    words: list[tuple[str, list[int]]]  # each word, and the tokens it is made of
    total: int = 0  # how many entries there will be: network evaluations of the run
    sigmas: list[float] = field(default_factory=list)
    latents: list[Tensor] = field(default_factory=list)  # (4, h, w) after the step, at the scale that the U-Net is shown
    noise_pred: list[Tensor] = field(default_factory=list)  # (4, h, w)
    denoised: list[Tensor] = field(default_factory=list)  # (4, h, w), the guess
    noisy_pictures: list[Image.Image] = field(default_factory=list)  # the latents, decoded
    guesses: list[Image.Image] = field(default_factory=list)  # the guess, decoded
    attention: list[Tensor] = field(default_factory=list)  # (77, h, w): how much each position listens to each token


def words_of(pipe: StableDiffusion, prompt: str) -> list[tuple[str, list[int]]]:
    """The words of a prompt and their positions among the 77 tokens. CLIP ends a word's last piece with `</w>`."""
    length = pipe.text_encoder.config.max_position_embeddings
    ids = pipe.tokenizer(prompt, add_special_tokens=False, verbose=False).input_ids[: length - 2]
    words: list[tuple[str, list[int]]] = []
    pieces, positions = "", list[int]()
    for position, token in enumerate(pipe.tokenizer.convert_ids_to_tokens(ids), start=1):  # 0 is the start token
        pieces, positions = pieces + token.removesuffix("</w>"), [*positions, position]
        if token.endswith("</w>"):
            words.append((pieces, positions))
            pieces, positions = "", []
    return [*words, (pieces, positions)] if pieces else words


@contextmanager
def attention_heard(unet: UNet, size: tuple[int, int]) -> Iterator[list[Tensor]]:
    """While it is open, each pass through the U-Net leaves its cross-attention in the list: (b, m, h, w), on the CPU.

    The mean over heads and layers, each enlarged to `size`, the (h, w) of the latents. Only passes of this thread count.
    """
    heard: list[Tensor] = []
    made: list[Tensor] = []
    me = threading.get_ident()

    def listen(block: TransformerBlock, inputs: tuple[Tensor, Tensor]) -> None:
        if threading.get_ident() != me:
            return
        x, context = inputs  # (b, n, dim), (b, m, d)
        x = x + block.attn1(block.norm1(x))
        maps = block.attn2.maps(block.norm2(x), context).mean(1)  # (b, n, m)
        shrink = (size[0] * size[1] / maps.shape[1]) ** 0.5
        h, w = round(size[0] / shrink), round(size[1] / shrink)
        maps = maps.transpose(1, 2).unflatten(2, (h, w)).float()  # (b, m, h', w')
        made.append(F.interpolate(maps, size=size, mode="bilinear").cpu())

    def collect(*_: Any) -> None:
        if threading.get_ident() == me:
            heard.append(torch.stack(made).mean(0))
            made.clear()

    blocks = [module for module in unet.modules() if isinstance(module, TransformerBlock)]
    hooks = [block.register_forward_pre_hook(listen) for block in blocks] + [unet.register_forward_hook(collect)]
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()


def record(
    pipe: StableDiffusion,
    prompt: str,
    **settings: Any,
) -> Iterator[Recording]:
    """`pipe(prompt, ...)` for one picture, kept: yields the recording after each step, one entry longer.

    settings: as of `inputs.Options`.
    """
    options = options_of(pipe, settings)
    recording = Recording(prompt, words_of(pipe, prompt))
    frames = draw_frames(pipe, prompt, options, every_step=True)
    side = pipe.unet.config.sample_size
    with attention_heard(pipe.unet, (side, side)) as heard:
        for frame in frames:
            step, used = frame.step, frame.run.inputs.scheduler
            assert step is not None  # from noise there is always a step to take
            after = 0.0 if frame.is_last else used.sigma_at(frame.run.inputs.timesteps[frame.done]).item()
            latents = step.latents[:1] / used.scale_at(after)  # at unit scale
            recording.total = frame.total
            recording.sigmas.append(step.sigma)
            recording.latents.append(latents[0].cpu())
            recording.noise_pred.append(step.noise_pred[0].cpu())
            recording.denoised.append(step.denoised[0].cpu())
            recording.noisy_pictures.append(pipe.decode(latents)[0])
            recording.guesses.append(pipe.decode(step.denoised[:1])[0])
            recording.attention.append(heard.pop()[-1])  # the last of the batch has the prompt; before it is the one without
            yield recording


def word_map(recording: Recording, step: int, word: int) -> Tensor:
    """Which positions attend to word `word` in step `step`: (h, w), from 0 to 1 over the picture."""
    positions = recording.words[word][1]
    heard = recording.attention[step][positions].mean(0)  # (h, w)
    span = heard.max() - heard.min()
    return (heard - heard.min()) / span if span > 0 else torch.zeros_like(heard)


def map_picture(heard: Tensor, picture: Image.Image) -> Image.Image:
    """An attention map, (h, w) in 0 ... 1, over the gray picture: bright where positions attend to the word."""
    colors = Image.fromarray((255 * colormaps["viridis"](heard.numpy())[..., :3]).round().astype(np.uint8))
    colors = colors.resize(picture.size, Image.Resampling.BICUBIC)
    return Image.blend(picture.convert("L").convert("RGB"), colors, 0.6)
