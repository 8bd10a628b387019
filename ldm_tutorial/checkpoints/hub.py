"""From a name to a folder or file on this machine: models we know, `LDM_WEIGHTS_DIR`, and Hugging Face's hub.

The hub is asked only for what is nowhere here, and then for nothing but weights in safetensors, JSON and word lists.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..weights import EMOJI_FOLDER
from .folder import PARTS, find_weights, holds_tokenizer, read_tokenizer
from .tensors import CheckpointError

if TYPE_CHECKING:
    from transformers import CLIPTokenizer


class HubError(OSError):
    """The hub could not be reached, or does not have it. Says what to put where instead."""


@dataclass(frozen=True)
class KnownModel:
    """A model that has a short name here: shipped with the package (`folder`), or on the hub (`repo_id` at `revision`)."""

    name: str
    title: str
    license: str
    folder: Path | None = None
    repo_id: str | None = None
    revision: str | None = None
    # the same weights in one file
    file: str | None = None
    size: int = 0  # bytes
    sha256: str = ""


KNOWN = {
    model.name: model
    for model in (
        KnownModel(
            name="emoji",
            title="the small model that this project trained",
            license="see README.md beside it",
            folder=EMOJI_FOLDER,
        ),
        KnownModel(
            name="sd15",
            title="Stable Diffusion v1.5",
            license="CreativeML Open RAIL-M",
            repo_id="stable-diffusion-v1-5/stable-diffusion-v1-5",
            revision="451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
            file="v1-5-pruned-emaonly.safetensors",
            size=4_265_146_304,
            sha256="6ce0161689b3853acaa03779ec93eafe75a02f4ced659bee03f50797806fa2fa",
        ),
    )
}

# What is fetched from the hub: no pickles, no second copies in other formats, and of variants only fp16, if that is all there is.
SETTINGS = ("model_index.json", "scheduler/scheduler_config.json", *(f"{name}/config.json" for name in PARTS))
TOKENIZER = ("tokenizer/*.json", "tokenizer/*.txt")
STEMS = [f"{name}/{part.stem}" for name, part in PARTS.items()]
PLAIN = tuple(stem + end for stem in STEMS for end in (".safetensors", "-*.safetensors", ".safetensors.index.json"))
FP16 = tuple(stem + end for stem in STEMS for end in (".*fp16*.safetensors", ".safetensors.index.fp16.json"))


def resolve(name_or_path: str | Path, revision: str | None = None) -> Path:
    """The folder or file of a model: for a path, itself; for "emoji", "sd15" or a hub id "owner/name", where it is.

    A model of the hub is looked for in `LDM_WEIGHTS_DIR` first, and downloaded into the hub's cache otherwise. A known one that
    is in the cache already is not asked for again: its revision is fixed, so that it cannot have changed.

    Raises:
        FileNotFoundError: a path that does not exist.
        ValueError: neither a path, nor a name that is known, nor of the form of a hub id.
        HubError (an OSError): the hub could not be reached, or does not have it.
    """
    name = str(name_or_path)
    if isinstance(name_or_path, str) and name in KNOWN:
        return _resolve_known(KNOWN[name], revision)
    path = Path(name).expanduser()
    if name and path.exists():
        if revision is not None:
            raise ValueError(f"revision={revision!r} goes with a model of the hub, but {name} is on this machine")
        return path
    is_path = isinstance(name_or_path, Path) or name.endswith((".safetensors", ".ckpt"))
    if is_path or not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name):
        raise FileNotFoundError(f"there is no file or folder {name}")
    if "/" in name:
        return next(_local(name), None) or _download(name, revision)
    close = difflib.get_close_matches(name, KNOWN, n=1)
    raise ValueError(
        f"the model {name!r} is unknown" + (f"; did you mean {close[0]!r}?" if close else ".") + " There is no file or folder of "
        f'that name. Give {", ".join(map(repr, KNOWN))}, a path, or the id of a model on the hub, "owner/name".'
    )


def load_tokenizer(checkpoint: str | Path, vocab_size: int | None = None) -> CLIPTokenizer:
    """The tokenizer of a file or folder that holds none: from a folder `tokenizer` beside the file, from `LDM_WEIGHTS_DIR`, or
    Stable Diffusion v1.5's from the hub.

    Raises:
        HubError (an OSError): there is none, and the hub could not be reached.
        CheckpointError (a ValueError): it is damaged, or has not `vocab_size` entries.
    """
    place = find_tokenizer(checkpoint)
    if place is not None:
        return read_tokenizer(place, vocab_size)
    checkpoint, model = Path(checkpoint), KNOWN["sd15"]
    try:
        downloaded = _snapshot(model.repo_id, model.revision, TOKENIZER)
    except HubError as error:
        raise HubError(
            f"{checkpoint} holds no tokenizer, and none was found: {error}. Put the folder `tokenizer` of {model.repo_id} "
            f"(vocab.json and merges.txt, 1.5 MB) into {checkpoint if checkpoint.is_dir() else checkpoint.parent}"
        ) from error
    return read_tokenizer(downloaded / "tokenizer", vocab_size)


def verify(path: str | Path) -> bool:
    """Whether a file has the size and the SHA-256 that are published for its name. Reads all of it.

    Raises:
        ValueError: no file of this name is known.
    """
    path = Path(path)
    model = next((m for m in KNOWN.values() if m.file == path.name), None)
    if model is None:
        known = ", ".join(m.file for m in KNOWN.values() if m.file)
        raise ValueError(f"nothing was published about a file of the name {path.name}, only about {known}")
    if path.stat().st_size != model.size:
        return False
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest() == model.sha256


# ---- on this machine. Nothing from here to "on the hub" goes to the network


def find(name: str) -> Path | None:
    """The folder or file of a known model, "emoji" or "sd15": shipped, in `LDM_WEIGHTS_DIR`, or downloaded before; else None.

    Raises:
        FileNotFoundError: `LDM_WEIGHTS_DIR` names no folder.
    """
    model = KNOWN[name]
    return next(_places(model), None) or (_in_cache(model) if model.repo_id else None)


def find_tokenizer(checkpoint: str | Path) -> Path | None:
    """The folder of the tokenizer of a file or folder that holds none, where `load_tokenizer` finds it without the hub."""
    checkpoint, model = Path(checkpoint), KNOWN["sd15"]
    places = [checkpoint if checkpoint.is_dir() else checkpoint.parent, *_weights_dir(), *_local(model.repo_id)]
    folders = [place / "tokenizer" for place in places] + [_cached(model) / "tokenizer"]
    return next((folder for folder in folders if holds_tokenizer(folder)), None)


def local_models() -> list[str]:
    """Those of the known models whose weights are on this machine."""
    try:
        return [name for name in KNOWN if find(name)]
    except FileNotFoundError:  # LDM_WEIGHTS_DIR names no folder
        return [name for name, model in KNOWN.items() if model.folder and find(name)]


def _cached(model: KnownModel) -> Path:
    """Where the hub's cache has this revision of a model, if it has it."""
    from huggingface_hub import constants

    owner_and_name = model.repo_id.replace("/", "--")
    return Path(constants.HF_HUB_CACHE) / f"models--{owner_and_name}" / "snapshots" / model.revision


