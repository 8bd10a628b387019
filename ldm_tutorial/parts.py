"""The networks of one model, and what each does by itself: words to states, pictures to latents, latents to pictures.

Shapes as in `pipeline.py`: (b, 4, h, w) latents, (b, 3, f h, f w) pixels, (b, 77, d) states of the text encoder.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from .checkpoints import pick_device
from .clip import CLIPTextModel
from .config import StableDiffusionConfig
from .images import to_images, to_tensor
from .options import as_dtype, check_precision, listed, side
from .prompts import tokenize
from .schedulers import DDIMScheduler, Scheduler
from .unet import UNet
from .vae import AutoencoderKL, DiagonalGaussian

if TYPE_CHECKING:
    from typing_extensions import Self


class Parts:
    """A text encoder with its tokenizer, a U-Net, an autoencoder and a scheduler. Raises ValueError if they do not fit."""

    def __init__(
        self,
        unet: UNet,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: Any,
        scheduler: Scheduler | None = None,
        name: str = "unnamed",
    ):
        self.unet, self.vae, self.text_encoder = unet.eval(), vae.eval(), text_encoder.eval()
        self.tokenizer = tokenizer
        self.scheduler = DDIMScheduler() if scheduler is None else scheduler
        self.name = name
        self._check_parts()

    @property
    def config(self) -> StableDiffusionConfig:
        return StableDiffusionConfig(self.vae.config, self.unet.config, self.text_encoder.config)

    @property
    def device(self) -> torch.device:
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
        return self

    def __repr__(self) -> str:
        size, dtype = self.unet.config.sample_size * self.vae.config.downsampling, str(self.dtype).removeprefix("torch.")
        return f"{type(self).__name__}({self.name!r}, {size}x{size} pictures, {dtype} on {self.device})"

    # ---- what they do

    @torch.no_grad()
    def encode_prompt(self, prompt: str | Sequence[str], argument: str = "prompt") -> Tensor:
        """What the U-Net reads: (b, 77, d), in the model's dtype. A prompt that is too long is cut with a UserWarning."""
        prompts = listed(prompt)
        distinct = list(dict.fromkeys(prompts))
        length = self.text_encoder.config.max_position_embeddings
        states = self.text_encoder(tokenize(self.tokenizer, distinct, length, argument).to(self.device))
        return states[[distinct.index(text) for text in prompts]]

    @torch.no_grad()
    def encode(
        self,
        image: Image.Image | Sequence[Image.Image] | Tensor,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
    ) -> Tensor:
        """Pictures, or a tensor (b, 3, f h, f w) in [-1, 1], to scaled latents, (b, 4, h, w), float32.

        With a CPU generator (or one per picture), a sample of what the autoencoder holds possible; without, the mean.
        """
        x = image if isinstance(image, Tensor) else torch.cat([to_tensor(i) for i in listed(image)])
        for name, pixels in zip(("height", "width"), x.shape[-2:]):
            side(name, pixels, self.vae.config.downsampling)

        def moments(vae: AutoencoderKL, dtype: torch.dtype) -> Tensor:
            posterior = vae.encode(x.float().to(self.device, dtype))
            return torch.cat([posterior.mean, posterior.logvar], dim=1).float()

        posterior = DiagonalGaussian.from_moments(self._finite(moments))
        z = posterior.mode() if generator is None else posterior.sample(generator)
        return z * self.vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, latents: Tensor) -> list[Image.Image]:
        """Scaled latents, (b, 4, h, w), to b pictures."""
        channels, f = self.vae.config.latent_channels, self.vae.config.downsampling
        if latents.ndim != 4 or latents.shape[1] != channels:
            raise ValueError(f"latents have shape {tuple(latents.shape)}, but must have (b, {channels}, h, w)")
        z = latents.float().to(self.device) / self.vae.config.scaling_factor
        at_once = max(1, 512 * 512 // (f * f * z.shape[-2] * z.shape[-1]))  # large pictures one by one, to spare memory
        return [
            picture
            for part in z.split(at_once)
            for picture in to_images(self._finite(lambda vae, dtype, part=part: vae.decode(part.to(dtype)).float()))
        ]

    def _finite(self, use: Callable[[AutoencoderKL, torch.dtype], Tensor]) -> Tensor:
        """`use(vae, dtype)`; where half precision overflows, as float16 may in the decoder, once more in float32."""
        x = use(self.vae, self.dtype)
        if not x.isfinite().all() and self.dtype != torch.float32:
            x = use(copy.deepcopy(self.vae).float(), torch.float32)
        if not x.isfinite().all():
            raise FloatingPointError("the autoencoder's output is not finite, nor can its input or its weights have been")
        return x

    def _explain_overflow(self, answer: Tensor, t: float, guidance_scale: float) -> None:
        if answer.isfinite().all():
            fix = f"guidance_scale={guidance_scale:g} is too large"
        elif self.dtype == torch.float16:
            fix = 'float16 ends at 65504; use pipe.to(dtype="bfloat16") or "float32"'
        else:
            fix = "the weights are damaged, or the latents that it started from"
        raise FloatingPointError(f"the predicted noise at timestep {t:g} is not finite: {fix}")

    def _check_parts(self) -> None:
        """Raises ValueError for parts that do not belong together."""
        config = self.config
        if config.unet.in_channels != config.vae.latent_channels:
            raise ValueError(
                f"the U-Net takes {config.unet.in_channels} channels, the latents have {config.vae.latent_channels}; "
                "9 are those of a U-Net for inpainting only, which is not supported"
            )
        if config.unet.cross_attention_dim != config.text_encoder.hidden_size:
            raise ValueError(
                f"the U-Net reads words of width {config.unet.cross_attention_dim}, "
                f"the text encoder writes {config.text_encoder.hidden_size}"
            )
        if self.tokenizer.eos_token_id != config.text_encoder.eos_token_id:
            raise ValueError(
                f"the tokenizer ends a prompt with token {self.tokenizer.eos_token_id}, "
                f"the text encoder expects {config.text_encoder.eos_token_id}"
            )
