"""What all schedulers share: their settings, the timesteps they visit, and where their noise comes from.

The loop that draws a picture is the same for every scheduler, with one network evaluation for each of its timesteps:

    scheduler.set_timesteps(25)
    x = scheduler.init_noise_sigma * randn(shape, generator)
    for t in scheduler.timesteps:
        noise_pred = unet(scheduler.scale_model_input(x, t), t, context)
        x = scheduler.step(noise_pred, t, x, generator=generator).prev_sample
"""

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..checks import one_of, real_number, warn, whole_number
from . import noise_schedule
from .config_file import ConfigFile

MOST_TIMESTEPS = 100_000  # a hundred times what any model was trained on: a damaged file may say 10 to the power of 12

Generators = torch.Generator | Sequence[torch.Generator] | None


class Step(NamedTuple):
    """What one step gives, both in the shape and dtype of x."""

    prev_sample: Tensor  # x at the next, lower noise level
    pred_original_sample: Tensor  # x0: the clean picture, as the model sees it from here


class Label(NamedTuple):
    """A scheduler's names, and its look in every figure (colors: Okabe & Ito 2008, safe for color-blind eyes)."""

    name: str  # in code: scheduler="euler_a"
    title: str  # in text: "Euler ancestral"
    color: str
    marker: str
    linestyle: str = "-"
    aliases: tuple[str, ...] = ()  # further names that `make_scheduler` takes

    @property
    def look(self) -> dict[str, str]:
        """Color, marker and linestyle: keyword arguments of matplotlib's `plot`."""
        return {"color": self.color, "marker": self.marker, "linestyle": self.linestyle}


def randn(
    shape: Sequence[int], generator: Generators = None, device: torch.device | str | None = None, dtype: torch.dtype | None = None
) -> Tensor:
    """Normal noise, drawn on the CPU in float32, then moved and cast: a seed is one picture on every device.

    generator: a list of one CPU generator per picture, so that a picture does not depend on the others of its batch; or one
    for the whole batch (None: torch's global one). Raises ValueError for anything else.
    """
    if isinstance(generator, Sequence) and not isinstance(generator, str):
        if len(generator) != shape[0]:
            raise ValueError(f"generator: a list of {len(generator)} for {shape[0]} pictures; give one each")
        return torch.cat([randn((1, *shape[1:]), g, device, dtype) for g in generator])
    found = getattr(generator, "device", repr(generator))
    if generator is not None and found != torch.device("cpu"):
        raise ValueError(f"generator must be a CPU torch.Generator, or a list of one each; got {found}")
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float32).to(device=device, dtype=dtype)


