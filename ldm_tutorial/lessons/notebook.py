"""What every notebook needs: a look at the machine, and pictures that say in words what they show."""

from __future__ import annotations

import base64
import io
import platform
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from matplotlib.figure import Figure
from PIL import Image

from .. import threads
from ..weights import EMOJI_FOLDER
from .alt_texts import alt_text

if TYPE_CHECKING:
    from ..weights import KnownModel

NEEDS_PYTHON, NEEDS_TORCH, NEEDS_GIB = (3, 10), (2, 4), 2


def show(picture: Figure | Image.Image, alt: str, width: int | None = None, colors: int | None = None) -> None:
    """Display a figure or an image, stored as png, with its alt text: what someone who cannot see it should know.

    alt: the text, or the keyword of one in alt_texts.json.
    width: on the page, in pixels; None: as wide as it is. colors: no more than so many, 2 ... 256; noise does not compress,
    and with 128 colors it takes a quarter of the space. A figure made with pyplot is closed, so that it shows once.
    Raises TypeError for another kind of picture, ValueError for an empty alt text or an unknown keyword.
    """
    from IPython.display import display

    alt = alt_text(alt)
    properties = {"alt": alt} if width is None else {"alt": alt, "width": width}
    data = {"image/png": base64.b64encode(png(picture, colors)).decode(), "text/plain": alt}
    display(data, raw=True, metadata={"image/png": properties})
    if isinstance(picture, Figure) and "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close(picture)  # the inline backend would show it again; others stay open


def png(picture: Figure | Image.Image, colors: int | None = None) -> bytes:
    """The same bytes for the same picture: no date, no version in them."""
    file = io.BytesIO()
    if colors is not None:
        # MAXCOVERAGE keeps a rare color, such as one blue car among brown animals; kmeans then shares out the others
        rgb = Image.open(io.BytesIO(png(picture))).convert("RGB")
        picture = rgb.quantize(colors, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE)
    if isinstance(picture, Figure):
        picture.savefig(file, format="png", dpi=picture.dpi, metadata={"Software": None})
    elif isinstance(picture, Image.Image):
        picture.save(file, "PNG", optimize=True)
    else:
        raise TypeError(f"show takes a matplotlib figure or a PIL image, not {type(picture).__name__}")
    return file.getvalue()


def weights(name: str = "sd15", download: bool = False) -> Path | None:
    """Where the weights of a known model are on this machine; without them, None, and a note that says how to get them.

    For cells that `load_pipeline` such a model: they run where this is not None, and no request leaves the machine. Only
    `download=True` asks the hub for what is missing.
    """
    from ..checkpoints import CheckpointError, HubError, load_tokenizer, resolve
    from ..checkpoints.hub import KNOWN, find, find_tokenizer, searched

    model = KNOWN[name]
    try:
        place = resolve(name) if download else find(name)
        if place is None:
            print(searched(model) + without_weights(model))
            return None
        if find_tokenizer(place) is None:
            if not download:
                print(without_tokenizer(model, place))
                return None
            load_tokenizer(place)
    except (FileNotFoundError, HubError, CheckpointError) as error:
        print(f"{model.title} cannot be used: {error}")
        return None
    size = sum(file.stat().st_size for file in (place, *place.rglob("*")) if file.is_file())
    print(f"{model.title} is on this machine, {size / 1e9:.1f} GB. License: {model.license}")
    return place


def without_weights(model: KnownModel) -> str:
    """What to do where a model of the hub is not on this machine."""
    return (
        f"{model.title} is not on this machine, so the cells that need its weights do nothing. To have them run, either\n"
        "1. with an internet connection, say download=True in this cell and run it again. "
        f"It fetches {model.size / 1e9:.1f} GB, once.\n"
        f"2. by hand, from {model.repo_id} on the hub, take the file {model.file}\n"
        f"   ({model.size:,} bytes, sha256 {model.sha256})\n"
        "   and the folder tokenizer (vocab.json, merges.txt; 1.5 MB). Put both into one folder, set the environment variable\n"
        "   LDM_WEIGHTS_DIR to it, and start the notebook again.\n"
        f"License: {model.license}."
    )


def without_tokenizer(model: KnownModel, place: Path) -> str:
    """What to do where there is the single file, which holds weights and no words."""
    return (
        f"{place.name} is on this machine, but no tokenizer, so the cells that need it do nothing. Put the folder tokenizer\n"
        f"of {model.repo_id} (vocab.json, merges.txt; 1.5 MB) beside it, or say download=True in this cell."
    )


def preflight() -> torch.device:
    """Print whether this machine has what the notebooks need, and what to do where it has not.

    Returns the device they draw on: cuda, mps or cpu, the first there is.
    """
    from ..checks import pick_device

    device = pick_device(None)
    for name, problem, found in checks(device):
        print(f"{name:<8} FAIL {found}: {problem}" if problem else f"{name:<8} OK   {found}")
    return device


def checks(device: torch.device) -> Iterator[tuple[str, str, str]]:
    """(what, the problem or "", what was found)."""
    from ..checks import memory_bytes
    from .machine import GIB

    old = sys.version_info < NEEDS_PYTHON
    yield "Python", "3.10 or newer is needed" if old else "", platform.python_version()

    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    yield (
        "PyTorch",
        "2.4 or newer is needed: pip install --upgrade torch" if version < NEEDS_TORCH else "",
        str(torch.__version__),
    )

    memory = memory_bytes()
    little = memory is not None and memory < NEEDS_GIB * GIB
    yield (
        "memory",
        f"{NEEDS_GIB} GiB are needed" if little else "",
        f"{memory / GIB:.1f} GiB" if memory else "size unknown",
    )

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else threads.cores_and_threads()
    yield "device", "", f"{device.type}, {name}"

    weights = sum(file.stat().st_size for file in EMOJI_FOLDER.rglob("*.safetensors"))
    again = 'install the package again: pip install --force-reinstall --no-deps "ldm-tutorial"'
    yield "model", "" if weights else again, f"emoji, {weights / 1e6:.0f} MB of weights"

    try:
        yield "widgets", "", f"ipywidgets {metadata.version('ipywidgets')}"
    except metadata.PackageNotFoundError:
        yield "widgets", "pip install ipywidgets", "no ipywidgets"
