"""How much of a picture's detail the U-Net can draw, and whether what it draws is as sharp and as clean as the real pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from ..images import to_images, to_unit_range
from .drawing import DrawnPictures, Request, bar_of, to_levels
from .metrics import distance
from .reference import Question
from .report import Measurement, Table
from .statistics import kernel_distance

if TYPE_CHECKING:
    from ..pipeline import StableDiffusion

GRID = 50  # steps of DDIM from pure noise; a way back from strength s takes the last s * GRID of them
NEAR_WHITE, REACH = 10, 4  # levels of 255, pixels


def mean_gradient(pictures: Tensor) -> Tensor:
    """The mean absolute difference of neighboring pixels, in levels of 255: uint8 (n, 3, h, w) -> (n,)"""
    pictures = pictures.float()
    across, down = pictures.diff(dim=3).abs(), pictures.diff(dim=2).abs()
    return (across.mean(dim=(1, 2, 3)) + down.mean(dim=(1, 2, 3))) / 2


def speckle(pictures: Tensor) -> float:
    """Levels off white, where a picture means to be white: where the 9x9 pixels around are at most 10 levels off, on average.

    uint8 (n, 3, h, w) -> the mean over such places; nan if there are none.
    """
    off = 255 - pictures.float()  # (n, 3, h, w)
    side = 2 * REACH + 1
    around = F.avg_pool2d(off, side, stride=1, padding=REACH, count_include_pad=False)
    white = (around <= NEAR_WHITE).all(dim=1)  # (n, h, w)
    return off.transpose(0, 1)[:, white].mean().item()


class WayBack:
    """Real pictures made noisy, and taken back by the U-Net with their captions: what it loses at each level of noise.

    A strength of 0.1 is the last tenth of the way from noise to picture: the picture is all there, but for its detail.
    """

    def __init__(self, questions: Sequence[Question], strengths: Sequence[float], guidance: Sequence[float]):
        self.questions, self.strengths, self.guidance = tuple(questions), tuple(strengths), tuple(guidance)

    def from_noise(self, guidance: float) -> list[Request]:
        """The same pictures drawn from nothing but their captions, at each scale of guidance."""
        return [replace(question.request, guidance=guidance) for question in self.questions]

    def requests(self) -> list[Request]:
        """The pictures that are drawn from noise, at each guidance scale."""
        return [request for scale in self.guidance for request in self.from_noise(scale)]

    def table(self, pipe: StableDiffusion, real: Tensor, decoded: Tensor, drawn: DrawnPictures, progress: bool = False) -> Table:
        """Distances to `decoded`, what the autoencoder makes of the `real` pictures: uint8 (n, 3, h, w) twice."""
        work = len(self.questions) * len(self.guidance) * len(self.strengths)
        rows = []
        with bar_of("ways back", work, progress, unit="picture") as bar:
            for scale in self.guidance:
                found = []
                for strength in self.strengths:
                    back = taken_back(pipe, real, [q.request for q in self.questions], strength, scale)
                    found.append((f"strength_{strength:g}", distance(back, decoded)))
                    bar.update(len(back))
                found.append(("from_noise", distance(drawn.pictures[drawn.rows(self.from_noise(scale))], decoded)))
                rows.append((f"guidance {scale:g}", tuple(Measurement(key, "", d.mean().item(), "{:.1f}") for key, d in found)))
        steps = self.questions[0].request.steps
        title = (
            "What is lost on the way back from a real picture's noisy latents: root mean squared distance to its reconstruction, "
            f"in levels of 255. {len(self.questions)} trained pairs, DDIM, {GRID} steps for the whole way; from noise, {steps}:"
        )
        header = ("", *(f"strength {s:g}" for s in self.strengths), "from noise")
        return Table("detail", title, header, tuple(rows))


def taken_back(
    pipe: StableDiffusion, pictures: Tensor, requests: Sequence[Request], strength: float, guidance: float, batch_size: int = 24
) -> Tensor:
    """Pictures noised to a strength and denoised with their captions: uint8 (n, 3, h, w) -> uint8 (n, 3, h, w)"""
    found = []
    for start in range(0, len(pictures), batch_size):
        some = requests[start : start + batch_size]
        images = to_images(to_unit_range(pictures[start : start + batch_size]))
        back = pipe.img2img(
            [request.prompt for request in some], images, strength, scheduler="ddim", steps=GRID, guidance_scale=guidance,
            seed=[request.seed for request in some], progress=False,
        )  # fmt: skip
        found.append(to_levels(back))
    return torch.cat(found)


def detail_figures(
    split: str, what: str, drawn: Tensor, real: Tensor, features: Tensor, real_features: Tensor
) -> list[Measurement]:
    """Drawn pictures and the real ones of the same pairs, uint8 (n, 3, h, w), and the classifier's features of both, (n, c)."""
    ratio = (mean_gradient(drawn).mean() / mean_gradient(real).mean()).item()
    distance_of = kernel_distance(features, real_features)
    return [
        Measurement(
            f"sharpness.{split}", f"{what}: sharpness, against the real ones", ratio, "{:.2f}", at_least=0.9, at_most=1.1
        ),
        Measurement(f"speckle.{split}", f"{what}: levels off white where it is white", speckle(drawn), "{:.2f}", at_most=1.0),
        Measurement(
            f"kernel_distance.{split}", f"{what}: kernel distance to the real ones, classifier's features", distance_of, "{:.3f}"
        ),
    ]
