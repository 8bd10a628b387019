"""A seeded monkey at the playground: it drags, types, presses, and goes on before anything is drawn."""

import random
import time

PROMPTS = [
    "a cat",
    "",
    "an octopus in the style of fluent",
    "<b>&amp;</b>",
    "猫 👩‍🚀 é",
    "a dog " * 60,
    "\\x00 ' \" `",
    "a rocket",
]
KEYS = ["ArrowRight", "ArrowLeft", "Home", "PageUp", "PageDown"]
BUTTONS = ["Generate", "Generate", "Cancel", "Restore 1", "Restore 2", "Random seed"]


def act(page, place, rng):
    """One thing that a person might do, at once; returns its name, for the log of what came before an error."""
    kind = rng.choice(["key", "key", "choose", "prompt", "press", "press", "press", "wait"])
    if kind == "key":
        handles = place.locator(".widget-slider .noUi-handle:visible")
        handle = handles.nth(rng.randrange(handles.count()))
        handle.focus()
        for _ in range(rng.randint(1, 6)):
            page.keyboard.press(rng.choice(KEYS))
    elif kind == "choose":
        choices = place.locator("select:visible")
        choice = choices.nth(rng.randrange(choices.count()))
        choice.select_option(index=rng.randrange(choice.locator("option").count()))
    elif kind == "prompt":
        texts = place.locator("textarea:visible, input[type=text]:visible")
        texts.nth(rng.randrange(texts.count())).fill(rng.choice(PROMPTS))
    elif kind == "press":
        name = rng.choice(BUTTONS)
        found = place.get_by_role("button", name=name, exact=True)
        if found.count() and found.first.is_enabled():
            found.first.click()
        return name
    else:
        page.wait_for_timeout(rng.choice([5, 50, 500]))
    return kind


def play(page, place, seed, seconds, check):
    """Acts for so long; `check()` after every tenth. Returns how many there were."""
    rng, end, count = random.Random(seed), time.monotonic() + seconds, 0
    while time.monotonic() < end:
        act(page, place, rng)
        count += 1
        if count % 10 == 0:
            check()
    return count
