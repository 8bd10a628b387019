"""Byte-pair encoding learned on our captions (Sennrich et al. 2016), in the format of CLIP's tokenizer.

CLIP's own vocabulary has 49,408 entries, more numbers than our whole text encoder. Ours is cut to the captions' words, and
laid out like CLIP's: 256 bytes, 256 bytes that end a word, one entry for each merge, then the start and the end token.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

WORD_END = "</w>"


def train_tokenizer(captions: Iterable[str], vocab_size: int, model_max_length: int = 77) -> CLIPTokenizer:
    """A CLIPTokenizer with exactly `vocab_size` entries, whose merges were learned on `captions`.

    Raises:
        ValueError: the captions do not hold enough different pairs to fill the vocabulary.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    template = CLIPTokenizer().backend_tokenizer  # CLIP's rules for cleaning and splitting text, without a vocabulary
    learner = Tokenizer(models.BPE(end_of_word_suffix=WORD_END))
    learner.normalizer, learner.pre_tokenizer = template.normalizer, template.pre_tokenizer
    learner.train_from_iterator(captions, trainers.BpeTrainer(vocab_size=10**6, end_of_word_suffix=WORD_END, show_progress=False))
    merges = merges_of(learner)

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate([*letters, *(letter + WORD_END for letter in letters)])}
    kept = []
    for left, right in merges:
        if len(vocab) == vocab_size - 2:
            break
        kept.append((left, right))
        vocab.setdefault(left + right, len(vocab))
    if len(vocab) != vocab_size - 2:
        raise ValueError(f"vocab_size={vocab_size} is more than these captions fill; at most {len(vocab) + 2} is possible")
    for special in ("<|startoftext|>", "<|endoftext|>"):
        vocab[special] = len(vocab)
    return CLIPTokenizer(vocab=vocab, merges=kept, model_max_length=model_max_length)  # type: ignore[arg-type]  # pairs, too


def merges_of(tokenizer: Any) -> list[tuple[str, str]]:
    """The pairs that a `tokenizers.Tokenizer` or a CLIPTokenizer has learned to merge, in the order in which it did."""
    import json

    tokenizer = getattr(tokenizer, "backend_tokenizer", tokenizer)
    return [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
