"""What every notebook needs: a look at the machine, and pictures that say in words what they show."""

from __future__ import annotations

import base64
import io
import os
import platform
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import Image

NEEDS_PYTHON, NEEDS_TORCH, NEEDS_GIB = (3, 10), (2, 2), 2
EMOJI = Path(__file__).parent / "models" / "emoji"


def show(picture: Figure | Image.Image, alt: str, width: int | None = None, colors: int | None = None) -> None:
    """Display a figure or an image, stored as png, with its alt text: what someone who cannot see it should know.

    width: on the page, in pixels; None: as wide as it is. colors: no more than so many, 2 ... 256; noise does not compress,
    and with 128 colors it takes a quarter of the space. A figure made with pyplot is closed, so that it shows once.
    Raises TypeError for another kind of picture, ValueError for an empty alt text.
    """
    from IPython.display import display

    if not isinstance(alt, str) or not alt.strip():
        raise ValueError(f"alt={alt!r} must say what the picture shows, for those who cannot see it")
    properties = {"alt": alt} if width is None else {"alt": alt, "width": width}
    data = {"image/png": base64.b64encode(png(picture, colors)).decode(), "text/plain": alt}
    display(data, raw=True, metadata={"image/png": properties})
    if isinstance(picture, Figure) and "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close(
            picture
        )  # the inline backend would show it again; others stay open


def png(picture: Figure | Image.Image, colors: int | None = None) -> bytes:
    """The same bytes for the same picture: no date, no version in them."""
    file = io.BytesIO()
    if colors is not None:
        picture = Image.open(io.BytesIO(png(picture))).convert("RGB").quantize(colors, dither=Image.Dither.NONE)
    if isinstance(picture, Figure):
        picture.savefig(file, format="png", dpi=picture.dpi, metadata={"Software": None})
    elif isinstance(picture, Image.Image):
        picture.save(file, "PNG", optimize=True)
    else:
        raise TypeError(f"show takes a matplotlib figure or a PIL image, not {type(picture).__name__}")
    return file.getvalue()


def preflight() -> torch.device:
    """Print whether this machine has what the notebooks need, and what to do where it has not.

    Returns the device they draw on: cuda, mps or cpu, the first there is.
    """
    from .checkpoints import pick_device

    device = pick_device(None)
    for name, problem, found in checks(device):
        print(f"{name:<8} FAIL {found}: {problem}" if problem else f"{name:<8} OK   {found}")
    return device


def checks(device: torch.device) -> Iterator[tuple[str, str, str]]:
    """(what, the problem or "", what was found)."""
    from .machine import GIB, memory_bytes

    old = sys.version_info < NEEDS_PYTHON
    yield "Python", old and "3.10 or newer is needed", platform.python_version()

    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    yield (
        "PyTorch",
        version < NEEDS_TORCH and "2.2 or newer is needed: pip install --upgrade torch",
        torch.__version__,
    )

    memory = memory_bytes()
    little = memory is not None and memory < NEEDS_GIB * GIB
    yield (
        "memory",
        little and f"{NEEDS_GIB} GiB are needed",
        f"{memory / GIB:.1f} GiB" if memory else "size unknown",
    )

    name = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"{os.cpu_count()} processor cores"
    )
    yield "device", "", f"{device.type}, {name}"

    weights = sum(file.stat().st_size for file in EMOJI.rglob("*.safetensors"))
    missing = (
        not weights and 'install the package again: pip install --force-reinstall --no-deps "ldm-tutorial"'
    )
    yield "model", missing, f"emoji, {weights / 1e6:.0f} MB of weights"

    try:
        yield "widgets", "", f"ipywidgets {metadata.version('ipywidgets')}"
    except metadata.PackageNotFoundError:
        yield "widgets", "pip install ipywidgets", "no ipywidgets"
