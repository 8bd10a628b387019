"""Stable Diffusion, put together: words and noise in, pictures out (Rombach et al. 2022).

Drawing from text, redrawing a picture and inpainting all go through `DenoisingLoop.denoise`, from the latents that `start` makes.

Shapes: b pictures, (b, 4, h, w) latents, (b, 3, f h, f w) pixels, (b, 77, d) hidden states of the text encoder.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from . import __version__
from .adapters import Adapted, on_same_weights
from .checkpoints import load_checkpoint, load_tokenizer, resolve
from .checks import arguments_by_name, as_dtype, as_path, check_precision, one_of, pick_device, quiet, whole_number
from .clip import CLIPTextModel
from .config import StableDiffusionConfig
from .engines import ENGINES, Engine, make_engine, quick
from .engines.dtypes import fastest_dtype
from .engines.onnx import OnnxEngine
from .images import feathered, to_images, to_tensor
from .inputs import Inputs, Options, Pictures, Texts, check_prompt, listed, read_inputs, side, tokenize
from .prompts import Span, equally_long, plain_text, read_weights, token_weights, tokenize_in_chunks, weigh
from .schedulers import DDIMScheduler, Scheduler, randn
from .threads import sharing
from .unet import UNet
from .vae import AutoencoderKL, DiagonalGaussian

if TYPE_CHECKING:
    from transformers import CLIPTokenizer
    from typing_extensions import Self

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Run:
    """What the loop needs: the inputs of one call, with the words and the picture encoded and the noise drawn."""

    inputs: Inputs
    latents: Tensor  # (b, 4, h, w) float32, at the first of the timesteps
    context: Tensor  # (b, 77, d), or (2 b, 77, d) with that of the negative prompts first; 77 k with `long_prompts`
    known: Tensor | None  # (b, 4, h, w): the picture that is redrawn, encoded
    noise: Tensor  # (b, 4, h, w)
    mask: Tensor | None  # (b, 1, h, w): 1 where latents are repainted, 0 where they stay
    generators: list[torch.Generator]  # one per picture, for the noise of the steps


@dataclass(frozen=True, eq=False)
class DenoisingStep:
    """One turn of the loop, for all pictures of the batch. The tensors are float32, (b, 4, h, w), at the scheduler's scale."""

    index: int  # 0, 1, 2, ...
    timestep: float  # the U-Net's input: 999 (noise) ... 0 (clean), with a fraction for Karras levels
    sigma: float  # the noise level of this timestep: noise per unit of picture
    latents: Tensor  # after the step, at the next, lower level; after the last, the result
    denoised: Tensor  # the clean latents, as predicted from the noisy ones; `decode` shows them
    noise_pred: Tensor  # the U-Net's prediction, guided


def guide(uncond: Tensor, cond: Tensor, scale: float, rescale: float = 0.0) -> Tensor:
    """Classifier-free guidance: away from what the picture would be without the prompt. All tensors (b, 4, h, w).

    Ho & Salimans 2022 (arXiv:2207.12598), equation 6, where `scale` is w + 1. `rescale` says how far to bring the standard
    deviation, which grows with the scale, back to that of `cond`: Lin et al. 2023 (arXiv:2305.08891), equations 14 to 16.
    """
    guided = uncond + scale * (cond - uncond)
    if rescale:
        std_cond, std_guided = (x.std(dim=(1, 2, 3), keepdim=True) for x in (cond, guided))  # (b, 1, 1, 1)
        guided = rescale * (guided * std_cond / std_guided) + (1 - rescale) * guided
    return guided


def first_latents(inputs: Inputs, noise: Tensor, known: Tensor | None) -> Tensor:
    """What the loop starts from: noise, or the known latents with the noise of the first timestep. All (b, 4, h, w)."""
    if inputs.from_noise or known is None:
        return inputs.scheduler.init_noise_sigma * noise
    return inputs.scheduler.add_noise(known, noise, inputs.timesteps[0]) if len(inputs.timesteps) else known


