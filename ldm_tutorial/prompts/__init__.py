"""How a prompt is read where more is asked for than its words up to the 75th token. Nothing here is used unless it is asked for.

weights.py   `prompt_weights=True`: (cat:1.3), a part that counts more or less than the rest
chunks.py    `long_prompts=True`: more than 77 tokens, in chunks that are read one after the other
"""

from .chunks import equally_long, in_chunks, tokenize_in_chunks
from .weights import Span, escape, plain_text, read_weights, token_weights, weigh

__all__ = [
    "Span",
    "equally_long",
    "escape",
    "in_chunks",
    "plain_text",
    "read_weights",
    "token_weights",
    "tokenize_in_chunks",
    "weigh",
]
