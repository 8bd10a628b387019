"""Notebook 12: what a picture costs, guidance that keeps the contrast, and inpainting that looks twice."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..checks import whole_part
from ..schedulers import DDIMScheduler
from . import alone_and_in_pairs, call, cases, close, exercise, shape_of, unknown
from .ddim import CLOUDS, ddim_step

# ---- 1. What it costs


def evaluations(steps: int, strength: float, guidance_scale: float) -> int:
    """Noisy pictures that the U-Net is shown for one result."""
    return whole_part(steps, strength) * (1 if guidance_scale == 1 else 2)


@exercise(
    "12.1",
    nudge="How many predictions does one step need? How many steps are taken?",
    solution="steps * strength, rounded to 6 digits, then down (0.7 of 90 is 63); times 1 at scale 1, else times 2",
)
def evaluations_of_run(answer: Callable) -> str | None:
    """12.1: how many noisy pictures the U-Net is shown for one result of image-to-image."""
    for steps, strength, scale in cases(
        ((25, 1.0, 7.5), (25, 0.6, 7.5), (25, 1.0, 1.0), (25, 0.7, 3.0), (10, 0.05, 2.0), (10, 1.0, 0.5), (90, 0.7, 7.5)),
    ):
        right, found = evaluations(steps, strength, scale), call(answer, steps, strength, scale)
        asked = f"for {steps} steps, strength {strength:g} and scale {scale:g}"
        if not isinstance(found, (int, float)):
            return f"the answer must be a number; yours is {type(found).__name__}"
        if found == right:
            continue
        taken = steps * strength
        if (steps, strength) == (90, 0.7) and found in (int(taken), 2 * int(taken)):
            return f"{asked} it should be {right}: in binary fractions 90 * 0.7 is a little less than 63; round to 6 digits first"
        if scale == 1 and found == 2 * right:
            return f"{asked} it should be {right}: at scale 1 the prediction without a prompt is multiplied by 0"
        if found == int(taken) and scale < 1:
            return f"{asked} it should be {right}: below 1, too, both predictions count; only at 1 one is enough"
        if found == int(taken):
            return f"{asked} it should be {right}: each step needs two predictions, without and with the prompt"
        if found == 2 * max(1, int(taken)):
            return f"{asked} it should be {right}: less than one step is none"
        if found in (2 * round(taken), 2 * taken, 2 * math.ceil(taken), int(2 * taken)):
            return f"{asked} it should be {right}: half a step is not taken, round down"
        if found == right + 1 or found == right + 2:
            return f"{asked} it should be {right}: there is no further step at the end"
        if found == 2 * int(steps * (1 - strength)) or found == 2 * (steps - int(taken)):
            return f"{asked} it should be {right}: strength is the share of the steps that *are* taken, the last ones"
        if found == evaluations(steps, 1.0, scale):
            return f"{asked} it should be {right}: with strength {strength:g} only the last steps are taken"
        return unknown(found, right, f"{asked} it should be {right}, and yours is {found:g}")
    return None


# ---- 2. Rescaling the picture


def guided_by_picture(
    x: Tensor,
    uncond: Tensor,
    cond: Tensor,
    alpha_bar: float,
    scale: float,
    rescale: float,
    axes: tuple[int, ...] = (1, 2, 3),
    model: str = "cond",
    turned: bool = False,
    upside_down: bool = False,
    back: bool = True,
    variance: bool = False,
    from_cond: bool = False,
    swapped: bool = False,
    mixed_with: str = "guided",
    weak: bool = False,
    weak_back: bool = False,
    own_eps: bool = False,
) -> Tensor:
    """Guidance and 2305.08891, eqs. 14 to 16, on the predicted pictures, and back to ε. Each switch makes a mistake."""
    signal, noise = alpha_bar**0.5, (1 - alpha_bar) ** 0.5
    if swapped:
        uncond, cond = cond, uncond
    shrunk = 1.0 if weak else signal
    without, asked = ((x - noise * eps) / shrunk for eps in (uncond, cond))  # predicted pictures, (b, c, h, w)
    guided = (asked if from_cond else without) + scale * (asked - without)
    stds = [p.std(dim=axes, keepdim=True) for p in ({"cond": asked, "uncond": without}[model], guided)]
    ratio = stds[1] / stds[0] if upside_down else stds[0] / stds[1]
    ratio = ratio**2 if variance else ratio
    share = 1 - rescale if turned else rescale
    guided = share * guided * ratio + (1 - share) * (asked if mixed_with == "cond" else guided)
    if own_eps:
        return (x - guided) / noise
    return (x - signal * guided) / (noise**2 if weak_back else noise) if back else guided


def guided_by_noise(uncond: Tensor, cond: Tensor, scale: float, rescale: float) -> Tensor:
    """Guidance rescaled by the spread of the noise, a mistake here: the exercise asks for the picture's."""
    guided = uncond + scale * (cond - uncond)
    stds = [e.std(dim=(1, 2, 3), keepdim=True) for e in (cond, guided)]
    return rescale * guided * stds[0] / stds[1] + (1 - rescale) * guided