def at_least_float32(x: Tensor) -> Tensor:
    """x, widened if in half precision: a step takes small differences of large numbers."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def per_picture(values: Tensor, x: Tensor) -> Tensor:
    """One number per picture, or one for all, to multiply x: (b,) -> (b, 1, 1, 1) for x (b, c, h, w)."""
    return values.to(at_least_float32(x).dtype).to(x.device).view(-1, *[1] * (x.ndim - 1))


@dataclass(kw_only=True, eq=False)
class Scheduler(ConfigFile, ABC):
    """Base of all schedulers. Its fields are the settings, by diffusers' names.

    num_train_timesteps      T, the number of noise levels the model was trained on
    prediction_type          what the model predicts: one of `prediction_types`

    A new scheduler visits every training timestep until `set_timesteps` chooses fewer. See `check_settings` for the errors that
    a wrong setting raises.
    """

    num_train_timesteps: int = 1000
    prediction_type: str = "epsilon"

    label: ClassVar[Label]  # name, title and look; each scheduler has its own
    prediction_types: ClassVar[tuple[str, ...]] = ("epsilon", "v_prediction")
    evaluations_per_step: ClassVar[int] = 1  # of the network; the last step may need fewer

    def __post_init__(self) -> None:
        self.check_settings()
        self.start_at: int | None = None  # the timestep at which `set_timesteps` begins; None: where its spacing does
        self.entering: float | None = None  # the same, with all steps taken from there on: see switching.py
        self.set_timesteps(self.num_train_timesteps)

    @property
    def last_timestep(self) -> int:
        """The training timestep with the most noise: T - 1."""
        return self.num_train_timesteps - 1

    def check_settings(self) -> None:
        """Raises TypeError for a setting of the wrong kind, ValueError for a wrong value or combination.

        Numbers are 0 or more; a subclass adds what else its own settings must satisfy.
        """
        whole_number("num_train_timesteps", self.num_train_timesteps, 2, MOST_TIMESTEPS)
        for name, default in ((field.name, field.default) for field in dataclasses.fields(self)):
            if isinstance(default, bool):
                one_of(name, getattr(self, name), [False, True])
            elif isinstance(default, int):
                whole_number(name, getattr(self, name), 0)
            elif isinstance(default, float):
                real_number(name, getattr(self, name), 0, finite=math.isfinite(default))
        one_of("prediction_type", self.prediction_type, self.prediction_types)

    # ---- the timesteps that are visited

    @abstractmethod
    def set_timesteps(self, num_inference_steps: int, device: torch.device | str | None = None) -> None:
        """Choose the number n of steps, 1 ... T: sets `timesteps`, falling, (n,), or (2 n - 1,) with two evaluations a step.

        With a model on a GPU, leave them on the CPU: `step` then reads t without waiting for the GPU. Raises TypeError or
        ValueError for a wrong number, and changes nothing.
        """

    def visit(self, timesteps: Tensor, device: torch.device | str | None) -> None:
        """Take these timesteps, (k,), and forget what an earlier run has left."""
        self._index = {t: i for i, t in enumerate(timesteps.tolist())}
        self.timesteps = timesteps.to(device)
        self._kept: tuple[int, tuple[Tensor, ...]] | None = None
        self.entered: tuple[float, float] | None = None  # a first timestep between two of training, and its σ: see switching.py

    def index_of(self, t: Tensor | float) -> int:
        """Position of t, one number, in `timesteps`; of a timestep that is there twice, the second.

        It is looked up, not counted: a step that needs nothing of earlier ones may be taken at any time.
        Raises ValueError for a t that is not visited.
        """
        index = self._index.get(float(np.float32(float(t)))) if torch.as_tensor(t).numel() == 1 else None
        if index is None:
            allowed = [f"{value:g}" for value in self._index]
            shown = allowed if len(allowed) <= 12 else [*allowed[:6], "...", *allowed[-3:]]
            raise ValueError(f"t={t} is not one of the {len(allowed)} timesteps {', '.join(shown)}")
        return index

    # ---- evaluations that build on earlier ones: two in a step, or a method with a memory

    def recall(self, t: Tensor | float, x: Tensor) -> tuple[int, tuple[Tensor, ...]]:
        """The position of this evaluation in `timesteps`, and what the one before has kept, each in the shape of x.

        A run begins after `set_timesteps`, or after the last timestep, at the beginning of any step, with nothing kept.
        Then the timesteps must follow in order. Raises ValueError for another t, or for an x of another shape.
        """
        index = self.index_of(t)
        if self._kept is None:
            if index % self.evaluations_per_step:
                raise ValueError(f"t={t} is in the middle of a step of {type(self).__name__}: a run cannot begin there")
            return index, ()
        following, kept = self._kept
        before, expected = self.timesteps[following - 1 : following + 1].tolist()
        if index != self.index_of(expected):
            raise ValueError(
                f"t={float(t):g} is out of order: after t={before:g} comes t={expected:g}, for the steps of "
                f"{type(self).__name__} build on each other; set_timesteps begins a new run"
            )
        if kept and kept[0].shape != x.shape:
            raise ValueError(f"x {tuple(x.shape)} must have the shape that it had at the timestep before, {tuple(kept[0].shape)}")
        return following, kept

    def keep(self, index: int, *kept: Tensor) -> None:
        """After evaluation `index`: what the next needs of it. After the last, nothing: a new run may begin."""
        self._kept = (index + 1, kept) if index + 1 < len(self.timesteps) else None

    # ---- sampling

    @property
    @abstractmethod
    def init_noise_sigma(self) -> float:
        """Standard deviation of the noise that sampling starts from."""

    @abstractmethod
    def scale_model_input(self, x: Tensor, t: Tensor | float) -> Tensor:
        """x (b, ...) at the scale the model was trained on."""

    def scale_at(self, sigma: float) -> float:
        """How large x is at noise level σ: so many times sqrt(ᾱ) x0 + sqrt(1 - ᾱ) ε, where ᾱ = 1 / (σ² + 1)."""
        return 1.0

    @abstractmethod
    def step(self, model_output: Tensor, t: Tensor | float, x: Tensor, generator: Generators = None) -> Step:
        """From x (b, ...) at timestep t to x at the next of `timesteps`; after the last, to the picture.

        model_output: the model's output to `scale_model_input(x, t)`, in the shape of x. generator: see `randn`; a step that
        adds no noise draws none. Raises ValueError if t is not in `timesteps`, if shapes differ, and see `recall`.
        """

    # ---- training

    @abstractmethod
    def alpha_bar_at(self, t: Tensor | float) -> Tensor:
        """ᾱ at t, a number or (k,), within 0 ... `last_timestep` (else ValueError): (k,) float64, on the CPU."""

    @abstractmethod
    def timestep_at(self, sigma: float) -> float:
        """The timestep, with a fraction, of noise level σ."""

    def sigma_at(self, t: Tensor | float) -> Tensor:
        """σ = sqrt((1 - ᾱ) / ᾱ) at t: (k,) float64, on the CPU."""
        if self.entered is not None and torch.as_tensor(t).flatten().tolist() == [self.entered[0]]:
            return torch.tensor([self.entered[1]], dtype=torch.float64)
        return noise_schedule.sigmas_from_alphas_cumprod(self.alpha_bar_at(t))

    @abstractmethod
    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor | float) -> Tensor:
        """x at timestep t from clean x0 and noise, both (b, ...). t: a number, or one per picture, (b,)."""

    @abstractmethod
    def get_velocity(self, x0: Tensor, noise: Tensor, t: Tensor | float) -> Tensor:
        """What a model learns that predicts a velocity, "v_prediction" or "velocity", from x0 and noise: (b, ...)"""

    def check_batch(self, x0: Tensor, noise: Tensor, t: Tensor | float) -> Tensor:
        """t as (1,) or (b,) on the CPU. Raises ValueError unless x0 and noise have one shape, (b, ...), and t fits."""
        t = self.check_timesteps(t)
        if noise.shape != x0.shape:
            raise ValueError(f"noise {tuple(noise.shape)} must have the shape of x0 {tuple(x0.shape)}")
        if len(t) not in (1, len(x0)):
            raise ValueError(f"t has {len(t)} values for {len(x0)} pictures; give one, or one for each")
        return t

    def check_timesteps(self, t: Tensor | float) -> Tensor:
        """t as (k,) on the CPU. Raises ValueError outside 0 ... `last_timestep`."""
        t = torch.as_tensor(t).flatten().cpu()
        if not ((t >= 0) & (t <= self.last_timestep)).all():
            raise ValueError(f"t={t.tolist()} must lie within 0 ... {self.last_timestep}")
        return t

    def check_output(self, model_output: Tensor, x: Tensor) -> None:
        """Raises ValueError if the model's output does not have the shape of x."""
        if model_output.shape != x.shape:
            raise ValueError(f"model_output {tuple(model_output.shape)} must have the shape of x {tuple(x.shape)}")


