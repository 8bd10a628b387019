"""Names, `LDM_WEIGHTS_DIR` and the hub: where a model is looked for, and what is said when it is not there."""

import shutil
import socket
import time

import pytest

from ldm_tutorial.checkpoints import CheckpointError, HubError, hub, load_checkpoint, load_tokenizer, resolve, save_checkpoint

SD15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"
FILE = "v1-5-pruned-emaonly.safetensors"


@pytest.fixture(autouse=True)
def no_weights_dir(monkeypatch):
    monkeypatch.delenv("LDM_WEIGHTS_DIR", raising=False)


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """The hub, switched off, with an empty cache; the fixture is its folder."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def weights_dir(monkeypatch, tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setenv("LDM_WEIGHTS_DIR", str(folder))
    return folder


# ---- paths and names


def test_a_path_is_itself(tmp_path, monkeypatch):
    (tmp_path / "owner" / "name").mkdir(parents=True)
    (tmp_path / "emoji").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert resolve(tmp_path) == tmp_path
    assert resolve("owner/name").is_dir()
    assert resolve("./emoji").samefile(tmp_path / "emoji")
    assert resolve("~/owner").samefile(tmp_path / "owner")


@pytest.mark.parametrize(
    "path", ["nowhere.safetensors", "./nowhere", "a/b/c", "/no/where", "../x/y", "owner/name.ckpt", "no where", ""]
)
def test_a_path_that_is_not_there_is_said_to_be_missing_and_the_hub_is_not_asked(path, fake_hub):
    with pytest.raises(FileNotFoundError, match="there is no file or folder"):
        resolve(path)
    assert fake_hub.asked == []


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'emojis' is unknown; did you mean 'emoji'\?.*'emoji', 'sd15'.*owner/name"):
        resolve("emojis")
    with pytest.raises(ValueError, match="'x' is unknown. There is no file"):
        resolve("x")


def test_a_revision_belongs_to_the_hub(tmp_path):
    with pytest.raises(ValueError, match="revision='main' goes with a model of the hub"):
        resolve(tmp_path, revision="main")
    with pytest.raises(ValueError, match="revision='main' goes with a model of the hub, but emoji is on this machine"):
        resolve("emoji", revision="main")


def test_the_shipped_model_is_found_or_its_absence_explained(monkeypatch, tmp_path, folder):
    import dataclasses

    emoji = hub.KNOWN["emoji"]
    monkeypatch.setitem(hub.KNOWN, "emoji", dataclasses.replace(emoji, folder=folder))
    assert resolve("emoji") == folder
    monkeypatch.setitem(hub.KNOWN, "emoji", dataclasses.replace(emoji, folder=tmp_path / "gone"))
    with pytest.raises(FileNotFoundError, match=r"'emoji' is not in this installation: .*gone.*ldm-tutorial train"):
        resolve("emoji")


# ---- LDM_WEIGHTS_DIR


def test_the_single_file_in_the_weights_dir_comes_first(weights_dir, folder, cache):
    (weights_dir / FILE).touch()
    shutil.copytree(folder, weights_dir / "sd15")
    assert resolve("sd15") == weights_dir / FILE


@pytest.mark.parametrize("name", [SD15, "stable-diffusion-v1-5", "sd15"])
def test_a_folder_in_the_weights_dir(weights_dir, folder, cache, name):
    shutil.copytree(folder, weights_dir / name)
    assert resolve("sd15") == weights_dir / name
    if name != "sd15":
        assert resolve(SD15) == weights_dir / name
    load_checkpoint(resolve("sd15"))


def test_the_weights_dir_may_be_the_model(monkeypatch, folder, cache):
    monkeypatch.setenv("LDM_WEIGHTS_DIR", str(folder))
    assert resolve("sd15") == folder


def test_models_on_this_machine_are_those_that_resolve_needs_no_hub_for(monkeypatch, tmp_path, folder, cache):
    assert hub.local_models() == ["emoji"]
    monkeypatch.setenv("LDM_WEIGHTS_DIR", str(tmp_path / "gone"))
    assert hub.local_models() == ["emoji"]
    monkeypatch.setenv("LDM_WEIGHTS_DIR", str(folder))  # the folder is the model
    assert hub.local_models() == ["emoji", "sd15"]
    (tmp_path / "weights").mkdir()
    monkeypatch.setenv("LDM_WEIGHTS_DIR", str(tmp_path / "weights"))
    assert hub.local_models() == ["emoji"]
    save_checkpoint(load_checkpoint(folder), tmp_path / "weights" / FILE)
    assert hub.local_models() == ["emoji", "sd15"]


@pytest.fixture
def snapshot(cache, folder):
    """A finished download of sd15 in the hub's cache."""
    place = cache / f"models--{SD15.replace('/', '--')}" / "snapshots" / hub.KNOWN["sd15"].revision
    shutil.copytree(folder, place)
    return place


