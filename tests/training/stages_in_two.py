"""As a script: a file of two stages in two processes, of which the first is slow to write what it has learned.

The processes are forks of this one. The script fails if one of them does.
"""

import os
import socket
import sys
import time
import traceback
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from ldm_tutorial.training.stages import read_stages, run_stages  # noqa: E402

FILE = "[first]\npart = net\nsteps = 2\n[second]\npart = net\nsteps = 3\n"


def training(folder: Path, rank: int) -> types.ModuleType:
    """Adds its steps to a number in a file, which the process 0 writes half a second after the other has ended."""
    module = types.ModuleType("net")

    def add_arguments(parser):
        parser.add_argument("--folder", type=Path)
        parser.add_argument("--start-from", type=Path)
        parser.add_argument("--steps", type=int)

    def main(args):
        begin = int((args.start_from / "weights").read_text()) if args.start_from else 0
        if rank == 0:
            time.sleep(0.5)
            run = args.folder / "training" / "net"
            run.mkdir(parents=True, exist_ok=True)
            (run / "log.jsonl").write_text(f'{{"step": {args.steps}}}\n')
            (args.folder / "weights").write_text(str(begin + args.steps))
        else:
            (folder / "begun").write_text((folder / "begun").read_text() + f"{begin} ")

    module.add_arguments, module.main = add_arguments, main
    return module


def process(folder: Path, rank: int, port: int) -> None:
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    sys.modules["trainings.net"] = training(folder, rank)
    parts = {"net": "trainings.net"}
    run_stages(read_stages(folder / "stages.ini", parts), folder, parts)


if __name__ == "__main__":
    place = Path(sys.argv[1])
    (place / "stages.ini").write_text(FILE)
    (place / "begun").write_text("")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    children = []
    for rank in (0, 1):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                process(place, rank, port)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    sys.exit(any(codes))