def keep_known(run: Run, latents: Tensor, index: int) -> Tensor:
    """Inpainting: where the mask is 0, the known picture at the noise level that step `index` has reached. (b, 4, h, w)

    Lugmayr et al. 2022 (arXiv:2201.09865), equation 8, with the same noise at every level.
    """
    if run.mask is None or run.known is None:
        return latents
    timesteps = run.inputs.timesteps
    last = index + 1 == len(timesteps)
    outside = run.known if last else run.inputs.scheduler.add_noise(run.known, run.noise, timesteps[index + 1])
    return (1 - run.mask) * outside + run.mask * latents


def encode_moments(vae: AutoencoderKL, x: Tensor) -> Tensor:
    """Pixels, (b, 3, f h, f w), to mean and log variance of their latents in one tensor, (b, 8, h, w)."""
    posterior = vae.encode(x)
    return torch.cat([posterior.mean, posterior.logvar], dim=1)


class Parts(Adapted):
    """A text encoder with its tokenizer, a U-Net, an autoencoder and a scheduler, and what each does by itself.

    Raises ValueError if they do not fit together.
    """

    def __init__(
        self,
        unet: UNet,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        scheduler: Scheduler | None = None,
        name: str = "unnamed",
    ) -> None:
        super().__init__(unet.eval(), text_encoder.eval(), tokenizer, DDIMScheduler() if scheduler is None else scheduler)
        self.vae = vae.eval()
        self.name = name

        channels, latent_channels = unet.config.in_channels, vae.config.latent_channels
        if channels != latent_channels:
            nine = "9 are those of a U-Net for inpainting only, which is not supported"
            raise ValueError(f"the U-Net takes {channels} channels, the latents have {latent_channels}; {nine}")
        read, written = unet.config.cross_attention_dim, text_encoder.config.hidden_size
        if read != written:
            raise ValueError(f"the U-Net reads words of width {read}, the text encoder writes {written}")
        end, expected = tokenizer.eos_token_id, text_encoder.config.eos_token_id
        if end != expected:
            raise ValueError(f"the tokenizer ends a prompt with token {end}, the text encoder expects {expected}")

    @property
    def config(self) -> StableDiffusionConfig:
        """The configuration of the three networks."""
        return StableDiffusionConfig(self.vae.config, self.unet.config, self.text_encoder.config)

    @property
    def device(self) -> torch.device:
        """Where the networks are; noise is always drawn on the CPU."""
        return next(self.unet.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the networks; the schedulers compute in float32."""
        return next(self.unet.parameters()).dtype

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | str | None = None) -> Self:
        """Move the networks; returns itself. Raises ValueError for a device or dtype that this machine does not have."""
        device = self.device if device is None else pick_device(device)
        dtype = self.dtype if dtype is None else as_dtype(dtype)
        check_precision(device, dtype)
        for network in (self.unet, self.vae, self.text_encoder):
            network.to(device, dtype)
            if device.type == "cuda":  # convolutions in half precision are fastest there with the channels last in memory
                network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # PyTorch's types lack it
        for lora in self.loras.values():
            lora.to(device, dtype)
        return self

    def __repr__(self) -> str:
        size, dtype = self.unet.config.sample_size * self.vae.config.downsampling, str(self.dtype).removeprefix("torch.")
        return f"{type(self).__name__}({self.name!r}, {size}x{size} pictures, {dtype} on {self.device})"

    @torch.no_grad()
    def encode_prompt(
        self,
        prompt: Texts,
        argument: str = "prompt",
        prompt_weights: bool = False,
        long_prompts: bool = False,
        clip_skip: int = 0,
    ) -> Tensor:
        """What the U-Net reads: (b, 77, d), in the model's dtype. A prompt that is too long is cut with a UserWarning.

        A loaded word of several vectors takes as many tokens. The other arguments are described at `inputs.Options`; with
        `long_prompts`, (b, 77 k, d) for the k chunks of the longest.

        Raises ValueError for a mistake in the weights, FloatingPointError, which says what to try, if the text encoder overflows.
        """
        prompts = listed(prompt, argument)
        for text in prompts:
            check_prompt(text, argument)
        distinct = list(dict.fromkeys(prompts))  # equal prompts are encoded once

        # 1. The words, and their weights
        parts = [read_weights(text, argument) if prompt_weights else [Span(text, 1.0)] for text in distinct]
        parts = [[Span(self.dictionary.spell_out(text), weight) for text, weight in spans] for spans in parts]

        # 2. Tokens, and their hidden states
        texts, length = [plain_text(spans) for spans in parts], self.text_encoder.config.max_position_embeddings
        if long_prompts:
            ids = tokenize_in_chunks(self.tokenizer, texts, length)  # (n, 77 k)
        else:
            ids = tokenize(self.tokenizer, texts, length, argument)  # (n, 77)
        states = self._hidden_states(ids, clip_skip)

        # 3. What has a weight is moved away from the states of the empty prompt, or towards them
        if any(weight != 1 for spans in parts for _, weight in spans):
            chunks = ids.shape[1] // length
            weights = torch.tensor([token_weights(self.tokenizer, spans, length, chunks) for spans in parts])  # (n, 77 k)
            empty = self._hidden_states(tokenize(self.tokenizer, [""], length), clip_skip).repeat(1, chunks, 1)
            states = weigh(states, empty, weights.to(states.device))
        return states[[distinct.index(text) for text in prompts]]

    def _hidden_states(self, ids: Tensor, clip_skip: int) -> Tensor:
        """Tokens in k chunks, each of which the text encoder reads by itself: (n, 77 k) -> (n, 77 k, d)"""
        whole_number("clip_skip", clip_skip, 0, self.text_encoder.config.num_hidden_layers - 1)
        rows = ids.view(-1, self.text_encoder.config.max_position_embeddings).to(self.device)  # (n k, 77)
        states = self.text_encoder(rows, clip_skip=clip_skip)  # (n k, 77, d)
        if not states.isfinite().all():
            raise FloatingPointError(f"the text encoder's output is not finite: {self._remedy(self.text_encoder)}")
        return states.view(*ids.shape, -1)

    @torch.no_grad()
    def encode(self, image: Pictures | Tensor, generator: torch.Generator | list[torch.Generator] | None = None) -> Tensor:
        """Pictures, or a tensor (b, 3, f h, f w) in [-1, 1], to scaled latents, (b, 4, h, w), float32.

        With a CPU generator (or one per picture), a sample of the autoencoder's posterior; without, its mean.
        """
        x = image if isinstance(image, Tensor) else torch.cat([to_tensor(i) for i in listed(image, "image")])
        for name, pixels in zip(("height", "width"), x.shape[-2:]):
            side(name, pixels, self.vae.config.downsampling)
        posterior = DiagonalGaussian.from_moments(self._finite(encode_moments, x))
        z = posterior.mode() if generator is None else posterior.sample(generator)
        return z * self.vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, latents: Tensor) -> list[Image.Image]:
        """Scaled latents, (b, 4, h, w), to b pictures."""
        channels, f = self.vae.config.latent_channels, self.vae.config.downsampling
        if latents.ndim != 4 or latents.shape[1] != channels:
            raise ValueError(f"latents have shape {tuple(latents.shape)}, but must have (b, {channels}, h, w)")
        z = latents.float() / self.vae.config.scaling_factor
        at_once = max(1, 512 * 512 // (f * f * z.shape[-2] * z.shape[-1]))  # large pictures one by one, to spare memory
        return [p for part in z.split(at_once) for p in to_images(self._finite(lambda vae, z: vae.decode(z), part))]

    def _finite(self, use: Callable[[AutoencoderKL, Tensor], Tensor], x: Tensor) -> Tensor:
        """`use(vae, x)`, float32; where half precision overflows, as float16 may in the decoder, once more in float32."""
        dtype = next(self.vae.parameters()).dtype
        out = use(self.vae, x.float().to(self.device, dtype)).float()
        if not out.isfinite().all() and dtype != torch.float32:
            precise = copy.deepcopy(self.vae).float()  # made anew: a kept one would not follow a change of the weights
            out = use(precise, x.float().to(self.device))
        if not out.isfinite().all():
            large = x.abs().max().item()  # about 10 as a rule
            too_large = f"what it was given goes up to {large:.3g}: take a smaller guidance_scale, or more steps"
            fix = self._remedy(self.vae) if large < 1000 else too_large
            raise FloatingPointError(f"the autoencoder's output is not finite: {fix}")
        return out

    def _remedy(self, network: nn.Module) -> str:
        """What to try if a network's output is not finite, in words."""
        if next(network.parameters()).dtype == torch.float16:
            return 'float16 ends at 65504; use pipe.to(dtype="bfloat16") or "float32"'
        if not all(weight.isfinite().all() for weight in network.parameters()):
            return "the weights are damaged; load the model again"
        return "what it was given is too large; take a smaller guidance_scale, or another scheduler"

    def _explain_overflow(self, prediction: Tensor, t: float, guidance_scale: float) -> None:
        """Raises FloatingPointError, which says what to try."""
        too_large = f"guidance_scale={guidance_scale:g} is too large; 1 to 15 is usual"
        fix = too_large if prediction.isfinite().all() or abs(guidance_scale) > 1000 else self._remedy(self.unet)
        raise FloatingPointError(f"the predicted noise at timestep {t:g} is not finite: {fix}")


def progress_bar(things: Iterable[T], total: int, show: bool, unit: str = "step") -> Iterable[T]:
    """The things, with a bar on stderr that goes away if another one is above it. LDM_QUIET=1 turns all bars off."""
    if not show or quiet():
        return things
    from tqdm.auto import tqdm

    return tqdm(things, total=total, unit=unit, leave=None)


class DenoisingLoop(Parts):
    """From checked arguments to pictures: `prepare`, `start`, `denoise`, `finish`; `draw` does the last three."""

    def prepare(
        self,
        prompt: Texts,
        options: Options,
        image: Pictures | None = None,
        mask: Pictures | None = None,
        strength: float = 1.0,
        start_at: int | None = None,
        feather: int = 0,
    ) -> Inputs:
        """The arguments of one call, checked and made into tensors. Raises TypeError or ValueError for a wrong one.

        Warns if a distilled model is asked for what it was not trained for.
        """
        inputs = read_inputs(prompt, options, image, mask, strength, self.config, self.scheduler, start_at, feather)
        self.advise(inputs)
        return inputs

    def advise(self, inputs: Inputs) -> None:
        """Warn of inputs that a distilled model was not trained for."""
        if self.few_steps is not None:
            own = read_inputs("", Options(**self.few_steps.arguments), None, None, 1.0, self.config, self.scheduler)
            timesteps, scale = inputs.timesteps.tolist(), inputs.options.guidance_scale
            self.few_steps.advise(timesteps, own.timesteps.tolist(), scale)

    @torch.no_grad()
    def start(self, inputs: Inputs) -> Run:
        """Encode the words and the picture, draw the noise, and put together what the loop starts from."""
        # 1. The words. At scale 1 only the prompts, for half of the work
        how = inputs.options.reading
        context = self.encode_prompt(inputs.prompts, **how)  # (b, 77, d)
        if inputs.options.guidance_scale != 1:
            negative = self.encode_prompt(inputs.negative_prompts, "negative_prompt", **how)
            if negative.shape != context.shape:  # in chunks, of which one has more
                negative, context = equally_long(negative, context, self.encode_prompt("", **how))
            context = torch.cat([negative, context])  # (2 b, 77, d)

        # 2. The noise. One generator per picture gives, in this order: the autoencoder's sample, the start, the steps
        generators = [torch.Generator().manual_seed(seed) for seed in inputs.seeds]
        known = None if inputs.pixels is None else self.encode(inputs.pixels, generators)  # (b, 4, h, w)
        given = inputs.options.latents
        noise = randn(inputs.shape, generators, self.device) if given is None else given.float().to(self.device)

        # 3. The mask, in latents: 1 if any of its f x f pixels is
        f = self.vae.config.downsampling
        mask = None if inputs.mask is None else F.max_pool2d(inputs.mask, f).to(self.device)  # (b, 1, h, w)
        return Run(inputs, first_latents(inputs, noise, known), context, known, noise, mask, generators)

    @torch.no_grad()  # on a generator, it holds inside the loop only, not where the steps are used
    def denoise(self, run: Run) -> Iterator[DenoisingStep]:
        """The loop itself, over a run that `start` made."""
        x, scheduler = run.latents, run.inputs.scheduler
        for index, t in enumerate(run.inputs.timesteps):
            noise_pred = self._predict_noise(run, x, t)  # (b, 4, h, w)
            x, denoised = scheduler.step(noise_pred, t, x, generator=run.generators)
            x = keep_known(run, x, index)
            yield DenoisingStep(index, t.item(), scheduler.sigma_at(t).item(), x, denoised, noise_pred)

    def _predict_noise(self, run: Run, x: Tensor, t: Tensor) -> Tensor:
        options = run.inputs.options
        x = run.inputs.scheduler.scale_model_input(x, t)
        guided = len(run.context) == 2 * len(x)
        if guided:
            x = torch.cat([x, x])  # (2 b, 4, h, w): without and with the prompt, in one pass
        prediction = self.unet(x.to(self.dtype), t.float().to(self.device), run.context).float()
        noise_pred = prediction
        if guided:
            uncond, cond = prediction.chunk(2)  # (b, 4, h, w) each
            noise_pred = guide(uncond, cond, options.guidance_scale, options.guidance_rescale)
        if not noise_pred.isfinite().all():
            self._explain_overflow(prediction, t.item(), options.guidance_scale)
        return noise_pred  # (b, 4, h, w)

    def draw(self, inputs: Inputs, progress: bool = True) -> list[Image.Image]:
        """The pictures of one call, from its checked arguments. Their `.info` says how they were made."""
        gradients = torch.is_grad_enabled()
        try:
            run = self.start(inputs)
            latents = run.latents
            for step in progress_bar(self.denoise(run), len(inputs.timesteps), progress):
                latents = step.latents
            return self.finish(inputs, latents)
        finally:
            torch.set_grad_enabled(gradients)  # Ctrl-C at the end of a `no_grad` leaves them off

    def finish(self, inputs: Inputs, latents: Tensor) -> list[Image.Image]:
        """Decode the last latents, (b, 4, h, w); put back what the mask keeps; note the settings in each picture's `.info`."""
        pictures = self.decode(latents)
        if inputs.pixels is not None and inputs.mask is not None:
            originals = to_images(inputs.pixels)
            stencils = [Image.fromarray(m.numpy()) for m in (255 * feathered(inputs.mask, inputs.feather)[:, 0]).byte()]
            pictures = [Image.composite(*three) for three in zip(pictures, originals, stencils)]
        for picture, settings in zip(pictures, inputs.settings):
            model = {"model": self.name, "dtype": str(self.dtype).removeprefix("torch.")}
            picture.info.update(settings | model | {"software": f"ldm_tutorial {__version__}"})
            if self.loras:
                picture.info["loras"] = {name: lora.scale for name, lora in self.loras.items()}
        return pictures


class StableDiffusion(DenoisingLoop):
    """The whole machine: `pipe("a cat")` -> a list of PIL images.

    Their `.info` says how they were made, and `images.save_image` keeps that in the file. The options that all ways of drawing
    share are described at `inputs.Options`. All raise TypeError or ValueError for a wrong argument, before anything is
    computed, and FloatingPointError if the numbers overflow.

    engine: how a step is computed, where there is more than one way to the same numbers.
    """

    engine: Engine = staticmethod(quick)

    @arguments_by_name
    def __call__(
        self,
        prompt: Texts,
        *,
        progress: bool = True,
        negative_prompt: Texts = "",
        scheduler: str | Scheduler | None = None,
        scheduler_options: Mapping[str, Any] | None = None,
        steps: int = 25,
        guidance_scale: float = 7.5,
        guidance_rescale: float = 0.0,
        seed: int | Sequence[int] | None = 0,
        num_images: int = 1,
        height: int | None = None,
        width: int | None = None,
        latents: Tensor | None = None,
        prompt_weights: bool = False,
        long_prompts: bool = False,
        clip_skip: int = 0,
    ) -> list[Image.Image]:
        """Pictures of the prompts, from noise."""
        how = (scheduler, scheduler_options, steps, guidance_scale, guidance_rescale, seed, num_images, height, width, latents)
        reading = (prompt_weights, long_prompts, clip_skip)
        return self.draw(self.prepare(prompt, Options(negative_prompt, *how, *reading)), progress)

    @arguments_by_name
    def img2img(
        self,
        prompt: Texts,
        image: Pictures,
        strength: float = 0.6,
        *,
        start_at: int | None = None,
        progress: bool = True,
        negative_prompt: Texts = "",
        scheduler: str | Scheduler | None = None,
        scheduler_options: Mapping[str, Any] | None = None,
        steps: int = 25,
        guidance_scale: float = 7.5,
        guidance_rescale: float = 0.0,
        seed: int | Sequence[int] | None = 0,
        num_images: int = 1,
        height: int | None = None,
        width: int | None = None,
        latents: Tensor | None = None,
        prompt_weights: bool = False,
        long_prompts: bool = False,
        clip_skip: int = 0,
    ) -> list[Image.Image]:
        """The picture redrawn: noise is added to it, and taken away again with the prompt (Meng et al. 2022, SDEdit).

        `strength`, 0 ... 1, is how much: it takes the last `steps * strength` of the steps. 0 returns the picture
        as the autoencoder sees it; 1 leaves a trace of its colors.

        How much noise a share of the steps is depends on the scheduler's spacing. `start_at`, a timestep of training, 0 ... 999,
        is the noise level itself, the same for every scheduler and number of steps: the loop begins exactly there, and goes on
        through those of its timesteps that lie below. `strength` then has no effect.
        """
        how = (scheduler, scheduler_options, steps, guidance_scale, guidance_rescale, seed, num_images, height, width, latents)
        reading = (prompt_weights, long_prompts, clip_skip)
        return self.draw(
            self.prepare(prompt, Options(negative_prompt, *how, *reading), image, None, strength, start_at), progress
        )

    @arguments_by_name
    def inpaint(
        self,
        prompt: Texts,
        image: Pictures,
        mask: Pictures,
        strength: float = 1.0,
        *,
        start_at: int | None = None,
        feather: int = 0,
        progress: bool = True,
        negative_prompt: Texts = "",
        scheduler: str | Scheduler | None = None,
        scheduler_options: Mapping[str, Any] | None = None,
        steps: int = 25,
        guidance_scale: float = 7.5,
        guidance_rescale: float = 0.0,
        seed: int | Sequence[int] | None = 0,
        num_images: int = 1,
        height: int | None = None,
        width: int | None = None,
        latents: Tensor | None = None,
        prompt_weights: bool = False,
        long_prompts: bool = False,
        clip_skip: int = 0,
    ) -> list[Image.Image]:
        """The picture with what is white in the mask, which has its size, repainted. What is black stays, pixel by pixel.

        Latents cover f x f pixels each: one of them is repainted if any of its pixels is white.

        feather: over how many pixels inside of the mask, from its edge on, the picture turns evenly into what is painted, so
        that no edge is seen. `start_at`: as in `img2img`.
        """
        how = (scheduler, scheduler_options, steps, guidance_scale, guidance_rescale, seed, num_images, height, width, latents)
        reading = (prompt_weights, long_prompts, clip_skip)
        return self.draw(
            self.prepare(prompt, Options(negative_prompt, *how, *reading), image, mask, strength, start_at, feather), progress
        )

    @arguments_by_name
    def stream(
        self,
        prompt: Texts,
        image: Pictures | None = None,
        mask: Pictures | None = None,
        strength: float = 1.0,
        *,
        start_at: int | None = None,
        negative_prompt: Texts = "",
        scheduler: str | Scheduler | None = None,
        scheduler_options: Mapping[str, Any] | None = None,
        steps: int = 25,
        guidance_scale: float = 7.5,
        guidance_rescale: float = 0.0,
        seed: int | Sequence[int] | None = 0,
        num_images: int = 1,
        height: int | None = None,
        width: int | None = None,
        latents: Tensor | None = None,
        prompt_weights: bool = False,
        long_prompts: bool = False,
        clip_skip: int = 0,
    ) -> Iterator[DenoisingStep]:
        """Step by step: from noise, from an image, or inside a mask. `decode(step.denoised)` shows the picture so far.

        `start_at`: as in `img2img`.
        """
        how = (scheduler, scheduler_options, steps, guidance_scale, guidance_rescale, seed, num_images, height, width, latents)
        reading = (prompt_weights, long_prompts, clip_skip)
        return self.denoise(
            self.start(self.prepare(prompt, Options(negative_prompt, *how, *reading), image, mask, strength, start_at))
        )

    def sharing_weights(self) -> Self:
        """A second pipeline with the same weights in memory, to draw with beside this one, at the same time.

        It begins with the LoRAs, at their scales, and the words that are loaded here. From then on they are its own, and so is
        its scheduler: what is loaded, scaled, merged or taken away in one of the two has no effect on the other.
        """
        unet, vae, text_encoder = on_same_weights(self.unet), on_same_weights(self.vae), on_same_weights(self.text_encoder)
        other = type(self)(unet, vae, text_encoder, self.tokenizer, copy.deepcopy(self.scheduler), self.name)
        other.engine = self.engine
        other.adapt_like(self)
        return other

    def merge_lora(self, name: str | None = None) -> None:
        """As that of `Adapted`; ONNX Runtime, which holds the weights of before, gets those of now."""
        super().merge_lora(name)
        if isinstance(self.engine, OnnxEngine):
            self.unet.__class__ = UNet
            self.engine = OnnxEngine(self.unet)

    def _predict_noise(self, run: Run, x: Tensor, t: Tensor) -> Tensor:
        if not x.isfinite().all():
            step = f"the step of {type(run.inputs.scheduler).__name__} before it"
            raise FloatingPointError(
                f"the latents at timestep {t:g} are not finite, after {step}: take more steps, or another scheduler"
            )
        with sharing(), self.engine(self.unet, run.context):  # the processor is shared with other programs
            return super()._predict_noise(run, x, t)


def load_pipeline(
    name_or_path: str | Path = "emoji",
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    revision: str | None = None,
    vae: str | Path | None = None,
    scheduler: Scheduler | None = None,
    engine: str = "torch",
) -> StableDiffusion:
    """A pipeline with its weights: "emoji", "sd15", a .safetensors file, a diffusers folder, or a hub id.

    device: None picks cuda, mps or cpu, whichever is there first. dtype: None is float16 on cuda, else float32;
    "fastest" is bfloat16 where the processor has it and is measured to gain by it, for pictures that are the same to the eye.
    revision: of a hub id. vae: the path of another autoencoder than the model's own, a file or a folder. scheduler: instead of
    the model's own, which then need not be one that we have. engine: "torch"; "plain", the networks exactly as they stand in
    their files, slower; or "onnx", the U-Net in ONNX Runtime (pip install "ldm-tutorial[web]"), which begins by exporting it.

    Raises:
        ImportError: engine="onnx", which is not installed.
        ValueError: a device or dtype that this machine does not have, an unknown name, or a damaged file (CheckpointError).
        OSError: no such file or folder (FileNotFoundError), or the hub could not be reached (HubError).
    """
    device = pick_device(device)
    one_of("engine", engine, ENGINES)
    if dtype == "fastest":
        dtype = fastest_dtype(device)
    dtype = as_dtype(dtype or ("float16" if device.type == "cuda" else "float32"))
    check_precision(device, dtype)
    path = resolve(name_or_path, revision)
    parts = load_checkpoint(path, device, dtype, vae)
    tokenizer = parts.tokenizer or load_tokenizer(path, parts.text_encoder.config.vocab_size)  # single files of others hold none
    name = path.resolve().name if path == as_path(name_or_path) else str(name_or_path)  # folders are private
    pipe = StableDiffusion(parts.unet, parts.vae, parts.text_encoder, tokenizer, scheduler or parts.scheduler, name)
    pipe.to(device, dtype).engine = make_engine(engine, pipe.unet)
    return pipe
