#!/usr/bin/env python3
"""Draw docs/instructor/images/mistakes_*.png: what the usual mistakes look like, for the page docs/instructor/mistakes.md.

python tools/draw_mistakes.py [-o FOLDER]. Two prompts, one seed, DDIM with 25 steps where nothing else is said; to be run again
when the weights change. Each mistake is one line that differs from the package's.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ldm_tutorial import load_pipeline
from ldm_tutorial.checkpoints.atomic import atomic_path
from ldm_tutorial.config import SD15
from ldm_tutorial.figures.grids import picture_grid
from ldm_tutorial.pipeline import StableDiffusion, guide
from ldm_tutorial.schedulers import DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler
from ldm_tutorial.schedulers.base import Step, randn
from ldm_tutorial.schedulers.ddpm import posterior

ROOT = Path(__file__).resolve().parent.parent
PROMPTS = ["a cat face in the style of noto", "a hamburger in the style of twemoji"]


# ---- the schedule


class OneMinusBeta(DDIMScheduler):
    """1 - β where ᾱ belongs: alphas in place of alphas_cumprod."""

    def set_timesteps(self, num_inference_steps, device=None):
        super().set_timesteps(num_inference_steps, device)
        alphas = 1 - self.betas[self.timesteps.long()]
        self.alpha_bars = torch.cat([alphas, 1 - self.betas[:1]]).float()


class OneTrainingStep(DDPMScheduler):
    """β of one training step where the whole stride is meant."""

    def step(self, model_output, t, x, generator=None):
        i = self.index_of(t)
        alpha_bar = self.alpha_bars[i].item()
        x0, _ = self.predict(model_output, x, alpha_bar)
        mean, variance = posterior(x0, x, alpha_bar, alpha_bar / (1 - self.betas[int(t)].item()))  # should be alpha_bars[i + 1]
        noise = randn(x.shape, generator, x.device, x.dtype) if i + 1 < len(self.timesteps) else 0.0
        return Step(mean + variance**0.5 * noise, x0)


# ---- noise that is added


class AddedNoise(DDPMScheduler):
    """DDPM whose added noise is multiplied by something else than its standard deviation."""

    def __init__(self, factor: Callable[[float], float]):
        super().__init__()
        self.factor = factor

    def step(self, model_output, t, x, generator=None):
        i = self.index_of(t)
        alpha_bar, alpha_bar_prev = self.alpha_bars[i : i + 2].tolist()
        x0, _ = self.predict(model_output, x, alpha_bar)
        mean, variance = posterior(x0, x, alpha_bar, alpha_bar_prev)
        noise = randn(x.shape, generator, x.device, x.dtype) if i + 1 < len(self.timesteps) else 0.0
        return Step(mean + self.factor(variance) * noise, x0)  # should be variance ** 0.5


class NoRoom(DDIMScheduler):
    """η = 1, and the old noise is kept whole: "- variance" is missing under the root."""

    def step(self, model_output, t, x, generator=None):
        alpha_bar, alpha_bar_prev = self.alpha_bars[self.index_of(t) :][:2].tolist()
        x0, eps = self.predict(model_output, x, alpha_bar)
        variance = (1 - alpha_bar_prev) / (1 - alpha_bar) * (1 - alpha_bar / alpha_bar_prev)
        x_prev = alpha_bar_prev**0.5 * x0 + (1 - alpha_bar_prev) ** 0.5 * eps
        return Step(x_prev + variance**0.5 * randn(x.shape, generator, x.device, x.dtype), x0)


# ---- Euler's scale and end


class Unscaled(EulerDiscreteScheduler):
    """The network is shown x as it is, and not x / sqrt(σ² + 1)."""

    def scale_model_input(self, x, t):
        return x


class SmallStart(EulerDiscreteScheduler):
    """Starts from noise of standard deviation 1, and not from the highest level."""

    @property
    def init_noise_sigma(self):
        return 1.0


class NoEnd(EulerDiscreteScheduler):
    """The list of levels ends with the lowest level, and not with 0."""

    def set_timesteps(self, num_inference_steps, device=None):
        super().set_timesteps(num_inference_steps, device)
        self.sigmas[-1] = self.sigmas[-2]


# ---- guidance


class Guided(StableDiffusion):
    """A pipeline whose guidance is another function of the two predictions."""

    rule: Callable[[Tensor, Tensor, float], Tensor] = staticmethod(guide)

    def _predict_noise(self, run, x, t):
        x = run.inputs.scheduler.scale_model_input(x, t)
        without, with_prompt = self.unet(torch.cat([x, x]), t.float().to(self.device), run.context).chunk(2)
        return self.rule(without, with_prompt, run.inputs.options.guidance_scale)


RULES = {
    "halves swapped": lambda without, with_prompt, scale: guide(with_prompt, without, scale),
    "no parentheses": lambda without, with_prompt, scale: without + scale * with_prompt - without,
    "with the prompt only": lambda without, with_prompt, scale: with_prompt,
}


def sheets(pipe: StableDiffusion) -> dict[str, dict[str, list[Image.Image]]]:
    """For each sheet: column -> a picture of each prompt. The first column is as it should be."""

    def drawn(scheduler, steps: int = 25, by: StableDiffusion = pipe, **options) -> list[Image.Image]:
        return by(PROMPTS, scheduler=scheduler, steps=steps, seed=[0] * len(PROMPTS), **options)

    *_, last = pipe.stream(PROMPTS, steps=25, seed=[0] * len(PROMPTS))
    scale, right = pipe.vae.config.scaling_factor, pipe.decode(last.latents)
    guided = {"right": right}
    for name, rule in RULES.items():
        broken = Guided(pipe.unet, pipe.vae, pipe.text_encoder, pipe.tokenizer, pipe.scheduler)
        broken.rule = rule
        guided[name] = drawn(DDIMScheduler(), by=broken)
    return {
        "scale": {
            "right": right,
            "not divided": pipe.decode(last.latents * scale),
            "v1.5's factor": pipe.decode(last.latents * scale / SD15.vae.scaling_factor),
        },
        "schedule": {
            "right": right,
            "1 - β for ᾱ": drawn(OneMinusBeta()),
            "β on a line": drawn(DDIMScheduler(beta_schedule="linear")),
            "cosine": drawn(DDIMScheduler(beta_schedule="cosine")),
            "DDPM": drawn(DDPMScheduler()),
            "β of one step": drawn(OneTrainingStep()),
        },
        "noise": {
            "DDPM": drawn(DDPMScheduler()),
            "no noise": drawn(AddedNoise(lambda variance: 0.0)),
            "no root": drawn(AddedNoise(lambda variance: variance)),
            "DDIM, η = 1": drawn(DDIMScheduler(eta=1.0)),
            "no room": drawn(NoRoom(eta=1.0)),
        },
        "euler": {
            "right": drawn(EulerDiscreteScheduler()),
            "input not scaled": drawn(Unscaled()),
            "start not scaled": drawn(SmallStart()),
            "no end, 12 steps": drawn(NoEnd(timestep_spacing="trailing"), steps=12),
        },
        "guidance": {**guided, "scale 20": drawn(DDIMScheduler(), guidance_scale=20.0)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs" / "instructor" / "images")
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    for name, columns in sheets(load_pipeline("emoji")).items():
        figure = picture_grid(list(zip(*columns.values())), list(columns), ["cat face", "hamburger"], shown=128)
        with atomic_path(folder / f"mistakes_{name}.png") as path:
            figure.savefig(path, format="png", metadata={"Software": None})


if __name__ == "__main__":
    main()
