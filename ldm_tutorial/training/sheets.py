"""Contact sheets: many small pictures in one file, to look at while a model learns."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ..checkpoints.atomic import atomic_path


def contact_sheet(rows: list[Tensor], columns: int = 12, gap: int = 2) -> Image.Image:
    """Pictures of several kinds, (n, 3, h, w) in [-1, 1] each: n columns (wrapped at `columns`) of one picture of each kind."""
    n, _, h, w = rows[0].shape
    bands = []
    for start in range(0, n, columns):
        for kind in rows:
            band = torch.ones(3, h + gap, columns * (w + gap))
            for i, picture in enumerate(kind[start : start + columns].float().cpu()):
                band[:, :h, i * (w + gap) : i * (w + gap) + w] = picture
            bands.append(band)
    sheet = torch.cat(bands, dim=1)
    return Image.fromarray(((sheet / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy())


def save_sheet(rows: list[Tensor], path: Path) -> None:
    with atomic_path(path) as partial:
        contact_sheet(rows).save(partial, format="PNG")
