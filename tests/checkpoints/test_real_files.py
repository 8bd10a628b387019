"""Single files as they are found: extra tensors, other spellings, an autoencoder apart, pickles of Lightning."""

import argparse
import builtins
import collections
import os
import pathlib
import pickle
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ldm_tutorial import load_pipeline
from ldm_tutorial.checkpoints import CheckpointError, load_checkpoint, load_component, load_vae, save_checkpoint, save_component
from ldm_tutorial.checkpoints.compvis import to_ldm
from ldm_tutorial.checkpoints.folder import PARTS
from ldm_tutorial.schedulers import DDIMScheduler, EulerDiscreteScheduler

TEXT = "cond_stage_model.transformer.text_model."
VAE = "first_stage_model."


@pytest.fixture
def v1(random_model, ldm_config):
    """A model whose sizes a file tells by itself, and its tensors as CompVis' code writes them."""
    model = random_model(ldm_config())
    return model, {k: t.contiguous() for k, t in to_ldm({name: getattr(model, name) for name in PARTS}).items()}


def written(tensors, path):
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path


EXTRAS = [
    *("betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod"),
    *("log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod", "lvlb_weights"),
    *("posterior_variance", "posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2"),
    *("ddim_sigmas", "ddim_alphas", "ddim_alphas_prev", "ddim_sqrt_one_minus_alphas", "denoiser.sigmas"),
    *("model_ema.decay", "model_ema.num_updates", "model_ema.diffusion_modelinput_blocks00weight", "logvar"),
    *("first_stage_model.loss.logvar", "first_stage_model.loss.perceptual_loss.lin0.model.1.weight"),
    *("first_stage_model.model_ema.decay", "first_stage_model.loss.discriminator.main.0.bias"),
    *("cond_stage_model.transformer.text_model.embeddings.position_ids", "cond_stage_model.logit_scale"),
    *("cond_stage_model.transformer.embeddings.position_ids", "cond_stage_model.transformer.logit_scale"),
    *("cond_stage_model.transformer.text_projection.weight", "cond_stage_model.text_projection"),
]


@pytest.mark.parametrize("name", EXTRAS)
def test_tensors_that_are_no_weights_of_the_three_networks_are_left_out(v1, tmp_path, same_weights, name):
    model, tensors = v1
    same_weights(model, load_checkpoint(written(tensors | {name: torch.rand(3)}, tmp_path / "v1.safetensors")))


UNKNOWN = [
    *("model.diffusion_model.input_blocks.0.0.gain", "first_stage_model.encoder.mid.attn_1.rel_pos", "betas.extra", "v_pred"),
    *("cond_stage_model.transformer.text_model.encoder.layers.2.mlp.fc1.bias", "model.diffusion_model.logvar.weight"),
]


@pytest.mark.parametrize("name", UNKNOWN)
def test_tensors_that_might_matter_are_not_left_out(v1, tmp_path, name):
    _, tensors = v1
    tensors[name] = torch.rand(3)
    with pytest.raises(CheckpointError, match="unexpected|does not fit"):
        load_checkpoint(written(tensors, tmp_path / "v1.safetensors"))


def attention(*words, shape=lambda t: t):
    """The autoencoder's attention under other names, in another shape."""
    new = dict(zip(("norm", "q", "k", "v", "proj_out"), words))

    def change(name, tensor):
        head, mid, layer = name.partition(".mid.attn_1.")
        if not mid:
            return name, tensor
        stem, _, kind = layer.rpartition(".")
        return f"{head}{mid}{new[stem]}.{kind}", shape(tensor) if kind == "weight" and stem != "norm" else tensor

    return change


def text(prefix):
    return lambda name, tensor: (name.replace(TEXT, prefix), tensor)


