#!/usr/bin/env python3
"""Draw images/machine_map.png: the whole latent diffusion machine, with a real run at its two ends.

python tools/draw_diagrams.py [--model FOLDER] [-o FILE]. Notebook 00 draws the same figure, live.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ldm_tutorial import load_pipeline
from ldm_tutorial.diagrams import machine_map
from ldm_tutorial.files import atomic_path
from ldm_tutorial.notebook import png

PROMPT = "a cat in the style of noto"
ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="emoji")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "images" / "machine_map.png")
    args = parser.parse_args()
    pipe = load_pipeline(args.model)
    steps = list(pipe.stream(PROMPT, scheduler="ddim", steps=25, seed=0))
    noise, picture = pipe.decode(steps[0].latents)[0], pipe.decode(steps[-1].latents)[0]
    with atomic_path(args.output) as path:
        path.write_bytes(png(machine_map(prompt=PROMPT, noise=noise, picture=picture)))


if __name__ == "__main__":
    main()