@dataclass(kw_only=True, eq=False)
class DiffusionScheduler(Scheduler):
    """Base of those that reverse a diffusion: its settings are the noise schedule, with Stable Diffusion v1.5's values.

    beta_schedule            "scaled_linear", "linear", from beta_start to beta_end; or "cosine" ("squaredcos_cap_v2" in files)
    prediction_type          "epsilon", the noise, or "v_prediction"
    timestep_spacing         "leading", "linspace" or "trailing": see `noise_schedule.spaced_timesteps`
    steps_offset             added to "leading" timesteps; 1 makes v1.5 end at t = 1
    rescale_betas_zero_snr   nothing of the picture in the last timestep (2305.08891); needs "v_prediction"
    """

    beta_start: float = 0.00085
    beta_end: float = 0.012
    beta_schedule: str = "scaled_linear"
    timestep_spacing: str = "leading"
    steps_offset: int = 1
    rescale_betas_zero_snr: bool = False

    terminal_alpha_bar: ClassVar[float] = 0.0  # ᾱ of the last timestep, if rescaled to hold no picture

    def __post_init__(self) -> None:
        self.beta_schedule = "squaredcos_cap_v2" if self.beta_schedule == "cosine" else self.beta_schedule
        self.check_settings()
        make_betas = noise_schedule.BETA_SCHEDULES[self.beta_schedule]
        self.betas = make_betas(self.num_train_timesteps, self.beta_start, self.beta_end)  # β, (T,)
        if self.rescale_betas_zero_snr:
            self.betas = noise_schedule.rescale_zero_terminal_snr(self.betas)
        self.alphas_cumprod = (1 - self.betas).cumprod(0)  # ᾱ, (T,)
        if self.rescale_betas_zero_snr:
            self.alphas_cumprod[-1] = self.terminal_alpha_bar
        self.start_at = self.entering = None
        self.set_timesteps(self.num_train_timesteps)

    @property
    def train_sigmas(self) -> np.ndarray:
        """σ at every training timestep, rising, (T,)."""
        return noise_schedule.sigmas_from_alphas_cumprod(self.alphas_cumprod).numpy()

    def timestep_at(self, sigma: float) -> float:
        t = float(np.interp(sigma, self.train_sigmas, np.arange(self.num_train_timesteps)))
        return float(round(t)) if abs(t - round(t)) < 1e-4 else t  # a training timestep, but for the rounding of σ

    def check_settings(self) -> None:
        super().check_settings()
        low, high = self.beta_start, self.beta_end
        if not 0 < low <= high < 1:
            raise ValueError(f"beta_start={low}, beta_end={high} must satisfy 0 < beta_start <= beta_end < 1")
        one_of("beta_schedule", self.beta_schedule, [*noise_schedule.BETA_SCHEDULES, "cosine"])
        one_of("timestep_spacing", self.timestep_spacing, noise_schedule.SPACINGS)
        if self.rescale_betas_zero_snr and self.prediction_type == "epsilon":
            raise ValueError(
                "rescale_betas_zero_snr=True needs prediction_type='v_prediction': "
                "the last timestep is pure noise, and x_0 cannot be computed from a prediction of that noise"
            )

    def spaced_timesteps(self, num_inference_steps: int) -> np.ndarray:
        """The timesteps at which the steps begin, (n,) float64: see `noise_schedule.spaced_timesteps`.

        With `start_at`, that timestep and those of the n that lie below it. Else warns if at the first the model expects more
        than an eighth of the variance of x to be picture. Raises TypeError or ValueError for a wrong n.
        """
        T = self.num_train_timesteps
        n = whole_number("num_inference_steps", num_inference_steps, 1, T)
        if self.entering is not None:
            return noise_schedule.timesteps_down_from(self.entering, self.timestep_spacing, n, self.steps_offset)
        timesteps = noise_schedule.spaced_timesteps(self.timestep_spacing, n, T, self.steps_offset)
        if self.start_at is not None:
            return np.array([float(self.start_at), *timesteps[timesteps <= self.start_at - 1]])
        first = int(timesteps[0])
        if (alpha_bar := self.alphas_cumprod[first].item()) > 1 / 8:
            warn(
                f"timestep_spacing={self.timestep_spacing!r} with so few steps begins at timestep {first} of {T - 1}, where the "
                f"model expects {alpha_bar:.0%} of the variance of x to be picture, and pure noise misleads it: "
                "take more steps, or 'trailing'"
            )
        return timesteps

    def get_velocity(self, x0: Tensor, noise: Tensor, t: Tensor | float) -> Tensor:
        """What v-prediction learns, (b, ...): v = sqrt(ᾱ) ε - sqrt(1 - ᾱ) x0. 2202.00512, section 4."""
        t = self.check_batch(x0, noise, t)
        alpha_bar = per_picture(self.alpha_bar_at(t), x0)  # (b, 1, 1, 1)
        return (alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * x0).to(x0.dtype)
