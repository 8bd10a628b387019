"""Every spelling of one LoRA loads, to the same numbers; diffusers reads what we write, and we read what it writes."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from ldm_tutorial.adapters import LowRank, read_lora, save_lora
from ldm_tutorial.checkpoints import CheckpointError, save_checkpoint
from tests.adapters.conftest import LAYERS
from tests.adapters.test_lora import close, outputs, same

ATTENTION = {part: [name for name in layers if "attn" in name] for part, layers in LAYERS.items()}


def assert_equal(a, b):
    """As numbers: B A, with all factors, of every layer."""
    assert set(a.names) == set(b.names)
    for name, update in a.by_name().items():
        torch.testing.assert_close(update.delta(), b.by_name()[name].delta(), rtol=1e-6, atol=1e-7, msg=name)


def write(path, tensors, metadata=None):
    save_file({name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}, path, metadata)
    return path


def spelled(lora, stem, roles):
    """The file's names: `stem` makes the beginning from ours, `roles` says how A, B and α end; what is None is left out."""
    tensors = {}
    for name, update in lora.by_name().items():
        values = (update.down.weight, update.up.weight, torch.tensor(update.alpha))
        tensors |= {stem(name) + end: value for end, value in zip(roles, values) if end is not None}
    return tensors


@pytest.mark.parametrize("layout", ["diffusers", "kohya"])
@pytest.mark.parametrize("alpha", [3.0, 2.0, 0.7])
def test_what_is_written_is_read_again_bit_for_bit(pipe, random_lora, tmp_path, layout, alpha):
    lora = random_lora(pipe.networks, alpha=alpha)
    again = read_lora(save_lora(lora, tmp_path / "a" / "x.safetensors", layout), pipe.networks, scale=0.5)
    assert again.scale == 0.5 and set(again.names) == set(lora.names)
    for name, update in lora.by_name().items():
        other = again.by_name()[name]
        assert torch.equal(update.down.weight, other.down.weight) and torch.equal(update.up.weight, other.up.weight)
        assert other.alpha == pytest.approx(alpha, rel=1e-7) and other.rank == 3


def test_ranks_and_alphas_may_differ_from_layer_to_layer(pipe, random_lora, tmp_path):
    lora = random_lora(pipe.networks)
    for i, (name, update) in enumerate(list(lora.by_name().items())):
        part, _, path = name.partition(".")
        other = LowRank(pipe.networks[part].get_submodule(path), rank=1 + i % 3, alpha=1 + i % 2)
        torch.nn.init.normal_(other.up.weight)
        lora.updates[i] = other
        assert update is not other
    for layout in ("diffusers", "kohya"):
        assert_equal(read_lora(save_lora(lora, tmp_path / "x.safetensors", layout), pipe.networks), lora)


def kohya_name(name):
    part, _, layer = name.partition(".")
    return {"unet": "lora_unet_", "text_encoder": "lora_te_"}[part] + layer.replace(".", "_")


