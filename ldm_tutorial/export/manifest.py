"""model.json: what a reader of the exported files must know of the model, so that nothing about it is written twice."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from .. import __version__
from ..inputs import Options, choose_scheduler, scheduler_name
from ..schedulers import COURSE, SCHEDULERS, DiffusionScheduler
from .characters import characters_of

if TYPE_CHECKING:
    from ..pipeline import StableDiffusion

FILE = "model.json"
FORMAT = 1  # of model.json itself: raised when a reader of the old one would go wrong


def file_entry(name: str, data: bytes) -> dict[str, Any]:
    """What the manifest says of a file: its name, its size in bytes and its SHA-256."""
    return {"file": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def manifest_of(pipe: StableDiffusion, files: Mapping[str, Any], subjects: Sequence[str], styles: Sequence[str]) -> str:
    """The text of model.json. All sizes are of one picture of the size that the model was trained on.

    Raises ValueError for a model that was not trained by diffusion: the page has no other schedulers.
    """
    config, f = pipe.config, pipe.vae.config.downsampling
    side = config.unet.sample_size
    networks = {"text_encoder": pipe.text_encoder, "unet": pipe.unet, "vae": pipe.vae, "vae_decoder": pipe.vae.decoder}
    if not isinstance(pipe.scheduler, DiffusionScheduler):
        raise ValueError(f"the page draws with {', '.join(COURSE)}, not with the model's {type(pipe.scheduler).__name__}")
    own = pipe.own_arguments({})  # of a distilled model
    asked = {name: own["scheduler_options"] if name == own.get("scheduler") else None for name in COURSE}  # those of the page
    choices = {
        name: choose_scheduler(pipe.scheduler, Options(scheduler=name, scheduler_options=options))
        for name, options in asked.items()
    }
    call = inspect.signature(type(pipe).__call__).parameters
    defaults = {name: own.get(name, call[name].default) for name in ("steps", "guidance_scale", "negative_prompt")}
    manifest = {
        "format": FORMAT,
        "name": pipe.name,
        "software": f"ldm_tutorial {__version__}",
        "files": files,
        "parameters": {name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()},
        "config": {name: getattr(config, name).to_dict() for name in ("text_encoder", "unet", "vae")},
        "tokens": config.text_encoder.max_position_embeddings,
        "states": [config.text_encoder.max_position_embeddings, config.text_encoder.hidden_size],
        "latents": [config.unet.in_channels, side, side],
        "picture": [config.vae.out_channels, f * side, f * side],
        "scaling_factor": config.vae.scaling_factor,
        "scheduler": own.get("scheduler", scheduler_name(pipe.scheduler)),
        "schedulers": {
            name: {"title": SCHEDULERS[name].label.title, **scheduler.to_config()} for name, scheduler in choices.items()
        },
        "betas": pipe.scheduler.betas.tolist(),
        "alphas_cumprod": pipe.scheduler.alphas_cumprod.tolist(),
        "defaults": defaults,
        "characters": characters_of(pipe.tokenizer.backend_tokenizer),
        "prompts": {"subjects": list(subjects), "styles": list(styles)},
        "check": check_of(pipe),
    }
    return json.dumps(manifest, ensure_ascii=False)


@torch.no_grad()
def check_of(pipe: StableDiffusion) -> dict[str, Any]:
    """Numbers that a reader can compute once, to see whether its machine computes rightly: graphics drivers sometimes do not.

    `pixels` are 64 values of the decoded output of the U-Net at `timestep`, without a prompt, to the latents sin(0), sin(1), ...
    """
    channels, side = pipe.config.unet.in_channels, pipe.config.unet.sample_size
    latents = torch.arange(channels * side * side, dtype=torch.float64).sin().float().reshape(1, channels, side, side)
    timestep = 500
    noise = pipe.unet(latents, torch.tensor([float(timestep)]), pipe.encode_prompt(""))  # (1, 4, h, w)
    pixels = pipe.vae.decode(noise / pipe.vae.config.scaling_factor)  # (1, 3, f h, f w)
    return {"timestep": timestep, "pixels": pixels.flatten()[:64].tolist()}
