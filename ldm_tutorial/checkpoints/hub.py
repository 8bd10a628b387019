"""From a name to a folder or file on this machine: models we know, `LDM_WEIGHTS_DIR`, and Hugging Face's hub.

The hub is asked only for what is nowhere here, and then for nothing but weights in safetensors, JSON and word lists.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..checks import as_path, exists
from ..weights import KNOWN, KnownModel
from .compvis import is_model
from .folder import PARTS, find_weights, holds_tokenizer, read_tokenizer
from .tensors import CheckpointError, what_is_wrong

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

# What is fetched from the hub: no pickles, no second copies in other formats, and of variants only fp16, if that is all there is.
TOKENIZER = ("tokenizer/*.json", "tokenizer/*.txt")
SETTINGS = ("model_index.json", "scheduler/scheduler_config.json", *(f"{name}/config.json" for name in PARTS))
STEMS = [f"{name}/{part.stem}" for name, part in PARTS.items()]
PLAIN = tuple(stem + end for stem in STEMS for end in (".safetensors", "-*.safetensors", ".safetensors.index.json"))
FP16 = tuple(stem + end for stem in STEMS for end in (".*fp16*.safetensors", ".safetensors.index.fp16.json"))


class HubError(OSError):
    """The hub could not be reached, or does not have it. Says what to put where instead."""


def resolve(name_or_path: str | Path, revision: str | None = None) -> Path:
    """The folder or file of a model: for a path, itself; for "emoji", "sd15" or a hub id "owner/name", where it is.

    A model of the hub is looked for in `LDM_WEIGHTS_DIR` first, and downloaded into the hub's cache otherwise. A known one that
    is in the cache already is not asked for again: its revision is fixed, so that it cannot have changed.
    Raises FileNotFoundError for a path that does not exist, ValueError for what is neither a path, a known name nor of the form
    of a hub id, HubError (an OSError) if the hub could not be reached or does not have it.
    """
    name = str(name_or_path)
    if isinstance(name_or_path, str) and name in KNOWN:
        model = KNOWN[name]
        if model.folder and revision is not None:
            raise ValueError(f"revision={revision!r} goes with a model of the hub, but {name} is on this machine")
        place = next(iter(_places(model)), None) or (_in_cache(model) if revision in (None, model.revision) else None)
        if place is None and not model.repo_id:
            raise FileNotFoundError(
                f"the model {name!r} is not in this installation: {model.folder} has no model_index.json. "
                f"Install the package again, or train it: ldm-tutorial train --help"
            )
        return place or _download(model.repo_id, revision or model.revision)
    path = as_path(name)
    if name and exists(path):
        if revision is not None:
            raise ValueError(f"revision={revision!r} goes with a model of the hub, but {name} is on this machine")
        return path
    is_path = isinstance(name_or_path, Path) or name.endswith((".safetensors", ".ckpt"))
    if is_path or not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name):
        raise FileNotFoundError(f"there is no file or folder {name}")
    if "/" in name:
        return next(iter(_folders(name)), None) or _download(name, revision)
    close = difflib.get_close_matches(name, KNOWN, n=1)
    raise ValueError(
        f"the model {name!r} is unknown" + (f"; did you mean {close[0]!r}?" if close else ".") + " There is no file or folder of "
        f'that name. Give {", ".join(map(repr, KNOWN))}, a path, or the id of a model on the hub, "owner/name".'
    )


def load_tokenizer(checkpoint: str | Path, vocab_size: int | None = None) -> CLIPTokenizer:
    """The tokenizer of a file or folder that holds none: from a folder `tokenizer` beside the file, from `LDM_WEIGHTS_DIR`, or
    Stable Diffusion v1.5's from the hub.

    Raises HubError (an OSError) if there is none and the hub could not be reached, CheckpointError (a ValueError) if it is
    damaged or has not `vocab_size` entries.
    """
    model = KNOWN["sd15"]
    try:
        folder = find_tokenizer(checkpoint) or _snapshot(model.repo_id, model.revision, TOKENIZER) / "tokenizer"
    except HubError as error:
        places = list(map(str, _tokenizers(checkpoint)))
        raise HubError(
            f"{checkpoint} holds no tokenizer, as single files of others do not. The one of {model.repo_id} was looked for in "
            f"{', '.join(places)} and in the hub's cache; {error}. Put its vocab.json and merges.txt (1.5 MB) into {places[0]}"
        ) from error
    return read_tokenizer(folder, vocab_size)


# ---- on this machine. Nothing from here to "on the hub" goes to the network


def find(name: str) -> Path | None:
    """The folder or file of a known model, "emoji" or "sd15": shipped, in `LDM_WEIGHTS_DIR`, or downloaded before; else None.

    Raises FileNotFoundError if `LDM_WEIGHTS_DIR` names no folder.
    """
    places = [place for place in _places(KNOWN[name]) if place.is_dir() or is_model(place)]
    return places[0] if places else _in_cache(KNOWN[name])


def local_models() -> list[str]:
    """Those of the known models whose weights are on this machine."""
    try:
        return [name for name in KNOWN if find(name)]
    except FileNotFoundError:  # LDM_WEIGHTS_DIR names no folder
        return [name for name, model in KNOWN.items() if model.folder and find(name)]


def find_tokenizer(checkpoint: str | Path) -> Path | None:
    """The folder of the tokenizer of a file or folder that holds none, where `load_tokenizer` finds it without the hub."""
    return next(filter(holds_tokenizer, [*_tokenizers(checkpoint), *_cached(KNOWN["sd15"], "tokenizer/vocab.json")]), None)


def searched(model: KnownModel) -> str:
    """What of a known model was looked for in `LDM_WEIGHTS_DIR`, and what is there; empty if it is not set."""
    for root in _weights_dir():
        file, holds = root / model.file, ", ".join(sorted(path.name for path in root.iterdir())[:8]) or "nothing"
        wrong = f"; {model.file} {what_is_wrong(file) or 'is not a whole model'}" if file.is_file() else ""
        return f"LDM_WEIGHTS_DIR was searched for {', '.join(model.places)} and model_index.json; it holds {holds}{wrong}. "
    return ""


def _places(model: KnownModel) -> list[Path]:
    """Where a known model is on this machine, the hub's cache aside; the best place first."""
    roots = [model.folder] if model.folder else _weights_dir()
    named = [root / name for root in roots for name in model.places if not model.folder and (root / name).exists()]
    return named + [root for root in roots if (root / "model_index.json").is_file()]


