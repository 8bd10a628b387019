"""Stable Diffusion from scratch: `load_pipeline("emoji")("a cat")`. Importing this costs no more than importing torch."""

from typing import TYPE_CHECKING

from . import threads

if TYPE_CHECKING:
    from .pipeline import DenoisingStep, StableDiffusion, load_pipeline

threads.prepare()  # before PyTorch is imported

__version__ = "0.1.0"
__all__ = ["DenoisingStep", "StableDiffusion", "__version__", "load_pipeline"]


def __getattr__(name: str) -> object:
    """Import the pipeline, and torch with it, when it is first asked for: `ldm-tutorial --help` answers at once."""
    if name in __all__:
        from . import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