def _in_cache(model: KnownModel) -> Path | None:
    """Its folder in the hub's cache, if the download was finished: settings and weights of each network, and the tokenizer."""
    folder = _cached(model)
    if not all((folder / name / "config.json").is_file() for name in PARTS) or not holds_tokenizer(folder / "tokenizer"):
        return None
    try:
        whole = all(file.is_file() for name, part in PARTS.items() for file in find_weights(folder / name, part.stem))
    except (FileNotFoundError, CheckpointError):  # pieces, or too many variants: the hub may know better
        whole = False
    return folder if whole else None


def _resolve_known(model: KnownModel, revision: str | None) -> Path:
    place = next(_places(model), None)
    if place is None and model.folder is not None:
        raise FileNotFoundError(
            f"the model {model.name!r} is not in this installation: {model.folder} has no model_index.json. "
            f"Install the package anew, or train it: ldm-tutorial train --help"
        )
    if place is None and revision in (None, model.revision):
        place = _in_cache(model)
    return place or _download(model.repo_id, revision or model.revision)


def _places(model: KnownModel) -> Iterator[Path]:
    """Where a known model is on this machine, the hub's cache aside; the best place first."""
    if model.folder is not None:
        yield from [model.folder] if (model.folder / "model_index.json").is_file() else []
        return
    yield from (root / model.file for root in _weights_dir() if (root / model.file).is_file())
    yield from _local(model.repo_id, model.name)
    yield from (root for root in _weights_dir() if (root / "model_index.json").is_file())


