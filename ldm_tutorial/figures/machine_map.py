"""The map of the whole machine, drawn from the two configurations: the sizes on it are computed, never typed.

One color per part in every picture of the series: `canvas.PART_COLORS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from ..config import EMOJI, SD15, StableDiffusionConfig
from .canvas import FAINT, PART_COLORS, Diagram, Point

MODELS = {"emoji": EMOJI, "sd15": SD15}


def shapes(config: StableDiffusionConfig) -> dict[str, tuple[int, ...]]:
    """What flows between the parts, for one picture of the size that the model was trained on."""
    vae, text = config.vae, config.text_encoder
    latents = vae.sample_size // vae.downsampling
    return {
        "token ids": (text.max_position_embeddings,),
        "text embeddings": (text.max_position_embeddings, text.hidden_size),
        "latents": (vae.latent_channels, latents, latents),
        "predicted noise": (config.unet.out_channels, latents, latents),
        "picture": (vae.out_channels, vae.sample_size, vae.sample_size),
    }


def machine_map(
    lit: str | None = None,
    prompt: str = "a cat in the style of noto",
    noise: Image.Image | None = None,
    picture: Image.Image | None = None,
    models: Mapping[str, StableDiffusionConfig] = MODELS,
) -> Figure:
    """Words and noise in, a picture out, with the shape of everything that flows, for each of the models.

    lit: the part to stand out, a key of `PART_COLORS`, the others faint; None: all alike. noise, picture: what to show at
    the two ends. Raises ValueError for a part that does not exist.
    """
    if lit is not None and lit not in PART_COLORS:
        raise ValueError(f"lit={lit!r} must be one of {', '.join(map(repr, PART_COLORS))}, or None")
    drawing = Diagram(148, 55)
    sizes = {name: shapes(config) for name, config in models.items()}
    write = drawing.write

    def box(x: float, y: float, width: float, height: float, part: str, title: str, text: str, style: str = "-") -> None:
        """A part, around its center."""
        color = to_rgb(PART_COLORS[part] if lit in (None, part) else FAINT)
        fill = 1 - (0.55 if lit == part else 0.22) * (1 - np.array(color))  # a tint, so that black text is readable
        rounded = "round,pad=0,rounding_size=1.6"
        drawing.box(x, y, width, height, color, facecolor=fill, linewidth=2.4, linestyle=style, boxstyle=rounded)
        write(x, y + 1.9, title, 11.5, weight="bold")
        write(x, y - 2.2, text, 8.5)

    def arrow(start: Point, end: Point, bend: str = "arc3", style: str = "-") -> None:
        drawing.arrow(start, end, bend, mutation_scale=14, linewidth=1.6, linestyle=style, zorder=2.5)

    def flow(x: float, y: float, what: str, **style) -> None:
        """The name of what flows, and its shape for each model below."""
        write(x, y, what, 9.5, weight="bold", **style)
        for i, (model, values) in enumerate(sizes.items()):
            shape = ", ".join(map(str, values[what]))
            write(x, y - 2.7 * (i + 1), f"{model} ({shape})", 8, color="#444444", **style)

    def thumbnail(x: float, y: float, side: float, image: Image.Image | None) -> None:
        pixels = (
            np.full((1, 1, 3), 0.93)
            if image is None
            else np.asarray(image.convert("RGB").resize((96, 96), Image.Resampling.LANCZOS))
        )
        drawing.image(x, y, side, pixels, zorder=1)
        left, right, low, high = x - side / 2, x + side / 2, y - side / 2, y + side / 2
        drawing.axes.plot([left, right, right, left, left], [low, low, high, high, low], color="#888888", linewidth=1)

    top, middle = 45, 19

    # 1. The words, above the U-Net that reads them
    write(13, top + 2, "the prompt", 9.5, weight="bold")
    write(13, top - 1.5, f"“{prompt}”", 8.5, style="italic")
    arrow((27, top), (41, top))
    flow(34, top + 7.2, "token ids")
    box(53, top, 24, 11, "text_encoder", "CLIP text encoder", "what do the words mean?")
    arrow((53, top - 5.5), (53, middle + 6))
    flow(54.5, top - 9.5, "text embeddings", ha="left")

    # 2. The loop: noise, U-Net, scheduler, and back
    thumbnail(9, middle, 12, noise)
    write(9, middle + 9, "noise from a seed", 9.5, weight="bold")
    arrow((15.5, middle), (41, middle))
    flow(28, middle + 8.5, "latents")
    box(53, middle, 24, 12, "unet", "U-Net", "which part of it is noise?")
    arrow((65, middle), (86, middle))
    flow(75.5, middle + 8.5, "predicted noise")
    box(96, middle, 20, 12, "scheduler", "Scheduler", "takes some of it away")
    arrow((96, middle - 6), (53, middle - 6), "arc,angleA=-90,angleB=-90,armA=52,armB=52,rad=14")
    write(74.5, 4.4, "latents with less noise, and the next timestep: 25 times around", 9.5, weight="bold")

    # 3. The picture
    arrow((106, middle), (112, middle))
    box(122, middle, 20, 12, "vae", "VAE decoder", "latents to pixels")
    arrow((132, middle), (135, middle))
    thumbnail(141.5, middle, 12, picture)
    flow(140.5, middle - 9, "picture")

    # 4. And back, for pictures of one's own
    arrow((141.5, middle + 6.5), (132, top), "angle,angleA=90,angleB=0,rad=6", "--")
    box(122, top, 20, 11, "vae", "VAE encoder", "pixels to latents", "--")
    arrow((112, top), (103, top), style="--")
    write(102, top + 1.5, "in training, and to", 8.5, ha="right")
    write(102, top - 1.5, "start from a picture", 8.5, ha="right")
    return drawing.figure


def markov_chain(pictures: Sequence[Image.Image]) -> Figure:
    """DDPM's two chains, after 2006.11239, figure 2: noise is added from right to left, and taken away from left to right.

    pictures: four, of one size, to stand for x_T, x_t, x_{t-1} and x_0. Raises ValueError for another number.
    """
    if len(pictures) != 4:
        raise ValueError(f"pictures must be four, for x_T, x_t, x_(t-1) and x_0; got {len(pictures)}")
    drawing = Diagram(96, 36, unit=10)
    places, y, side = (10, 36, 60, 86), 18, 13
    sampling, noising, noising_text = PART_COLORS["unet"], PART_COLORS["text_encoder"], "#B04A00"

    for x, picture, name in zip(places, pictures, ("$x_T$", "$x_t$", "$x_{t-1}$", "$x_0$")):
        drawing.image(x, y, side, np.asarray(picture.convert("RGB").resize((128, 128), Image.Resampling.NEAREST)))
        drawing.write(x, y - side / 2 - 2.2, name, 14, parse_math=True)

    for i, (left, right) in enumerate(zip(places, places[1:])):
        start, end = left + side / 2 + 0.8, right - side / 2 - 0.8
        look: dict[str, Any] = {"mutation_scale": 16, "linewidth": 1.8}
        drawing.arrow((start, y + 2), (end, y + 2), color=sampling, linestyle="-" if i == 1 else ":", **look)
        drawing.arrow((end, y - 2), (start, y - 2), color=noising, linestyle="--" if i == 1 else ":", **look)
    middle = (places[1] + places[2]) / 2
    drawing.write(middle, y + 4.6, r"$p_\theta(x_{t-1}\,|\,x_t)$", 12, color=sampling, parse_math=True)
    drawing.write(middle, y - 4.6, r"$q(x_t\,|\,x_{t-1})$", 12, color=noising_text, parse_math=True)
    drawing.write(48, 32.5, "sampling: take noise away. Learned, step by step  →", 11, color=sampling)
    drawing.write(48, 3.2, "←  adding noise: a little in each step. Known exactly", 11, color=noising_text)
    return drawing.figure
