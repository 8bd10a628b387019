#!/usr/bin/env python3
"""Make the shipped model out of a trained one: float16, checked for size and for drawing. And its logs, and the judge, if there.

python tools/publish_model.py runs/emoji [--to ldm_tutorial/weights/emoji]
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

import torch

from ldm_tutorial import load_pipeline
from ldm_tutorial.checkpoints import load_checkpoint, save_checkpoint, save_component
from ldm_tutorial.checkpoints.atomic import write_atomically
from ldm_tutorial.evaluation.judge import WEIGHTS, load_judge, save_judge
from ldm_tutorial.training.clip import ContrastivePart, load_clip
from ldm_tutorial.training.logs import TRAININGS

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 60_000_000  # bytes: the repository and the wheel stay light
JUDGE_LIMIT = 2_500_000


def joined(shipped: str, new: str) -> str:
    """The log of all stages: what was shipped, then the new one, which takes over from where both begin alike."""
    stages: list[list[str]] = []
    for line in shipped.splitlines():
        step = json.loads(line)["step"]
        if not stages or step < json.loads(stages[-1][-1])["step"]:
            stages.append([])
        stages[-1].append(line)
    lines = new.splitlines()
    kept = itertools.takewhile(lambda stage: stage[0] != lines[0], stages)
    return "".join(line + "\n" for stage in [*kept, lines] for line in stage)


def log_of(source: Path, name: str, shipped: str) -> str:
    """The log to ship of a part: that of `train all`, else the shipped one, and after it that of a run by hand; or ""."""
    whole, run = source / "training" / f"{name}.jsonl", source / "training" / name
    before = whole.read_text(encoding="utf-8") if whole.is_file() else ""
    last = (run / "log.jsonl").read_text(encoding="utf-8") if (run / "log.jsonl").is_file() else ""
    if not last or (run / "settings.json").is_file():  # of a stage that `train all` has not finished
        return before
    return joined(before or shipped, last)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="the folder that the three trainings wrote")
    parser.add_argument("--to", type=Path, default=ROOT / "ldm_tutorial" / "weights" / "emoji")
    args = parser.parse_args()
    save_checkpoint(load_checkpoint(args.source), args.to, dtype=torch.float16)
    save_component(ContrastivePart(load_clip(args.source)), args.to / "contrastive", dtype=torch.float16)
    for name in TRAININGS:
        shipped = args.to / "training" / f"{name}.jsonl"
        if log := log_of(args.source, name, shipped.read_text(encoding="utf-8") if shipped.exists() else ""):
            shipped.parent.mkdir(exist_ok=True)
            write_atomically(shipped, log.encode())
    size = sum(path.stat().st_size for path in args.to.rglob("*") if path.is_file())
    if size > LIMIT:
        raise SystemExit(f"{args.to} has {size:,} bytes, more than {LIMIT:,}")
    load_pipeline(args.to)("a cat", steps=2, progress=False)
    print(f"{args.to}: {size:,} bytes")
    if (args.source / "judge").is_dir():
        folder = save_judge(load_judge(args.source / "judge"), args.to.with_name("judge"), dtype=torch.float16)
        size = (folder / WEIGHTS).stat().st_size
        if size > JUDGE_LIMIT:
            raise SystemExit(f"the judge's weights have {size:,} bytes, more than {JUDGE_LIMIT:,}")
        log = args.source / "training" / "judge" / "log.jsonl"
        if log.exists():
            write_atomically(folder / "training.jsonl", log.read_bytes())
        print(f"{folder}: {size:,} bytes of weights")


if __name__ == "__main__":
    main()
