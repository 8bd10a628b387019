"""The exported graphs compute what the networks compute, and model.json says what the schedulers use."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from ldm_tutorial.adapters import new_lora, save_lora
from ldm_tutorial.export import export_model
from ldm_tutorial.export.manifest import manifest_of
from ldm_tutorial.schedulers import COURSE, make_scheduler
from ldm_tutorial.schedulers.few_steps import FewSteps

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytest.importorskip("torch", minversion="2.6")


@pytest.fixture(scope="module")
def pipe(make_tiny_pipe):
    """Weights that float16 can hold, as those of the shipped file."""
    pipe = make_tiny_pipe()
    for network in (pipe.unet, pipe.vae, pipe.text_encoder):
        network.half().float()
    return pipe


@pytest.fixture(scope="module")
def exported(pipe, tmp_path_factory):
    return export_model(pipe, tmp_path_factory.mktemp("exported"), ["a cat"], [" in the style of noto"])


def run(folder, name, **inputs):
    session = onnxruntime.InferenceSession(str(folder / f"{name}.onnx"))
    return [torch.from_numpy(values) for values in session.run(None, {k: v.numpy() for k, v in inputs.items()})]


@pytest.mark.parametrize("pictures", [1, 2, 5])
def test_each_graph_equals_its_network_for_any_number_of_pictures(pipe, exported, pictures):
    generator = torch.Generator().manual_seed(pictures)
    ids = torch.randint(554, (pictures, 77), generator=generator)
    [states] = run(exported, "text_encoder", input_ids=ids.int())
    torch.testing.assert_close(states, pipe.text_encoder(ids).detach(), rtol=0, atol=2e-5)

    latents, timesteps = torch.randn(pictures, 4, 8, 8, generator=generator), 999 * torch.rand(pictures, generator=generator)
    noise_pred, _ = run(exported, "unet", latents=latents, timesteps=timesteps, states=states)
    torch.testing.assert_close(noise_pred, pipe.unet(latents, timesteps, states).detach(), rtol=0, atol=2e-5)

    [pixels] = run(exported, "vae_decoder", latents=latents)
    torch.testing.assert_close(pixels, pipe.vae.decode(latents).detach(), rtol=0, atol=2e-5)


def test_the_attention_is_what_the_notebooks_show(pipe, exported):
    from ldm_tutorial.widgets.recording import attention_heard

    latents, states = torch.randn(2, 4, 8, 8), torch.randn(2, 77, 18)
    timesteps = torch.tensor([500.0, 20.0])
    with attention_heard(pipe.unet, (8, 8)) as heard, torch.no_grad():
        pipe.unet(latents, timesteps, states)
    _, attention = run(exported, "unet", latents=latents, timesteps=timesteps, states=states)
    torch.testing.assert_close(attention, heard[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(attention.sum(1), torch.ones(2, 8, 8), rtol=0, atol=1e-5)  # each position reads one unit


def test_weights_are_stored_in_float16_and_small_ones_as_they_are(pipe, exported):
    model = onnx.load(exported / "vae_decoder.onnx")
    onnx.checker.check_model(model)
    stored = {t.name.removesuffix("_float16"): t.data_type for t in model.graph.initializer}
    weights = {f"decoder.{name}": p for name, p in pipe.vae.decoder.named_parameters() if f"decoder.{name}" in stored}
    assert len(weights) > 20
    for name, weight in weights.items():
        assert stored[name] == (onnx.TensorProto.FLOAT16 if weight.numel() >= 1024 else onnx.TensorProto.FLOAT), name


def test_the_manifest_names_every_file_with_its_hash_and_size(exported):
    import hashlib

    manifest = json.loads((exported / "model.json").read_text(encoding="utf-8"))
    assert {path.name for path in exported.iterdir()} == {"model.json", *(entry["file"] for entry in manifest["files"].values())}
    for entry in manifest["files"].values():
        data = (exported / entry["file"]).read_bytes()
        assert (entry["bytes"], entry["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert (manifest["latents"], manifest["picture"], manifest["states"]) == ([4, 8, 8], [3, 32, 32], [77, 18])
    assert manifest["prompts"] == {"subjects": ["a cat"], "styles": [" in the style of noto"]}
    assert manifest["defaults"] == {"steps": 25, "guidance_scale": 7.5, "negative_prompt": ""}


def test_the_manifest_makes_the_schedulers_that_the_pipeline_would_make(pipe, exported):
    manifest = json.loads((exported / "model.json").read_text(encoding="utf-8"))
    assert torch.equal(torch.tensor(manifest["alphas_cumprod"]), pipe.scheduler.alphas_cumprod)
    assert torch.equal(torch.tensor(manifest["betas"]), pipe.scheduler.betas)
    assert list(manifest["schedulers"]) == list(COURSE)
    for name, config in manifest["schedulers"].items():
        config.pop("title")
        scheduler = make_scheduler(name, config)
        latents = torch.zeros(1, 4, 8, 8)
        [step] = list(pipe.stream("a cat", scheduler=name, steps=1, latents=latents))
        scheduler.set_timesteps(1)
        assert scheduler.timesteps.tolist() == [step.timestep]
        assert scheduler.sigma_at(step.timestep).item() == pytest.approx(step.sigma, abs=0)


@pytest.mark.parametrize("merged", [False, True])
def test_a_distilled_model_is_drawn_with_in_its_own_few_steps_by_default(make_tiny_pipe, tmp_path, merged):
    pipe = make_tiny_pipe()
    lora = new_lora({"unet": pipe.unet}, rank=1)
    lora.few_steps = FewSteps(4, 6.0)
    pipe.load_lora(save_lora(lora, tmp_path / "few.safetensors"))
    if merged:
        pipe.merge_lora()
    manifest = json.loads(manifest_of(pipe, {}, [], []))
    assert manifest["defaults"] == {"steps": 4, "guidance_scale": 1.0, "negative_prompt": ""}
    assert manifest["scheduler"] == "ddim"
    config = manifest["schedulers"]["ddim"]
    config.pop("title")
    scheduler = make_scheduler("ddim", config)
    scheduler.set_timesteps(4)
    assert scheduler.timesteps.tolist() == [step.timestep for step in pipe.stream("a cat")] == [999, 749, 499, 249]


def test_the_tokenizer_is_the_models_own(pipe, exported):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(exported / "tokenizer.json"))
    text = "An octopus, in THE style of Fluent!"
    assert tokenizer.encode(text, add_special_tokens=False).ids == pipe.tokenizer(text, add_special_tokens=False).input_ids


# ---- what is refused


def test_a_graph_that_computes_something_else_is_not_written(pipe, tmp_path, monkeypatch):
    from ldm_tutorial.export import networks

    right = networks.to_onnx

    def wrong(graph):
        model = right(graph)
        tensor = next(t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT and np.prod(t.dims) > 1000)
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * 1.5, tensor.name))
        return model

    monkeypatch.setattr(networks, "to_onnx", wrong)
    (tmp_path / "model.json").write_text("{}")  # of an earlier export
    with pytest.raises(ArithmeticError, match="text_encoder: the ONNX graph is .* away from PyTorch"):
        export_model(pipe, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_half_precision_is_refused(make_tiny_pipe, tmp_path):
    with pytest.raises(ValueError, match=r'pipe is torch.bfloat16 on cpu; .* dtype="float32"'):
        export_model(make_tiny_pipe().to(dtype="bfloat16"), tmp_path)


def test_a_file_is_no_folder(pipe, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file; name a folder"):
        export_model(pipe, tmp_path / "file")


def test_without_onnx_it_says_what_to_install(pipe, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r'onnxscript is not installed: pip install "ldm-tutorial\[web\]"'):
        export_model(pipe, tmp_path)


def test_the_command_exports_a_folder_of_weights(pipe, tmp_path):
    from ldm_tutorial.checkpoints import save_checkpoint

    save_checkpoint(pipe, tmp_path / "weights")
    command = [sys.executable, "-m", "ldm_tutorial", "export", str(tmp_path / "out"), "--model", str(tmp_path / "weights")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "from PyTorch" in done.stdout
    assert json.loads((tmp_path / "out" / "model.json").read_text())["name"] == "weights"
