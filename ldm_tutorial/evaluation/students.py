"""What distillation costs: the student's pictures, beside its teacher's in many steps and in as few, by the same classifier."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..inputs import Options
from ..schedulers import Scheduler, scheduler_alike
from .accuracy import SPLIT_NAMES, answers, score
from .drawing import DrawnPictures, draw_all
from .judge import Judge
from .metrics import distance
from .reference import Question, Reference, sample
from .report import Measurement, Table, share
from .samplers import with_settings

if TYPE_CHECKING:
    from ..pipeline import StableDiffusion


def student_table(
    pipe: StableDiffusion, judge: Judge, reference: Reference, lora: Path, pairs: int | None, progress: bool = True
) -> Table:
    """A row for each way to draw the same pairs from the same noise, each with its network evaluations for a picture.

    lora: of `train distill`. pairs: how many that were trained on, and as many held out; None: all.
    Raises ValueError for a LoRA that is not of a distilled model; the pipeline is left as it was.
    """
    splits = {"trained": reference.trained, "held_out": reference.unseen}
    asked = {name: [reference.full(i) for i in sample(numbers, pairs)] for name, numbers in splits.items()}
    pipe.load_lora(lora, name="student")
    few, own = pipe.few_steps, pipe.scheduler
    try:
        if few is None:
            raise ValueError(f"{lora} is not of a distilled model: `ldm-tutorial train distill` writes one")
        trailing = scheduler_alike(own, "ddim", timestep_spacing="trailing")
        guided = {"guidance": few.guidance_scale}

        def drawn_with(scheduler: Scheduler, scale: float, **settings: Any) -> tuple[dict[str, list[Question]], DrawnPictures]:
            pipe.scheduler, pipe.loras["student"].scale = scheduler, scale
            questions = {name: with_settings(every, **settings) for name, every in asked.items()}
            return questions, draw_all(pipe, judge, [q.request for every in questions.values() for q in every], progress=progress)

        ways = {
            f"teacher, {Options.steps} steps": (drawn_with(own, 0.0, **guided), 2 * Options.steps),
            f"teacher, {few.steps} steps": (drawn_with(trailing, 0.0, steps=few.steps, **guided), 2 * few.steps),
            f"student, {few.steps} steps": (drawn_with(trailing, 1.0, steps=few.steps, guidance=1.0), few.steps),
        }
    finally:
        pipe.scheduler = own
        pipe.unload_lora("student")

    (best_questions, best), _ = next(iter(ways.values()))
    rows = []
    for name, ((questions, drawn), evaluations) in ways.items():
        figures = [Measurement("evaluations", "network evaluations", float(evaluations), "{:.0f}")]
        for split, every in questions.items():
            result = score(every, answers(drawn, every))
            figures += [share(f"subject.{split}", "", result.subject), share(f"style.{split}", "", result.style)]
        both = [
            drawn_there.pictures[drawn_there.rows(q.request for every in there.values() for q in every)]
            for there, drawn_there in ((questions, drawn), (best_questions, best))
        ]
        figures.append(Measurement("distance", "", distance(*both).mean().item(), "{:.1f}"))
        rows.append((name, tuple(figures)))
    title = (
        "The same pairs from the same noise, drawn by a distilled model and by its teacher, with 95 % intervals. The distance is "
        f"to the teacher's picture in {Options.steps} steps, root mean square in levels of 255:"
    )
    headings = [f"{what}, {SPLIT_NAMES[split]}" for split in asked for what in ("right subject", "right style")]
    return Table("student", title, ("", "network evaluations", *headings, "distance"), tuple(rows))
