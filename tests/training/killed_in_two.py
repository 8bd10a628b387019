"""As a script: the three trainings in two processes, killed at a step of each and begun again; in another folder left alone.

The processes are forks of this one, which has imported everything once. Each line says how one attempt ended: 0, or the signal.
"""

import os
import signal
import socket
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from tests.training.small_world import TINY, TRAININGS, forty, module_of, train  # noqa: E402

KILLS = [("clip", 2, 1), ("autoencoder", 3, 0), ("diffusion", 1, 1)]  # the training, the step, the process
OPTIONS = {"clip": (), "autoencoder": ("--gan-start", 0.5), "diffusion": ("--caption-dropout", 0.5, "--agree", 10)}


def process(folder: Path, rank: int, port: int, kill: tuple[str, int, int] | None) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    for name in TRAININGS:
        module = module_of(name)
        module.EMOJI, module.EmojiDataset = TINY, forty
        draw = module.batch_indices

        def killing(n, batch_size, step, seed, name=name, draw=draw):
            if kill == (name, step, rank):
                os.kill(os.getpid(), signal.SIGKILL)
            return draw(n, batch_size, step, seed)

        module.batch_indices = killing
        train(name, folder, "--steps", 4, "--save-every", 1, "--mixed-precision", "no", *OPTIONS[name])
        torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def attempt(folder: Path, kill: tuple[str, int, int] | None) -> int:
    """How the attempt ended: 0, or, as a negative number, the signal that ended one of the two. The other is ended, too."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    children = {}
    for rank in (0, 1):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                process(folder, rank, port, kill)
                code = 0
            finally:
                os._exit(code)
        children[child] = rank
    codes = []
    while children:
        for child in list(children):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                del children[child]
                code = os.waitstatus_to_exitcode(status)
                codes.append(code)
                if code:
                    for other in children:
                        os.kill(other, signal.SIGTERM)
        time.sleep(0.02)
    return -signal.SIGKILL if -signal.SIGKILL in codes else next(filter(None, codes), 0)  # the other may notice first


if __name__ == "__main__":
    place = Path(sys.argv[1])
    for kill in [*KILLS, None]:
        print(attempt(place / "killed", kill), flush=True)
    print(attempt(place / "alone", None), flush=True)