def _weights_dir() -> list[Path]:
    """The folder that `LDM_WEIGHTS_DIR` names, or nothing. Raises FileNotFoundError if there is no such folder."""
    name = os.environ.get("LDM_WEIGHTS_DIR")
    if not name:
        return []
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"LDM_WEIGHTS_DIR={name} is not a folder")
    return [folder]


def _local(repo_id: str, *names: str) -> Iterator[Path]:
    """Folders in `LDM_WEIGHTS_DIR` that are named like a hub id, with or without its owner."""
    for root in _weights_dir():
        for name in (repo_id, repo_id.split("/")[-1], *names):
            if (root / name).is_dir():
                yield root / name


# ---- on the hub


def _download(repo_id: str, revision: str | None) -> Path:
    try:
        folder = _snapshot(repo_id, revision, SETTINGS + TOKENIZER + PLAIN)
        without_weights = [name for name, part in PARTS.items() if not [*(folder / name).glob(f"{part.stem}*.safetensors")]]
        return _snapshot(repo_id, revision, FP16) if without_weights else folder
    except HubError as error:
        raise HubError(f"{error}. {_by_hand(repo_id)}") from error


def _snapshot(repo_id: str, revision: str | None, patterns: tuple[str, ...]) -> Path:
    """Download the files that match; without a network, find them in the hub's cache."""
    from huggingface_hub import HfApi, snapshot_download, utils

    at = f"{repo_id} at revision {revision}" if revision else repo_id
    try:
        HfApi().repo_info(repo_id, revision=revision, timeout=10)  # tells at once what a download would try for half a minute
        offline = None
    except utils.GatedRepoError as error:
        raise HubError(f"{at} is open only to those who accepted its terms: do so on its page, then `hf auth login`") from error
    except utils.RepositoryNotFoundError as error:
        raise HubError(f"there is no model {repo_id} on the hub, or it is private; nor a folder of that name here") from error
    except utils.RevisionNotFoundError as error:
        raise HubError(f"the model {repo_id} on the hub has no revision {revision}") from error
    except utils.HFValidationError as error:
        raise ValueError(f"{repo_id!r} is neither a file or folder here nor a hub id: {error}") from error
    except Exception as error:  # of the network, in many classes that are no OSError
        offline = error
    try:
        cached_only = offline is not None
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=list(patterns), local_files_only=cached_only))
    except Exception as error:
        reason = " ".join(str(offline or error).split()) or type(offline or error).__name__
        problem = "the hub could not be reached for" if offline else "the hub broke off the download of"
        raise HubError(f"{problem} {at} ({reason})") from (offline or error)


def _by_hand(repo_id: str) -> str:
    """What to fetch where there is a network, and where to put it."""
    model = next((m for m in KNOWN.values() if m.repo_id == repo_id), None)
    if model is None:
        return f"Elsewhere, download the folder, put it into LDM_WEIGHTS_DIR as {repo_id}, and try again"
    return (
        f"To go without the hub: on another machine, open the page of {repo_id} and download {model.file} "
        f"({model.size:,} bytes, sha256 {model.sha256}) and the folder `tokenizer` (vocab.json, merges.txt). Put both into one "
        f"folder, set the environment variable LDM_WEIGHTS_DIR to it, and try again. License: {model.license}"
    )
