"""As a script: a distillation in one process, and the same in two. Each writes its state: "one-0.pt", "two-0.pt", "two-1.pt"."""

import argparse
import functools
import os
import socket
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from ldm_tutorial.training import distill  # noqa: E402
from ldm_tutorial.training.loop import TrainingRun  # noqa: E402
from tests.training.small_world import forty  # noqa: E402


def process(name: str, folder: Path, teacher: str, rank: int, count: int, port: int) -> None:
    if count > 1:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count))
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    save = TrainingRun.save

    def save_and_show(run):
        save(run)
        torch.save({name: part.state_dict() for name, part in run.state.items()}, folder / f"{name}-{rank}.pt")

    TrainingRun.save, distill.EmojiDataset = save_and_show, forty
    # Adam divides a gradient by its size. With the usual epsilon, one that is zero but for rounding becomes a whole step.
    torch.optim.AdamW = functools.partial(torch.optim.AdamW, eps=1e-2)
    parser = argparse.ArgumentParser()
    distill.add_arguments(parser)
    options = f"--model {teacher} --folder {folder / name} --teacher-steps 4 --student-steps 1 --steps 4 --batch-size 4"
    options += " --mixed-precision no --rank 4 --log-every 1 --sample-every 100"
    distill.main(parser.parse_args(options.split()))
    if count > 1:
        torch.distributed.destroy_process_group()


def run(name: str, folder: Path, teacher: str, count: int) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    children = []
    for rank in range(count):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                process(name, folder, teacher, rank, count, port)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    for child in children:
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            sys.exit(1)


if __name__ == "__main__":
    for name, count in (("one", 1), ("two", 2)):
        run(name, Path(sys.argv[1]), sys.argv[2], count)
