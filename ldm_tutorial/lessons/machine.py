"""What to paste into a bug report: the machine, the versions and the models, and nothing that is private."""

from __future__ import annotations

import getpass
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from .. import threads

PACKAGES = (
    "torch",
    "numpy",
    "transformers",
    "huggingface_hub",
    "safetensors",
    "pillow",
    "matplotlib",
    "ipywidgets",
    "tqdm",
    "accelerate",
    "diffusers",
    "jupyterlab",
    "notebook",
    "ipykernel",
)
VARIABLES = (
    "LDM_WEIGHTS_DIR",
    "LDM_QUIET",
    "HF_HOME",
    "HF_HUB_OFFLINE",
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "GOMP_SPINCOUNT",
    "CUDA_VISIBLE_DEVICES",
)
GIB = 2**30


def report() -> str:
    """One line for each thing, names on the left."""
    sections = (
        ("ldm_tutorial", software),
        ("machine", machine),
        ("packages", packages),
        ("models", models),
        ("environment", variables),
    )
    lines = []
    for section, entries in sections:
        lines.append(section)
        lines += [f"  {name:<18}{private(value)}" for name, value in entries().items()]
    return "\n".join(lines)


def software() -> dict[str, str]:
    """The versions of this package and of Python, and where they are."""
    from .. import __version__

    python = f"{platform.python_version()} ({platform.python_implementation()}) at {sys.prefix}"
    return {"version": f"{__version__} at {Path(__file__).parent}", "python": python}


def machine() -> dict[str, str]:
    """System, processor, threads, memory, disk and accelerators."""
    import torch

    from ..checks import memory_bytes

    memory = memory_bytes()
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": f"{processor()}, {torch.backends.cpu.get_cpu_capability()}",
        "cores and threads": threads.cores_and_threads(),
        "memory": f"{memory / GIB:.1f} GiB" if memory else "unknown",
        "free disk": f"{shutil.disk_usage(Path.cwd()).free / GIB:.1f} GiB in the current folder",
        "accelerators": accelerators(),
        "precision": precision(),
    }


def processor() -> str:
    """The name of the processor, or at least its architecture."""
    try:
        if sys.platform == "linux":
            found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
            return found[1].strip() if found else platform.machine()
        if sys.platform == "darwin":
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True, timeout=5).stdout.strip() or platform.machine()
    except (OSError, subprocess.SubprocessError):
        pass
    return platform.processor() or platform.machine()


def accelerators() -> str:
    """The GPUs that torch can use, with their memory; "none" without one."""
    import torch

    found = []
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(i)
            found.append(f"cuda:{i} {properties.name}, {properties.total_memory / GIB:.0f} GiB")
    if torch.backends.mps.is_available():
        found.append("mps")
    return "; ".join(found) or "none"


def precision() -> str:
    """What a pipeline computes in by default, and whether another precision is faster here, as measured."""
    from ..checks import pick_device
    from ..engines.dtypes import fastest_dtype, gain_of_bfloat16, has_bfloat16

    device = pick_device()
    fastest = str(fastest_dtype(device)).removeprefix("torch.")
    if device.type == "cuda":
        return f"float16 by default; dtype='fastest' is {fastest}"
    gain = f"; bfloat16 is native and {gain_of_bfloat16():.1f} times as fast" if device.type == "cpu" and has_bfloat16() else ""
    return f"float32 by default{gain}; dtype='fastest' is {fastest}"


def packages() -> dict[str, str]:
    """The installed version of each of `PACKAGES`."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def models() -> dict[str, str]:
    """Where the models are that have a name, and their size, without asking the network."""
    from ..checkpoints.hub import KNOWN

    return {name: found_at(name) for name in KNOWN}


def found_at(name: str) -> str:
    """The place and size of a known model: in the package, in LDM_WEIGHTS_DIR, or in the hub's cache."""
    from ..checkpoints.hub import KNOWN, find, searched

    try:
        place = find(name)
    except FileNotFoundError as error:
        return str(error)
    if place is None:
        return ". ".join(filter(None, ("not found", searched(KNOWN[name]).strip())))
    size = sum(file.stat().st_size for file in (place, *place.rglob("*")) if file.is_file())
    return f"{size / 1e6:,.0f} MB at {place}"


def variables() -> dict[str, str]:
    """Those of `VARIABLES` that are set in the environment."""
    return {name: os.environ[name] for name in VARIABLES if name in os.environ} or {"": "none of ours is set"}


def private(text: str) -> str:
    """The text without the user's name and home folder."""
    text = text.replace(str(Path.home()), "~") if len(str(Path.home())) > 1 else text
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container may have no name for its user
        return text
    return re.sub(rf"(?<=[/\\]){re.escape(user)}(?=[/\\]|$)", "<user>", text)
