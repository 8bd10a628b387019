#!/usr/bin/env python3
"""Measure what drawing costs against steps, pictures and size, and fit the formula: into images/cost.png and docs/speed.md.

python tools/draw_cost.py [--model FOLDER] [--no-write]. Takes about a minute. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ldm_tutorial import load_pipeline
from ldm_tutorial.checkpoints.atomic import atomic_path
from ldm_tutorial.evaluation.benchmark import put_into
from ldm_tutorial.evaluation.cost import CostPoint, fit_cost, measure_seconds
from ldm_tutorial.figures.plots import Panel, line_panels

ROOT = Path(__file__).resolve().parent.parent
STEPS, PICTURES, SCALES = (5, 10, 25, 50), (1, 2, 4, 8, 16, 24), (1, 1.5, 2, 3)
MARKS = "<!-- cost: written by tools/draw_cost.py -->", "<!-- end of cost -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="emoji")
    parser.add_argument("--no-write", action="store_true", help="print the formula only")
    args = parser.parse_args()
    pipe = load_pipeline(args.model, device="cpu")
    along = {
        "steps": [CostPoint(steps=m) for m in STEPS],
        "pictures": [CostPoint(pictures=b) for b in PICTURES],
        "scale": [CostPoint(scale=s) for s in SCALES],
    }
    measured = {work: measure_seconds(pipe, work) for works in along.values() for work in works}
    cost = fit_cost(measured)
    print(cost.text())
    if args.no_write:
        return

    pixels = pipe.unet.config.sample_size * pipe.vae.config.downsampling
    panels = []
    for name, works in along.items():
        x = [getattr(work, name) * (pixels if name == "scale" else 1) for work in works]
        lines = {"measured": (x, [measured[work] for work in works]), "formula": (x, [cost.seconds(work) for work in works])}
        panels.append(Panel(lines, {"scale": "side of a picture, pixels"}.get(name, name), "seconds", markers=True))
    with atomic_path(ROOT / "images" / "cost.png") as path:
        line_panels(*panels).savefig(path, format="png", metadata={"Software": None})
    put_into(ROOT / "docs" / "speed.md", cost.text(), *MARKS)


if __name__ == "__main__":
    main()
