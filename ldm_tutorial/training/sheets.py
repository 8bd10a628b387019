"""Contact sheets: many small pictures in one file, to look at while a model learns."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from ..images import to_images


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
    return to_images(torch.cat(bands, dim=1)[None])[0]
