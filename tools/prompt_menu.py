#!/usr/bin/env python3
"""Write docs/prompts.md: prompts that the shipped model draws well, measured, and how to list all words that it knows.

    python tools/prompt_menu.py                 some minutes on two cores; again whenever the weights change

From each group of emoji it draws subjects with short names, three seeds each. A prompt is on the menu if the classifier,
which shares nothing with the model, names the right subject and the right style in all three pictures. The surest come first.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from ldm_tutorial import load_pipeline
from ldm_tutorial.data import STYLES, EmojiDataset, EmojiEntry, canonical_caption
from ldm_tutorial.evaluation.drawing import to_levels
from ldm_tutorial.evaluation.evaluate import fingerprint
from ldm_tutorial.evaluation.judge import Judge, load_judge, look
from ldm_tutorial.weights import EMOJI_FOLDER

ROOT = Path(__file__).resolve().parent.parent
SEEDS = (0, 1, 2)
GROUPS = {
    "animals-nature": "Animals and plants",
    "food-drink": "Food",
    "travel-places": "Vehicles and places",
    "objects": "Things",
    "activities": "Games and sports",
    "smileys-emotion": "Faces",
    "people-body": "People",
}

PAGE = """# Prompts that work

*Made by `python tools/prompt_menu.py` with the weights {weights}.*

The small model knows the words of emoji: {subjects:,} subjects and their tags (other words for a subject), in the styles
{styles}. The full caption works best: "a SUBJECT in the style of STYLE". It was also trained on scenes, with captions such
as "two rockets on a blue background", "a small red cat in the top left corner" and "a cat above an owl". For other words
the model draws something else.

The prompts below are drawn well. Each was drawn with seeds 0, 1 and 2 and the default settings, and a classifier that
shares nothing with the model named the right subject and the right style in all three pictures. In each group the
prompts come first of which the classifier was surest. Of {tried} prompts tried, {kept} passed.

{tables}
## All words

```python
from ldm_tutorial.data import EmojiDataset
from ldm_tutorial.data.scenes import COLORS, COUNTS, PLACES

entries = EmojiDataset().entries
print(sorted({{entry.label for entry in entries}}))                   # subjects
print(sorted({{tag for entry in entries for tag in entry.tags}}))     # tags: other words for them; drawn right less often
print(*COLORS, *COUNTS.values(), *PLACES, sep=", ")                 # words of scenes, beside "small", "and" and "above"
```

The [model card](model_card.md#all-figures) has how often the subject is right by wording: the full caption, the
subject alone, a tag alone, capitals.
"""


def candidates(group: str, count: int) -> list[EmojiEntry]:
    """Trained pairs of this group with a name of one or two words, one style for each subject, evenly from all of them."""
    found: dict[str, EmojiEntry] = {}
    for entry in EmojiDataset("train").entries:
        if entry.group == group and len(entry.label.split()) <= 2 and entry.label.replace(" ", "").isalpha():
            wanted = STYLES[len(found) % len(STYLES)] if entry.label not in found else None
            if wanted in (entry.style, None):
                found.setdefault(entry.label, entry)
    entries = list(found.values())
    return entries[:: max(1, len(entries) // count)][:count]


@torch.no_grad()
def surest(pipe, judge: Judge, entries: list[EmojiEntry]) -> list[tuple[float, str]]:
    """(how sure the classifier is at the least, prompt) of the prompts whose pictures it names right for every seed."""
    least = {canonical_caption(e.label, e.style): 1.0 for e in entries}
    for seed in SEEDS:
        verdict = look(judge, to_levels(pipe(list(least), seed=[seed] * len(least))))
        for i, entry in enumerate(entries):
            prompt, cosines = canonical_caption(entry.label, entry.style), verdict.cosines[i]
            right = judge.config.subjects[int(cosines.argmax())] == entry.label
            right &= judge.config.styles[int(verdict.styles[i].argmax())] == entry.style
            margin = cosines.topk(2).values
            least[prompt] = min(least[prompt], float(margin[0] - margin[1])) if right else -1.0
            if least[prompt] < 0:
                least[prompt] = -1.0
    return sorted(((sure, prompt) for prompt, sure in least.items() if sure >= 0), reverse=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tried", type=int, default=16, help="prompts drawn from each group (default: %(default)s)")
    parser.add_argument("--shown", type=int, default=8, help="at most so many from each group on the page (default: %(default)s)")
    arguments = parser.parse_args()
    pipe, judge = load_pipeline("emoji"), load_judge()
    tables, tried, kept = "", 0, 0
    for group, title in GROUPS.items():
        entries = candidates(group, arguments.tried)
        good = surest(pipe, judge, entries)
        tried, kept = tried + len(entries), kept + len(good)
        tables += f"## {title}\n\n" + "".join(f"- {prompt}\n" for _, prompt in good[: arguments.shown]) + "\n"
        print(f"{title}: {len(good)} of {len(entries)}", flush=True)
    subjects = len({entry.label for entry in EmojiDataset().entries})
    named = {"subjects": subjects, "styles": ", ".join(f"`{style}`" for style in STYLES), "tables": tables}
    text = PAGE.format(weights=fingerprint(EMOJI_FOLDER), **named, tried=tried, kept=kept)
    (ROOT / "docs" / "prompts.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
