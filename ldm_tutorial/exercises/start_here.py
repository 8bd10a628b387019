"""Notebook 00: the shape of latents, guidance, and the denoising loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..config import EMOJI, SD15
from ..pipeline import StableDiffusion, guide
from ..schedulers import EulerDiscreteScheduler, randn
from . import Unnamed, call, cases, close, exercise, shape_of, shipped_model, unknown

# ---- 1. The shape of latents


@exercise(
    "00.1",
    nudge="Which number of the configuration says how many pixels share one latent along a side?",
    solution="config.vae.downsampling pixels share one latent along each side; see config.vae.latent_channels, too",
)
def latent_shape(answer: Callable) -> str | None:
    """00.1: the shape of the latents, from the configuration and the size of the pictures."""
    shallow = replace(EMOJI, vae=replace(EMOJI.vae, block_out_channels=EMOJI.vae.block_out_channels[:-1]))  # another factor
    models = ("SD15", SD15, 512, 768), ("EMOJI", EMOJI, 128, 192), ("EMOJI with one level less", shallow, 128, 192)
    for name, config, height, width in cases(models):
        f, channels = config.vae.downsampling, config.vae.latent_channels
        right = (channels, height // f, width // f)
        found = call(answer, config, height, width)
        asked = f"latent_shape({name}, {height}, {width})"
        if not isinstance(found, (tuple, list, torch.Size)):
            return f"{asked} must be a tuple of three numbers; yours is {found!r}"
        found = tuple(found)
        if found == right and all(isinstance(n, int) for n in found):
            continue
        if found == right:
            return f"{asked} holds {found}: sizes are whole numbers, so divide with //"
        if len(found) != 3:
            return f"{asked} must be (channels, height, width); yours has {len(found)} entries: {found}"
        if found == (channels, width // f, height // f):
            return f"{asked}: height comes before width; yours is {found}"
        if found[1:] == (height, width):
            return f"{asked} is {found}, the size of the picture: latents are smaller"
        if found[0] == config.vae.in_channels and found[1:] == right[1:]:
            return f"{asked} has {found[0]} channels: that is red, green and blue, which latents do not have"
        if found[1:] == (height // f**2, width // f**2):
            return f"{asked} is {found}: {f} is already the factor along each side, not the one for the area"
        wrong_f = next((g for g in (4, 8) if g != f and found[1:] == (height // g, width // g)), None)
        if wrong_f:
            return f"{asked} is {found}: you divide by {wrong_f}, which is another model's factor"
        if found == (*right[1:], right[0]):
            return f"{asked}: channels come first, then height and width; yours is {found}"
        return Unnamed(f"{asked} should be {right}, and yours is {found}")
    return None


# ---- 2. Guidance


@exercise(
    "00.2",
    nudge="What must come out at scale 0, and at scale 1?",
    solution="start at uncond, and walk `scale` times the way from uncond to cond",
)
def guidance(answer: Callable) -> str | None:
    """00.2: classifier-free guidance."""
    generator = torch.Generator().manual_seed(0)
    uncond, cond = torch.randn(2, 1, 4, 3, 5, generator=generator)  # (1, 4, 3, 5) each
    kept = uncond.clone(), cond.clone()
    for scale in cases((7.5, 1.0, 0.0)):
        found = call(answer, uncond, cond, scale)
        if not isinstance(found, Tensor) or found.shape != cond.shape:
            return f"the result must be a tensor {tuple(cond.shape)}, as both inputs are; yours is {shape_of(found)}"
        if not (torch.equal(uncond, kept[0]) and torch.equal(cond, kept[1])):
            return "your function changes its inputs: x += y and x.add_(y) write into x; use x + y"
        difference = cond - uncond
        if close(found, guide(uncond, cond, scale)):
            continue
        if close(found, cond + scale * difference):
            return "you start at cond: that is one step too far. At scale 1 the result must be cond itself"
        if close(found, cond + scale * (uncond - cond)):
            return "the two are swapped: at scale 1 the result must be cond, at scale 0 uncond"
        if close(found, uncond - scale * difference):
            return "the sign is wrong: your picture flees from the prompt"
        if close(found, scale * difference):
            return "the direction is right, but you do not start anywhere: add uncond"
        if close(found, scale * cond):
            return "making cond longer is not guidance: go on in the direction from uncond to cond"
        if close(found, uncond + scale * cond):
            return "you add cond itself: go on in the direction from uncond to cond, which is their difference"
        if close(found, uncond + cond * scale - uncond * scale**2) or close(found, (uncond + cond) / 2):
            return "weigh the difference of the two, once: at scale 0 the result must be uncond, at scale 1 cond"
        if close(found, (1 + scale) * uncond + scale * cond) or close(found, uncond + scale * (cond + uncond)):
            return "you add the two: the direction is their difference, cond - uncond"
        return unknown(found, guide(uncond, cond, scale), f"at scale {scale:g} these are not uncond + scale * (cond - uncond)")
    return None


# ---- 3. The loop


PROMPT, SEED, STEPS = "a rocket in the style of fluent", 3, 8


@torch.no_grad()
def latents_by_step(
    pipe: StableDiffusion,
    prompt: str,
    seed: int,
    steps: int,
    scaled_start: bool = True,
    scaled_input: bool = True,
    keep_denoised: bool = False,
    same_timestep: bool = False,
    words: bool = True,
    overwrite: bool = False,
) -> list[Tensor]:
    """Euler's method without guidance: x after every step, (1, 4, 16, 16). Each switch makes a mistake that the check names."""
    context = pipe.encode_prompt(prompt if words else "")  # (1, 77, d)
    scheduler = EulerDiscreteScheduler()
    scheduler.set_timesteps(steps)
    size, generator = pipe.unet.config.sample_size, torch.Generator().manual_seed(seed)
    x = randn((1, pipe.unet.config.in_channels, size, size), generator, pipe.device)
    if scaled_start:
        x = scheduler.init_noise_sigma * x
    visited = []
    for t in scheduler.timesteps:
        told = scheduler.timesteps[0] if same_timestep else t
        scaled = scheduler.scale_model_input(x, t) if scaled_input else x
        noise_pred = pipe.unet(scaled, told, context)
        x = scaled if overwrite else x
        step = scheduler.step(noise_pred, t, x)
        x = step.pred_original_sample if keep_denoised else step.prev_sample
        visited.append(x)
    return visited