def test_a_model_in_the_hubs_cache_is_on_this_machine_and_the_hub_is_not_asked(snapshot, fake_hub):
    assert hub.find("sd15") == resolve("sd15") == resolve("sd15", revision=hub.KNOWN["sd15"].revision) == snapshot
    assert hub.local_models() == ["emoji", "sd15"]
    assert fake_hub.asked == []
    load_checkpoint(snapshot)


@pytest.mark.parametrize(
    "missing",
    ["unet/diffusion_pytorch_model.safetensors", "vae/config.json", "tokenizer/tokenizer.json", "text_encoder/model.safetensors"],
)
def test_a_download_that_was_not_finished_is_gone_on_with(snapshot, fake_hub, missing):
    (snapshot / "tokenizer" / "vocab.json").unlink()
    (snapshot / missing).unlink()
    assert hub.find("sd15") is None
    assert hub.local_models() == ["emoji"]
    resolve("sd15")
    assert fake_hub.asked == [(SD15, hub.KNOWN["sd15"].revision)]


def test_another_revision_is_asked_for(snapshot, fake_hub):
    resolve("sd15", revision="refs/pr/1")
    assert fake_hub.asked == [(SD15, "refs/pr/1")]


def test_a_tokenizer_in_the_hubs_cache_is_found_without_the_hub(snapshot, bare, fake_hub):
    assert hub.find_tokenizer(bare) == snapshot / "tokenizer"
    assert len(load_tokenizer(bare)) == 554
    assert fake_hub.asked == []


@pytest.mark.parametrize("name", ["owner/name", "name"])
def test_hub_ids_are_looked_up_in_the_weights_dir(weights_dir, folder, cache, name):
    shutil.copytree(folder, weights_dir / name)
    assert resolve("owner/name") == weights_dir / name


