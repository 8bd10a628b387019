"""What the three trainings on your own pictures share: the pictures and what is mixed in with them, the options, the loop.

    finetune.py   all weights of the U-Net            ldm-tutorial train unet --data FOLDER
    lora.py       matrices of low rank beside them    ldm-tutorial train lora --data FOLDER
    word.py       the vector of one new word          ldm-tutorial train word --data FOLDER --word "<mine>"

The objective is that of the U-Net's own training (objective.py, recipes.py), and so are its random numbers and its folder
(loop.py): killed and begun again, each of them goes on bit for bit.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.attention import sdpa_kernel

from ..checks import real_number
from ..config import EMOJI
from ..data import EmojiDataset
from ..data.own_pictures import OwnPictures, read_own_pictures
from ..images import resize, save_image, to_tensor
from ..pipeline import StableDiffusion, load_pipeline
from ..schedulers import scheduler_alike
from .compute import Compute
from .diffusion import attention_kernels, encode_captions, encode_pictures
from .examples import digest_of, read_kept, write_kept
from .loop import TrainingRun, add_common_arguments, batch_indices, learning_rate, set_learning_rate, step_generator
from .recipes import RecipeObjective, add_recipe_arguments, recipe_of
from .sheets import contact_sheet

MIXED_IN = 512  # emoji at most, chosen by the seed: enough to remember by, few enough to be encoded in seconds
EMOJI_SHARE = 0.25  # of a batch, where the model is one of emoji
SAMPLES = 6  # pictures on a sample sheet


def add_own_arguments(parser: argparse.ArgumentParser, what: str, steps: int, peak: float) -> None:
    """The options that the three have. `what`: the name of the folder, below runs."""
    add_common_arguments(parser, steps, batch_size=8, peak=peak)
    parser.set_defaults(folder=Path("runs") / what, sample_every=200, save_every=100, log_every=10)
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="at least five pictures; their captions in metadata.csv, captions.txt, a .txt beside each, or their names",
    )
    parser.add_argument("--model", default="emoji", help="the model to begin with: emoji, sd15, a file, a folder or a hub id")
    parser.add_argument(
        "--emoji-share",
        type=float,
        metavar="SHARE",
        help=f"share of emoji in each batch, against forgetting (default: {EMOJI_SHARE}; 0 for a word, or another model)",
    )
    add_recipe_arguments(parser)


def load_model(args: argparse.Namespace, compute: Compute) -> StableDiffusion:
    """The model to begin with, in float32, its weights frozen. Raises ValueError for one that does not predict noise."""
    pipe = load_pipeline(args.model, device=compute.device, dtype="float32")
    if pipe.scheduler.prediction_type != "epsilon":
        raise ValueError(f"--model {args.model} predicts {pipe.scheduler.prediction_type}; only the noise can be trained here")
    for network in (pipe.unet, pipe.vae, pipe.text_encoder):
        network.requires_grad_(False)
    return pipe


# ---- what is learned from


@dataclass(frozen=True)
class OwnExamples:
    """The posterior of each picture, unscaled, (n, 4, h, w) twice, and its captions. The first `own` are yours, then emoji."""

    mean: Tensor
    std: Tensor
    captions: list[tuple[str, ...]]
    own: int

    def batch(self, batch_size: int, share: float, step: int, seed: int) -> Tensor:
        """The pictures of this step, (batch_size,): yours, and `share` of it emoji, mixed. Each in an endless chain of shuffles.

        Mixed, since the timesteps of a batch rise from its first picture to its last (objective.sample_timesteps).
        """
        others = round(share * batch_size) if len(self.captions) > self.own else 0
        yours = batch_indices(self.own, batch_size - others, step, seed)
        if not others:
            return yours
        both = torch.cat([yours, self.own + batch_indices(len(self.captions) - self.own, others, step, seed + 1)])
        return both[batch_indices(batch_size, batch_size, step, seed + 2)]


def share_of_emoji(args: argparse.Namespace, pipe: StableDiffusion) -> float:
    """`--emoji-share`, or what suits the model. Raises ValueError for what is no share, or leaves none of your pictures."""
    ours = pipe.text_encoder.config.vocab_size == EMOJI.text_encoder.vocab_size
    share = real_number("--emoji-share", (EMOJI_SHARE if ours else 0.0) if args.emoji_share is None else args.emoji_share, 0, 1)
    if round(share * args.batch_size) >= args.batch_size:
        raise ValueError(f"--emoji-share {share:g} of --batch-size {args.batch_size} leaves none of your own pictures in it")
    return share


def make_own_examples(
    pipe: StableDiffusion, own: OwnPictures, captions: Sequence[str], emoji: EmojiDataset | None, kept: Path
) -> OwnExamples:
    """Your pictures with these captions, and the emoji, encoded. The file `kept` spares the work the next time."""
    size = own.pictures.shape[-1]
    pictures = [own.pictures]
    rows: list[tuple[str, ...]] = [(caption, caption) for caption in captions]  # in full, and as a label
    if emoji is not None:
        pictures.append(resize(emoji.pictures, size))
        rows += [entry.captions[:3] for entry in emoji.entries]
    posterior = encode_once(pipe, torch.cat(pictures), kept)
    return OwnExamples(posterior["mean"], posterior["std"], rows, len(own))


def encode_once(pipe: StableDiffusion, pictures: Tensor, kept: Path) -> dict[str, Tensor]:
    """Mean and standard deviation of the posteriors, (n, 4, h, w).

    Those of the file `kept`, if it is of these pictures and this autoencoder's weights; else they are computed and kept there.
    """
    described = f"encoder {digest_of(pipe.vae)}, pictures {hashlib.sha256(pictures.numpy().tobytes()).hexdigest()}"
    tensors = read_kept(kept, described)
    if not tensors:
        gaussian = encode_pictures(pipe.vae, pictures.to(pipe.device))
        tensors = {"mean": gaussian.mean.cpu(), "std": gaussian.std.cpu()}
        write_kept(kept, tensors, described)
    return tensors


def some_emoji(count: int, seed: int) -> EmojiDataset:
    """So many pictures of the training's part of the data set, chosen by the seed."""
    data = EmojiDataset("train")
    chosen = torch.randperm(len(data.entries), generator=torch.Generator().manual_seed(seed))[:count]
    data.entries = [data.entries[i] for i in sorted(chosen.tolist())]
    return data


