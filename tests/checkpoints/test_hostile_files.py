"""Every damaged, foreign or malicious file gives one error that names it, and nothing is run or half loaded."""

import io
import json
import os
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from ldm_tutorial.checkpoints import CheckpointError, load_checkpoint
from ldm_tutorial.checkpoints.compvis import METADATA, to_ldm
from ldm_tutorial.checkpoints.folder import PARTS, read_tokenizer
from ldm_tutorial.checkpoints.tensors import read_tensors

UNET = "model.diffusion_model."


def refused(path, *words):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    for word in words:
        assert word in str(caught.value), str(caught.value)
    return str(caught.value)


# ---- what is in the file


def change(file, edit):
    """Write the file again after `edit` has changed its dict of tensors."""
    tensors, metadata = read_tensors(file)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    edit(tensors)
    file.unlink()
    save_file(tensors, file, metadata)


def test_a_renamed_tensor_is_missing_and_unexpected(file):
    change(file, lambda t: t.update({UNET + "out.9.bias": t.pop(UNET + "out.2.bias")}))
    refused(file, str(file), f"1 missing: {UNET}out.2.bias\n", f"1 unexpected: {UNET}out.9.bias")


def test_a_wrong_shape_is_named_with_the_right_one(file):
    change(file, lambda t: t.update({UNET + "time_embed.0.weight": torch.zeros(32, 9)}))
    refused(file, f"1 of another shape: {UNET}time_embed.0.weight (32, 9) instead of (32, 8)")


def test_of_many_offenders_ten_are_listed_and_all_counted(file):
    def edit(tensors):
        for name in [name for name in tensors if name.startswith(UNET)][:12]:
            del tensors[name]
        tensors["first_stage_model.extra"] = torch.zeros(1)

    change(file, edit)
    message = refused(file, "12 missing: ", ", ...", "1 unexpected: first_stage_model.extra")
    assert message.splitlines()[1].count(UNET) == 10


def test_only_the_unet_is_not_a_model(random_model, ldm_config, tmp_path):
    model = random_model(ldm_config())
    tensors = to_ldm({name: getattr(model, name) for name in PARTS})
    save_file({k: t.contiguous() for k, t in tensors.items() if k.startswith(UNET)}, tmp_path / "unet.safetensors")
    refused(tmp_path / "unet.safetensors", "no vae (first_stage_model....), no text_encoder (cond_stage_model.transformer....)")


def test_one_file_of_a_folder_is_not_a_model(folder):
    refused(folder / "unet" / "diffusion_pytorch_model.safetensors", "no unet", "no vae", "part of a diffusers folder")


def test_a_tensor_that_tells_the_sizes_is_missing(file):
    tensors = {name: tensor.clone() for name, tensor in read_tensors(file)[0].items()}
    del tensors[UNET + "middle_block.0.out_layers.3.weight"]
    file.unlink()
    save_file(tensors, file)  # without our metadata
    refused(file, "does not fit the network of 1130 tensors", "missing: ")


def test_an_empty_file_of_tensors(tmp_path):
    save_file({}, tmp_path / "none.safetensors")
    refused(tmp_path / "none.safetensors", "no unet", "no vae", "no text_encoder")


@pytest.mark.parametrize("part", list(PARTS))
def test_folders_are_strict_too(folder, part):
    file = next((folder / part).glob("*.safetensors"))
    tensors = {k: t.clone() for k, t in load_file(file).items()}
    first, second = list(tensors)[:2]
    tensors[first + "2"] = tensors.pop(first)
    tensors[second] = torch.zeros(2, 3, 4)
    file.unlink()
    save_file(tensors, file)
    refused(folder, str(file), "1 missing", "1 unexpected", "1 of another shape", "instead of")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("conditioner.embedders.0.transformer.text_model.final_layer_norm.bias", "Stable Diffusion XL"),
        ("cond_stage_model.model.ln_final.bias", "Stable Diffusion 2"),
        ("model.diffusion_model.joint_blocks.0.context_block.attn.proj.bias", "Stable Diffusion 3"),
        ("model.diffusion_model.double_blocks.0.img_attn.proj.bias", "FLUX"),
        ("lora_unet_mid_block_attentions_0_proj_in.alpha", "LoRA"),
        ("control_model.input_blocks.0.0.bias", "ControlNet"),
    ],
)
def test_other_kinds_of_models_are_named(file, name, kind):
    change(file, lambda tensors: tensors.update({name: torch.zeros(1)}))
    refused(file, kind, "only Stable Diffusion v1")


@pytest.mark.parametrize(
    "told",
    [
        "{",
        "[]",
        "3",
        '{"unet": 3}',
        '{"unet": {}, "vae": {}}',
        '{"unet": {"block_out_channels": "abc"}, "vae": {}, "text_encoder": {}}',
    ],
)
def test_metadata_that_we_did_not_write(file, told):
    tensors = {name: tensor.clone() for name, tensor in read_tensors(file)[0].items()}
    file.unlink()
    save_file(tensors, file, {METADATA: told})
    refused(file, str(file))