SPELLINGS = {
    "to_q, (c, c)": attention("norm", "to_q", "to_k", "to_v", "to_out.0", shape=lambda t: t[:, :, 0, 0]),
    "to_q, (c, c, 1, 1)": attention("group_norm", "to_q", "to_k", "to_v", "to_out.0"),
    "query, (c, c)": attention("group_norm", "query", "key", "value", "proj_attn", shape=lambda t: t[:, :, 0, 0]),
    "q, (c, c)": attention("norm", "q", "k", "v", "proj_out", shape=lambda t: t[:, :, 0, 0]),
    "q, (c, c, 1, 1)": attention("norm", "q", "k", "v", "proj_out"),
    "text encoder without text_model": text("cond_stage_model.transformer."),
    "text encoder without transformer": text("cond_stage_model.text_model."),
    "text encoder without either": text("cond_stage_model."),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_other_spellings_of_a_file_are_the_same_model(v1, tmp_path, same_weights, spelling):
    model, tensors = v1
    changed = dict(SPELLINGS[spelling](name, tensor) for name, tensor in tensors.items())
    path = written(changed, tmp_path / "v1.safetensors")
    loaded = load_checkpoint(path)
    same_weights(model, loaded)
    assert loaded.config == model.config
    assert equal(load_vae(path), model.vae)


def test_an_autoencoder_in_diffusers_names_within_a_whole_file(v1, tmp_path, same_weights):
    model, tensors = v1
    rest = {name: tensor for name, tensor in tensors.items() if not name.startswith(VAE)}
    theirs = {VAE + name: tensor for name, tensor in model.vae.state_dict().items()}
    same_weights(model, load_checkpoint(written(rest | theirs, tmp_path / "v1.safetensors")))


# ---- errors name tensors as they are in the file


def test_an_error_names_a_tensor_as_it_is_in_the_file(v1, tmp_path):
    _, tensors = v1
    name, bare = TEXT + "final_layer_norm.bias", "cond_stage_model.transformer.final_layer_norm.bias"
    renamed = {k: t for k, t in tensors.items() if k != name} | {bare: torch.zeros(5)}
    with pytest.raises(CheckpointError, match=rf"1 of another shape: {bare} \(5,\) instead of \(64,\)"):
        load_checkpoint(written(renamed, tmp_path / "shape.safetensors"))
    strange = "cond_stage_model.transformer.encoder.layers.9.mlp.fc1.gain"
    with pytest.raises(CheckpointError, match=f"1 unexpected: {strange}$"):
        load_checkpoint(written(tensors | {strange: torch.zeros(5)}, tmp_path / "unexpected.safetensors"))
    with pytest.raises(CheckpointError, match=f"one tensor twice, as {bare} and as {name}"):
        load_checkpoint(written({bare: tensors[name].clone()} | tensors, tmp_path / "twice.safetensors"))
    tensors[name][0] = torch.nan
    changed = dict(text("cond_stage_model.")(k, t) for k, t in tensors.items())
    with pytest.raises(CheckpointError, match="cond_stage_model.final_layer_norm.bias is damaged"):
        load_checkpoint(written(changed, tmp_path / "nan.safetensors"))


def test_in_a_folder_too(folder):
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = {k: t.clone() for k, t in load_file(path).items()}
    name = "decoder.mid_block.attentions.0.to_out.0.bias"
    old = "decoder.mid_block.attentions.0.proj_attn.bias"
    tensors[old] = torch.zeros(3) if tensors.pop(name) is not None else None
    path.unlink()
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match=rf"1 of another shape: {old} \(3,\)"):
        load_checkpoint(folder)


# ---- numbers that are none


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("part", list(PARTS))
@pytest.mark.parametrize("layout", ["folder", "file"])
@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
def test_a_number_that_is_not_finite_is_found_in_every_part(model, tmp_path, layout, part, value, stored):
    path = save_checkpoint(model, tmp_path / ("model" if layout == "folder" else "model.safetensors"), dtype=stored)
    file = path if layout == "file" else next((path / part).glob("*.safetensors"))
    start = {"unet": "model.diff", "vae": VAE, "text_encoder": "cond"}[part] if layout == "file" else ""
    from ldm_tutorial.checkpoints.tensors import read_tensors

    tensors, metadata = read_tensors(file)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    name = [name for name in tensors if name.startswith(start)][-1]
    tensors[name].view(-1)[-1] = value
    file.unlink()
    save_file(tensors, file, metadata)
    for dtype in (None, torch.float16):
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(path, dtype=dtype)
        assert f"{file}: {name} is damaged: it holds numbers that are not finite" in str(caught.value)