class LiveStates:
    """The text embeddings of captions while the text encoder learns: computed at each step, with gradients.

    It is asked as the table of embeddings would be: `states[numbers]` is (n, 77, d), `states[0]` (77, d).
    """

    def __init__(self, pipe: StableDiffusion, captions: list[str]):
        self.text_encoder = pipe.text_encoder
        spelled = [pipe.dictionary.spell_out(caption) for caption in captions]
        length = pipe.text_encoder.config.max_position_embeddings
        rows = pipe.tokenizer(spelled, padding="max_length", max_length=length, truncation=True)
        self.ids = torch.tensor(rows.input_ids, device=pipe.device)  # (n, 77)

    def __getitem__(self, numbers: Tensor | int) -> Tensor:
        ids = self.ids[numbers]
        if ids.ndim == 1:
            return self.text_encoder(ids[None])[0]
        distinct, index = ids.unique(dim=0, return_inverse=True)
        return self.text_encoder(distinct)[index]


# ---- the loop


def learn_from_pictures(
    args: argparse.Namespace,
    compute: Compute,
    pipe: StableDiffusion,
    learner: nn.Module,
    name: str,
    live: bool = False,
    recaption: Callable[[str], str] = str,
) -> TrainingRun:
    """Train the parameters of `learner`, which is a part of `pipe` or hangs on it, on the pictures of `--data`.

    live: whether they change the text encoder. recaption: the caption of a picture from the one in the folder.
    Raises ValueError or FileNotFoundError for options and pictures that cannot be used, before anything is written.
    """
    recipe, mine, share = recipe_of(args), compute.mine(args.batch_size), share_of_emoji(args, pipe)
    own = read_own_pictures(args.data, pipe.unet.config.sample_size * pipe.vae.config.downsampling)
    captions = [recaption(caption) for caption in own.captions]
    folder = args.folder / "training" / name
    emoji = some_emoji(MIXED_IN, args.seed) if share else None
    examples = make_own_examples(pipe, own, captions, emoji, folder / "examples.safetensors")

    dtype = compute.dtype
    tables = partial(encode_captions, pipe.tokenizer, pipe.text_encoder, device=compute.device, dtype=dtype)
    encode = cast("Callable[[list[str]], Tensor]", partial(LiveStates, pipe) if live else tables)
    schedule = scheduler_alike(pipe.scheduler, "ddpm")
    objective = RecipeObjective(recipe, compute, schedule, examples.captions, encode)

    weights = [weight for weight in learner.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, betas=(0.9, 0.99), weight_decay=0.01)
    state: dict[str, Any] = {name: learner, "optimizer": optimizer, **compute.state}
    run = TrainingRun(folder, state, args.steps, compute.is_main, args.save_every)
    kernels = attention_kernels(compute.device)

    for step in run.steps():
        objective.recipe = recipe.at(step / args.steps)
        indices = examples.batch(args.batch_size, share, step, args.seed)
        draws = objective.draw(indices, examples.mean.shape[1:], step_generator(args.seed, step))

        mean, std = (compute.put(moments[indices[mine]]) for moments in (examples.mean, examples.std))
        latents = mean + std * compute.put(draws.encoding[mine])
        latents = latents * pipe.vae.config.scaling_factor  # (n, 4, h, w), of unit variance
        with compute.autocast(), sdpa_kernel(kernels):
            batch = objective.ask(latents, draws, mine)
            loss, mse = objective.loss(pipe.unet, batch, pipe.unet)

        optimizer.zero_grad()
        compute.backward(loss)
        set_learning_rate(optimizer, learning_rate(step, args.steps, args.learning_rate))
        compute.step(optimizer, max_norm=1.0)

        if (step + 1) % args.log_every == 0:
            run.log(**compute.mean({"loss": loss, "mse": mse}), learning_rate=optimizer.param_groups[0]["lr"])
        if (step + 1) % args.sample_every == 0 and compute.is_main:
            save_image(sample_sheet(pipe, captions), run.sample_path())
    return run


def sample_sheet(pipe: StableDiffusion, captions: Sequence[str]) -> Any:
    """A sheet of the first captions for a look on the way, each from the noise of its own seed."""
    prompts = list(dict.fromkeys(captions))[:SAMPLES]
    pictures = pipe(prompts, seed=list(range(len(prompts))), progress=False)
    return contact_sheet([torch.cat([to_tensor(picture) for picture in pictures])], columns=len(pictures))
