"""What the denoising loop starts from: everything checked, prompts and picture encoded, the noise drawn.

Shapes: b pictures, (b, 4, h, w) latents, (b, 77, d) states of the text encoder.
"""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from . import __version__
from .checks import real_number, whole_number
from .images import fit, mask_to_tensor, to_tensor
from .options import Options, broadcast, seeds_of, side
from .parts import Parts
from .prompts import check_prompt
from .schedulers import SCHEDULERS, Scheduler, make_scheduler, randn

# A scheduler chosen by name takes these from the model's own: how it was trained, not how to sample.
TRAINED_WITH = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type", "rescale_betas_zero_snr")


@dataclass(frozen=True, eq=False)
class Run:
    """One call of the pipeline, ready for the loop."""

    scheduler: Scheduler  # a copy for this run, so that two runs at once do not meet in it
    timesteps: Tensor  # those to visit: all, or the last of them when a picture is redrawn
    latents: Tensor  # (b, 4, h, w) float32, at the first of these timesteps
    context: Tensor  # (b, 77, d), or (2 b, 77, d) with those of the negative prompts first
    generators: list[torch.Generator]
    guidance_scale: float
    guidance_rescale: float
    settings: list[dict[str, Any]]  # of each picture, for its file
    keep: Callable[[Tensor, int], Tensor] | None = None  # inpainting: (latents, index) after each step -> latents


@torch.no_grad()
def prepare(
    pipe: Parts,
    prompt: str | Sequence[str],
    options: Options,
    image: Image.Image | Sequence[Image.Image] | None = None,
    mask: Image.Image | Sequence[Image.Image] | None = None,
    strength: float = 1.0,
) -> Run:
    """Raises TypeError or ValueError for a wrong argument, before anything is computed."""
    # 1. Who gets what: each list has one entry per picture
    each = one_per_picture(prompt, options, image, mask, strength)
    shape, pixels, painted = in_pixels(pipe, options, each)

    # 2. The noise levels, and the words
    scheduler = choose_scheduler(pipe.scheduler, options)
    timesteps = levels_to_visit(scheduler, options.steps, strength)
    context = words(pipe, each["prompt"], each["negative_prompt"], options.guidance_scale)

    # 3. The noise. One generator per picture gives, in this order: the autoencoder's sample, the start, the steps
    generators = [torch.Generator().manual_seed(seed) for seed in each["seed"]]
    known = None if pixels is None else pipe.encode(pixels, generators)  # (b, 4, h, w)
    noise = randn(shape, generators, pipe.device) if options.latents is None else options.latents.float().to(pipe.device)
    anew = known is None or (painted is not None and strength == 1)
    return Run(
        scheduler=scheduler,
        timesteps=timesteps,
        latents=first_latents(scheduler, timesteps, noise, None if anew else known),
        context=context,
        generators=generators,
        guidance_scale=float(options.guidance_scale),
        guidance_rescale=float(options.guidance_rescale),
        settings=settings_of(pipe, scheduler, options, each, shape, strength),
        keep=None if painted is None else keep_outside(painted, known, noise, scheduler, timesteps),
    )


def levels_to_visit(scheduler: Scheduler, steps: int, strength: float) -> Tensor:
    """The timesteps: all of them, or the last `int(steps * strength)` where a picture is redrawn.

    Meng et al. 2022 (arXiv:2108.01073) start part of the way down: the less noise, the more of the picture stays.
    """
    steps = whole_number("steps", steps, 1, scheduler.num_train_timesteps)
    scheduler.set_timesteps(steps)
    taken = int(steps * strength)
    if taken == 0 < strength:
        warnings.warn(f"strength={strength:g} of {steps} steps is less than one step: the picture stays", stacklevel=6)
    return scheduler.timesteps[steps - taken :]


