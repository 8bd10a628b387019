"""From the arguments of one call to checked tensors: who gets which prompt and seed, pixels, noise levels; tokens. No network.

A wrong value is an error before anything is computed. Shapes: b pictures of (3, f h, f w) pixels, that are (4, h, w) latents.
"""

from __future__ import annotations

import copy
import dataclasses
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from .checks import one_of, real_number, warn, whole_number, whole_part
from .config import StableDiffusionConfig
from .images import fit, mask_to_tensor, to_tensor, upright
from .prompts import read_weights
from .schedulers import FLOW_SCHEDULERS, SCHEDULERS, FlowScheduler, Scheduler, scheduler_alike, scheduler_class

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

Texts = str | Sequence[str]
Pictures = Image.Image | Sequence[Image.Image]
MAX_SEED = 2**63 - 1
MAX_SIDE, MAX_IMAGES = 2**14, 10_000  # pixels along one side; pictures per prompt. More fills the memory before anything is drawn


@dataclass(frozen=True)
class Options:
    """What `pipe(...)`, `img2img`, `inpaint` and `stream` have in common.

    negative_prompt    what to stay away from: one for all, or a list as long as that of the prompts
    scheduler          a name, such as "ddim" or "euler_a", or an object; None: the model's own, `pipe.scheduler`
    scheduler_options  settings for a scheduler given by name, such as {"eta": 1.0} or {"use_karras_sigmas": True}
    steps              how many noise levels are visited, 1 ... 1000
    guidance_scale     how strongly the prompt counts. 1: as it was trained, the U-Net is evaluated once a step instead of
                       twice, and the negative prompt has no effect; 0: only the negative prompt counts
    guidance_rescale   0 ... 1, against the excess contrast of high scales (`pipeline.guide`)
    seed               a number: picture i is drawn with seed + i; a list: one per picture; None: a random number.
                       One seed is the same noise on every device and in every batch
    num_images         pictures per prompt, 1 ... 10,000, next to each other in the result
    height, width      in pixels, multiples of the autoencoder's factor, up to 16,384. None: those of the image or of the
                       latents, else what the model was trained on. An image is scaled and its edges cut to fit
    latents            noise of unit variance to start from instead of the seed's, (b, 4, height / f, width / f)
    prompt_weights     True reads (cat:1.3), in prompts and negative prompts: see prompts/weights.py. False: parentheses are text
    long_prompts       True reads prompts of more than 77 tokens, in chunks: see prompts/chunks.py. False: the rest is cut, and a
                       UserWarning names it
    clip_skip          how many of the text encoder's last layers are left out; their normalization stays. 0 is how the U-Net was
                       trained. Counted as diffusers does: 1 is what A1111 calls "Clip skip 2"
    """

    negative_prompt: Texts = ""
    scheduler: str | Scheduler | None = None
    scheduler_options: Mapping[str, Any] | None = None
    steps: int = 25
    guidance_scale: float = 7.5
    guidance_rescale: float = 0.0
    seed: int | Sequence[int] | None = 0
    num_images: int = 1
    height: int | None = None
    width: int | None = None
    latents: Tensor | None = None
    prompt_weights: bool = False
    long_prompts: bool = False
    clip_skip: int = 0

    def __post_init__(self) -> None:
        whole_number("steps", self.steps, 1)
        real_number("guidance_scale", self.guidance_scale)
        real_number("guidance_rescale", self.guidance_rescale, 0, 1)
        whole_number("num_images", self.num_images, 1, MAX_IMAGES)
        one_of("prompt_weights", self.prompt_weights, [False, True])
        one_of("long_prompts", self.long_prompts, [False, True])
        whole_number("clip_skip", self.clip_skip, 0)
        settings = self.scheduler_options
        if settings is not None and not (isinstance(settings, Mapping) and all(isinstance(name, str) for name in settings)):
            raise TypeError(
                f"scheduler_options={settings!r:.60} must be a dict of settings by their names, such as {{'eta': 1.0}}"
            )
        if self.latents is not None:
            if not (isinstance(self.latents, Tensor) and self.latents.ndim == 4):
                raise ValueError("latents must be a tensor (b, 4, h, w)")
            if self.latents.is_complex() or not self.latents.isfinite().all():
                raise ValueError("latents must be finite real numbers, noise of unit variance")

    @property
    def reading(self) -> dict[str, Any]:
        """How the prompts are read, where that is not the usual way: arguments of `encode_prompt`."""
        asked = {"prompt_weights": self.prompt_weights, "long_prompts": self.long_prompts, "clip_skip": int(self.clip_skip)}
        return {name: value for name, value in asked.items() if value}