def test_large_numbers_are_finite_even_where_their_sum_is_not(model, random_model, tiny_config, tmp_path, same_weights):
    large = random_model(tiny_config)
    with torch.no_grad():
        large.unet.conv_in.weight.fill_(3e38)
        large.vae.encoder.conv_in.weight.fill_(60_000)
    same_weights(large, load_checkpoint(save_checkpoint(large, tmp_path / "large")))
    half = save_component(large.vae, tmp_path / "vae", dtype=torch.float16)
    assert load_component(half, dtype=torch.float16).encoder.conv_in.weight.min() == 60_000 // 32 * 32


def test_a_number_too_large_for_the_dtype_asked_for_is_named(random_model, tiny_config, tmp_path):
    large = random_model(tiny_config)
    with torch.no_grad():
        large.unet.conv_in.weight[0, 0] = 1e5
    path = save_checkpoint(large, tmp_path / "large")
    with pytest.raises(CheckpointError, match=r"conv_in\.weight goes beyond torch\.float16"):
        load_checkpoint(path, dtype=torch.float16)
    load_checkpoint(path, dtype=torch.bfloat16)


# ---- an autoencoder apart


def equal(a, b):
    return a.config == b.config and all(torch.equal(t, b.state_dict()[k]) for k, t in a.state_dict().items())


@pytest.mark.parametrize("prefix", ["", VAE])
@pytest.mark.parametrize("names", ["compvis", "diffusers", "diffusers before 2023"])
def test_an_autoencoder_alone_in_a_file(v1, tmp_path, names, prefix):
    model, tensors = v1
    alone = {k.removeprefix(VAE): t for k, t in tensors.items() if k.startswith(VAE)}
    if names != "compvis":
        alone = dict(model.vae.state_dict())
    if names == "diffusers before 2023":
        for new, old in {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}.items():
            alone = {k.replace(f"attentions.0.{new}.", f"attentions.0.{old}."): t for k, t in alone.items()}
    extras = {"loss.logvar": torch.zeros(1), "model_ema.decay": torch.zeros(1)} if names == "compvis" else {}
    path = written({prefix + k: t for k, t in (alone | extras).items()}, tmp_path / "vae.safetensors")
    assert equal(load_vae(path), model.vae)
    assert load_vae(path, dtype="float16").encoder.conv_in.weight.dtype == torch.float16


def test_an_autoencoder_out_of_a_whole_model_and_out_of_folders(v1, model, folder, file, tmp_path):
    v1_model, tensors = v1
    assert equal(load_vae(written(tensors, tmp_path / "v1.safetensors")), v1_model.vae)
    assert equal(load_vae(file), model.vae)  # the file's metadata tell its groups
    assert equal(load_vae(folder), model.vae)
    assert equal(load_vae(folder / "vae"), model.vae)
    with pytest.raises(FileNotFoundError, match="no file or folder .*nowhere"):
        load_vae(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="does not fit|no vae"):
        load_vae(folder / "unet" / "diffusion_pytorch_model.safetensors")


def test_the_configuration_of_an_autoencoder_in_a_file_can_be_given(model, tmp_path):
    path = written(dict(model.vae.state_dict()), tmp_path / "vae.safetensors")
    with pytest.raises(CheckpointError, match="norm_num_groups=32 does not divide"):
        load_vae(path)
    assert equal(load_vae(path, model.vae.config), model.vae)


def test_a_file_without_an_autoencoder_names_the_option_and_loads_with_it(v1, random_model, tmp_path, same_weights):
    model, tensors = v1
    other = random_model(model.config, seed=7)
    without = written({k: t for k, t in tensors.items() if not k.startswith(VAE)}, tmp_path / "v1.safetensors")
    with pytest.raises(CheckpointError, match=r"it has no vae \(first_stage_model\.\.\.\.\); the argument vae takes the path"):
        load_checkpoint(without)
    apart = written(dict(other.vae.state_dict()), tmp_path / "vae.safetensors")
    loaded = load_checkpoint(without, vae=apart)
    model.vae = other.vae
    same_weights(model, loaded)


