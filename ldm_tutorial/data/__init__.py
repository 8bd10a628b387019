"""The emoji data set: pictures with captions, in several styles."""

from .dataset import STYLES, EmojiDataset, EmojiEntry, EmojiItem, canonical_caption, captions_of, with_article

__all__ = [
    "STYLES",
    "EmojiDataset",
    "EmojiEntry",
    "EmojiItem",
    "canonical_caption",
    "captions_of",
    "with_article",
]