@dataclass(frozen=True, eq=False)
class Inputs:
    """One call of the pipeline, checked: everything that is known before a network runs."""

    scheduler: Scheduler  # a copy for this call, so that two calls at once do not share its state
    timesteps: Tensor  # those to visit: all, or the last of them when a picture is redrawn
    shape: tuple[int, int, int, int]  # of the latents, (b, 4, h, w)
    prompts: list[str]
    negative_prompts: list[str]
    seeds: list[int]
    pixels: Tensor | None  # (b, 3, f h, f w) in [-1, 1]: the picture to redraw
    mask: Tensor | None  # (b, 1, f h, f w): 1 where it is to be repainted, 0 where it stays
    from_noise: bool  # False: start from the picture, with the noise of the first timestep added
    feather: int  # pixels inside of the mask, from its edge on, over which the picture turns into what is painted
    options: Options
    settings: list[dict[str, Any]]  # of each picture, for its file


def read_inputs(
    prompt: Texts,
    options: Options,
    image: Pictures | None,
    mask: Pictures | None,
    strength: float,
    config: StableDiffusionConfig,
    own_scheduler: Scheduler,
    start_at: int | None = None,
    feather: int = 0,
) -> Inputs:
    """The arguments of one call, for a model of this configuration. Raises TypeError or ValueError for a wrong one."""
    if start_at is not None and image is None:
        raise ValueError(f"start_at={start_at!r:.60} needs an image")
    if whole_number("feather", feather, 0, MAX_SIDE) and mask is None:
        raise ValueError(f"feather={feather} needs a mask")

    # 1. The prompt, seed and picture of each result: lists with one entry for each
    each = one_per_picture(prompt, options, image, mask, strength)
    for argument in ("prompt", "negative_prompt"):
        for text in each[argument]:
            check_prompt(text, argument)
            if options.prompt_weights:
                read_weights(text, argument)
    whole_number("clip_skip", options.clip_skip, 0, config.text_encoder.num_hidden_layers - 1)

    # 2. Sizes, and pictures as tensors
    f = config.vae.downsampling
    height, width = size_of(options, each["image"][0], f, config.unet.sample_size)
    shape = (len(each["prompt"]), config.vae.latent_channels, height // f, width // f)
    if options.latents is not None and tuple(options.latents.shape) != shape:
        raise ValueError(f"latents have shape {tuple(options.latents.shape)}; the other arguments need {shape}")
    resized = options.height is not None or options.width is not None
    pixels = None if image is None else pixels_of("image", each["image"], width, height, resized, to_tensor)
    painted = None if mask is None else pixels_of("mask", each["mask"], width, height, resized, mask_to_tensor)

    # 3. The noise levels
    scheduler = choose_scheduler(own_scheduler, options)
    if start_at is None:
        timesteps = timesteps_to_visit(scheduler, options.steps, strength)
    else:
        timesteps = timesteps_from(scheduler, options.steps, start_at)
    settings = {
        "scheduler": scheduler_name(scheduler),
        "scheduler_options": changed_settings(scheduler),
        "steps": int(options.steps),
        "guidance_scale": float(options.guidance_scale),
        "guidance_rescale": float(options.guidance_rescale),
        **({} if image is None else {"strength": float(strength)} if start_at is None else {"start_at": int(start_at)}),
        **({"feather": int(feather)} if feather else {}),
        "width": width,
        "height": height,
        **options.reading,
    }
    texts, negatives, seeds = each["prompt"], each["negative_prompt"], each["seed"]
    of_each = [{"prompt": t, "negative_prompt": n, "seed": s, **settings} for t, n, s in zip(texts, negatives, seeds)]
    from_noise = image is None or (mask is not None and strength == 1 and start_at is None)
    return Inputs(
        scheduler, timesteps, shape, texts, negatives, seeds, pixels, painted, from_noise, int(feather), options, of_each
    )


# ---- one value or a list


def one_per_picture(prompt: Any, options: Options, image: Any, mask: Any, strength: float) -> dict[str, list[Any]]:
    """ "prompt", "negative_prompt", "image", "mask", "seed": of each, a list with one entry per picture, checked."""
    each = broadcast(options.num_images, prompt=prompt, negative_prompt=options.negative_prompt, image=image, mask=mask)
    if len(each["prompt"]) == 1 and isinstance(options.seed, (list, tuple)) and options.seed:
        each = {name: values * len(options.seed) for name, values in each.items()}  # one of all else, several seeds
    each["seed"] = seeds_of(options.seed, len(each["prompt"]))
    real_number("strength", strength, 0, 1)
    if image is None and (mask is not None or strength != 1):
        raise ValueError("mask needs an image to paint into" if mask is not None else f"strength={strength:g} needs an image")
    for name, pictures in (("image", image), ("mask", mask)):
        if pictures is not None:
            each[name] = [upright(picture, name) for picture in each[name]]
    for picture, painted in zip(each["image"], each["mask"]):
        if painted is not None and painted.size != picture.size:
            raise ValueError(f"mask is {painted.width}x{painted.height}, but image is {picture.width}x{picture.height}")
    return each


def listed(value: Any, argument: str) -> list[Any]:
    """The value as a list; a list or tuple as it is. Raises ValueError for an empty one."""
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    if not values:
        raise ValueError(f"{argument} is an empty list; give at least one")
    return values


def broadcast(num_images: int, **arguments: Any) -> dict[str, list[Any]]:
    """Bring arguments that are each one value or a list to one length, each entry `num_images` times in a row.

    Raises ValueError for an empty list, and for lists of different lengths.
    """
    lists = {name: listed(value, name) for name, value in arguments.items()}
    lengths = {name: len(values) for name, values in lists.items() if len(values) > 1}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} {n}" for name, n in lengths.items())
        raise ValueError(f"lists must have one length, or be one value; got {found}")
    length = max(lengths.values(), default=1)
    whole = {name: values * (length // len(values)) for name, values in lists.items()}
    return {name: [v for v in values for _ in range(num_images)] for name, values in whole.items()}


def seeds_of(seed: int | Sequence[int] | None, count: int) -> list[int]:
    """One seed per picture: seed, seed + 1, ... for a number, a list as it is, and from a random start for None."""
    if isinstance(seed, (list, tuple)):
        if len(seed) != count:
            raise ValueError(f"seed is a list of {len(seed)} for {count} pictures; give one per picture, or one number")
        return [whole_number("seed", s, 0, MAX_SEED) for s in seed]
    first = secrets.randbelow(2**32) if seed is None else whole_number("seed", seed, 0, MAX_SEED - count + 1)
    return list(range(first, first + count))


# ---- words


def tokenize(tokenizer: CLIPTokenizer, prompts: Sequence[str], length: int = 77, argument: str = "prompt") -> Tensor:
    """Start token, up to length - 2 tokens of the prompt, end token, and end tokens up to `length`: (b, length) integers.

    Padding with the end token, not with 0, is what Stable Diffusion v1 was trained with (Radford et al. 2021 pad with 0). A
    prompt that is too long is cut, its end token kept, and a UserWarning says what was cut.

    Raises TypeError for a prompt that is not a string, ValueError for one that cannot be written as UTF-8.
    """
    rows = []
    for prompt in prompts:
        check_prompt(prompt, argument)
        tokens = tokenizer(prompt, add_special_tokens=False, verbose=False).input_ids
        kept, cut = tokens[: length - 2], tokens[length - 2 :]
        if cut:
            warn_of_cut(str(tokenizer.decode(cut)), len(cut), length - 2, argument)
        rows.append([tokenizer.bos_token_id, *kept, *[tokenizer.eos_token_id] * (length - 1 - len(kept))])
    return torch.tensor(rows)  # (b, length)


def check_prompt(prompt: object, argument: str) -> None:
    """Raises TypeError if it is not a string, ValueError if it cannot be written as UTF-8."""
    if not isinstance(prompt, str):
        raise TypeError(f"{argument} must be a string or a list of strings; got {type(prompt).__name__}: {prompt!r:.60}")
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{argument} holds {prompt[error.start]!r} at position {error.start}, which is no character") from None


def warn_of_cut(text: str, tokens: int, limit: int, argument: str) -> None:
    """Say which words of a long prompt the text encoder does not read."""
    words = sum(any(c.isalnum() for c in piece) for piece in text.split())  # a comma is a token, but not a word
    start = text if len(text) <= 60 else f"{text[:57]}..."
    count = f"last {tokens} tokens ({words} word{'s' * (words != 1)}) are" if tokens > 1 else "last token is"
    what = f'the {count} cut, beginning with "{start}"'
    warn(f"{argument} is longer than the {limit} tokens that the text encoder reads; {what}; long_prompts=True reads them, too")


# ---- pictures and sizes


def size_of(options: Options, image: Image.Image | None, factor: int, sample_size: int) -> tuple[int, int]:
    """(height, width) in pixels: as asked for, else the image's, else that of the latents, else the model's own.

    factor: pixels per latent; sample_size: latents, the model's own. Raises ValueError if it is no multiple of the factor.
    """
    latents = (sample_size, sample_size) if options.latents is None else options.latents.shape[2:]
    default = (latents[0] * factor, latents[1] * factor) if image is None else (image.height, image.width)
    asked = (options.height, options.width)
    height, width = (mine if given is None else given for given, mine in zip(asked, default))
    try:
        return side("height", height, factor), side("width", width, factor)
    except ValueError as error:
        if image is None or None not in asked:
            raise
        raise ValueError(f"{error} (the image is {image.width}x{image.height}: give height and width, too)") from None


def side(argument: str, value: object, factor: int) -> int:
    """A width or height in pixels: a multiple of `factor`, the pixels that share one latent. Raises ValueError if not."""
    number = whole_number(argument, value, 1, MAX_SIDE)
    if number % factor:
        below, above = number // factor * factor, (number // factor + 1) * factor
        nearest = f"the nearest are {below} and {above}" if below else f"the nearest is {above}"
        raise ValueError(f"{argument}={number} must be a multiple of {factor}; {nearest}")
    return number


def pixels_of(
    argument: str, images: Sequence[Image.Image], width: int, height: int, resized: bool, convert: Callable[..., Tensor]
) -> Tensor:
    """The pictures or masks as one tensor, (b, c, height, width). Raises ValueError for one of another size."""
    tensors = [convert(fit(image, width, height) if resized else image, argument) for image in images]
    for x in tensors:
        if x.shape[-2:] != (height, width):
            raise ValueError(f"{argument} has {x.shape[-1]}x{x.shape[-2]} pixels, but must have {width}x{height}")
    return torch.cat(tensors)


# ---- noise levels


def timesteps_to_visit(scheduler: Scheduler, steps: int, strength: float) -> Tensor:
    """The timesteps: those of the last `steps * strength` steps, as in SDEdit (Meng et al. 2022, arXiv:2108.01073)."""
    scheduler.set_timesteps(whole_number("steps", steps, 1, scheduler.num_train_timesteps))
    taken = whole_part(steps, strength)
    if taken == 0 < strength:
        warn(f"strength={strength:g} of {steps} steps is less than one step: the picture stays")
    return scheduler.timesteps[scheduler.evaluations_per_step * (steps - taken) :]


def timesteps_from(scheduler: Scheduler, steps: int, start_at: int) -> Tensor:
    """The timesteps of a run that begins at exactly this noise level: `start_at`, then those of the `steps` that lie below it.

    Every scheduler then begins with the same noise, whatever its spacing and the number of steps.
    """
    whole_number("steps", steps, 1, scheduler.num_train_timesteps)
    scheduler.start_at = whole_number("start_at", start_at, 0, scheduler.last_timestep)
    scheduler.set_timesteps(steps)
    return scheduler.timesteps


def choose_scheduler(own: Scheduler, options: Options) -> Scheduler:
    """A new scheduler, as the options ask, for a model that was trained as its own scheduler says.

    Raises ValueError for one that is made for a model trained otherwise, TypeError for what is none.
    """
    chosen, settings = options.scheduler, options.scheduler_options or {}
    if isinstance(chosen, Scheduler):
        if settings:
            raise ValueError("scheduler_options need a scheduler given by name; set them on the object instead")
        check_process(own, type(chosen))
        chosen = copy.deepcopy(chosen)
        chosen.start_at = None  # which is an argument of the call
        return chosen
    if chosen is not None and not isinstance(chosen, str):
        raise TypeError(f"scheduler={chosen!r:.60} must be one of {', '.join(map(repr, SCHEDULERS))}, or a scheduler object")
    cls = type(own) if chosen is None else scheduler_class(chosen)
    check_process(own, cls)
    return scheduler_alike(own, cls, **settings)


def fitting_schedulers(own: Scheduler) -> Mapping[str, type[Scheduler]]:
    """Those that can draw with a model whose own scheduler this is, by their names."""
    return FLOW_SCHEDULERS if isinstance(own, FlowScheduler) else SCHEDULERS


def check_process(own: Scheduler, cls: type[Scheduler]) -> None:
    """Raises ValueError if the model's own scheduler and this class belong to different ways of adding noise."""
    flow = isinstance(own, FlowScheduler)
    if issubclass(cls, FlowScheduler) != flow:
        how = "flow matching" if flow else "diffusion"
        fitting = ", ".join(map(repr, fitting_schedulers(own)))
        raise ValueError(
            f"scheduler: {cls.label.title} does not fit this model, which was trained by {how} and predicts "
            f"{own.prediction_type!r}; choose one of {fitting}"
        )


def scheduler_name(scheduler: Scheduler) -> str:
    """Its name, such as "ddim" or "flow_euler"; that of its class for one from elsewhere."""
    known = SCHEDULERS | FLOW_SCHEDULERS
    return next((name for name, cls in known.items() if type(scheduler) is cls), type(scheduler).__name__)


def changed_settings(scheduler: Scheduler) -> dict[str, Any]:
    """The settings that are not the defaults of the scheduler's class."""
    values = {field: getattr(scheduler, field.name) for field in dataclasses.fields(scheduler)}
    return {field.name: value for field, value in values.items() if value != field.default}