def test_an_autoencoder_given_comes_before_the_models_own(folder, file, model, random_model, same_weights, tmp_path):
    other = random_model(model.config, seed=8)
    apart = save_component(other.vae, tmp_path / "better")
    for path in (folder, file):
        loaded = load_checkpoint(path, vae=apart)
        assert equal(loaded.vae, other.vae)
        assert torch.equal(loaded.unet.conv_in.weight, model.unet.conv_in.weight)
    (folder / "vae" / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match="no vae/config.json in it; the argument vae takes"):
        load_checkpoint(folder)
    pipe = load_pipeline(folder, "cpu", vae=apart)
    assert equal(pipe.vae, other.vae)
    assert pipe("a cat", steps=1, progress=False)[0].size == (32, 32)


# ---- a scheduler whose settings cannot be used


def test_a_scheduler_given_comes_before_one_that_cannot_be_used(folder, edit_json):
    settings = folder / "scheduler" / "scheduler_config.json"
    edit_json(settings, beta_schedule="sigmoid")
    with pytest.raises(CheckpointError, match="beta_schedule='sigmoid'"):
        load_pipeline(folder, "cpu")
    mine = EulerDiscreteScheduler()
    assert load_pipeline(folder, "cpu", scheduler=mine).scheduler is mine
    settings.write_text("{")
    assert load_pipeline(folder, "cpu", scheduler=mine).scheduler is mine
    assert isinstance(load_pipeline(folder, "cpu", scheduler=DDIMScheduler()).scheduler, DDIMScheduler)


# ---- a token that was added


def test_a_folder_with_one_added_token_loads_and_ends_its_prompts_as_before(model, folder, edit_json):
    """As a textual inversion leaves it."""
    loaded = load_checkpoint(folder)
    loaded.tokenizer.add_tokens("<my-cat>")
    path = folder / "text_encoder" / "model.safetensors"
    tensors = {k: t.clone() for k, t in load_file(path).items()}
    table = "text_model.embeddings.token_embedding.weight"
    tensors[table] = torch.cat([tensors[table], torch.ones(1, 18)])
    path.unlink()
    save_file(tensors, path)
    edit_json(folder / "text_encoder" / "config.json", vocab_size=555)
    for name in ("vocab.json", "merges.txt"):
        (folder / "tokenizer" / name).unlink()
    loaded.tokenizer.save_pretrained(folder / "tokenizer")
    pipe = load_pipeline(folder, "cpu")
    assert pipe.text_encoder.config.vocab_size == len(pipe.tokenizer) == 555
    assert pipe.text_encoder.config.eos_token_id == pipe.tokenizer.eos_token_id == 553
    assert pipe.tokenizer("a <my-cat>").input_ids[-2:] == [554, 553]
    again = load_pipeline(save_checkpoint(pipe, folder.parent / "again"), "cpu")
    assert again.text_encoder.config == pipe.text_encoder.config


# ---- pickles


@pytest.fixture
def lightning(monkeypatch):
    """What else official and other trainings leave in their files. The packages are there only while the test writes them."""
    names = (
        "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
        "omegaconf.dictconfig.DictConfig",
        "pytorch_lightning.utilities.parsing.AttributeDict",
    )
    classes = []
    with monkeypatch.context() as patch:
        for name in names:
            module, _, own = name.rpartition(".")
            parts = module.split(".")
            for end in range(1, len(parts) + 1):
                patch.setitem(sys.modules, ".".join(parts[:end]), types.ModuleType(".".join(parts[:end])))
            classes.append(type(own, (dict,) if own == "AttributeDict" else (), {"__module__": module}))
            setattr(sys.modules[module], own, classes[-1])
        callback, config, attributes = classes
        made, options = callback(), config()
        made.best_model_path, options._content = "x", {"a": [1, (2, "b")]}
        yield {
            "epoch": 3,
            "global_step": 470_000,
            "pytorch-lightning_version": "1.4.2",
            "callbacks": {callback: {"monitor": "val/loss", "best_model_score": torch.tensor(0.1), "kept": made}},
            "hyper_parameters": attributes(lr=1e-4, config=options),
            "loss": np.float64(0.25),
            "history": np.arange(4.0),
            "arguments": argparse.Namespace(path=pathlib.PurePosixPath("a/b")),
            "counts": collections.defaultdict(int, a=1),
            "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-4}]}],
        }