@exercise(
    "12.2",
    nudge="Print the standard deviation of each picture before guidance, after it, and after rescaling.",
    solution="x0 = (x - sqrt(1 - ᾱ) ε) / sqrt(ᾱ) for both; guide and rescale x0; then ε = (x - sqrt(ᾱ) x0) / sqrt(1 - ᾱ)",
)
def rescaled(answer: Callable) -> str | None:
    """12.2: guidance rescaled as in 2305.08891, section 3.4."""
    generator = torch.Generator().manual_seed(0)
    size = torch.tensor([0.5, 1.0, 2.0]).view(3, 1, 1, 1)  # pictures with different contrast
    uncond, cond = (size * torch.randn(2, 3, 4, 5, 6, generator=generator)).unbind(0)  # (3, 4, 5, 6) each
    x = torch.randn(3, 4, 5, 6, generator=generator)
    for alpha_bar, scale, rescale in cases(((0.36, 7.5, 0.7), (0.64, 3.0, 1.0), (0.2, 4.0, 0.3))):
        asked, right = (x, uncond, cond, alpha_bar, scale, rescale), guided_by_picture(x, uncond, cond, alpha_bar, scale, rescale)
        found = call(answer, *(v.clone() if isinstance(v, Tensor) else v for v in asked))
        if not isinstance(found, Tensor) or found.shape != x.shape:
            return f"the result must be a tensor {tuple(x.shape)}, the guided noise; yours is {shape_of(found)}"
        if close(found, right):
            continue
        mistakes = [
            (guided_by_picture(*asked, back=False), "you return the guided picture; the scheduler wants the noise: go back to ε"),
            (guided_by_noise(*asked[1:3], scale, rescale), "you rescale the noise: asked is the picture's standard deviation"),
            (uncond + scale * (cond - uncond), "nothing is rescaled"),
            (guided_by_picture(*asked, axes=(0, 1, 2, 3)), "one standard deviation for the batch: each picture has its own"),
            (guided_by_picture(*asked, axes=(2, 3)), "one for each channel changes the colors: take all of (1, 2, 3)"),
            (
                guided_by_picture(*asked, model="uncond"),
                "bring it back to the standard deviation of the prediction *with* the prompt",
            ),
            (guided_by_picture(*asked, turned=True), "rescale and 1 - rescale are swapped: 0 must change nothing"),
            (guided_by_picture(*asked, upside_down=True), "the ratio is upside down: the contrast grows instead of shrinking"),
            (guided_by_picture(*asked[:-1], 1.0), "you rescale all the way: mix with the guided picture, eq. 16"),
            (
                guided_by_picture(*asked[:4], 1.0, 0.0),
                "there is no guidance: without + scale * (with - without), of the pictures",
            ),
            (cond, "that is the prediction with the prompt alone"),
        ]
        for wrong, mistake in mistakes:
            if close(found, wrong):
                return mistake
        switches_by_mistake: dict[str, dict[str, Any]] = {
            "one standard deviation for the batch: each picture has its own": {"axes": (0, 1, 2, 3)},
            "one for each channel changes the colors: take all of (1, 2, 3)": {"axes": (2, 3)},
            "bring it back to the standard deviation of the prediction *with* the prompt": {"model": "uncond"},
            "rescale and 1 - rescale are swapped: 0 must change nothing": {"turned": True},
            "the ratio is upside down: the contrast grows instead of shrinking": {"upside_down": True},
            "the ratio is one of standard deviations, not of variances": {"variance": True},
            "guidance starts at the prediction without the prompt: without + scale * (with - without)": {"from_cond": True},
            "the predictions with and without the prompt are swapped": {"swapped": True},
            "eq. 16 mixes with the guided picture, not with the prediction with the prompt": {"mixed_with": "cond"},
            "the predicted picture is (x - sqrt(1 - ᾱ) ε) / sqrt(ᾱ): the division is missing": {"weak": True},
            "going back, divide by sqrt(1 - ᾱ), not by 1 - ᾱ": {"weak_back": True},
            "going back, the picture has the weight sqrt(ᾱ): ε = (x - sqrt(ᾱ) x0) / sqrt(1 - ᾱ)": {"own_eps": True},
            "you return the guided picture; the scheduler wants the noise: go back to ε": {"back": False},
        }
        for mistake, switches in alone_and_in_pairs(switches_by_mistake):
            if close(found, guided_by_picture(*asked, **switches)):
                return mistake
        said = f"at ᾱ = {alpha_bar:g}, scale {scale:g} and rescale {rescale:g} these are other numbers"
        return unknown(found, right, said)
    return None


# ---- 3. Several turns at each level


