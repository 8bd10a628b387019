"""How many processor cores are ours, and how PyTorch's threads share them with other programs.

PyTorch gives each core a thread. They split the work of an operation and meet at its end, some hundred times in one denoising
step, and the thread that is there first spins: it asks again and again whether the others have come. GNU's OpenMP lets it ask
300,000 times, longer than another program's turn on a core. So where a second program is at work, threads spin while they wait
for one that has no core, and a picture takes ten to twenty times as long. Two remedies, and neither changes what is drawn:

- A thread asks 2,000 times, then it sleeps. On a quiet machine the others have come by then; beside another program's turn it is
  short. OpenMP reads the number when it is loaded, so `prepare` runs before PyTorch is imported.
- A denoising step leaves out the cores that are busy with other programs (`sharing`). One thread has nobody to wait for.

Whoever sets OMP_NUM_THREADS, GOMP_SPINCOUNT or OMP_WAIT_POLICY, or calls `torch.set_num_threads`, has decided for themselves.
tools/time_threads.py measures all of it. Needs nothing but the standard library.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SPINS = 2_000
LOOKS, PAUSE = 5, 0.001  # how often `busy_elsewhere` looks, and the seconds in between: what hums along for less is no burden
VALID = 0.5  # seconds, for which `free_threads` holds its answer true
PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")

_asked = False  # the user has said how many threads
_late = False  # PyTorch was imported before us, and its threads spin long
_known = (-math.inf, 1)  # when `free_threads` last looked, and what it found


def prepare() -> None:
    """Before PyTorch is imported: threads that wait briefly, and no more of them than cores that are ours."""
    global _asked, _late
    _late = "torch" in sys.modules
    _asked = "OMP_NUM_THREADS" in os.environ
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))
    ours = cores()
    if not _asked and ours < affinity():  # a container's share, which OpenMP does not know of
        os.environ["OMP_NUM_THREADS"] = str(ours)
        if _late:
            import torch

            torch.set_num_threads(min(ours, torch.get_num_threads()))


def cores() -> int:
    """How many cores this process may use: those that it is bound to, and no more than its container's share, rounded up."""
    share = container_share()
    return affinity() if share is None else max(1, min(affinity(), math.ceil(share)))


def affinity() -> int:
    """How many cores the system lets this process run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def container_share() -> float | None:
    """The processor time of this process's control group and those above it, in cores: Docker's --cpus. None: no limit."""
    try:
        groups = [line.split(":", 2) for line in (PROC / "self" / "cgroup").read_text().splitlines()]
    except OSError:  # no Linux
        return None
    shares = []
    for _, controllers, path in groups:
        if controllers == "":
            places = [CGROUPS]
        elif "cpu" in controllers.split(","):
            places = [CGROUPS / "cpu", CGROUPS / controllers]
        else:
            continue
        for place in places:
            group = place / path.strip("/")
            while group.is_relative_to(place):  # a container may not see its own name, but always its root
                shares.append(share_of(group))
                group = group.parent
    return min((share for share in shares if share is not None), default=None)


def share_of(group: Path) -> float | None:
    """Quota over period of one control group, in cores: of version 2 or 1."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return None if quota in ("max", "-1") else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def busy_elsewhere() -> int:
    """How many threads of other processes are at work at this moment; 0 where the system does not tell. Takes 4 ms."""
    fewest = math.inf
    for look in range(LOOKS):
        if look:
            time.sleep(PAUSE)
        try:
            running = int((PROC / "loadavg").read_text().split()[3].split("/")[0])
        except (OSError, ValueError, IndexError):
            return 0
        fewest = min(fewest, running - own_running())
    return max(0, int(fewest))


def own_running() -> int:
    """How many threads of this process are at work: this one, and those that still spin."""
    running = 0
    for thread in os.listdir(PROC / "self" / "task"):
        try:
            state = (PROC / "self" / "task" / thread / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:  # it has ended
            continue
        running += state == "R"
    return running


def free_threads() -> int:
    """How many threads to draw with now: PyTorch's number, less the cores that others keep busy. At least 1."""
    global _known
    import torch

    threads = torch.get_num_threads()
    if _asked or threads == 1 or threads != cores():
        return threads
    looked, busy = _known
    if time.monotonic() - looked > VALID:
        busy = busy_elsewhere()
        _known = (time.monotonic(), busy)
    return max(1, min(threads, (os.cpu_count() or threads) - busy))


@contextmanager
def sharing() -> Iterator[None]:
    """With only as many threads as cores are free; PyTorch's number is the same as before when it ends."""
    import torch

    before, now = torch.get_num_threads(), free_threads()
    if now == before:
        yield
        return
    torch.set_num_threads(now)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def cores_and_threads() -> str:
    """Cores and threads in one line, for preflight and `ldm-tutorial info`."""
    import torch

    ours, there, threads = cores(), os.cpu_count() or 1, torch.get_num_threads()
    now = free_threads()
    words = [f"{ours} of {there} cores are ours" if ours < there else f"{there} {'core' if there == 1 else 'cores'}"]
    words.append(f"{threads} {'thread' if threads == 1 else 'threads'}" + " as OMP_NUM_THREADS says" * _asked)
    if now < threads:
        words.append(f"only {now} of them at work while other programs are busy")
    if _late and threads > 1:
        words.append("PyTorch was imported before ldm_tutorial, so its threads spin while they wait")
    return ", ".join(words)