def _weights_dir() -> list[Path]:
    """The folder that `LDM_WEIGHTS_DIR` names, or nothing. Raises FileNotFoundError if there is no such folder."""
    name = os.environ.get("LDM_WEIGHTS_DIR")
    folder = as_path(name or "")
    if name and not folder.is_dir():
        raise FileNotFoundError(f"LDM_WEIGHTS_DIR={name} is not a folder")
    return [folder] if name else []


def _folders(repo_id: str) -> list[Path]:
    """Folders in `LDM_WEIGHTS_DIR` that are named like a hub id, with or without its owner."""
    places = [root / name for root in _weights_dir() for name in (repo_id, repo_id.split("/")[-1])]
    return [place for place in places if place.is_dir()]


def _tokenizers(checkpoint: str | Path) -> list[Path]:
    """Where the tokenizer of a file or folder may be, the hub's cache aside."""
    here = Path(checkpoint) if Path(checkpoint).is_dir() else Path(checkpoint).parent
    return [place / "tokenizer" for place in (here, *_weights_dir(), *_folders(KNOWN["sd15"].repo_id))]


def _cached(model: KnownModel, file: str) -> list[Path]:
    """The folder in the hub's cache that has this file of a model, if one has."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(model.repo_id, file, revision=model.revision) if model.repo_id else None
    return [Path(path).parent] if isinstance(path, str) else []


def _in_cache(model: KnownModel) -> Path | None:
    """Its folder in the hub's cache, if the download was finished: settings and weights of each network, and the tokenizer."""
    for folder in _cached(model, "model_index.json"):
        try:
            weights = [file for name, part in PARTS.items() for file in find_weights(folder / name, part.stem)]
        except (FileNotFoundError, CheckpointError):  # pieces, or too many variants: the hub may know better
            return None
        files = [*weights, *(folder / name / "config.json" for name in PARTS)]
        return folder if all(file.is_file() for file in files) and holds_tokenizer(folder / "tokenizer") else None
    return None


# ---- on the hub


def _download(repo_id: str, revision: str | None) -> Path:
    try:
        folder = _snapshot(repo_id, revision, SETTINGS + TOKENIZER + PLAIN)
        whole = all([*(folder / name).glob(f"{part.stem}*.safetensors")] for name, part in PARTS.items())
        return folder if whole else _snapshot(repo_id, revision, FP16)
    except HubError as error:
        model = next((m for m in KNOWN.values() if m.repo_id == repo_id), None)
        by_hand = f"Elsewhere, download the folder, put it into LDM_WEIGHTS_DIR as {repo_id}, and try again"
        if model:
            file = f"{model.file} ({model.size:,} bytes, sha256 {model.sha256})"
            by_hand = (
                f"{searched(model)}To go without the hub: on another machine, open the page of {repo_id} and download {file} "
                "and the folder `tokenizer` (vocab.json, merges.txt). Put both into one folder, set the environment variable "
                f"LDM_WEIGHTS_DIR to it, and try again. License: {model.license}"
            )
        raise HubError(f"{error}. {by_hand}") from error


def _snapshot(repo_id: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """Download the files that match; without an internet connection, find them in the hub's cache."""
    from huggingface_hub import HfApi, snapshot_download, utils

    at, offline = f"{repo_id} at revision {revision}" if revision else repo_id, None
    try:
        HfApi().repo_info(repo_id, revision=revision, timeout=10)  # tells at once what a download would try for half a minute
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