_MISTAKES: list[tuple[str, dict[str, Any]]] = [
    ("your noise has unit variance: multiply it by scheduler.init_noise_sigma before the loop", {"scaled_start": False}),
    ("the U-Net gets x as it is: give it scheduler.scale_model_input(x, t)", {"scaled_input": False}),
    (
        "x is neither scaled at the start (init_noise_sigma) nor before the U-Net (scale_model_input)",
        {"scaled_start": False, "scaled_input": False},
    ),
    ("only the U-Net gets the scaled x: `step` goes on from x itself, so do not overwrite it", {"overwrite": True}),
    (
        "you go on with pred_original_sample, the prediction of the finished picture: one step leads to prev_sample",
        {"keep_denoised": True},
    ),
    ("the U-Net is told the same timestep each time: give it the t of the loop", {"same_timestep": True}),
    ("the words never reach the U-Net: encode the prompt", {"words": False}),
]


@exercise(
    "00.3",
    nudge="Compare your loop with that of the text: what is done to x before the loop, before the U-Net, and after it?",
    solution="before the loop: words, noise, set_timesteps(steps). In it: scale, ask the U-Net, step(...).prev_sample",
)
def loop(answer: Callable) -> str | None:
    """00.3: the whole denoising loop; the answer returns the latents."""
    pipe = shipped_model()
    visited = latents_by_step(pipe, PROMPT, SEED, STEPS)
    with torch.no_grad():
        found = call(answer, pipe, PROMPT, SEED, STEPS)
    if not isinstance(found, Tensor):
        return f"return the latents, a tensor; yours is {type(found).__name__}"
    if found.shape != visited[-1].shape:
        return f"the latents have shape {tuple(visited[-1].shape)}; yours have {tuple(found.shape)}"
    found = found.detach().cpu().float()
    for count, x in enumerate(visited, start=1):
        if close(found, x, 1e-3):
            return None if count == STEPS else f"you return x after {count} of {STEPS} steps: visit all of scheduler.timesteps"
    for mistake, switches in _MISTAKES:
        if close(found, latents_by_step(pipe, PROMPT, SEED, STEPS, **switches)[-1], 1e-3):
            return mistake
    for seed in (0, SEED + 1):
        if close(found, latents_by_step(pipe, PROMPT, seed, STEPS)[-1], 1e-3):
            return f"that is the picture of seed {seed}; torch.Generator().manual_seed(seed) should give that of seed {SEED}"
    return unknown(
        found, visited[-1], "these are other latents. Print x.std() in the loop: it should fall from about 14.6 to about 1"
    )