def test_a_weights_dir_that_does_not_exist_is_an_error(monkeypatch, tmp_path, cache):
    monkeypatch.setenv("LDM_WEIGHTS_DIR", str(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError, match="LDM_WEIGHTS_DIR=.*gone is not a folder"):
        resolve("sd15")


@pytest.mark.parametrize("name", [None, "mine.safetensors", FILE])
def test_offline_the_message_says_what_was_looked_for_where_and_what_is_there(weights_dir, cache, name):
    if name == FILE:
        (weights_dir / f"{FILE}.part").write_bytes(b"x" * 4096)
    elif name:
        (weights_dir / name).touch()
    with pytest.raises(HubError) as caught:
        resolve("sd15")
    wanted = f"{FILE}, {SD15}, stable-diffusion-v1-5, sd15 and model_index.json"
    assert f"LDM_WEIGHTS_DIR was searched for {wanted}; it holds " in str(caught.value)
    assert (f"it holds {name}" if name else "it holds nothing. ") in str(caught.value)


def test_a_junk_file_of_the_right_name_is_not_found_and_loading_it_says_what_it_is(weights_dir, cache):
    (weights_dir / FILE).write_bytes(b"x" * 4096)
    assert hub.find("sd15") is None
    assert hub.local_models() == ["emoji"]
    assert resolve("sd15") == weights_dir / FILE  # and not 4 GB from the hub
    with pytest.raises(CheckpointError, match=f"{FILE} is not a safetensors file"):
        load_checkpoint(resolve("sd15"))


# ---- the hub


def test_offline_one_message_says_what_to_fetch_and_where_to_put_it(cache):
    with pytest.raises(HubError) as caught:
        resolve("sd15")
    message = str(caught.value)
    for words in (
        "could not be reached",
        SD15,
        "451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
        FILE,
        "4,265,146,304 bytes",
        "6ce0161689b3853acaa03779ec93eafe75a02f4ced659bee03f50797806fa2fa",
        "vocab.json, merges.txt",
        "LDM_WEIGHTS_DIR",
        "CreativeML Open RAIL-M",
    ):
        assert words in message
    assert "\n" not in message
    with pytest.raises(HubError, match="owner/name.*LDM_WEIGHTS_DIR as owner/name"):
        resolve("owner/name")


def test_what_the_cache_holds_needs_no_network(cache, folder):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = cache / "models--owner--name"
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    assert resolve("owner/name") == repository / "snapshots" / commit
    assert resolve("owner/name", revision=commit) == repository / "snapshots" / commit
    load_checkpoint(resolve("owner/name"))


OFFICIAL = [
    ".gitattributes",
    "README.md",
    "v1-inference.yaml",
    FILE,
    "v1-5-pruned-emaonly.ckpt",
    "v1-5-pruned.safetensors",
    "model_index.json",
    "feature_extractor/preprocessor_config.json",
    "scheduler/scheduler_config.json",
    "safety_checker/config.json",
    "safety_checker/model.safetensors",
    "safety_checker/pytorch_model.bin",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "text_encoder/model.fp16.safetensors",
    "text_encoder/pytorch_model.bin",
    "tokenizer/merges.txt",
    "tokenizer/vocab.json",
    "tokenizer/special_tokens_map.json",
    "tokenizer/tokenizer_config.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.fp16.bin",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.fp16.safetensors",
]


@pytest.fixture
def fake_hub(monkeypatch, tmp_path):
    """A hub that has the files it is told of; the fixture records what was asked of it, and holds what was fetched."""
    import huggingface_hub

    class Hub:
        files, asked, error, breaks_off = OFFICIAL, [], None, None

    def repo_info(self, repo_id, *, revision, timeout):
        Hub.asked.append((repo_id, revision))
        if Hub.error:
            raise Hub.error

    def snapshot_download(repo_id, revision=None, allow_patterns=None, local_files_only=False):
        from huggingface_hub.utils import LocalEntryNotFoundError, filter_repo_objects

        if local_files_only:
            raise LocalEntryNotFoundError("not in the cache")
        if Hub.breaks_off:
            raise Hub.breaks_off
        for name in filter_repo_objects(Hub.files, allow_patterns=allow_patterns):
            path = tmp_path / "snapshot" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return str(tmp_path / "snapshot")

    Hub.asked = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", repo_info)
    return Hub


def fetched(path):
    return {str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()}


def test_only_what_is_needed_is_fetched_from_the_pinned_revision(fake_hub):
    assert fetched(resolve("sd15")) == {
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/merges.txt",
        "tokenizer/vocab.json",
        "tokenizer/special_tokens_map.json",
        "tokenizer/tokenizer_config.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    }
    assert fake_hub.asked == [(SD15, "451f4fe16113bff5a5d2269ed5ad43b0592e9a14")]


def test_a_revision_can_be_chosen(fake_hub):
    resolve("sd15", revision="refs/pr/1")
    resolve("owner/name", revision="v2")
    resolve("owner/other")
    assert fake_hub.asked == [(SD15, "refs/pr/1"), ("owner/name", "v2"), ("owner/other", None)]


def test_a_variant_is_fetched_where_there_is_nothing_else(fake_hub):
    fake_hub.files = [name for name in OFFICIAL if not name.endswith("model.safetensors") or "fp16" in name]
    names = {name for name in fetched(resolve("owner/name")) if "model." in name}
    assert names == {
        "text_encoder/model.fp16.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.fp16.safetensors",
    }


def test_pieces_are_fetched(fake_hub):
    pieces = [f"unet/diffusion_pytorch_model{end}" for end in ("-00001-of-00001.safetensors", ".safetensors.index.json")]
    fake_hub.files = [name for name in OFFICIAL if not name.startswith("unet/diff")] + pieces
    assert set(pieces) <= fetched(resolve("owner/name"))


def response(status):
    import httpx

    return httpx.Response(status, request=httpx.Request("GET", "https://hub.example/api/models/owner/name"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda e: e.GatedRepoError("gated", response=response(403)), "open only to those who accepted its terms"),
        (lambda e: e.RepositoryNotFoundError("404", response=response(404)), "there is no model owner/name on the hub"),
        (lambda e: e.RevisionNotFoundError("404", response=response(404)), "has no revision v9"),
        (lambda e: TimeoutError("timed out"), r"could not be reached for owner/name at revision v9 \(timed out\)"),
        (lambda e: RuntimeError(""), r"could not be reached .*\(RuntimeError\)"),
    ],
)
def test_each_failure_of_the_hub_is_told_apart(fake_hub, make, message):
    pytest.importorskip("httpx")
    from huggingface_hub import utils

    fake_hub.error = make(utils)
    with pytest.raises(HubError, match=message):
        resolve("owner/name", revision="v9")


def test_a_download_that_breaks_off(fake_hub):
    fake_hub.breaks_off = OSError(28, "No space left on device")
    with pytest.raises(HubError, match=r"broke off the download of owner/name \(.*No space left on device\)"):
        resolve("owner/name")


@pytest.mark.parametrize("name", ["sd15", "owner/name"])
def test_without_a_network_the_answer_comes_at_once(monkeypatch, tmp_path, name):
    from huggingface_hub import constants

    def no_network(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"waits {seconds} s to try again"))
    with pytest.raises(HubError, match="could not be reached for .*Name or service not known"):
        resolve(name)