def words(pipe: Parts, prompts: list[str], negative_prompts: list[str], guidance_scale: float) -> Tensor:
    """What the U-Net reads, without and with the prompt: (2 b, 77, d). At scale 1 only the second half, for half the work."""
    context = pipe.encode_prompt(prompts)  # (b, 77, d)
    if guidance_scale == 1:
        return context
    return torch.cat([pipe.encode_prompt(negative_prompts, "negative_prompt"), context])


def first_latents(scheduler: Scheduler, timesteps: Tensor, noise: Tensor, known: Tensor | None) -> Tensor:
    """What the loop starts from: noise, or known latents with the noise of the first timestep. All (b, 4, h, w)."""
    if known is None:
        return scheduler.init_noise_sigma * noise
    return scheduler.add_noise(known, noise, timesteps[0]) if len(timesteps) else known


def keep_outside(
    painted: Tensor, known: Tensor, noise: Tensor, scheduler: Scheduler, timesteps: Tensor
) -> Callable[[Tensor, int], Tensor]:
    """Inpainting: outside the mask, after each step, the known picture at the noise level that was reached.

    Lugmayr et al. 2022 (arXiv:2201.09865), equation 8, with the same noise at every level.
    """
    mask = F.interpolate(painted, size=known.shape[-2:]).to(known.device)  # (b, 1, h, w), nearest: 0 or 1
    if painted.any() and not mask.any():
        warnings.warn("mask: what is painted is finer than the latents and has no effect", stacklevel=6)

    def keep(latents: Tensor, index: int) -> Tensor:
        last = index + 1 == len(timesteps)
        outside = known if last else scheduler.add_noise(known, noise, timesteps[index + 1])
        return (1 - mask) * outside + mask * latents

    return keep


# ---- who gets what


def one_per_picture(prompt: Any, options: Options, image: Any, mask: Any, strength: float) -> dict[str, Any]:
    """Prompts, negative prompts, images, masks and seeds, checked: of each, a list with one entry per picture.

    None for images and masks that are not given.
    """
    each = broadcast(options.num_images, prompt=prompt, negative_prompt=options.negative_prompt, image=image, mask=mask)
    if len(each["prompt"]) == 1 and isinstance(options.seed, (list, tuple)) and options.seed:
        each = {name: values * len(options.seed) for name, values in each.items()}  # one of all else, several seeds
    for argument in ("prompt", "negative_prompt"):
        for text in each[argument]:
            check_prompt(text, argument)
    each["seed"] = seeds_of(options.seed, len(each["prompt"]))
    real_number("strength", strength, 0, 1)
    if image is None and (mask is not None or strength != 1):
        raise ValueError("mask needs an image to paint into" if mask is not None else f"strength={strength:g} needs an image")
    for picture, painted in zip(each["image"], each["mask"]):
        if isinstance(painted, Image.Image) and isinstance(picture, Image.Image) and painted.size != picture.size:
            raise ValueError(f"mask is {painted.width}x{painted.height}, but image is {picture.width}x{picture.height}")
    return each | {name: None for name, given in (("image", image), ("mask", mask)) if given is None}


def settings_of(
    pipe: Parts,
    scheduler: Scheduler,
    options: Options,
    each: dict[str, Any],
    shape: tuple[int, int, int, int],
    strength: float,
) -> list[dict[str, Any]]:
    """How each picture was made, for its file."""
    height, width = (pipe.vae.config.downsampling * side for side in shape[2:])
    settings = {
        "scheduler": name_of(scheduler),
        "scheduler_options": changed_settings(scheduler),
        "steps": int(options.steps),
        "guidance_scale": float(options.guidance_scale),
        "guidance_rescale": float(options.guidance_rescale),
        "strength": float(strength),
        "width": width,
        "height": height,
        "model": pipe.name,
        "dtype": str(pipe.dtype).removeprefix("torch."),
        "software": f"ldm_tutorial {__version__}",
    }
    if each["image"] is None:
        del settings["strength"]
    return [
        {"prompt": text, "negative_prompt": negative, "seed": seed, **settings}
        for text, negative, seed in zip(each["prompt"], each["negative_prompt"], each["seed"])
    ]


