"""The emoji data set: 64x64 pictures in three styles, with captions."""

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
