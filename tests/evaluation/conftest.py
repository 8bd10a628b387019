"""A small museum: thirteen subjects in three styles, a judge that knows them, and pipelines that draw all too well, or badly."""

from dataclasses import replace

import pytest
import torch

from ldm_tutorial.data import STYLES, EmojiDataset
from ldm_tutorial.data.dataset import is_held_out
from ldm_tutorial.evaluation.judge import Judge, JudgeConfig, judge_loss, right_answers
from ldm_tutorial.evaluation.reference import Reference
from ldm_tutorial.images import to_images
from ldm_tutorial.pipeline import StableDiffusion
from ldm_tutorial.training.loop import learning_rate, set_learning_rate
from tests.training.small_world import TINY

SUBJECTS = 13


@pytest.fixture(scope="session")
def small_data():
    """Subjects from all over the data set, of which some pictures are held out; 64x64, which the tests' pipelines draw."""
    data = EmojiDataset("all", STYLES[:3], size=64)
    some = list(dict.fromkeys(entry.label for entry in data.entries if is_held_out(entry.label, entry.style)))
    chosen = set(some[:: len(some) // SUBJECTS][:SUBJECTS])
    data.entries = [entry for entry in data.entries if entry.label in chosen]
    return data


@pytest.fixture(scope="session")
def small_judge(small_data):
    """Trained on the undistorted pictures for a few seconds: it knows each of them, and little else."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        judge = Judge(JudgeConfig(tuple(small_data.subjects), STYLES, channels=(8, 12, 20), dimensions=16))
    right = right_answers(judge.config, small_data.entries)
    pictures = small_data.pictures.float() / 127.5 - 1
    optimizer = torch.optim.AdamW(judge.parameters())
    for step in range(80):
        set_learning_rate(optimizer, learning_rate(step, 80, peak=2e-2))
        loss = judge_loss(judge(pictures), *right)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return judge.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def reference(small_data, small_judge):
    return Reference(small_data, small_judge)


class FakePipe(StableDiffusion):
    """Draws pictures of the data set: `answer(prompt, seed)` says which. Its networks are real, and know nothing."""

    def __call__(self, prompt, *, seed=0, latents=None, num_images=1, progress=True, **options):
        if latents is not None:
            return super().__call__(prompt, seed=seed, latents=latents, progress=progress, **options)
        prompts = [prompt] * num_images if isinstance(prompt, str) else prompt
        seeds = seed if isinstance(seed, list) else [seed] * len(prompts)
        self.asked = [*getattr(self, "asked", []), *((p, s, tuple(sorted(options.items()))) for p, s in zip(prompts, seeds))]
        numbers = [self.answer(p, s) for p, s in zip(prompts, seeds)]
        return to_images(self.pictures[numbers].float() / 127.5 - 1)


@pytest.fixture
def make_pipe(small_data, tiny_tokenizer):
    """A function that makes a pipeline of 64x64 that answers as told."""
    text_encoder = replace(TINY.text_encoder, vocab_size=len(tiny_tokenizer), bos_token_id=-1, eos_token_id=-1)
    config = replace(TINY, text_encoder=text_encoder)

    def make(answer=lambda prompt, seed: seed):
        from ldm_tutorial.clip import CLIPTextModel
        from ldm_tutorial.unet import UNet
        from ldm_tutorial.vae import AutoencoderKL

        with torch.random.fork_rng():
            torch.manual_seed(0)
            networks = UNet(config.unet), AutoencoderKL(config.vae), CLIPTextModel(config.text_encoder)
            torch.nn.init.normal_(networks[0].conv_out.weight, std=0.3)
            torch.nn.init.normal_(networks[1].decoder.conv_out.weight, std=0.2)
        pipe = FakePipe(*networks, tiny_tokenizer, name="fake")
        pipe.answer = lambda prompt, seed: answer(prompt, seed) % len(small_data)
        pipe.pictures = small_data.pictures
        return pipe

    return make
