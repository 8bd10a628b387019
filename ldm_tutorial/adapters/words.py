"""Textual inversion: a new word for the text encoder, which is nothing but its vector (Gal et al. 2022, arXiv:2208.01618).

A word of the prompt enters the text encoder as a row of its table of embeddings. A new row, found by training on a few pictures
while all networks stay as they are (equation 2), is a word for what they show; a word may also have several rows, one after the
other. d is the width of the text encoder.

Files of two spellings are read: diffusers' holds one tensor, whose name is the word; A1111's names it `emb_params`, and the word
is the file's name.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..checkpoints.atomic import atomic_path
from ..checkpoints.tensors import CheckpointError, read_tensors, write_tensors
from ..checks import as_path
from ..clip import CLIPTextModel

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

NAMELESS = ("emb_params", "*")  # A1111's files do not say their word
LONGEST = 100  # characters of a word


@dataclass(frozen=True, eq=False)
class Word:
    """A word and its vectors, (k, d): k rows of the table of embeddings, as a rule 1.

    Raises ValueError for a word that no prompt can hold, or vectors that are not finite numbers.
    """

    text: str
    vectors: Tensor

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or " ".join(self.text.split()) != self.text or not 0 < len(self.text) <= LONGEST:
            raise ValueError(f"word={self.text!r:.120} must be 1 ... {LONGEST} characters, such as '<mine>'")
        v = self.vectors
        if v.ndim != 2 or not len(v) or not v.is_floating_point() or not v.isfinite().all():
            raise ValueError(f"the vectors of {self.text!r} must be finite numbers, (k, d); they are {v.dtype} {tuple(v.shape)}")

    @property
    def tokens(self) -> tuple[str, ...]:
        """What the tokenizer calls its rows: "<mine>", "<mine>_1", ..."""
        return self.text, *(f"{self.text}_{i}" for i in range(1, len(self.vectors)))

    def spell_out(self, prompt: str) -> str:
        """The prompt with all tokens in the place of the word, in upper or lower case."""
        return prompt if len(self.vectors) == 1 else self.replace(prompt, " ".join(self.tokens))

    def replace(self, prompt: str, other: str) -> str:
        """The prompt with `other` in the place of the word, in upper or lower case, but not inside of a longer word."""
        return re.sub(rf"(?<!\w){re.escape(self.text)}(?!\w)", lambda _: other, prompt, flags=re.IGNORECASE)


def read_word(path: str | Path, text: str | None = None) -> Word:
    """The word of a .safetensors file. text: what to call it; None: as the file does, else by the file's name.

    Raises FileNotFoundError, or CheckpointError for a file that is no word, or damaged.
    """
    path = as_path(path)
    tensors, _ = read_tensors(path)
    if {"clip_l", "clip_g"} & tensors.keys():
        raise CheckpointError(f"{path} is a word for Stable Diffusion XL, which is not supported")
    if len(tensors) != 1:
        raise CheckpointError(f"{path} is no word: it must hold one tensor, and holds {len(tensors)}")
    name, vectors = next(iter(tensors.items()))
    if vectors.ndim not in (1, 2) or not vectors.numel() or not vectors.is_floating_point():
        raise CheckpointError(f"{path} is no word: {name} must be vectors (k, d); it is {vectors.dtype} {tuple(vectors.shape)}")
    vectors = vectors.detach().float().reshape(-1, vectors.shape[-1]).clone()
    if not vectors.isfinite().all():
        raise CheckpointError(f"{path} is damaged: {name} holds numbers that are not finite")
    try:
        return Word(text if text is not None else path.stem if name in NAMELESS else name, vectors)
    except ValueError as error:
        raise error if text is not None else CheckpointError(f"{path}: {error}") from None


def save_word(word: Word, path: str | Path) -> Path:
    """Write a .safetensors file as diffusers does, in one go. Returns the path.

    Raises ValueError for another ending, OSError if it could not be written.
    """
    path = as_path(path)
    if path.suffix.lower() != ".safetensors":
        raise ValueError(f"path={str(path)!r} must end in .safetensors")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as new:
        write_tensors(new, {word.text: word.vectors})
    return path


class Dictionary:
    """The words that are added to a tokenizer and a text encoder, behind those that they have.

    `tokenizer` is that with the words. The rows of the text encoder's own words stay where they are, and what they are.
    """

    def __init__(self, tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel):
        self.words: dict[str, Word] = {}
        self.tokenizer = self._without = tokenizer
        self.text_encoder = text_encoder
        self._size = text_encoder.config.vocab_size

    def add(self, word: Word) -> None:
        """Raises ValueError for a word that is there already, or of another width; then nothing has changed."""
        width, longest = self.text_encoder.config.hidden_size, self.text_encoder.config.max_position_embeddings - 2
        if word.vectors.shape[1] != width:
            kinds = {768: " of Stable Diffusion 1", 1024: " of Stable Diffusion 2", 1280: " of Stable Diffusion XL"}
            theirs = f"{word.vectors.shape[1]}{kinds.get(word.vectors.shape[1], '')}"
            raise ValueError(f"the vectors of {word.text!r} have width {theirs}; this text encoder has {width}")
        if len(word.vectors) > longest:
            raise ValueError(f"{word.text!r} has {len(word.vectors)} vectors; a prompt has {longest} tokens")
        known = {token.lower() for other in self.words.values() for token in other.tokens}
        if known & {token.lower() for token in word.tokens}:
            raise ValueError(f"a word {word.text!r} is loaded already; unload_word({word.text!r}) first, or give another")
        if len(self._without(word.text, add_special_tokens=False).input_ids) == 1:
            raise ValueError(f"{word.text!r} is a word of the model itself; give another, such as '<{word.text}>'")
        self._put([*self.words.values(), word])

    def remove(self, text: str | None = None) -> None:
        """This word, or all. Raises ValueError for one that is not there."""
        if text is not None and text not in self.words:
            raise ValueError(f"no word {text!r} is loaded; loaded: {', '.join(map(repr, self.words)) or 'none'}")
        if self.words:
            self._put([word for word in self.words.values() if text not in (None, word.text)])

    def beside(self, text_encoder: CLIPTextModel) -> Dictionary:
        """The same words in another text encoder, whose table holds them already. Later changes of one are not in the other."""
        other = copy.copy(self)
        other.words, other.text_encoder = dict(self.words), text_encoder
        return other

    def first_row(self, text: str) -> int:
        """The row of the table at which the vectors of a word begin."""
        before = list(self.words).index(text)
        return self._size + sum(len(word.vectors) for word in list(self.words.values())[:before])

    def spell_out(self, prompt: str) -> str:
        """The prompt with all tokens of its words."""
        for word in self.words.values():
            prompt = word.spell_out(prompt)
        return prompt

    @torch.no_grad()
    def _put(self, words: Iterable[Word]) -> None:
        """These words, and no others, behind the model's own."""
        self.words = {word.text: word for word in words}
        tokens = [token for word in self.words.values() for token in word.tokens]
        table: nn.Embedding = self.text_encoder.text_model.embeddings.token_embedding  # type: ignore[assignment, union-attr]
        old = table.weight
        rows = torch.cat([old[: self._size], *(word.vectors.to(old) for word in self.words.values())])
        table.weight = nn.Parameter(rows, requires_grad=old.requires_grad)
        table.num_embeddings = len(rows)
        self.text_encoder.config = replace(self.text_encoder.config, vocab_size=len(rows))
        self.tokenizer = self._without
        if tokens:
            self.tokenizer = copy.deepcopy(self._without)
            self.tokenizer.add_tokens([added_token(token) for token in tokens])


def added_token(text: str) -> Any:
    """A token that is found in a prompt before all others, in upper or lower case, but not inside of a longer word."""
    from tokenizers import AddedToken

    return AddedToken(text, single_word=True, normalized=True)