def test_an_id_that_the_hub_would_not_allow(cache):
    with pytest.raises(ValueError, match="neither a file or folder here nor a hub id"):
        resolve("owner/na--me..x")


# ---- tokenizers for single files


@pytest.fixture
def bare(model, tmp_path):
    """A single file without a tokenizer, alone in its folder."""
    parts = {"unet": model.unet, "vae": model.vae, "text_encoder": model.text_encoder}
    return save_checkpoint(parts, tmp_path / "bare" / FILE)


def test_a_tokenizer_beside_the_file(model, bare, cache):
    assert load_checkpoint(bare).tokenizer is None
    model.tokenizer.save_pretrained(bare.parent / "tokenizer")
    assert load_tokenizer(bare).get_vocab() == model.tokenizer.get_vocab()
    assert load_tokenizer(str(bare), 554).eos_token_id == 553
    with pytest.raises(CheckpointError, match="has 554 entries, the text encoder 49408"):
        load_tokenizer(bare, 49408)


@pytest.mark.parametrize("name", ["tokenizer", f"{SD15}/tokenizer", "stable-diffusion-v1-5/tokenizer"])
def test_a_tokenizer_in_the_weights_dir(model, bare, cache, weights_dir, name):
    model.tokenizer.save_pretrained(weights_dir / name)
    assert load_tokenizer(bare).get_vocab() == model.tokenizer.get_vocab()


def test_a_tokenizer_from_the_hub(model, bare, fake_hub, tmp_path):
    model.tokenizer.save_pretrained(tmp_path / "snapshot" / "tokenizer")
    fake_hub.files = []
    assert load_tokenizer(bare).get_vocab() == model.tokenizer.get_vocab()
    assert fake_hub.asked == [(SD15, "451f4fe16113bff5a5d2269ed5ad43b0592e9a14")]


def test_no_tokenizer_anywhere_says_where_to_put_one(bare, cache):
    with pytest.raises(
        HubError,
        match=r"holds no tokenizer.*looked for in .*bare.tokenizer and in the hub.*reached.*merges\.txt .*into .*bare.tok",
    ):
        load_tokenizer(bare)


def test_an_empty_tokenizer_folder_is_not_taken_for_one(bare, cache):
    (bare.parent / "tokenizer").mkdir()
    with pytest.raises(HubError, match="holds no tokenizer"):
        load_tokenizer(bare)


def test_loading_never_goes_to_the_network(monkeypatch, folder, file):
    def no_network(*args):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    assert load_checkpoint(folder).tokenizer("a cat").input_ids == load_checkpoint(file).tokenizer("a cat").input_ids
