"""A model as files that other runtimes read: three ONNX graphs, the tokenizer, and `model.json`, which says all the rest.

networks.py    each network as an ONNX graph, with float16 weights
manifest.py    model.json: sizes, noise levels, the settings of each scheduler, the files with their hashes
characters.py  what the tokenizer takes for a letter, for readers with another version of Unicode

The page in `web/` runs from such a folder and knows nothing else of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..checkpoints.atomic import write_atomically
from ..engines.onnx import LARGEST, need_onnx

if TYPE_CHECKING:
    from ..pipeline import StableDiffusion

__all__ = ["export_model"]


def export_model(
    pipe: StableDiffusion,
    folder: str | Path,
    subjects: Sequence[str] = (),
    styles: Sequence[str] = (),
    report: Callable[[str], None] = lambda line: None,
) -> Path:
    """Write text_encoder.onnx, unet.onnx, vae_decoder.onnx, tokenizer.json and model.json into `folder`; returns it.

    Each graph is run in ONNX Runtime and compared with the PyTorch network before it is written. `model.json` comes last, so
    that a folder that has one is whole. The pipeline must be in float32 on the CPU. subjects, styles: what to suggest to those
    who write prompts; a suggestion is a subject, or a subject followed by a style. report: is given a line per file.

    Raises:
        ImportError: onnx, onnxscript or onnxruntime is not installed, or torch is older than 2.6.
        ValueError: the pipeline is elsewhere, in half precision, or too large; or `folder` is a file.
        ArithmeticError: a graph does not compute what the network does. Nothing is written for it, nor model.json.
        OSError: a file could not be written.
    """
    need_onnx()
    import torch

    from .manifest import FILE, file_entry, manifest_of
    from .networks import compare_with_torch, graphs_of, to_onnx, with_float16_weights

    if pipe.device.type != "cpu" or pipe.dtype != torch.float32:
        raise ValueError(f'pipe is {pipe.dtype} on {pipe.device}; to export it, load it with device="cpu", dtype="float32"')
    if (size := 4 * sum(p.numel() for p in pipe.unet.parameters())) >= LARGEST:
        raise ValueError(f"the U-Net has {size:,} bytes in float32; one ONNX file holds less than {LARGEST:,}")
    folder = Path(folder).expanduser()
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"folder {folder} is a file; name a folder, new or not")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).unlink(missing_ok=True)  # until all is written, the folder is no model

    files = {}
    for graph in graphs_of(pipe):
        data = with_float16_weights(to_onnx(graph)).SerializeToString()
        difference = compare_with_torch(graph, data)
        name = f"{graph.name}.onnx"
        write_atomically(folder / name, data)
        files[graph.name] = file_entry(name, data)
        report(f"{folder / name}: {len(data):,} bytes, at most {difference:.1e} from PyTorch")

    data = pipe.tokenizer.backend_tokenizer.to_str().encode()
    write_atomically(folder / "tokenizer.json", data)
    files["tokenizer"] = file_entry("tokenizer.json", data)
    write_atomically(folder / FILE, manifest_of(pipe, files, subjects, styles).encode())
    report(f"{folder / FILE}: {sum(entry['bytes'] for entry in files.values()):,} bytes in {len(files)} files")
    return folder
