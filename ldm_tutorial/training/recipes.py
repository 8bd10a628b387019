"""What pays beside equation 3: how the shipped U-Net was trained.

docs/model_card.md says what each option gave, and what was tried and did not pay.
A `Recipe` holds the options, `RECIPES` those that have a name, and `RecipeObjective` says what each of them changes.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..schedulers import DiffusionScheduler
from .objective import Batch, Draws, Objective, sample_timesteps
from .wording import choose_words, without_article


def recipe_field(default: Any, text: str) -> Any:
    """A field of `Recipe`, with its line in `ldm-tutorial train unet --help`."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class Recipe:
    """The options of the U-Net's training. `Recipe()` is equation 3.

    Raises ValueError for shares that are not between 0 and 1 or add up to more, and for weights below 0.
    """

    caption_dropout: float = recipe_field(0.1, "how often a caption is replaced by the empty one")
    late_dropout: float | None = recipe_field(
        None, "the same at timestep 0; it changes gradually with the timestep (default: no change)"
    )
    first_caption: float = recipe_field(1.0, "how often a picture gets its full caption and no tag")
    bare_caption: float = recipe_field(0.0, "how often a picture gets its full caption without the article")
    label_caption: float = recipe_field(0.0, "how often a picture gets its label alone")
    timestep_power: float = recipe_field(1.0, "1: all timesteps equally often; below 1: more of them at high noise")
    min_snr_gamma: float = recipe_field(math.inf, "the largest weight of an error in the predicted picture; inf: no limit")
    snr_offset: float = recipe_field(0.0, "1: errors at high noise are weighted as for the velocity; 0: as for the noise")
    distill_empty: bool = recipe_field(False, "without a prompt, learn what the average of the weights predicts with it")
    agree: float = recipe_field(0.0, "weight of the difference of the predictions with and without a prompt")
    agree_below: float = recipe_field(300.0, "the timestep up to which this difference should be 0")
    agree_from: float = recipe_field(0.0, "the share of the training after which --agree and --late-dropout begin")

    def __post_init__(self) -> None:
        for name in ("caption_dropout", "late_dropout", "first_caption", "bare_caption", "label_caption", "agree_from"):
            share = getattr(self, name)
            if share is not None and not 0 <= share <= 1:
                raise ValueError(f"{flag(name)}: a share from 0 to 1, not {share:g}")
        if (total := self.first_caption + self.bare_caption + self.label_caption) > 1 + 1e-9:
            names = ", ".join(map(flag, ("first_caption", "bare_caption", "label_caption")))
            raise ValueError(f"{names}: shares of one whole, but they add up to {total:g}")
        for name in ("timestep_power", "min_snr_gamma", "agree_below"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{flag(name)}: above 0, not {getattr(self, name):g}")
        for name in ("snr_offset", "agree"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{flag(name)}: 0 or more, not {getattr(self, name):g}")

    def without_agreement(self) -> Recipe:
        """The same without the rows that `agree` adds, and with one caption dropout at all timesteps."""
        return replace(self, agree=0.0, late_dropout=None)

    def at(self, done: float) -> Recipe:
        """The recipe of a step, after this share of the training, 0 ... 1.

        The added rows make a step of `agree` half as long again, and guidance needs them at the end only.
        """
        return self if done >= self.agree_from else self.without_agreement()


RECIPES = {
    # The paper's.
    "plain": Recipe(),
    # From random weights on: high noise counts more, for there the words decide what will be in the picture.
    "words": Recipe(first_caption=0.85, timestep_power=0.5, min_snr_gamma=5.0, snr_offset=1.0),
    # The last stage: short prompts, and guidance that does no harm where the latents show the picture already.
    "agree": Recipe(
        late_dropout=0.5,
        first_caption=0.45,
        bare_caption=0.1,
        label_caption=0.2,
        timestep_power=0.75,
        min_snr_gamma=5.0,
        snr_offset=1.0,
        agree=10.0,
    ),
}
DEFAULT = "words"


def min_snr_weight(alphas_cumprod: Tensor, timesteps: Tensor, gamma: float = 5.0, offset: float = 0.0) -> Tensor:
    """min(SNR + offset, gamma) / SNR: nearly clean latents count less, for their noise says little. (b,) -> (b,)

    offset 0 is Hang et al. 2023, section 3.4. With offset 1, and below gamma, the error counts as if it were one of the velocity
    (Salimans and Ho 2022, section 4): nearly pure noise counts more, for there the words decide what the picture shows.
    """
    alpha_bar = alphas_cumprod[timesteps]
    snr = alpha_bar / (1 - alpha_bar)
    return (snr + offset).clamp(max=gamma) / snr


def dropout_rate(timesteps: Tensor, num_train_timesteps: int, early: float, late: float) -> Tensor:
    """How often the caption is dropped: `early` in pure noise (t = T), `late` in clean latents (t = 0). (b,) -> (b,)

    Guidance of scale w makes (1 - w) u + w c of the predictions without a prompt, u, and with it, c (Ho and Salimans 2022,
    equation 6). It multiplies the error of u by w - 1, almost as much as that of c. Where the latents show the picture already,
    u and c should agree, and what differs is error: there, `late` = 0.5 trains both alike.
    """
    return late + (early - late) * (timesteps / num_train_timesteps) ** 2


def agreement_weight(timesteps: Tensor, below: float) -> Tensor:
    """1 for timesteps up to `below`, then falling to 0 at 1.5 times `below`: where the text adds nothing. (b,) -> (b,)

    There the latents show which picture it is, so the right prediction is the same with and without the prompt. Guidance of scale
    w takes w - 1 times the difference between the two: where they agree it does nothing, and that is what it should do.
    """
    return ((1.5 * below - timesteps) / (0.5 * below)).clamp(0, 1)


@torch.no_grad()
def answer_with_words(average: nn.Module, noisy: Tensor, timesteps: Tensor, context: Tensor) -> Tensor:
    """What the average predicts with a prompt: the target of a row without one. (b, 4, h, w) -> the same

    The best prediction without a prompt is the mean of those with a prompt, over all that such latents could have: E[ε | x_t] =
    E[ E[ε | x_t, y] | x_t ], the law of total expectation. So the goal is the same as with the noise that was added, nearer to
    the mean, and the two predictions err alike: guidance multiplies their difference.
    """
    return average(noisy, timesteps, context).float()


def squared_error(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference, for each row: (n, 4, h, w) twice -> (n,)"""
    return ((a - b) ** 2).mean(dim=(1, 2, 3))


@dataclass(frozen=True, eq=False)
class PairedBatch(Batch):
    """A batch that knows which of its rows have no prompt.

    With `agree` those rows stand at its end, beside the same latents with their captions; otherwise they take their place.
    """

    silent: Tensor  # (p,): the rows without a prompt
    paired: Tensor  # (p,): the same latents with a prompt; without `agree`, `silent` itself
    captions: Tensor  # (p, 77, d): the words that those rows do not get
    rows: float  # how many rows a process has, in the mean over all processes


class RecipeObjective(Objective):
    """Equation 3 with the options of a recipe."""

    def __init__(self, recipe: Recipe, *args: Any):
        super().__init__(*args)
        self.recipe = recipe

    def vocabulary(self, captions: Iterable[Sequence[str]]) -> set[str]:
        """Also the full captions without their articles."""
        captions = list(captions)
        return super().vocabulary(captions) | {without_article(row[0]) for row in captions}

    def choose_timesteps(self, batch_size: int, generator: torch.Generator) -> Tensor:
        """Those at high noise more often, with `timestep_power` below 1."""
        return sample_timesteps(batch_size, self.num_train_timesteps, generator, self.recipe.timestep_power)

    def choose_captions(self, indices: Sequence[int], generator: torch.Generator) -> list[str]:
        """The shares of the recipe, so that a label, a tag, or a caption without its article is understood too."""
        shares = self.recipe.first_caption, self.recipe.bare_caption, self.recipe.label_caption
        return choose_words([tuple(self.captions[i]) for i in indices], generator, *shares)

    def dropout_rate(self, timesteps: Tensor) -> Tensor:
        """From `caption_dropout` in pure noise to `late_dropout` in clean latents."""
        early, late = self.recipe.caption_dropout, self.recipe.late_dropout
        return dropout_rate(timesteps, self.num_train_timesteps, early, early if late is None else late)

    def weights(self, timesteps: Tensor) -> Tensor:
        """min-SNR."""
        assert isinstance(self.schedule, DiffusionScheduler)
        return min_snr_weight(self.schedule.alphas_cumprod, timesteps, self.recipe.min_snr_gamma, self.recipe.snr_offset)

    def ask(self, latents: Tensor, draws: Draws, mine: slice) -> PairedBatch:
        """With `agree`, the rows without a prompt are added to those with one."""
        agree = self.recipe.agree > 0
        batch = super().ask(latents, draws._replace(dropped=draws.dropped & (not agree)), mine)
        dropped = self.compute.put(draws.dropped[mine].nonzero().squeeze(1))  # (p,)
        silent, rows, values = dropped, float(len(latents)), vars(batch)
        if agree:
            values = {name: torch.cat([x, x[dropped]]) for name, x in values.items()}
            silent = torch.arange(len(latents), len(latents) + len(dropped), device=dropped.device)
            values["context"][silent] = self.states[0]
            rows *= 1 + draws.dropped.sum().item() / len(draws.dropped)
        captions = self.states[self.compute.put(draws.captions[mine])[dropped]]
        return PairedBatch(**values, silent=silent, paired=dropped, captions=captions, rows=rows)

    def loss(self, unet: nn.Module, batch: Batch, average: nn.Module) -> tuple[Tensor, Tensor]:
        """With `distill_empty`, rows without a prompt learn the average's prediction; with `agree`, a pair should agree."""
        assert isinstance(batch, PairedBatch)
        target, silent = batch.target, batch.silent
        if self.recipe.distill_empty and len(silent):
            target = target.clone()
            target[silent] = answer_with_words(average, batch.noisy[silent], batch.timesteps[silent], batch.captions)
        answers = unet(batch.noisy, batch.timesteps, batch.context).float()
        losses = squared_error(answers, target)  # (n,)
        loss = (losses * batch.weights).sum() / batch.rows
        if self.recipe.agree:
            apart = squared_error(answers[batch.paired], answers[silent])  # (p,)
            shared = agreement_weight(batch.timesteps[silent], self.recipe.agree_below)
            loss = loss + (apart * (self.recipe.agree * batch.weights[silent] * shared)).sum() / batch.rows
        return loss, losses.sum() / batch.rows


# ---- the command line


def flag(name: str) -> str:
    """The name of a field as an option of the command line: "--first-caption"."""
    return f"--{name.replace('_', '-')}"


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """`--recipe`, and one option for each field, which takes precedence over it."""
    group = parser.add_argument_group("recipe")
    group.add_argument(
        "--recipe", choices=RECIPES, default=DEFAULT, help=f"where the options below take their values from (default: {DEFAULT})"
    )
    for f in fields(Recipe):
        kind: dict[str, Any] = {"action": "store_true", "default": None} if isinstance(f.default, bool) else {"type": float}
        usual, told = getattr(RECIPES[DEFAULT], f.name), f.metadata["help"]
        told = told if usual is None or isinstance(f.default, bool) else f"{told} (in {DEFAULT}: {usual:g})"
        group.add_argument(flag(f.name), help=told, **kind)


def recipe_of(args: argparse.Namespace) -> Recipe:
    """The recipe that the arguments ask for."""
    asked = {f.name: getattr(args, f.name) for f in fields(Recipe)}
    return replace(RECIPES[args.recipe], **{name: value for name, value in asked.items() if value is not None})
