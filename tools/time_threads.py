#!/usr/bin/env python3
"""How long a picture takes alone and beside busy programs, with PyTorch's threads as it sets them and as we do.

python tools/time_threads.py                          # 7 rounds, about two minutes on two quiet cores
python tools/time_threads.py --rounds 3 --busy 0 1 --settings ours plain

Each setting has a process of its own, which loads the model once and then draws on request, one at a time and in turn, so that
whatever else the machine does meets them all alike. Printed are medians of seconds, and their ratio to the plain setting alone.
ldm_tutorial/threads.py says why they differ.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

# What decides it, and must not come from outside; then what each setting sets.
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
SETTINGS = {
    "ours": ("brief spinning, threads only for free cores", {}),
    "plain": ("PyTorch's own: long spinning, all cores", {"GOMP_SPINCOUNT": "300000", "OMP_NUM_THREADS": "all"}),
    "brief": ("brief spinning, all cores", {"OMP_NUM_THREADS": "all"}),
    "passive": ("no spinning, all cores", {"GOMP_SPINCOUNT": "0", "OMP_NUM_THREADS": "all"}),
    "one": ("one thread", {"OMP_NUM_THREADS": "1"}),
}
WORKER = """
import sys, time
from ldm_tutorial import load_pipeline
pipe = load_pipeline("emoji")
def draw(steps):
    began = time.perf_counter(), time.process_time()
    pipe("a cat in the style of noto", steps=steps, seed=0, progress=False)
    return time.perf_counter() - began[0], time.process_time() - began[1]
draw(25)
print("ready", flush=True)
for line in sys.stdin:
    print(*draw(int(line)), flush=True)
"""
BURNER = "while True: pass"


class Worker:
    """A process with the model in it, which draws when asked."""

    def __init__(self, variables: dict[str, str]):
        from ldm_tutorial.threads import cores

        environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
        environment |= {name: str(cores()) if value == "all" else value for name, value in variables.items()}
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            env=environment | {"CUDA_VISIBLE_DEVICES": "", "LDM_QUIET": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self._answer() != "ready":
            self.close()
            raise RuntimeError("the process that draws has ended; its message is above")

    def draw(self, steps: int) -> tuple[float, float]:
        """Seconds by the clock, and seconds of processor time, for one picture."""
        print(steps, file=self.process.stdin, flush=True)
        wall, processor = map(float, self._answer().split())
        return wall, processor

    def _answer(self) -> str:
        return self.process.stdout.readline().strip()

    def close(self) -> None:
        """End it, and wait until it has ended."""
        self.process.kill()
        self.process.communicate()


@contextmanager
def busy(programs: int) -> Iterator[None]:
    """So many programs beside, each of which keeps a core busy."""
    burners = [subprocess.Popen([sys.executable, "-S", "-c", BURNER]) for _ in range(programs)]
    time.sleep(0.3 if burners else 0)
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def measure(settings: list[str], beside: list[int], rounds: int, steps: int) -> dict[tuple[str, int], list[tuple[float, float]]]:
    """(setting, programs beside) -> seconds by the clock and of processor time, one pair a round."""
    times: dict[tuple[str, int], list[tuple[float, float]]] = {(name, n): [] for name in settings for n in beside}
    workers: dict[str, Worker] = {}
    try:
        for name in settings:
            workers[name] = Worker(SETTINGS[name][1])
        for _ in range(rounds):
            for programs in beside:
                with busy(programs):
                    for name, worker in workers.items():
                        times[name, programs].append(worker.draw(steps))
    finally:
        for worker in workers.values():
            worker.close()
    return times


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, metavar="N")
    parser.add_argument("--steps", type=int, default=25, metavar="N")
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1, 2], metavar="N", help="busy programs beside (0 1 2)")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    args = parser.parse_args()
    try:
        load = f"{os.getloadavg()[0]:.1f}"
    except (OSError, AttributeError):  # Windows
        load = "unknown"
    times = measure(args.settings, args.busy, args.rounds, args.steps)
    first = "plain" if "plain" in args.settings else args.settings[0]
    reference = statistics.median(wall for wall, _ in times[first, args.busy[0]])
    print(f"One picture of {args.steps} steps, medians of {args.rounds}; load of the machine when it began: {load}\n")
    print("| setting | programs beside | seconds | ratio | processor seconds |\n|---|---|---|---|---|")
    for (name, programs), pairs in times.items():
        wall, processor = (statistics.median(values) for values in zip(*pairs))
        print(f"| {SETTINGS[name][0]} | {programs} | {wall:.2f} | {wall / reference:.2f} | {processor:.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
