"""What is written can be read: all layouts, dtypes, spellings and variants, without a second copy."""

import dataclasses
import json
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from ldm_tutorial.checkpoints import (
    CheckpointError,
    Components,
    load_checkpoint,
    load_component,
    save_checkpoint,
    save_component,
)
from ldm_tutorial.checkpoints.compvis import to_ldm
from ldm_tutorial.checkpoints.folder import PARTS, build
from ldm_tutorial.checkpoints.tensors import read_tensors
from ldm_tutorial.checks import pick_device
from ldm_tutorial.clip import CLIPImageTower
from ldm_tutorial.config import EMOJI, SD15
from ldm_tutorial.schedulers import DDIMScheduler, EulerDiscreteScheduler

WEIGHTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}


def rewrite(path, rename):
    """The same tensors under other names."""
    tensors = load_file(path)
    path.unlink()
    save_file({rename(name): tensor.clone() for name, tensor in tensors.items()}, path)


# ---- there and back


@pytest.mark.parametrize("name", ["model", "model.safetensors", "new/folders/model", "new/folders/model.safetensors"])
def test_a_model_comes_back_as_it_was(model, same_weights, tmp_path, name):
    path = save_checkpoint(model, tmp_path / name)
    assert path == tmp_path / name
    loaded = load_checkpoint(path)
    same_weights(model, loaded)
    assert loaded.config == model.config
    assert loaded.scheduler.to_config() == model.scheduler.to_config()
    assert type(loaded.scheduler) is EulerDiscreteScheduler
    prompt = "a cat, 3 octopuses and café!"
    assert loaded.tokenizer(prompt, padding="max_length").input_ids == model.tokenizer(prompt, padding="max_length").input_ids
    assert len(loaded.tokenizer(prompt, padding="max_length").input_ids) == 77


@pytest.mark.parametrize("name", ["model", "model.safetensors"])
def test_a_model_is_always_saved_as_the_same_bytes(model, contents, tmp_path, name):
    for i in range(12):
        save_checkpoint(model, tmp_path / str(i) / name)
    assert all(contents(tmp_path / str(i)) == contents(tmp_path / "0") for i in range(12))


@pytest.mark.parametrize("name", ["model", "model.safetensors"])
def test_a_tokenizer_is_saved_without_the_padding_of_its_last_call(model, contents, tmp_path, name):
    save_checkpoint(model, tmp_path / "before" / name)
    model.tokenizer(["a cat", "a"], padding="longest", truncation=True)
    save_checkpoint(model, tmp_path / "after" / name)
    assert contents(tmp_path / "before") == contents(tmp_path / "after")


def test_a_file_of_emoji_size_comes_back(random_model, same_weights, tmp_path):
    words = dataclasses.replace(EMOJI.text_encoder, vocab_size=100, bos_token_id=98, eos_token_id=99)
    config = dataclasses.replace(EMOJI, text_encoder=words)
    emoji = random_model(config)
    loaded = load_checkpoint(save_checkpoint(emoji, tmp_path / "emoji.safetensors"))
    same_weights(emoji, loaded)
    assert loaded.config == config