def repainted(
    model: Callable,
    known: Tensor,
    mask: Tensor,
    levels: Sequence[float],
    turns: int,
    draw: Callable,
    swapped: bool = False,
    clean: bool = False,
    early: bool = False,
    back: str = "right",
    last: bool = False,
    fresh: bool = False,
    kept_part: bool = True,
    weight: str = "right",
    masked_last: bool = False,
    level_of_model: str = "here",
    unshrunk: bool = False,
) -> Tensor:
    """2201.09865, algorithm 1, with DDIM's step. Each switch makes a mistake."""
    x = draw()
    for here, there in zip(levels, levels[1:]):
        for turn in range(turns):
            eps = model(x, there if level_of_model == "there" else here)
            x = ddim_step(x, eps, here, there, draw() if fresh else None)
            level, noise = here if early else there, draw()
            spread = (1 - level) ** (1.0 if weight == "variance" else 0.5)
            outside = known if clean else (1.0 if weight == "whole" else level**0.5) * known + spread * noise
            if kept_part:
                x = mask * outside + (1 - mask) * x if swapped else (1 - mask) * outside + mask * x
            if turn < turns - 1 or last:
                kept = here if back == "all" else here / there
                new = 1 - kept if back == "variance" else (1 - kept) ** 0.5
                x = x if back == "none" else (1.0 if unshrunk else kept**0.5) * x + new * draw()
    return (1 - mask) * known + mask * x if masked_last else x


@exercise(
    "12.3",
    nudge="Print the noise level of x after each line: at the end of a turn it must be `there`, at the beginning of one `here`.",
    solution="step; put the known part back at `there`; unless it was the last turn: sqrt(r) x + sqrt(1 - r) z, r = here / there",
)
def looks_twice(answer: Callable) -> str | None:
    """12.3: inpainting that takes each step several times, after RePaint (2201.09865)."""
    scheduler = DDIMScheduler(timestep_spacing="trailing", set_alpha_to_one=True)
    scheduler.set_timesteps(8)
    levels = scheduler.alpha_bars.tolist()
    known, mask = torch.tensor([[-0.4, 5.0]], dtype=torch.float64).expand(7, 2), torch.tensor([0.0, 1.0], dtype=torch.float64)

    def run(function: Callable, turns: int, **switches: Any) -> Tensor:
        generator = torch.Generator().manual_seed(0)

        def draw() -> Tensor:
            return torch.randn(7, 2, generator=generator, dtype=torch.float64)

        return call(function, CLOUDS.epsilon, known.clone(), mask.clone(), list(levels), turns, draw, *switches.values())

    for turns in cases((1, 3)):
        found = run(answer, turns)
        if not isinstance(found, Tensor) or found.shape != known.shape:
            return f"return x, a tensor {tuple(known.shape)}; yours is {shape_of(found)}"
        if close(found, run(repainted, turns)):
            continue
        names: dict[str, Any] = {
            "swapped": False,
            "clean": False,
            "early": False,
            "back": "right",
            "last": False,
            "fresh": False,
            "kept_part": True,
            "weight": "right",
            "masked_last": False,
            "level_of_model": "here",
            "unshrunk": False,
        }  # in the order of `repainted`
        mistakes: list[tuple[dict[str, Any], str]] = [
            ({"swapped": True}, "you keep what should be painted: mask is 1 where x may change"),
            ({"clean": True}, "the known part goes back without noise: x is at the level `there`, and so must it be"),
            ({"early": True}, "the known part gets the noise of `here`; after the step, x is at `there`"),
            ({"fresh": True}, "the step itself draws no noise: DDIM goes on with eps, the noise that the model found"),
            ({"last": True}, "after the last turn you go back once more: the next step expects the level `there`"),
            ({"back": "none"}, "you take the step again without going back: from `there` to `here`, noise must be added"),
            ({"back": "all"}, "going back, x holds the noise of `there` already: add only what is missing, with here / there"),
            ({"back": "variance"}, "1 - here / there is a variance: the noise needs its root"),
            ({"kept_part": False}, "the known part is never put back: (1 - mask) * known part + mask * x, after each step"),
            ({"weight": "variance"}, "1 - there is a variance: the noise of the known part needs its root"),
            ({"weight": "whole"}, "the known part must shrink to sqrt(there), as x has"),
            ({"level_of_model": "there"}, "before the step, x is at the level `here`: give the model that"),
            ({"unshrunk": True}, "going back, x must shrink by sqrt(here / there), before noise is added"),
        ]
        for mistake, switches in alone_and_in_pairs({mistake: switches for switches, mistake in mistakes}):
            if close(found, run(repainted, turns, **(names | switches))):
                return mistake
        if turns > 1 and close(found, run(repainted, 1)):
            return "each level is visited once, whatever `turns` says"
        if turns > 1 and any(close(found, run(repainted, other)) for other in (turns - 1, turns + 1)):
            return "each level is visited once too often or once too few: `turns` times"
        said = f"with turns={turns} these are other points; draw() is called in the order of the comment"
        return unknown(found, run(repainted, turns), said)
    return None
