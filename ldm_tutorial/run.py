"""What the denoising loop starts from: everything checked, prompts and picture encoded, the noise drawn.

Shapes: b pictures, (b, 4, h, w) latents, (b, 77, d) states of the text encoder.
"""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from . import __version__
from .checks import real_number, whole_number
from .images import fit, mask_to_tensor, to_tensor
from .options import Options, broadcast, seeds_of, side
from .prompts import check_prompt
from .schedulers import SCHEDULERS, Scheduler, make_scheduler, randn

if TYPE_CHECKING:
    from .pipeline import StableDiffusion

# A scheduler chosen by name takes these from the model's own: how it was trained, not how to sample.
TRAINED_WITH = (
    "num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type", "rescale_betas_zero_snr"
)  # fmt: skip


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
    pipe: StableDiffusion,
    prompt: str | Sequence[str],
    options: Options,
    image: Image.Image | Sequence[Image.Image] | None = None,
    mask: Image.Image | Sequence[Image.Image] | None = None,
    strength: float = 1.0,
) -> Run:
    """Raises TypeError or ValueError for a wrong argument, before anything is computed."""
    # 1. Who gets what: each list has one entry per picture
    each = broadcast(options.num_images, prompt=prompt, negative_prompt=options.negative_prompt, image=image, mask=mask)
    if len(each["prompt"]) == 1 and isinstance(options.seed, (list, tuple)) and options.seed:
        each = {name: values * len(options.seed) for name, values in each.items()}  # one of all else, several seeds
    prompts, negative_prompts = each["prompt"], each["negative_prompt"]
    for text in prompts:
        check_prompt(text, "prompt")
    for text in negative_prompts:
        check_prompt(text, "negative_prompt")
    seeds = seeds_of(options.seed, len(prompts))
    strength = real_number("strength", strength, 0, 1)
    if image is None and (mask is not None or strength != 1):
        raise ValueError("mask needs an image to paint into" if mask is not None else f"strength={strength:g} needs an image")
    for picture, painted in zip(each["image"], each["mask"]):
        if isinstance(painted, Image.Image) and isinstance(picture, Image.Image) and painted.size != picture.size:
            raise ValueError(f"mask is {painted.width}x{painted.height}, but image is {picture.width}x{picture.height}")

    # 2. Sizes
    f = pipe.vae.config.downsampling
    height, width = size_of(pipe, options, each["image"][0])
    shape = (len(prompts), pipe.vae.config.latent_channels, height // f, width // f)
    if options.latents is not None and tuple(options.latents.shape) != shape:
        raise ValueError(f"latents have shape {tuple(options.latents.shape)}; the other arguments need {shape}")
    resized = options.height is not None or options.width is not None
    pixels = None if image is None else pixels_of("image", each["image"], width, height, resized, to_tensor)
    painted = None if mask is None else pixels_of("mask", each["mask"], width, height, resized, mask_to_tensor)

    # 3. The noise levels. Redrawing a picture starts part of the way down
    scheduler = choose_scheduler(pipe.scheduler, options)
    steps = whole_number("steps", options.steps, 1, scheduler.num_train_timesteps)
    scheduler.set_timesteps(steps)
    taken = min(int(steps * strength), steps)
    timesteps = scheduler.timesteps[steps - taken :]
    if taken == 0 < strength:
        warnings.warn(f"strength={strength:g} of {steps} steps is less than one step: the picture stays", stacklevel=4)

    # 4. The words, [without, with] the prompt. At scale 1 guidance changes nothing, and half the work is saved
    context = pipe.encode_prompt(prompts)  # (b, 77, d)
    if options.guidance_scale != 1:
        context = torch.cat([pipe.encode_prompt(negative_prompts, "negative_prompt"), context])  # (2 b, 77, d)

    # 5. The noise. One generator per picture gives, in this order: the autoencoder's sample, the start, the steps
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    known = None if pixels is None else pipe.encode(pixels, generators)  # (b, 4, h, w)
    noise = randn(shape, generators, pipe.device) if options.latents is None else options.latents.float().to(pipe.device)
    if taken == 0:
        latents = known
    elif known is None or (painted is not None and strength == 1):
        latents = scheduler.init_noise_sigma * noise
    else:
        latents = scheduler.add_noise(known, noise, timesteps[0])

    settings = {
        "scheduler": name_of(scheduler), "scheduler_options": changed_settings(scheduler), "steps": int(steps),
        "guidance_scale": float(options.guidance_scale), "guidance_rescale": float(options.guidance_rescale),
        "strength": strength, "width": width, "height": height, "model": pipe.name,
        "dtype": str(pipe.dtype).removeprefix("torch."), "software": f"ldm_tutorial {__version__}",
    }  # fmt: skip
    if image is None:
        del settings["strength"]
    return Run(
        scheduler=scheduler,
        timesteps=timesteps,
        latents=latents,
        context=context,
        generators=generators,
        guidance_scale=float(options.guidance_scale),
        guidance_rescale=float(options.guidance_rescale),
        settings=[
            {"prompt": text, "negative_prompt": negative, "seed": seed, **settings}
            for text, negative, seed in zip(prompts, negative_prompts, seeds)
        ],
        keep=None if painted is None else keep_outside(painted, known, noise, scheduler, timesteps),
    )


def keep_outside(
    painted: Tensor, known: Tensor, noise: Tensor, scheduler: Scheduler, timesteps: Tensor
) -> Callable[[Tensor, int], Tensor]:
    """Inpainting: outside the mask, after each step, the known picture at the noise level that was reached.

    Lugmayr et al. 2022 (arXiv:2201.09865), equation 8, with the same noise at every level.
    """
    mask = F.interpolate(painted, size=known.shape[-2:]).to(known.device)  # (b, 1, h, w), nearest: 0 or 1
    if painted.any() and not mask.any():
        warnings.warn("mask: what is painted is finer than the latents and has no effect", stacklevel=5)

    def keep(latents: Tensor, index: int) -> Tensor:
        last = index + 1 == len(timesteps)
        outside = known if last else scheduler.add_noise(known, noise, timesteps[index + 1])
        return (1 - mask) * outside + mask * latents

    return keep


# ---- sizes


def size_of(pipe: StableDiffusion, options: Options, image: Any) -> tuple[int, int]:
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