SPELLINGS = {
    "diffusers": (lambda n: n, (".lora_A.weight", ".lora_B.weight", None)),
    "diffusers, with alphas": (lambda n: n, (".lora_A.weight", ".lora_B.weight", ".alpha")),
    "diffusers, 2023": (lambda n: n, (".lora.down.weight", ".lora.up.weight", None)),
    "transformers 5": (lambda n: n.replace("text_model.", ""), (".lora_A.weight", ".lora_B.weight", None)),
    "peft": (lambda n: "base_model.model." + n.partition(".")[2], (".lora_A.weight", ".lora_B.weight", None)),
    "peft, in memory": (
        lambda n: "base_model.model." + n.partition(".")[2],
        (".lora_A.default.weight", ".lora_B.default.weight", None),
    ),
    "kohya": (kohya_name, (".lora_down.weight", ".lora_up.weight", ".alpha")),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_every_spelling_of_one_lora_is_the_same(pipe, random_lora, tmp_path, name):
    stem, roles = SPELLINGS[name]
    lora = random_lora(pipe.networks, alpha=3 if roles[2] is None else 1.25)
    assert_equal(read_lora(write(tmp_path / "x.safetensors", spelled(lora, stem, roles)), pipe.networks), lora)


def old_name(name):
    """As diffusers wrote it until the summer of 2023: a name for the processor of attention, one for all layers in it."""
    if name.startswith("text_encoder."):
        head, _, last = name.rpartition(".")
        return f"{head}.to_{last[0] if last != 'out_proj' else 'out'}_lora"
    head, _, last = name.replace(".to_out.0", ".to_out").rpartition(".")
    return f"{head}.processor.{last}_lora"


@pytest.mark.parametrize("prefixed", [True, False])
def test_the_oldest_files_of_diffusers_load(pipe, random_lora, tmp_path, prefixed):
    layers = {"unet": ATTENTION["unet"], "text_encoder": ATTENTION["text_encoder"]} if prefixed else {"unet": ATTENTION["unet"]}
    networks = {part: pipe.networks[part] for part in layers}
    lora = random_lora(networks, alpha=3, layers=layers)

    def stem(name):
        return old_name(name) if prefixed else old_name(name).removeprefix("unet.")

    tensors = spelled(lora, stem, (".down.weight", ".up.weight", None))
    assert ("processor.to_q_lora.down.weight" in "".join(tensors)) and "to_out_lora.up.weight" in "".join(tensors)
    assert_equal(read_lora(write(tmp_path / "x.safetensors", tensors), pipe.networks), lora)


def test_a_matrix_may_be_a_1x1_convolution_and_the_other_way_round(pipe, random_lora, tmp_path):
    lora = random_lora(pipe.networks, alpha=3)
    tensors = spelled(lora, *SPELLINGS["diffusers"])
    assert tensors["unet.mid_block.attentions.0.proj_in.lora_A.weight"].ndim == 4
    turned = {n: t[..., None, None] if t.ndim == 2 else t.flatten(1) if t.shape[2:] == (1, 1) else t for n, t in tensors.items()}
    assert_equal(read_lora(write(tmp_path / "x.safetensors", turned), pipe.networks), lora)


def test_pefts_settings_in_the_metadata_say_alpha(pipe, random_lora, tmp_path):
    lora = random_lora(pipe.networks, alpha=3)
    q, proj = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q", "mid_block.attentions.0.proj_in"
    settings = {
        "unet.lora_alpha": 6,
        "unet.alpha_pattern": {"attn1.to_q": 12, f"^{proj}": 1.5},
        "text_encoder.lora_alpha": 3,
        "text_encoder.use_rslora": True,
    }
    path = write(
        tmp_path / "x.safetensors", spelled(lora, *SPELLINGS["diffusers"]), {"lora_adapter_metadata": json.dumps(settings)}
    )
    again = read_lora(path, pipe.networks).by_name()
    factors = {name: update.alpha / update.rank for name, update in again.items()}
    assert factors.pop(f"unet.{q}") == 4 and factors.pop(f"unet.{proj}") == 0.5
    assert {name.split(".")[0]: value for name, value in factors.items()} == {
        "unet": 2,
        "text_encoder": pytest.approx(3 / 3**0.5),
    }


def test_it_comes_in_the_networks_precision_and_does_not_need_its_file_any_more(pipe, random_lora, tmp_path):
    path = save_lora(random_lora(pipe.networks), tmp_path / "x.safetensors", dtype=torch.float16)
    assert {tensor.dtype for name, tensor in load_file(path).items() if "alpha" not in name} == {torch.float16}
    pipe.to(dtype="bfloat16")
    lora = read_lora(path, pipe.networks)
    assert {p.dtype for p in lora.parameters()} == {torch.bfloat16}
    kept = [p.clone() for p in lora.parameters()]
    path.write_bytes(bytes(path.stat().st_size))
    assert same(kept, list(lora.parameters()))


def test_reading_one_takes_no_random_numbers(pipe, random_lora, tmp_path):
    path = save_lora(random_lora(pipe.networks), tmp_path / "x.safetensors")
    before = torch.get_rng_state()
    read_lora(path, pipe.networks)
    assert torch.equal(torch.get_rng_state(), before)


# ---- beside diffusers


@pytest.fixture
def theirs(pipe, tmp_path):
    """Our tiny model in diffusers, with peft."""
    pytest.importorskip("peft", reason="NOTICE: no peft, so no LoRAs beside diffusers")
    diffusers = pytest.importorskip("diffusers")
    folder = save_checkpoint(pipe, tmp_path / "model")
    return diffusers.StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)


def their_outputs(theirs, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x, words = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 5, 18, generator=generator)
    ids = torch.randint(550, (2, 9), generator=generator)
    with torch.no_grad():
        return [theirs.unet(x, torch.tensor([3, 700]), words).sample, theirs.text_encoder(ids).last_hidden_state]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("layout", ["diffusers", "kohya"])
