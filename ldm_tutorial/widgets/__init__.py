"""Widgets for notebooks and for Voilà: thin wrappers around generators and pure functions.

playground.py          Playground: words and settings in, every step of the picture live
compare.py             Compare: columns that differ in one setting
scheduler_lab.py       SchedulerLab: noise levels, paths and errors of the four schedulers
denoising_explorer.py  DenoisingExplorer: one run, kept, and a slider through its steps
branch_explorer.py     BranchExplorer: runs that go on from a step of another, with something changed
latent_explorer.py     LatentExplorer: a picture of your own, encoded, mixed, redrawn, painted into

drawing.py, lab.py, recording.py, branching.py, latents.py   what they show, without a widget
runner.py, panel.py                                          how they work: the newest request wins; errors; a stored picture

In Colab, where background threads cannot reach the page, they work in the callback: change something and wait a moment.
"""

from .branch_explorer import BranchExplorer
from .compare import Compare
from .denoising_explorer import DenoisingExplorer
from .explore import Explore
from .latent_explorer import LatentExplorer
from .panel import choice, number, real, stops, switch, text, whole
from .playground import Playground
from .scheduler_lab import SchedulerLab

__all__ = [
    "BranchExplorer",
    "Compare",
    "DenoisingExplorer",
    "Explore",
    "LatentExplorer",
    "Playground",
    "SchedulerLab",
    "choice",
    "number",
    "real",
    "stops",
    "switch",
    "text",
    "whole",
]
