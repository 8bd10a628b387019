#!/usr/bin/env python3
"""Draw images/gallery.png, the picture on top of the README: eight subjects in each style, by the shipped model.

python tools/draw_gallery.py [--model FOLDER] [-o FILE]. One seed for all, nothing selected.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ldm_tutorial import load_pipeline
from ldm_tutorial.checkpoints.atomic import atomic_path
from ldm_tutorial.data import STYLES, canonical_caption
from ldm_tutorial.figures.grids import picture_grid

SUBJECTS = ("cat", "astronaut", "zombie", "racing car", "chipmunk", "hamburger", "rocket", "octopus")
ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="emoji")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "images" / "gallery.png")
    args = parser.parse_args()
    prompts = [canonical_caption(subject, style) for style in STYLES for subject in SUBJECTS]
    pictures = load_pipeline(args.model)(prompts, scheduler="ddim", steps=25, seed=[0] * len(prompts))
    rows = [pictures[i : i + len(SUBJECTS)] for i in range(0, len(prompts), len(SUBJECTS))]
    figure = picture_grid(rows, SUBJECTS, STYLES, shown=128)
    with atomic_path(args.output) as path:
        figure.savefig(path, format="png", metadata={"Software": None})


if __name__ == "__main__":
    main()