@pytest.mark.parametrize("alpha", [3.0, 1.25])
def test_diffusers_draws_with_what_we_write(pipe, theirs, random_lora, tmp_path, layout, alpha):
    layers = LAYERS if layout == "diffusers" else ATTENTION  # diffusers guesses the names of convolutions in kohya's files
    lora = random_lora(pipe.networks, alpha=alpha, layers=layers)
    path = save_lora(lora, tmp_path / "x.safetensors", layout)
    before = their_outputs(theirs)
    assert close(before, outputs(pipe))
    theirs.load_lora_weights(path.parent, weight_name=path.name)
    lora.attach(pipe.networks)
    assert close(outputs(pipe), their_outputs(theirs))
    assert all(not close([a], [b], 0.05) for a, b in zip(before, their_outputs(theirs)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("metadata", [True, False])
def test_we_draw_with_what_diffusers_writes(pipe, theirs, tmp_path, metadata):
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import LoraConfig, get_peft_model_state_dict

    alpha = 7 if metadata else 2  # without its metadata a reader takes the rank
    unet = LoraConfig(
        r=2, lora_alpha=alpha, init_lora_weights="gaussian", target_modules=["to_q", "to_out.0", "conv1", "proj_in"]
    )
    text = LoraConfig(r=2, lora_alpha=alpha, init_lora_weights="gaussian", target_modules=["q_proj", "out_proj", "fc2"])
    theirs.unet.add_adapter(unet), theirs.text_encoder.add_adapter(text)
    for network in (theirs.unet, theirs.text_encoder):
        for name, parameter in network.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.3)
    settings = {}
    if metadata:
        from diffusers.training_utils import _collate_lora_metadata

        settings = _collate_lora_metadata({"unet": theirs.unet, "text_encoder": theirs.text_encoder})
    theirs.save_lora_weights(
        tmp_path / "lora",
        unet_lora_layers=convert_state_dict_to_diffusers(get_peft_model_state_dict(theirs.unet)),
        text_encoder_lora_layers=convert_state_dict_to_diffusers(get_peft_model_state_dict(theirs.text_encoder)),
        **settings,
    )
    path = tmp_path / "lora" / "pytorch_lora_weights.safetensors"
    before = outputs(pipe)
    lora = read_lora(path, pipe.networks).attach(pipe.networks)
    assert close(outputs(pipe), their_outputs(theirs)) and not close(outputs(pipe), before, 0.05)
    lora.scale = 0.3
    theirs.set_adapters("default", 0.3)
    assert close(outputs(pipe), their_outputs(theirs))
    theirs.fuse_lora(lora_scale=1.0)
    theirs.unload_lora_weights()
    lora.merge(pipe.networks)
    assert close(outputs(pipe), their_outputs(theirs))


# ---- files that are wrong: one message, and nothing has changed


def refused(pipe, path, *words):
    before = outputs(pipe)
    with pytest.raises(CheckpointError) as caught:
        pipe.load_lora(path)
    for word in (str(path), *words):
        assert word in str(caught.value), str(caught.value)
    assert pipe.loras == {} and same(outputs(pipe), before)
    assert not any(layer._forward_hooks for network in pipe.networks.values() for layer in network.modules())


@pytest.fixture
def tensors(pipe, random_lora):
    return {name: t.detach().clone() for name, t in spelled(random_lora(pipe.networks), *SPELLINGS["kohya"]).items()}


K = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"


def nan(t):
    return {**t, f"{K}.lora_up.weight": torch.full_like(t[f"{K}.lora_up.weight"], float("nan"))}


WRONG = {
    "an unknown layer": (
        lambda t: {**t, "lora_unet_nowhere.lora_up.weight": torch.ones(2, 3)},
        ["1 unexpected: lora_unet_nowhere.lora_up.weight"],
    ),
    "a layer without weights": (
        lambda t: {**t, "lora_unet_mid_block.alpha": torch.ones(())},
        ["1 unexpected: lora_unet_mid_block.alpha"],
    ),
    "a norm": (
        lambda t: {**t, "unet.conv_norm_out.lora_A.weight": torch.ones(3, 8)},
        ["1 unexpected: unet.conv_norm_out.lora_A.weight"],
    ),
    "no up": (
        lambda t: {n: x for n, x in t.items() if n != f"{K}.lora_up.weight"},
        ["2 without the other of their pair", f"{K}.lora_down.weight"],
    ),
    "no down": (
        lambda t: {n: x for n, x in t.items() if n != f"{K}.lora_down.weight"},
        ["without the other of their pair", f"{K}.lora_up.weight"],
    ),
    "alpha alone": (
        lambda t: {**t, "lora_unet_conv_out.alpha": torch.ones(())},
        ["1 without the other of their pair: lora_unet_conv_out.alpha"],
    ),
    "a wrong width": (
        lambda t: {**t, f"{K}.lora_down.weight": torch.ones(3, 19)},
        [f"1 of another shape: {K}.lora_down.weight (3, 19) instead of (3, 18)"],
    ),
    "two ranks": (
        lambda t: {**t, f"{K}.lora_up.weight": torch.ones(24, 4)},
        [f"1 of another shape: {K}.lora_up.weight (24, 4) instead of (24, 3)"],
    ),
    "rank 0": (
        lambda t: {**t, f"{K}.lora_down.weight": torch.ones(0, 18), f"{K}.lora_up.weight": torch.ones(24, 0)},
        ["of another shape"],
    ),
    "a number for a matrix": (lambda t: {**t, f"{K}.lora_down.weight": torch.ones(())}, ["of another shape"]),
    "a 3x3 kernel for a matrix": (lambda t: {**t, f"{K}.lora_down.weight": torch.ones(3, 18, 3, 3)}, ["1 of another shape"]),
    "two alphas": (lambda t: {**t, f"{K}.alpha": torch.ones(2)}, [f"1 of another shape: {K}.alpha (2,) instead of ()"]),
    "integers": (
        lambda t: {**t, f"{K}.lora_up.weight": torch.ones(24, 3, dtype=torch.int64)},
        [f"1 of another kind: {K}.lora_up.weight int64"],
    ),
    "NaN": (nan, [f"{K}.lora_up.weight is damaged: it holds numbers that are not finite"]),
    "an infinite alpha": (lambda t: {**t, f"{K}.alpha": torch.tensor(float("inf"))}, [f"{K}.alpha is damaged: it is inf"]),
    "twice": (
        lambda t: {**t, "unet." + "conv_in.lora_A.weight": t["lora_unet_conv_in.lora_down.weight"]},
        ["twice, as lora_unet_conv_in.lora_down.weight and as unet.conv_in.lora_A.weight"],
    ),
    "LoHa": (lambda t: {**t, f"{K}.hada_w1_a": torch.ones(3, 3)}, ["is a LoHa (LyCORIS), which is not supported"]),
    "DoRA": (lambda t: {**t, f"{K}.dora_scale": torch.ones(3, 3)}, ["is a DoRA, which is not supported"]),
    "XL": (
        lambda t: {**t, "lora_te2_text_model_encoder_layers_0_self_attn_q_proj.alpha": torch.ones(())},
        ["is of Stable Diffusion XL"],
    ),
    "no LoRA": (lambda t: {"conv_in.weight": torch.ones(3, 4)}, ["is no LoRA: none of its 1 tensors"]),
    "empty": (lambda t: {}, ["is no LoRA: none of its 0 tensors"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_refused_whole(pipe, tensors, tmp_path, name):
    change, words = WRONG[name]
    refused(pipe, write(tmp_path / "x.safetensors", change(tensors)), *words)


@pytest.mark.parametrize(
    "metadata, words",
    [
        ("{", "its metadata 'lora_adapter_metadata' is no JSON object"),
        ("[" * 100_000, "is no JSON object"),
        ("[1]", "is no JSON object"),
        ('{"unet.lora_alpha": "much"}', "alpha='much'"),
        ('{"unet.lora_alpha": NaN}', "is damaged: it is nan"),
        ('{"unet.alpha_pattern": {"to_k": null}}', "alpha=None"),
        ('{"unet.use_dora": true}', "is a DoRA"),
    ],
)
def test_wrong_settings_are_refused(pipe, random_lora, tmp_path, metadata, words):
    tensors = spelled(random_lora(pipe.networks), *SPELLINGS["diffusers"])
    refused(pipe, write(tmp_path / "x.safetensors", tensors, {"lora_adapter_metadata": metadata}), words)


def test_numbers_too_large_for_the_networks_precision_are_named(pipe, tensors, tmp_path):
    tensors[f"{K}.lora_up.weight"][0, 0] = 1e5
    pipe.to(dtype="float16")
    with pytest.raises(CheckpointError, match=f"{K}.lora_up.weight goes beyond torch.float16"):
        pipe.load_lora(write(tmp_path / "x.safetensors", tensors))


def test_other_files_are_refused_as_models_are(pipe, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        pipe.load_lora(tmp_path / "nowhere.safetensors")
    (tmp_path / "x.safetensors").write_bytes(b"PK\3\4")
    refused(pipe, tmp_path / "x.safetensors", "is a pickle")
    (tmp_path / "x.pt").write_bytes(b"PK\3\4")
    refused(pipe, tmp_path / "x.pt", "weights are read from files that end in .safetensors")


def test_writing_refuses_other_endings_and_layouts(pipe, random_lora, tmp_path):
    lora = random_lora(pipe.networks)
    with pytest.raises(ValueError, match=r"must end in .safetensors"):
        save_lora(lora, tmp_path / "x.pt")
    with pytest.raises(ValueError, match="layout='peft' is not supported; choose one of 'diffusers', 'kohya'"):
        save_lora(lora, tmp_path / "x.safetensors", layout="peft")
    assert list(tmp_path.iterdir()) == []
