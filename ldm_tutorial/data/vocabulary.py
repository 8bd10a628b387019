"""Which words the small model knows: those of its captions. For a word it never saw it draws something else, without an error."""

from __future__ import annotations

import re
from functools import cache

from .dataset import EmojiDataset
from .scenes import COLORS, COUNTS, PLACES, plural

WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")  # letters, with apostrophes and hyphens inside


FUNCTION_WORDS = frozenset("a an the and or but of in on at to by for from with without is are that this it its".split())


@cache
def known_words() -> frozenset[str]:
    """All words of all captions, of the data set's pictures and of scenes, in lower case."""
    entries = EmojiDataset().entries
    texts = [caption for entry in entries for caption in entry.captions]
    texts += [several for entry in entries if (several := plural(entry))]
    texts += [*COLORS, *COUNTS.values(), *PLACES, "small", "above", "background"]
    return frozenset(word for text in texts for word in words_in(text))


def words_in(text: str) -> list[str]:
    """The words of a text, in lower case and in their order."""
    return [word.lower() for word in WORD.findall(text)]


def unknown_words(prompt: str) -> list[str]:
    """The words of a prompt that stand in no caption, each once. Words such as "or" are not counted."""
    return [word for word in dict.fromkeys(words_in(prompt)) if word not in known_words() | FUNCTION_WORDS]


def hint_for(prompt: str) -> str:
    """One sentence for the user of the small model about a prompt, or "" where there is nothing to say."""
    if not prompt.strip():
        return "the prompt is empty, so the model draws any emoji"
    unknown = unknown_words(prompt)
    if not unknown:
        return ""
    named = ", ".join(f'"{word}"' for word in unknown)
    return f"the small model was never trained with {named}, and draws something else; docs/prompts.md lists prompts that work"