def test_a_file_from_elsewhere_holds_neither_tokenizer_nor_scheduler(random_model, ldm_config, same_weights, tmp_path):
    model = random_model(ldm_config())
    tensors = to_ldm({name: getattr(model, name) for name in PARTS})
    extras = {"betas": torch.rand(9), "alphas_cumprod": torch.rand(9), "model_ema.decay": torch.tensor(0.9999)}
    extras["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(7)[None]
    save_file({k: t.contiguous() for k, t in (tensors | extras).items()}, tmp_path / "v1.safetensors")
    loaded = load_checkpoint(tmp_path / "v1.safetensors")
    same_weights(model, loaded)
    assert loaded.config == model.config
    assert loaded.tokenizer is None
    assert loaded.scheduler is None


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("zipped", [False, True])
def test_ckpt_files_are_read(random_model, ldm_config, same_weights, tmp_path, nested, zipped):
    model = random_model(ldm_config())
    tensors = to_ldm({name: getattr(model, name) for name in PARTS})
    content = {"state_dict": tensors, "global_step": 470000} if nested else tensors
    torch.save(content, tmp_path / "v1.ckpt", _use_new_zipfile_serialization=zipped)
    same_weights(model, load_checkpoint(tmp_path / "v1.ckpt"))


def test_a_loaded_model_draws_and_trains(file):
    loaded = load_checkpoint(file)
    for name in PARTS:
        network = getattr(loaded, name)
        assert not network.training
        assert all(p.requires_grad and p.device.type == "cpu" for p in network.parameters())
    before = file.read_bytes()
    optimizer = torch.optim.SGD(loaded.unet.parameters(), lr=0.1)
    noise = loaded.unet(torch.randn(2, 4, 8, 8), torch.tensor([1, 999]), torch.randn(2, 5, 18))
    noise.square().mean().backward()
    old = loaded.unet.conv_in.weight.detach().clone()
    optimizer.step()
    assert not torch.equal(old, loaded.unet.conv_in.weight)
    assert file.read_bytes() == before  # the mapping is private


# ---- dtypes


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("wanted", [None, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["model", "model.safetensors"])
def test_dtypes_are_cast_on_the_way_in_and_out(model, same_weights, tmp_path, stored, wanted, name):
    path = save_checkpoint(model, tmp_path / name, dtype=stored)
    loaded = load_checkpoint(path, dtype=wanted)
    rounded = Components(**{n: _cast(getattr(model, n), stored) for n in PARTS})
    same_weights(rounded, loaded, wanted or torch.float32)


def _cast(network, dtype):
    import copy

    return copy.deepcopy(network).to(dtype)


def test_half_precision_halves_the_files(model, tmp_path):
    sizes = [
        save_checkpoint(model, tmp_path / f"{d}.safetensors", dtype=d).stat().st_size for d in (torch.float32, torch.float16)
    ]
    weights = 4 * sum(p.numel() for name in PARTS for p in getattr(model, name).parameters())
    assert sizes[0] - sizes[1] == pytest.approx(weights / 2, rel=0.01)


def test_a_weight_too_large_for_float16_is_an_error_and_nothing_is_written(random_model, tiny_config, tmp_path):
    large = random_model(tiny_config)
    with torch.no_grad():
        large.unet.conv_in.bias[0] = 70_000
    with pytest.raises(ValueError, match=r"conv_in\.bias .*7e\+04.*float16"):
        save_checkpoint(large, tmp_path / "model", dtype=torch.float16)
    assert list(tmp_path.iterdir()) == []
    save_checkpoint(large, tmp_path / "model", dtype=torch.bfloat16)


def test_weights_in_channels_last_are_written(random_model, tiny_config, same_weights, tmp_path):
    model = random_model(tiny_config)
    model.unet.to(memory_format=torch.channels_last)
    same_weights(model, load_checkpoint(save_checkpoint(model, tmp_path / "model")))


@pytest.mark.parametrize("dtype", [torch.int8, torch.float64, "double", 16])
def test_a_wrong_dtype_is_an_error(folder, dtype):
    with pytest.raises(ValueError, match="dtype=.* is not supported; choose one of float32, bfloat16, float16"):
        load_checkpoint(folder, dtype=dtype)


# ---- no second copy


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status, and wants a file system with holes")
def test_the_full_size_file_is_loaded_without_a_copy_in_memory(tmp_path):
    tensors = to_ldm({name: build("test", name, getattr(SD15, name)) for name in PARTS})
    header, end = {}, 0
    for name, tensor in tensors.items():
        start, end = end, end + 4 * tensor.numel()
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [start, end]}
    header = json.dumps(header).encode()
    with open(tmp_path / "v1-5-pruned-emaonly.safetensors", "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + end)  # 4.26 GB, all of it a hole

    def in_memory():  # but for pages of files, which the system drops when it needs the memory
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) * 1024

    before = in_memory()
    loaded = load_checkpoint(tmp_path / "v1-5-pruned-emaonly.safetensors")
    assert in_memory() - before < 100e6
    assert loaded.config == SD15
    assert sum(p.numel() for name in PARTS for p in getattr(loaded, name).parameters()) == 1_066_235_307
    assert not any(p.is_meta for name in PARTS for p in getattr(loaded, name).parameters())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/maps")
@pytest.mark.parametrize("layout", ["folder", "safetensors", "ckpt"])
def test_every_parameter_lies_in_the_mapped_file(random_model, ldm_config, tmp_path, layout):
    model = random_model(ldm_config())
    if layout == "ckpt":
        torch.save(to_ldm({name: getattr(model, name) for name in PARTS}), tmp_path / "m.ckpt")
        loaded = load_checkpoint(tmp_path / "m.ckpt")
    else:
        loaded = load_checkpoint(save_checkpoint(model, tmp_path / ("m" if layout == "folder" else "m.safetensors")))
    with open("/proc/self/maps") as maps:
        lines = [line.split() for line in maps if str(tmp_path) in line]
    areas = [tuple(int(end, 16) for end in line[0].split("-")) for line in lines]
    for name in PARTS:
        for key, parameter in getattr(loaded, name).named_parameters():
            assert any(start <= parameter.data_ptr() < end for start, end in areas), key


# ---- diffusers' variants of a folder


def variant(folder, suffix, parts=WEIGHTS):
    for part in parts:
        file = folder / part / f"{WEIGHTS[part]}.safetensors"
        file.rename(file.with_name(f"{WEIGHTS[part]}.{suffix}.safetensors"))


def test_a_variant_is_read_where_there_is_nothing_else(model, folder, same_weights):
    variant(folder, "fp16")
    same_weights(model, load_checkpoint(folder))


def test_the_plain_file_comes_first(model, folder, same_weights):
    (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"never opened")
    (folder / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text("never opened")
    same_weights(model, load_checkpoint(folder))


def test_of_several_variants_fp16_is_read_and_others_are_not_guessed(model, folder, same_weights):
    unet = folder / "unet"
    variant(folder, "non_ema", ["unet"])
    (unet / "diffusion_pytorch_model.ema.safetensors").write_bytes(b"never opened")
    with pytest.raises(CheckpointError, match=r"ema.*non_ema.*name one of them diffusion_pytorch_model\.safetensors"):
        load_checkpoint(folder)
    (unet / "diffusion_pytorch_model.non_ema.safetensors").rename(unet / "diffusion_pytorch_model.fp16.safetensors")
    same_weights(model, load_checkpoint(folder))


def split(folder, part, infix=""):
    """The weights of one part in two pieces with a list, as diffusers writes large ones."""
    stem = WEIGHTS[part]
    whole = folder / part / f"{stem}.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(whole).items()}
    whole.unlink()
    names = [f"{stem}{infix}-{n:05}-of-00002.safetensors" for n in (1, 2)]
    weight_map = {name: names[i % 2] for i, name in enumerate(tensors)}
    for piece in names:
        save_file({k: t for k, t in tensors.items() if weight_map[k] == piece}, folder / part / piece)
    index = folder / part / f"{stem}.safetensors.index{infix}.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return index


@pytest.mark.parametrize("infix", ["", ".fp16"])
def test_weights_in_pieces_are_read(model, folder, same_weights, infix):
    for part in PARTS:
        split(folder, part, infix)
    same_weights(model, load_checkpoint(folder))


def test_a_missing_piece_is_named(folder):
    split(folder, "vae")
    (folder / "vae" / "diffusion_pytorch_model-00002-of-00002.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="diffusion_pytorch_model-00002-of-00002"):
        load_checkpoint(folder)


@pytest.mark.parametrize("name", ["../../secret.safetensors", "/etc/passwd", 3, ["a"]])
def test_pieces_outside_the_folder_are_refused(folder, edit_json, name):
    index = split(folder, "unet")
    edit_json(index, weight_map={"conv_in.weight": name})
    with pytest.raises(CheckpointError, match="weight_map"):
        load_checkpoint(folder)


def test_a_tensor_in_two_pieces_is_an_error(folder):
    split(folder, "unet")
    pieces = sorted((folder / "unet").glob("*-of-*.safetensors"))
    first, second = ({k: t.clone() for k, t in load_file(p).items()} for p in pieces)
    pieces[1].unlink()
    save_file(second | {next(iter(first)): next(iter(first.values()))}, pieces[1])
    with pytest.raises(CheckpointError, match="repeats tensors"):
        load_checkpoint(folder)


def test_old_names_in_the_autoencoder_are_understood(model, folder, same_weights):
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def rename(name):
        for new, word in old.items():
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{word}.")
        return name

    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    rewrite(file, rename)
    assert "decoder.mid_block.attentions.0.proj_attn.bias" in load_file(file)
    same_weights(model, load_checkpoint(folder))


@pytest.mark.parametrize("where", ["folder", "file"])
def test_text_encoders_as_transformers_5_names_them(model, folder, file, same_weights, where):
    path = folder / "text_encoder" / "model.safetensors" if where == "folder" else file
    if where == "file":
        metadata = read_tensors(file)[1]
        tensors = {k.replace(".text_model.", "."): t.clone() for k, t in load_file(file).items()}
        file.unlink()
        save_file(tensors, file, metadata)
    else:
        rewrite(path, lambda name: name.removeprefix("text_model."))
    same_weights(model, load_checkpoint(folder if where == "folder" else file))


def test_both_spellings_of_one_tensor_are_an_error(folder):
    path = folder / "text_encoder" / "model.safetensors"
    tensors = {k: t.clone() for k, t in load_file(path).items()}
    path.unlink()
    save_file(tensors | {"final_layer_norm.bias": torch.zeros(18)}, path)
    with pytest.raises(CheckpointError, match="twice"):
        load_checkpoint(folder)


def test_position_ids_and_other_parts_of_the_pipeline_are_ignored(model, folder, same_weights):
    path = folder / "text_encoder" / "model.safetensors"
    tensors = {k: t.clone() for k, t in load_file(path).items()}
    path.unlink()
    save_file(tensors | {"text_model.embeddings.position_ids": torch.arange(77)[None]}, path)
    for name in ("safety_checker", "feature_extractor"):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text("never opened")
    same_weights(model, load_checkpoint(folder))


# What the official folder's settings say (diffusers 0.6, transformers 4.22), besides the sizes.
OFFICIAL = {
    "unet": {"_diffusers_version": "0.6.0", "attention_head_dim": 2, "center_input_sample": False, "mid_block_scale_factor": 1},
    "vae": {"_diffusers_version": "0.6.0", "scaling_factor": ..., "use_quant_conv": ..., "mid_block_add_attention": ...},
    "text_encoder": {"bos_token_id": ..., "eos_token_id": ..., "pad_token_id": 1, "dropout": 0.0, "torch_dtype": "float32"},
}


def test_settings_as_old_as_the_official_ones(model, folder, edit_json, same_weights):
    for part, changes in OFFICIAL.items():
        edit_json(folder / part / "config.json", **changes)
    settings = {
        "_class_name": "PNDMScheduler",
        "_diffusers_version": "0.6.0",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "num_train_timesteps": 1000,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
        "trained_betas": None,
        "clip_sample": False,
    }
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(settings))
    loaded = load_checkpoint(folder)
    same_weights(model, loaded)
    assert loaded.vae.config.scaling_factor == 0.18215
    assert loaded.scheduler.to_config() == DDIMScheduler().to_config()


def test_a_folder_without_tokenizer_and_scheduler(folder, same_weights, model):
    import shutil

    shutil.rmtree(folder / "tokenizer")
    shutil.rmtree(folder / "scheduler")
    loaded = load_checkpoint(folder)
    same_weights(model, loaded)
    assert loaded.tokenizer is None
    assert loaded.scheduler is None


def test_a_tokenizer_in_the_old_format_which_is_written_too(model, folder):
    for file in (folder / "tokenizer").iterdir():
        if file.name not in ("vocab.json", "merges.txt"):
            file.unlink()
    loaded = load_checkpoint(folder).tokenizer
    prompt = "A cat in  the style of NOTO, with 12 hats"
    assert loaded.model_max_length == 77
    for options in ({}, {"padding": "max_length"}, {"truncation": True, "max_length": 6}):
        assert loaded(prompt, **options).input_ids == model.tokenizer(prompt, **options).input_ids


# ---- parts


def test_parts_are_added_to_a_folder_one_by_one(model, same_weights, tmp_path):
    path = tmp_path / "model"
    for names in (("tokenizer", "text_encoder"), ("vae",), ("unet", "scheduler")):
        save_checkpoint({name: getattr(model, name) for name in names}, path)
        index = json.loads((path / "model_index.json").read_text())
        assert all(index[name] != [None, None] for name in names)
    same_weights(model, load_checkpoint(path))
    assert index["scheduler"] == ["diffusers", "EulerDiscreteScheduler"]
    assert index["tokenizer"] == ["transformers", "CLIPTokenizer"]


def test_one_network_in_its_own_folder(model, tmp_path):
    save_component(model.vae, tmp_path / "vae")
    save_component(model.vae, tmp_path / "better-vae")
    for loaded in (load_component(tmp_path / "vae"), load_component(tmp_path / "better-vae", "vae", dtype=torch.float16)):
        assert loaded.config == model.vae.config
    with pytest.raises(ValueError, match="part='better-vae' must be one of 'unet', 'vae', 'text_encoder'"):
        load_component(tmp_path / "better-vae")
    with pytest.raises(CheckpointError, match=r"AutoencoderKL.*not of.*UNet2DConditionModel"):
        load_component(tmp_path / "vae", "unet")


def test_a_network_of_another_kind_is_written_as_weights_alone(tmp_path):
    tower = CLIPImageTower(14)
    save_component(tower, tmp_path / "image_tower")
    assert [p.name for p in (tmp_path / "image_tower").iterdir()] == ["model.safetensors"]
    tensors, _ = read_tensors(tmp_path / "image_tower" / "model.safetensors")
    assert tensors.keys() == tower.state_dict().keys()


def test_a_whole_model_without_a_scheduler_gets_v15s(random_model, tiny_config, tmp_path):
    save_checkpoint(random_model(tiny_config), tmp_path / "model")
    assert load_checkpoint(tmp_path / "model").scheduler.to_config() == DDIMScheduler().to_config()


# ---- replacing


def test_other_files_of_a_folder_stay_and_old_weights_go(model, folder, random_model, tiny_config, same_weights):
    (folder / "README.md").write_text("model card")
    (folder / "unet" / "notes.txt").write_text("keep")
    split(folder, "vae")
    (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"old")
    (folder / "tokenizer" / "vocab.json").write_text("{}")
    (folder / "tokenizer" / "added_tokens.json").write_text('{"old": 554}')
    other = random_model(tiny_config, model.tokenizer, model.scheduler, seed=1)
    save_checkpoint(other, folder)
    same_weights(other, load_checkpoint(folder))
    assert (folder / "README.md").read_text() == "model card"
    assert (folder / "unet" / "notes.txt").read_text() == "keep"
    assert {p.name for p in (folder / "vae").iterdir()} == {"config.json", "diffusion_pytorch_model.safetensors"}
    assert not (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").exists()
    assert len(json.loads((folder / "tokenizer" / "vocab.json").read_text())) == 554
    assert not (folder / "tokenizer" / "added_tokens.json").exists()


@pytest.mark.parametrize("name", ["model", "model.safetensors"])
def test_a_model_can_replace_the_file_it_is_mapped_from(model, same_weights, tmp_path, name):
    path = save_checkpoint(model, tmp_path / name)
    loaded = load_checkpoint(path)
    with torch.no_grad():
        loaded.unet.conv_in.weight.add_(1)
    save_checkpoint(loaded, path)
    again = load_checkpoint(path)
    same_weights(loaded, again)
    assert torch.equal(again.unet.conv_in.weight, model.unet.conv_in.weight + 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda model, path: save_checkpoint(model, path / "m.ckpt"), "pickles are not written"),
        (lambda model, path: save_checkpoint({"vae": model.vae}, path / "m.safetensors"), "a single file needs unet, vae"),
        (lambda model, path: save_checkpoint({"vea": model.vae}, path / "m"), "it has vea"),
        (lambda model, path: save_checkpoint({}, path / "m"), "it has none"),
        (lambda model, path: save_checkpoint(None, path / "m"), "it has none"),
        (lambda model, path: save_checkpoint({"unet": model.vae}, path / "m"), "unet must be a UNet; it is a AutoencoderKL"),
    ],
)
def test_what_cannot_be_written(model, tmp_path, make, message):
    with pytest.raises(ValueError, match=message):
        make(model, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_does_not_take_the_place_of_a_file(model, tmp_path):
    (tmp_path / "model").write_text("mine")
    with pytest.raises(ValueError, match="is a file, whose place"):
        save_checkpoint(model, tmp_path / "model")
    assert (tmp_path / "model").read_text() == "mine"


# ---- devices


def test_devices(file):
    assert pick_device() in [torch.device(name) for name in ("cuda", "mps", "cpu")]
    assert pick_device("cpu") == torch.device("cpu")
    for device in ("cuda:99", "abacus", torch.device("cuda", 98)):
        with pytest.raises(ValueError, match="device=.*is not available; this machine has .*cpu"):
            pick_device(device)
        with pytest.raises(ValueError, match="is not available"):
            load_checkpoint(file, device=device)


@pytest.mark.parametrize("name", ["model", "model.safetensors"])
def test_a_path_in_the_users_folder_is_written_where_it_is_read(model, same_weights, tmp_path, monkeypatch, name):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert save_checkpoint(model, f"~/{name}") == tmp_path / "home" / name
    same_weights(load_checkpoint(f"~/{name}"), model)
    assert save_component(model.vae, "~/vae") == tmp_path / "home" / "vae"
    assert load_component("~/vae").config == model.vae.config
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
