"""Networks with what is added to them, by names: what a pipeline loads, scales, merges into the weights, and takes away again."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from ..clip import CLIPTextModel
from ..schedulers import Scheduler, scheduler_alike
from ..schedulers.few_steps import FewSteps
from ..unet import UNet
from .lora import LoRA, find_layer
from .lora_files import read_lora
from .words import Dictionary, Word, read_word

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

N = TypeVar("N", bound=nn.Module)


def on_same_weights(network: N) -> N:
    """A second network whose weights are the same numbers in memory, without the hooks of the first.

    network: one that is made from its `config` alone, such as a `UNet`.
    """
    with torch.device("meta"):  # without memory of its own
        other = type(network)(network.config)
    other.load_state_dict(network.state_dict(), assign=True)
    return other.train(network.training)


def lora_on_same_weights(lora: LoRA) -> LoRA:
    """A second LoRA of the same matrices in memory, with a scale of its own; not attached."""
    matrices = {id(p): nn.Parameter(p.detach(), requires_grad=p.requires_grad) for p in lora.parameters()}
    return LoRA(copy.deepcopy(lora.by_name(), dict(matrices)), lora.scale, lora.few_steps).train(lora.training)


class Adapted:
    """A U-Net and a text encoder with LoRAs and words, each by its name. The networks themselves stay as they are.

    scheduler: how the model is drawn with by itself, which a LoRA may change, too.
    loras: those that are loaded. `pipe.loras["blueprint"].scale` says how much of one is taken.
    dictionary: the words that are loaded. `tokenizer` is that with them.
    """

    def __init__(self, unet: UNet, text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer, scheduler: Scheduler) -> None:
        self.unet, self.text_encoder, self.tokenizer, self.scheduler = unet, text_encoder, tokenizer, scheduler
        self.loras: dict[str, LoRA] = {}
        self.dictionary = Dictionary(tokenizer, text_encoder)

    @property
    def networks(self) -> dict[str, nn.Module]:
        """Those that a LoRA may change."""
        return {"unet": self.unet, "text_encoder": self.text_encoder}

    def load_lora(self, path: str | Path, scale: float = 1.0, name: str | None = None) -> LoRA:
        """Draw with the LoRA of a .safetensors file, in diffusers' or kohya's names, beside those that are loaded already.

        scale: how much of it, 0 ... 1 as a rule. name: in `loras`; None: that of the file, without its ending.
        That of a distilled model (`train distill`) changes what `pipe(...)` does by itself: its own few steps, no guidance.
        Raises ValueError for a name that is taken, a wrong scale, a second distilled one, or one that does not predict what the
        model does, else as `adapters.read_lora`; then nothing has changed.
        """
        name = Path(path).stem if name is None else name
        if name in self.loras:
            raise ValueError(f"a LoRA named {name!r} is loaded already; unload_lora({name!r}) first, or give another name")
        lora = read_lora(path, self.networks, scale)
        few_steps = (each.few_steps for each in self.loras.values() if each.few_steps is not None)
        other = next(few_steps, self.scheduler.few_steps)  # one at scale 0, too: its scale may be changed
        if lora.few_steps is not None and other is not None:
            raise ValueError(f"{path} is of a distilled model, and so is what this pipeline has already: {other}")
        if lora.few_steps is not None and self.scheduler.prediction_type != "epsilon":
            raise ValueError(
                f"{path} is of a distilled model that predicts noise; this one predicts {self.scheduler.prediction_type}"
            )
        self.loras[name] = lora.attach(self.networks)
        return lora

    def unload_lora(self, name: str | None = None) -> None:
        """Draw without this LoRA, or without any: as before, bit for bit. Raises ValueError for a name that is not loaded."""
        for each in self._named_loras(name):
            self.loras.pop(each).detach()

    def merge_lora(self, name: str | None = None) -> None:
        """Put this LoRA, or all, into the weights, at its scale and for good: `save_checkpoint` then writes a model with it.

        That of a distilled model leaves it a scheduler that says so. Pipelines that share the weights keep those of before.
        """
        for each in self._named_loras(name):
            lora = self.loras.pop(each)
            for layer in lora.names:
                weight = find_layer(self.networks, layer).weight
                weight.data = weight.data.clone()
            lora.merge(self.networks)
            if lora.few_steps is not None and lora.scale:
                drawn_with = lora.few_steps.arguments
                self.scheduler = scheduler_alike(self.scheduler, drawn_with["scheduler"], **drawn_with["scheduler_options"])
                self.scheduler.few_steps = lora.few_steps

    def adapt_like(self, other: Adapted) -> None:
        """Load what is loaded there, without copying it: the same LoRAs at the same scales, and the same words.

        For networks with the weights of `other` that have nothing loaded yet.
        """
        self.loras = {name: lora_on_same_weights(lora).attach(self.networks) for name, lora in other.loras.items()}
        self.dictionary = other.dictionary.beside(self.text_encoder)

    @property
    def few_steps(self) -> FewSteps | None:
        """In how many steps the model draws, if it is a distilled one: by its own scheduler, or by a LoRA of a scale above 0."""
        said = (lora.few_steps for lora in self.loras.values() if lora.scale and lora.few_steps is not None)
        return next(said, self.scheduler.few_steps)

    def own_arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """What a distilled model puts in the place of the usual defaults, for a call with these arguments; nothing for others."""
        own = {} if self.few_steps is None else self.few_steps.arguments
        if isinstance(given.get("scheduler"), Scheduler):
            own.pop("scheduler_options", None)  # which are for a scheduler given by name
        return own

    @property
    def lora_scale(self) -> float:
        """The scale of the LoRAs that are loaded; set, it holds for all. Raises ValueError if there is none, or they differ."""
        scales = {lora.scale for lora in self.loras.values()}
        if len(scales) != 1:
            raise ValueError(f"lora_scale: the scales are {sorted(scales)}" if scales else "lora_scale: no LoRA is loaded")
        return scales.pop()

    @lora_scale.setter
    def lora_scale(self, scale: float) -> None:
        if not self.loras:
            raise ValueError("lora_scale: no LoRA is loaded")
        for lora in self.loras.values():
            lora.scale = scale

    def _named_loras(self, name: str | None) -> list[str]:
        if name is None:
            return list(self.loras)
        if name not in self.loras:
            loaded = ", ".join(map(repr, self.loras)) or "none"
            raise ValueError(f"no LoRA named {name!r} is loaded; loaded: {loaded}")
        return [name]

    def load_word(self, path: str | Path, word: str | None = None) -> Word:
        """Read a word for prompts, as textual inversion finds it, from a .safetensors file of diffusers or A1111.

        word: what to call it; None: as the file does, or by the file's name.
        Raises ValueError for a word that is there already, or for another text encoder, else as `adapters.read_word`; then
        nothing has changed.
        """
        read = read_word(path, word)
        self.add_word(read)
        return read

    def add_word(self, word: Word) -> None:
        """As `load_word`, for one that is in memory."""
        self._renew_dictionary()
        self.dictionary.add(word)
        self.tokenizer = self.dictionary.tokenizer

    def unload_word(self, word: str | None = None) -> None:
        """Forget this word, or all that were loaded. Raises ValueError for one that was not."""
        self._renew_dictionary()
        self.dictionary.remove(word)
        self.tokenizer = self.dictionary.tokenizer

    def _renew_dictionary(self) -> None:
        """If no word is loaded: of the tokenizer and the text encoder that are here now, for they may have been replaced."""
        if not self.dictionary.words:
            self.dictionary = Dictionary(self.tokenizer, self.text_encoder)