@pytest.mark.parametrize("zipped", [True, False])
def test_a_ckpt_of_lightning_is_read_without_lightning(v1, lightning, tmp_path, same_weights, zipped):
    model, tensors = v1
    path = tmp_path / "v1.ckpt"
    torch.save(lightning | {"state_dict": tensors}, path, _use_new_zipfile_serialization=zipped)
    for name in [name for name in sys.modules if name.startswith(("pytorch_lightning", "omegaconf"))]:
        del sys.modules[name]
    same_weights(model, load_checkpoint(path))
    assert not any(name.startswith(("pytorch_lightning", "omegaconf")) for name in sys.modules)


class Call:
    """In a pickle: call this with these arguments."""

    def __init__(self, function, *arguments):
        self.how = function, arguments

    def __reduce__(self):
        return self.how


HOSTILE = {
    "os.system": lambda mark: Call(os.system, f"touch {mark}"),
    "eval": lambda mark: Call(eval, f"open({str(mark)!r}, 'w')"),
    "exec": lambda mark: Call(exec, f"open({str(mark)!r}, 'w')"),
    "open": lambda mark: Call(open, str(mark), "w"),
    "getattr": lambda mark: Call(getattr, Call(__import__, "os"), "system"),
    "subprocess": lambda mark: Call(subprocess.check_call, ["touch", str(mark)]),
    "pickle.loads": lambda mark: Call(pickle.loads, pickle.dumps(Call(os.mkdir, str(mark)))),
    "__import__": lambda mark: Call(builtins.__import__, "os"),
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_beside_it_is_refused_and_nothing_runs(v1, lightning, tmp_path, case, zipped):
    _, tensors = v1
    path, mark = tmp_path / "v1.ckpt", tmp_path / "owned"
    for extra in ({"extra": HOSTILE[case](mark)}, {"callbacks": {1: [HOSTILE[case](mark)]}}):
        torch.save(lightning | {"state_dict": tensors} | extra, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(CheckpointError, match="is a pickle that wants to run `.*` when it is read, and was not read"):
            load_checkpoint(path)
        assert not mark.exists()


def test_functions_of_other_packages_are_never_called(v1, tmp_path, same_weights, monkeypatch):
    """torch.load would read a second pickle, numpy's and torch.hub's functions files and the network: all become stubs."""
    model, tensors = v1
    called = []
    evil = types.ModuleType("evil_package")
    evil.run = lambda *arguments: called.append(arguments)
    evil.run.__module__, evil.run.__qualname__, evil.run.__name__ = "evil_package", "run", "run"
    monkeypatch.setitem(sys.modules, "evil_package", evil)
    (tmp_path / "inner.pkl").write_bytes(pickle.dumps(Call(os.mkdir, str(tmp_path / "owned")), protocol=2))
    calls = [
        Call(evil.run, 1),
        Call(torch.load, str(tmp_path / "inner.pkl")),
        Call(np.fromfile, str(tmp_path / "inner.pkl")),
        Call(torch.save, torch.zeros(1), str(tmp_path / "owned")),
    ]
    for call in calls:
        torch.save({"state_dict": tensors, "extra": call}, tmp_path / "v1.ckpt")
        same_weights(model, load_checkpoint(tmp_path / "v1.ckpt"))
        torch.save({"state_dict": tensors | {"betas": call}}, tmp_path / "v1.ckpt")
        with pytest.raises(CheckpointError, match="does not hold tensors"):
            load_checkpoint(tmp_path / "v1.ckpt")
    assert called == []
    assert not (tmp_path / "owned").exists()


def test_a_stub_is_known_to_torch_only_while_a_file_is_read(v1, lightning, tmp_path):
    before = set(map(str, torch.serialization.get_safe_globals()))
    torch.save(lightning | {"state_dict": v1[1]}, tmp_path / "v1.ckpt")
    load_checkpoint(tmp_path / "v1.ckpt")
    assert set(map(str, torch.serialization.get_safe_globals())) == before


def test_a_pickle_of_nothing_is_no_checkpoint(tmp_path):
    torch.save(None, tmp_path / "v1.ckpt")
    with pytest.raises(CheckpointError, match="does not hold tensors"):
        load_checkpoint(tmp_path / "v1.ckpt")
