"""Stable Diffusion, put together: words and noise in, pictures out (Rombach et al. 2022).

The loop is `StableDiffusion.denoise`. Drawing from text, redrawing a picture and inpainting all go through it: they differ in
what it starts from, which `run.py` prepares. The networks, and what each does by itself, are in `parts.py`.

Shapes: b pictures, (b, 4, h, w) latents, (b, 3, f h, f w) pixels, (b, 77, d) states of the text encoder.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from .checkpoints import load_checkpoint, pick_device
from .checkpoints.hub import load_tokenizer, resolve
from .options import Options, as_dtype, check_precision, takes_options
from .parts import Parts
from .run import Run, prepare


@dataclass(frozen=True, eq=False)
class DenoisingStep:
    """One turn of the loop, for all pictures of the batch. The tensors are float32, (b, 4, h, w), at the scheduler's scale."""

    index: int  # 0, 1, 2, ...
    timestep: float  # what the U-Net was told: 999 (noise) ... 0 (clean), with a fraction for Karras levels
    sigma: float  # the noise level of this timestep: noise per unit of picture
    latents: Tensor  # after the step, at the next, lower level; after the last, the result
    denoised: Tensor  # the clean latents, as guessed from the noisy ones; `decode` shows them
    noise_pred: Tensor  # what the U-Net answered, guided


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


class StableDiffusion(Parts):
    """A text encoder, a U-Net, an autoencoder and a scheduler: `pipe("a cat")` -> a list of PIL images.

    Their `.info` says how they were made, and `images.save_image` keeps that in the file. The options that all ways of drawing
    share are listed at `options.Options`. All raise TypeError or ValueError for a wrong argument, before anything is
    computed, and FloatingPointError if the numbers overflow.
    """

    # ---- ways of drawing

    @takes_options
    def __call__(self, prompt: str | Sequence[str], *, progress: bool = True, **options: Any) -> list[Image.Image]:
        """Pictures of the prompts, from noise."""
        return self._draw(prepare(self, prompt, Options(**options)), progress)

    @takes_options
    def img2img(
        self,
        prompt: str | Sequence[str],
        image: Image.Image | Sequence[Image.Image],
        strength: float = 0.6,
        *,
        progress: bool = True,
        **options: Any,
    ) -> list[Image.Image]:
        """The picture redrawn: noise is added to it, and taken away again with the prompt (Meng et al. 2022, SDEdit).

        `strength`, 0 ... 1, is how much: it takes the last `int(steps * strength)` of the steps. 0 returns the picture
        as the autoencoder sees it; 1 leaves a trace of its colors.
        """
        return self._draw(prepare(self, prompt, Options(**options), image, strength=strength), progress)

    @takes_options
    def inpaint(
        self,
        prompt: str | Sequence[str],
        image: Image.Image | Sequence[Image.Image],
        mask: Image.Image | Sequence[Image.Image],
        strength: float = 1.0,
        *,
        progress: bool = True,
        **options: Any,
    ) -> list[Image.Image]:
        """The picture with what is white in the mask, of the same size, drawn anew.

        What is black comes back as the autoencoder sees it: `PIL.Image.composite(result, image, mask)` restores it.
        """
        return self._draw(prepare(self, prompt, Options(**options), image, mask, strength), progress)

    @takes_options
    def stream(
        self,
        prompt: str | Sequence[str],
        image: Image.Image | Sequence[Image.Image] | None = None,
        mask: Image.Image | Sequence[Image.Image] | None = None,
        strength: float = 1.0,
        **options: Any,
    ) -> Iterator[DenoisingStep]:
        """Step by step: from noise, from an image, or inside a mask. `decode(step.denoised)` shows what is there so far."""
        return self.denoise(prepare(self, prompt, Options(**options), image, mask, strength))

    def _draw(self, run: Run, progress: bool) -> list[Image.Image]:
        latents = run.latents
        for step in progress_bar(self.denoise(run), len(run.timesteps), progress):
            latents = step.latents
        pictures = self.decode(latents)
        for picture, settings in zip(pictures, run.settings):
            picture.info.update(settings)
        return pictures

    # ---- the loop

    @torch.no_grad()  # on a generator, it holds inside the loop only, not where the steps are used
    def denoise(self, run: Run) -> Iterator[DenoisingStep]:
        """The loop itself, over a run that `run.prepare` made."""
        x = run.latents
        for index, t in enumerate(run.timesteps):
            noise_pred = self._predict_noise(run, x, t)  # (b, 4, h, w)
            x, denoised = run.scheduler.step(noise_pred, t, x, generator=run.generators)
            if run.keep:
                x = run.keep(x, index)
            yield DenoisingStep(index, t.item(), run.scheduler.sigma_at(t).item(), x, denoised, noise_pred)

    def _predict_noise(self, run: Run, x: Tensor, t: Tensor) -> Tensor:
        x = run.scheduler.scale_model_input(x, t)
        if len(run.context) == 2 * len(x):
            x = torch.cat([x, x])  # (2 b, 4, h, w): without and with the prompt, in one pass
        answer = self.unet(x.to(self.dtype), t.float().to(self.device), run.context).float()
        if len(run.context) == len(run.latents):
            noise_pred = answer
        else:
            noise_pred = guide(*answer.chunk(2), run.guidance_scale, run.guidance_rescale)  # (b, 4, h, w)
        if not noise_pred.isfinite().all():
            self._explain_overflow(answer, t.item(), run.guidance_scale)
        return noise_pred


def progress_bar(things: Iterable[Any], total: int, show: bool, unit: str = "step") -> Iterable[Any]:
    """The things, with a bar on stderr that goes away if another one is above it. LDM_QUIET=1 turns all bars off."""
    if not show or os.environ.get("LDM_QUIET") == "1":
        return things
    from tqdm.auto import tqdm

    return tqdm(things, total=total, unit=unit, leave=None)


def load_pipeline(
    name_or_path: str | Path = "emoji",
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    revision: str | None = None,
) -> StableDiffusion:
    """A pipeline with its weights: "emoji", "sd15", a .safetensors file, a diffusers folder, or a hub id.

    device: None picks cuda, mps or cpu, whichever is there first. dtype: None is float32. revision: of a hub id.

    Raises:
        ValueError: a device or dtype that this machine does not have, an unknown name, or a damaged file (CheckpointError).
        OSError: no such file or folder (FileNotFoundError), or the hub could not be reached (HubError).
    """
    device, dtype = pick_device(device), as_dtype(torch.float32 if dtype is None else dtype)
    check_precision(device, dtype)
    path = resolve(name_or_path, revision)
    parts = load_checkpoint(path, device, dtype)
    vocab_size = parts.text_encoder.config.vocab_size
    tokenizer = parts.tokenizer or load_tokenizer(path, vocab_size)  # single files of others hold none
    name = path.resolve().name if path == Path(name_or_path).expanduser() else str(name_or_path)  # folders are private
    return StableDiffusion(parts.unet, parts.vae, parts.text_encoder, tokenizer, parts.scheduler, name)
