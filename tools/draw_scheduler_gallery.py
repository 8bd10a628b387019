#!/usr/bin/env python3
"""Draw images/gallery_emoji.webp: each prompt of the gallery with every scheduler and 25, 50 and 75 steps.

python tools/draw_scheduler_gallery.py [--model emoji|sd15] [--seed N] [-o FILE]. One seed for all, nothing selected. `emoji`
takes about a minute on two processor cores; `sd15` needs its weights, and a GPU or a day.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

from ldm_tutorial import load_pipeline
from ldm_tutorial.checkpoints.atomic import write_atomically
from ldm_tutorial.figures.canvas import to_picture
from ldm_tutorial.figures.gallery import PROMPTS, draw_gallery

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="emoji", choices=list(PROMPTS))
    parser.add_argument("--weights", help="another folder or file to take the model from")
    parser.add_argument("--dtype", help="float32, bfloat16 or float16 (default: float32)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, help="default: images/gallery_MODEL.webp")
    args = parser.parse_args()
    gallery = draw_gallery(load_pipeline(args.weights or args.model, dtype=args.dtype), PROMPTS[args.model], seeds=args.seed)
    print(f"network calls a picture:\n{gallery.calls()}")
    picture, file = to_picture(gallery.figure("prompt", ("scheduler", "steps"), shown=128)), io.BytesIO()
    picture.save(file, "WEBP", quality=80, method=6)
    write_atomically(args.output or ROOT / "images" / f"gallery_{args.model}.webp", file.getvalue())


if __name__ == "__main__":
    main()