@pytest.mark.parametrize("name", ["../evil.json", "/tmp/evil.json", "tokenizer.py", "a/b.json"])
def test_a_tokenizer_in_the_metadata_writes_nowhere_else(file, name):
    tensors, metadata = read_tensors(file)
    told = json.loads(metadata[METADATA])
    told["tokenizer"][name] = "{}"
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    file.unlink()
    save_file(tensors, file, {METADATA: json.dumps(told)})
    refused(file, "not a file of a tokenizer")


def test_a_tokenizer_in_the_metadata_that_is_none(file):
    tensors, metadata = read_tensors(file)
    told = json.loads(metadata[METADATA]) | {"tokenizer": {"tokenizer_config.json": "{}"}}
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    file.unlink()
    save_file(tensors, file, {METADATA: json.dumps(told)})
    refused(file, str(file), "the tokenizer in its metadata")


# ---- what is not the file at all


def damage_cut(data):
    return data[: len(data) // 2]


CASES = {
    "empty": (lambda data: b"", "is empty"),
    "cut short": (damage_cut, "was cut short: "),
    "cut in the header": (lambda data: data[:500], "was cut short: 500 bytes, of which its header alone needs"),
    "one byte too few": (lambda data: data[:-1], "was cut short"),
    "git lfs": (lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:6ce016\nsize 42\n", "git lfs pull"),
    "web page": (lambda data: b"\n<!DOCTYPE html><html><body>404</body></html>", "web page"),
    "web page 2": (lambda data: b"<HTML>Please log in</HTML>", "web page"),
    "noise": (lambda data: bytes(range(256)) * 9, "not a safetensors file"),
    "huge header": (lambda data: b"\xff" * 7 + b"\x7f{" + data, "was cut short"),
    "header is no JSON": (lambda data: data[:8] + b"{" * (len(data) - 8), "not a safetensors file"),
    "header is a list": (lambda data: (2).to_bytes(8, "little") + b"[]", "not a safetensors file"),
    "offsets are words": (lambda data: (36).to_bytes(8, "little") + b'{"a":{"data_offsets":["x","y"]}}    ', "not a safetensors"),
    "bytes behind": (lambda data: data + b"x", "not a safetensors file"),
    "zip": (lambda data: b"PK\3\4" + data, "name it .ckpt"),
}


@pytest.mark.parametrize("case", CASES)
def test_files_that_are_no_safetensors(file, case):
    make, words = CASES[case]
    file.write_bytes(make(file.read_bytes()))
    refused(file, str(file), words)


@pytest.mark.parametrize("case", CASES)
def test_the_same_within_a_folder(folder, case):
    make, words = CASES[case]
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(make(file.read_bytes()))
    refused(folder, str(file), words)


def saved(content):
    data = io.BytesIO()
    torch.save(content, data)
    return data.getvalue()


CKPT_CASES = {
    "empty": (b"", "is empty"),
    "noise": (bytes(range(256)), "not a checkpoint"),
    "web page": (b"<html>", "web page"),
    "cut zip": (b"PK\3\4" + b"x" * 99, "cut short"),
    "safetensors": ((2).to_bytes(8, "little") + b"{}", "name it .safetensors"),
    "list": (saved([1, 2]), "does not hold tensors"),
    "numbers": (saved({"a": 1}), "does not hold tensors"),
    "state_dict of numbers": (saved({"state_dict": {"a": 1}}), "does not hold tensors"),
    "other parts": (saved({"a": torch.zeros(1)}), "has no unet"),
}


@pytest.mark.parametrize("case", CKPT_CASES)
def test_files_that_are_no_ckpt(tmp_path, case):
    data, words = CKPT_CASES[case]
    (tmp_path / "model.ckpt").write_bytes(data)
    refused(tmp_path / "model.ckpt", words)


def test_a_truncated_ckpt(tmp_path):
    torch.save({"a": torch.zeros(999)}, tmp_path / "model.ckpt")
    data = (tmp_path / "model.ckpt").read_bytes()
    (tmp_path / "model.ckpt").write_bytes(data[:2000])
    refused(tmp_path / "model.ckpt", "cut short")


class Attack:
    """A pickle that leaves a file behind when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("layout", ["raw pickle", "zip", "legacy", "in the middle"])
def test_a_pickle_that_would_run_code_does_not(tmp_path, layout):
    mark, path = tmp_path / "owned", tmp_path / "model.ckpt"
    if layout == "raw pickle":
        path.write_bytes(pickle.dumps(Attack(mark), protocol=2))
    else:
        content = {"state_dict": {"a": torch.zeros(3)}, "extra": Attack(mark)} if layout == "in the middle" else Attack(mark)
        torch.save(content, path, _use_new_zipfile_serialization=layout != "legacy")
    refused(path, f"wants to run `{os.mkdir.__module__}.mkdir`", "use the model's .safetensors file")
    assert not mark.exists()
    torch.load(path, weights_only=False) if layout != "raw pickle" else pickle.loads(path.read_bytes())
    assert mark.exists()  # it is a real one


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_newer_pickle_does_not_run_either(tmp_path):
    (tmp_path / "model.ckpt").write_bytes(pickle.dumps(Attack(tmp_path / "owned")))
    refused(tmp_path / "model.ckpt")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("name", ["model.bin", "model.pt", "model", "model.safetensors.txt"])
def test_other_kinds_of_files_are_not_opened(tmp_path, name):
    (tmp_path / name).write_bytes(pickle.dumps(Attack(tmp_path / "owned")))
    refused(tmp_path / name, ".safetensors or .ckpt")
    assert not (tmp_path / "owned").exists()


# ---- folders


def test_an_empty_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="not a whole model in diffusers' layout: there is no unet/config.json"):
        load_checkpoint(tmp_path)


def test_a_path_that_does_not_exist(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file or folder .*nowhere"):
        load_checkpoint(tmp_path / "nowhere")


def test_a_pipeline_without_a_unet_is_named(folder, edit_json):
    shutil.move(folder / "unet", folder / "transformer")
    edit_json(folder / "model_index.json", _class_name="FluxPipeline")
    with pytest.raises(FileNotFoundError, match="says it is a FluxPipeline"):
        load_checkpoint(folder)


def test_a_folder_with_pickles_only(folder):
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    file.rename(file.with_suffix(".bin"))
    with pytest.raises(FileNotFoundError, match=r"no diffusion_pytorch_model\.safetensors .*only pickles, which are not read"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("part", "changes", "words"),
    [
        ("unet", {"addition_embed_type": "text_time", "attention_head_dim": [5, 10, 20]}, "Stable Diffusion XL"),
        ("unet", {"use_linear_projection": True, "attention_head_dim": [5, 10, 20, 20]}, "Stable Diffusion 2"),
        ("unet", {"time_cond_proj_dim": 256}, "time_cond_proj_dim=256"),
        ("unet", {"block_out_channels": [7, 16, 24]}, "norm_num_groups"),
        ("unet", {"block_out_channels": "many"}, "config.json"),
        ("unet", {"norm_num_groups": 0}, "config.json"),
        ("unet", {"layers_per_block": -1}, "config.json"),
        ("unet", {"_class_name": "UNet2DModel"}, "UNet2DModel"),
        ("vae", {"_class_name": "VQModel"}, "VQModel"),
        ("vae", {"latent_channels": 10**30}, "config.json"),
        ("text_encoder", {"architectures": ["CLIPTextModelWithProjection"]}, "CLIPTextModelWithProjection"),
        ("text_encoder", {"architectures": {"a": 1}}, "config.json"),
        ("text_encoder", {"hidden_act": "gelu"}, "hidden_act='gelu'"),
        ("text_encoder", {"num_attention_heads": 0}, "config.json"),
    ],
)
def test_settings_of_other_networks(folder, edit_json, part, changes, words):
    edit_json(folder / part / "config.json", **changes)
    refused(folder, str(folder / part / "config.json"), words)


@pytest.mark.parametrize("content", ["", "{", "[1]", "\xff"])
@pytest.mark.parametrize("name", ["unet/config.json", "scheduler/scheduler_config.json"])
def test_settings_that_are_no_json(folder, name, content):
    (folder / name).write_text(content, encoding="latin-1")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder).scheduler  # noqa: B018
    assert str(folder / name) in str(caught.value)


def test_settings_of_a_scheduler_that_is_not_supported(folder, edit_json):
    path = folder / "scheduler" / "scheduler_config.json"
    edit_json(path, beta_schedule="sigmoid")
    loaded = load_checkpoint(folder)  # the networks can be used, with another scheduler
    with pytest.raises(CheckpointError, match="beta_schedule='sigmoid'") as caught:
        loaded.scheduler  # noqa: B018
    assert str(path) in str(caught.value)


def test_a_tokenizer_of_another_model(folder, edit_json):
    path = folder / "tokenizer" / "tokenizer.json"
    content = json.loads(path.read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["onemore"] = len(vocabulary)
    path.write_text(json.dumps(content))
    refused(folder, str(folder / "tokenizer"), "has 555 entries, the text encoder 554")


def test_a_folder_without_a_tokenizer_does_not_give_one_of_two_words(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"neither a tokenizer\.json nor a vocab\.json"):
        read_tokenizer(tmp_path)


def test_a_damaged_tokenizer(folder):
    (folder / "tokenizer" / "tokenizer.json").write_text('{"model": ')
    refused(folder, str(folder / "tokenizer"))
