"""What the tokenizer takes for a letter, a number and a small letter.

These are tables of the Unicode version that it was built with. A browser has another version, in which some character is not
yet, or already, a letter; so that it reads every prompt alike, it is given the tables.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Any

PLANES = (0, 1, 2, 3, 14)  # of 65,536 code points each; the others are empty, or for private use, in every version of Unicode
CHARACTERS = [
    chr(c)
    for plane in PLANES
    for c in range(plane << 16, (plane + 1) << 16)
    if not 0xD800 <= c < 0xE000  # halves of UTF-16
]
AT_ONCE = 4096


def characters_of(tokenizer: Any) -> dict[str, Any]:
    """letters, numbers: ranges of code points, such as "41-5a,61-7a,aa"; small: what becomes of each other character.

    tokenizer: a `tokenizers.Tokenizer` with CLIP's rules.
    """
    kinds: dict[str, list[int]] = {"letters": [], "numbers": []}
    for begin in range(0, len(CHARACTERS), AT_ONCE):
        some = CHARACTERS[begin : begin + AT_ONCE]
        # Between a letter and a mark: a letter stays with the letter before it, a number is alone, a mark joins the mark
        pieces = tokenizer.pre_tokenizer.pre_tokenize_str("".join(f"a{c}! " for c in some))
        starts = {start for _, (start, _) in pieces}
        inside = {place for _, (start, end) in pieces for place in range(start, end)}
        for i, character in enumerate(some):
            place = 4 * i + 1
            if place in inside and place not in starts:
                kinds["letters"].append(ord(character))
            elif place in starts and place + 1 in starts:
                kinds["numbers"].append(ord(character))

    composed = [c for c in CHARACTERS if unicodedata.is_normalized("NFC", c)]
    small = {c: becomes for c in composed if (becomes := tokenizer.normalizer.normalize_str(c)) != c}
    return {**{kind: ranges(codes) for kind, codes in kinds.items()}, "small": small}


def ranges(codes: Iterable[int]) -> str:
    """Rising code points as ranges, in hexadecimal: 65, 66, 67, 97 -> "41-43,61"."""
    found: list[list[int]] = []
    for code in codes:
        if found and code == found[-1][1] + 1:
            found[-1][1] = code
        else:
            found.append([code, code])
    return ",".join(f"{a:x}" if a == b else f"{a:x}-{b:x}" for a, b in found)
