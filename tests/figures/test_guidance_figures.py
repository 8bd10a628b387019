"""The figures of guidance show what the mixtures say, and nothing else."""

import numpy as np
import torch

from ldm_tutorial.figures.guidance import ends_in_the_plane, grid, guidance_arrow, guidance_fields
from ldm_tutorial.lessons.toy import GaussianMixture

EVERYTHING = GaussianMixture([[1.3, 0.9], [-1.3, 0.5], [0.2, -1.4]], [0.3, 0.35, 0.3])
ASKED = GaussianMixture([[1.3, 0.9]], [0.3])


def test_a_grid_has_x_running_first():
    points = grid(2.0, 3)
    assert points.tolist()[:4] == [[-2, -2], [0, -2], [2, -2], [-2, 0]]


def test_the_arrow_starts_at_the_guess_without_words_and_passes_the_one_with_them():
    x, alpha_bar = torch.tensor([0.3, -0.4]), 0.2
    figure = guidance_arrow(EVERYTHING, ASKED, x, alpha_bar, scales=(1, 4))
    without, asked = (m.denoised(x[None].double(), alpha_bar)[0] for m in (EVERYTHING, ASKED))
    [axes] = figure.axes
    points = [line.get_xydata() for line in axes.lines if len(line.get_xydata()) == 1]
    np.testing.assert_allclose(np.concatenate(points), torch.stack([x.double(), without, asked]))
    arrow = next(text for text in axes.texts if getattr(text, "arrow_patch", None))
    np.testing.assert_allclose(arrow.xy, without + 4 * (asked - without))
    bars = [line.get_xydata().mean(0) for line in axes.lines if len(line.get_xydata()) == 2][2:]
    np.testing.assert_allclose(bars, torch.stack([asked, without + 4 * (asked - without)]))
    assert {text.get_text() for text in axes.texts} >= {"1", "4"}
    assert len(axes.get_legend().get_texts()) == 3


def test_fields_have_a_panel_each_with_an_arrow_at_every_point():
    arrows = torch.randn(25, 2, generator=torch.Generator().manual_seed(0))
    figure = guidance_fields({"one": arrows, "two": -arrows}, EVERYTHING, ASKED, alpha_bar=0.5, limit=2.0)
    assert [axes.get_title() for axes in figure.axes] == ["one", "two"]
    quivers = [next(c for c in axes.collections if hasattr(c, "U")) for axes in figure.axes]
    np.testing.assert_allclose(np.stack([quivers[1].X, quivers[1].Y], 1), grid(2.0, 5))
    np.testing.assert_allclose(np.stack([quivers[1].U, quivers[1].V], 1), -arrows, rtol=1e-6)


def test_ends_outside_are_drawn_at_the_edge():
    figure = ends_in_the_plane({"one": torch.tensor([[0.5, -0.5], [9.0, 0.0]])}, EVERYTHING, ASKED, limit=3.0)
    [line] = figure.axes[0].lines
    np.testing.assert_allclose(line.get_xydata(), [[0.5, -0.5], [3.0, 0.0]])
