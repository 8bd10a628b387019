"""Scenes composed of emoji, with captions that say what is there: on a color, in a color, small, in a corner, two at once.

A picture of the data set leaves a caption nothing to say but its subject and its style. In a scene more can be said, and what is
not said varies. `Scene` is the record of what was put where; the caption and the picture are both made from it, and so agree.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..images import resample
from .dataset import EmojiDataset, EmojiEntry, with_article

# In RGB, 0 to 1: the middle of what each word means. A background varies around it.
COLORS = {
    "red": (0.86, 0.15, 0.15),
    "orange": (0.97, 0.55, 0.10),
    "yellow": (0.98, 0.85, 0.20),
    "green": (0.20, 0.65, 0.25),
    "blue": (0.15, 0.40, 0.85),
    "purple": (0.55, 0.25, 0.75),
    "pink": (0.96, 0.55, 0.72),
    "brown": (0.50, 0.32, 0.18),
    "gray": (0.55, 0.55, 0.55),
    "black": (0.05, 0.05, 0.05),
}
TINTS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown")  # what a subject may be recolored to
# Where a small thing may be: words -> the middle of its place, in parts of a side, from the left and from the top.
PLACES = {
    "on the left": (0.27, 0.5),
    "on the right": (0.73, 0.5),
    "at the top": (0.5, 0.27),
    "at the bottom": (0.5, 0.73),
    "in the top left corner": (0.26, 0.26),
    "in the top right corner": (0.74, 0.26),
    "in the bottom left corner": (0.26, 0.74),
    "in the bottom right corner": (0.74, 0.74),
}
SMALL, HALF = 0.45, 0.48  # sides of a small thing, and of one of two
COUNTS = {2: "two", 3: "three", 4: "four"}


@dataclass(frozen=True)
class Thing:
    """One picture of the data set in a scene: which one, in which color if not its own, how large and where."""

    row: int  # of the data set
    tint: str | None = None
    size: float = 1.0  # its side, in parts of the scene's
    x: float = 0.5  # its middle, in parts of a side from the left
    y: float = 0.5  # ... from the top


@dataclass(frozen=True)
class Scene:
    """What is there. `place` and `relation` are the words for where the things are; the numbers are in `things`."""

    things: tuple[Thing, ...]
    background: str | None = None  # a word of COLORS; None is white
    shade: tuple[float, float, float] = (1.0, 1.0, 1.0)  # the background's color
    place: str | None = None  # of a single small thing
    relation: str | None = None  # of two different things: "and" (left to right) or "above"


def compose(data: EmojiDataset, row: int, generator: torch.Generator) -> Scene:
    """A scene around picture `row`, by chance: on a color, recolored, small, several of it, or with another one of its style.

    Combinations of words that `is_kept_back` names do not occur.
    """

    def chance(share: float) -> bool:
        return float(torch.rand((), generator=generator)) < share

    def pick(options):
        return options[int(torch.randint(len(options), (), generator=generator))]

    entry, thing = data.entries[row], Thing(row)
    kind = float(torch.rand((), generator=generator))
    place = relation = None
    things: tuple[Thing, ...]
    if kind < 0.3:  # one, as large as it is
        things = (thing,)
    elif kind < 0.55:  # one, small, somewhere
        place = pick([None, *PLACES])
        x, y = PLACES.get(place, (0.5, 0.5))
        things = (replace(thing, size=SMALL, x=x, y=y),)
    elif kind < 0.75 and plural(entry):  # several of it
        things = tuple(replace(thing, size=HALF, x=x, y=y) for x, y in middles(pick(list(COUNTS))))
    else:  # with another one
        others = data.of_style[entry.style]
        other = pick(others)
        relation = pick(["and", "above"])
        if data.entries[other].label == entry.label or is_kept_back(f"{entry.label} {relation} {data.entries[other].label}"):
            things, relation = (thing,), None
        else:
            places = ((0.26, 0.5), (0.74, 0.5)) if relation == "and" else ((0.5, 0.26), (0.5, 0.74))
            things = tuple(Thing(r, None, HALF, x, y) for r, (x, y) in zip((row, other), places))
    if relation is None and chance(0.4) and not says_a_color(entry.label):
        tint = pick(TINTS)
        if not is_kept_back(f"{tint} {entry.label}"):
            things = tuple(replace(t, tint=tint) for t in things)
    scene = Scene(things, place=place, relation=relation)
    if chance(0.6) or scene == Scene((thing,)):
        background = pick([c for c in COLORS if c != things[0].tint])
        if not is_kept_back(f"{entry.label} on {background}"):
            shade = torch.tensor(COLORS[background]) + 0.06 * (2 * torch.rand(3, generator=generator) - 1)
            scene = replace(scene, background=background, shade=tuple(shade.clamp(0, 1).tolist()))
    return scene


def middles(count: int) -> list[tuple[float, float]]:
    """The middles of two, three or four places."""
    rows = {2: [(0.26, 0.5), (0.74, 0.5)], 3: [(0.5, 0.26), (0.26, 0.74), (0.74, 0.74)]}
    return rows.get(count, [(x, y) for y in (0.26, 0.74) for x in (0.26, 0.74)])


def is_kept_back(combination: str) -> bool:
    """Whether a combination of words, such as "blue cat", is one of those never trained on: one in ten, by a hash of its name."""
    return int(hashlib.sha256(f"scene/{combination}".encode()).hexdigest(), 16) % 10 == 0


def says_a_color(label: str) -> bool:
    """Whether the name of a subject has a color in it: such a subject is not recolored."""
    return bool(set(re.findall("[a-z]+", label)) & {*COLORS, "white", "grey", "rainbow"})


# ---- words


def caption_of(scene: Scene, entries: list[EmojiEntry], style: bool = True) -> str:
    """ "a small blue cat on the left on a yellow background in the style of noto": what is there, in words."""
    first = scene.things[0]
    label = entries[first.row].label
    small = "small " if first.size == SMALL and len(scene.things) == 1 else ""
    color = f"{first.tint} " if first.tint else ""
    if scene.relation:
        names = [with_article(entries[thing.row].label) for thing in scene.things]
        words = f"{names[0]} {scene.relation} {names[1]}"
    elif len(scene.things) > 1:
        words = f"{COUNTS[len(scene.things)]} {color}{plural(entries[first.row])}"
    else:
        words = with_article(f"{small}{color}{label}")
    if scene.place:
        words += f" {scene.place}"
    if scene.background:
        words += f" on {with_article(scene.background + ' background')}"
    return f"{words} in the style of {entries[first.row].style}" if style else words


# Nouns whose plural is not regular, and those that have no plural, or none in use.
_IRREGULAR = {
    "mouse": "mice",
    "goose": "geese",
    "wolf": "wolves",
    "fish": "fish",
    "blowfish": "blowfish",
    "jellyfish": "jellyfish",
    "deer": "deer",
    "bison": "bison",
    "moose": "moose",
    "squid": "squid",
    "ox": "oxen",
    "snowman": "snowmen",
    "t-rex": "t-rexes",
    "tomato": "tomatoes",
    "potato": "potatoes",
    "mosquito": "mosquitoes",
    "volcano": "volcanoes",
    "tornado": "tornadoes",
}
_NO_PLURAL = set(
    """
    bacon badminton bowling bread broccoli bullseye butter camping chestnut cityscape construction cooking coral corn
    custard dango dna falafel fire flatbread fog foggy fondue foot garlic ice kaaba knot lacrosse locked luggage mate metro
    microbe mountain oden popcorn rice sake salt seat skis spaghetti sunrise sunset sushi tamale tennis thread unlocked
    wedding wood yarn
    """.split()
)
_COUNTED = {"animals-nature", "food-drink", "travel-places", "activities", "objects"}


def plural(entry: EmojiEntry) -> str | None:
    """ "rocket" -> "rockets"; None for people and hands, labels of several words, and what is not counted, such as bread."""
    noun = entry.label
    if entry.group not in _COUNTED or not re.fullmatch("[a-z-]+", noun) or noun in _NO_PLURAL:
        return None
    if noun in _IRREGULAR:
        return _IRREGULAR[noun]
    if re.search("[^u]s$", noun):
        return None  # "glasses"
    if re.search("(?:s|x|ch|sh)$", noun):
        return f"{noun}es"
    if re.search("[^aeiou]y$", noun):
        return f"{noun[:-1]}ies"
    return f"{noun}s"


# ---- pictures


def draw_scenes(scenes: list[Scene], layers: Tensor, size: int) -> Tensor:
    """Pictures of scenes, (n, 3, size, size) in [-1, 1]; `layers` are those of the data set, uint8 (m, 4, h, w)."""
    canvas = torch.tensor([scene.shade for scene in scenes]).view(-1, 3, 1, 1).repeat(1, 1, size, size)
    things = [(i, thing) for i, scene in enumerate(scenes) for thing in scene.things]
    rows = layers[[thing.row for _, thing in things]].float() / 255
    for picture, (_, thing) in zip(rows, things):
        if thing.tint:
            picture[:3] = tinted(picture, thing.tint)
    rows = torch.cat([rows[:, :3] * rows[:, 3:], rows[:, 3:]], dim=1)  # colors weighed by their opacity
    for picture, (i, thing) in zip(rows, things):
        side = round(thing.size * size)
        left, top = (min(max(round(at * size - side / 2), 0), size - side) for at in (thing.x, thing.y))
        small = resample(picture[None], side)[0].clamp(0, 1)
        part = canvas[i, :, top : top + side, left : left + side]
        part.copy_(small[:3] + (1 - small[3:]) * part)
    return canvas * 2 - 1


def tinted(picture: Tensor, tint: str) -> Tensor:
    """The colors of a picture, (4, h, w) in [0, 1], as shades of one: black stays black, white stays white. -> (3, h, w)

    Its middle brightness becomes the color itself.
    """
    light = (picture[:3] * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(dim=0)  # (h, w)
    seen = light[picture[3] > 0.5]
    middle = float(seen.median().clamp(0.05, 0.95)) if len(seen) else 0.5
    light = light ** (math.log(0.5) / math.log(middle))  # the median becomes 1/2
    color = torch.tensor(COLORS[tint]).view(3, 1, 1)
    dark, bright = (2 * light).clamp(max=1), (2 * light - 1).clamp(min=0)
    return color * dark * (1 - bright) + bright