# ---- sizes


def in_pixels(
    pipe: Parts, options: Options, each: dict[str, Any]
) -> tuple[tuple[int, int, int, int], Tensor | None, Tensor | None]:
    """The shape of the latents, (b, 4, h, w); images and masks as tensors, (b, 3 | 1, f h, f w), None where there are none."""
    f = pipe.vae.config.downsampling
    height, width = size_of(pipe, options, each["image"] and each["image"][0])
    shape = (len(each["prompt"]), pipe.vae.config.latent_channels, height // f, width // f)
    if options.latents is not None and tuple(options.latents.shape) != shape:
        raise ValueError(f"latents have shape {tuple(options.latents.shape)}; the other arguments need {shape}")
    resized = options.height is not None or options.width is not None
    pixels, painted = (
        None if each[name] is None else pixels_of(name, each[name], width, height, resized, convert)
        for name, convert in (("image", to_tensor), ("mask", mask_to_tensor))
    )
    return shape, pixels, painted


def size_of(pipe: Parts, options: Options, image: Any) -> tuple[int, int]:
    """(height, width) in pixels: as asked for, else the image's, else that of the latents, else the model's own."""
    f = pipe.vae.config.downsampling
    if isinstance(image, Image.Image):
        default = (image.height, image.width)
    elif options.latents is not None:
        default = (options.latents.shape[2] * f, options.latents.shape[3] * f)
    else:
        default = (pipe.unet.config.sample_size * f, pipe.unet.config.sample_size * f)
    asked = (options.height, options.width)
    height, width = (mine if given is None else given for given, mine in zip(asked, default))
    try:
        return side("height", height, f), side("width", width, f)
    except ValueError as error:
        if isinstance(image, Image.Image) and None in asked:
            raise ValueError(f"{error} (the image is {image.width}x{image.height}: give height and width, too)") from None
        raise


def pixels_of(
    argument: str,
    images: Sequence[Image.Image],
    width: int,
    height: int,
    resized: bool,
    convert: Callable[[Image.Image, str], Tensor],
) -> Tensor:
    """The pictures as one tensor, (b, c, height, width)."""
    tensors = []
    for image in images:
        x = convert(image, argument)  # checks it, too
        if resized:
            x = convert(fit(image, width, height), argument)
        if x.shape[-2:] != (height, width):
            raise ValueError(f"{argument} has {x.shape[-1]}x{x.shape[-2]} pixels, but must have {width}x{height}")
        tensors.append(x)
    return torch.cat(tensors)


# ---- schedulers


def choose_scheduler(own: Scheduler, options: Options) -> Scheduler:
    """A new scheduler, as the options ask, for a model that was trained as `own` says."""
    chosen, settings = options.scheduler, options.scheduler_options or {}
    if isinstance(chosen, Scheduler):
        if settings:
            raise ValueError("scheduler_options need a scheduler given by name; set them on the object instead")
        return copy.deepcopy(chosen)
    if chosen is not None and not isinstance(chosen, str):
        raise TypeError(f"scheduler={chosen!r:.60} must be one of {', '.join(map(repr, SCHEDULERS))}, or a scheduler object")
    named = make_scheduler(chosen or type(own).__name__, **settings)
    same = type(named) is type(own)
    inherited = [field.name for field in dataclasses.fields(own)] if same else TRAINED_WITH
    return dataclasses.replace(named, **{name: getattr(own, name) for name in inherited if name not in settings})


def name_of(scheduler: Scheduler) -> str:
    names = [name for name, cls in SCHEDULERS.items() if type(scheduler) is cls]
    return names[0] if names else type(scheduler).__name__


def changed_settings(scheduler: Scheduler) -> dict[str, Any]:
    """The settings that are not the defaults of the scheduler's class."""
    values = {field.name: (getattr(scheduler, field.name), field.default) for field in dataclasses.fields(scheduler)}
    return {name: value for name, (value, default) in values.items() if value != default}
