"""diffusers and transformers read what we write, and we read what they write; both then compute the same."""

import pytest
import torch

from ldm_tutorial.checkpoints import load_checkpoint, load_component, save_checkpoint
from ldm_tutorial.checkpoints.folder import PARTS

diffusers = pytest.importorskip("diffusers")


def close(a, b):
    return (a - b).abs().max() <= 1e-5 * b.abs().max()


def compare(ours, unet, vae, text_encoder):
    generator = torch.Generator().manual_seed(0)
    x, context = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 5, 18, generator=generator)
    images, ids = torch.randn(2, 3, 32, 32, generator=generator), torch.randint(554, (2, 77), generator=generator)
    t = torch.tensor([3, 700])
    with torch.no_grad():
        assert close(ours.unet(x, t, context), unet(x, t, context).sample)
        assert close(ours.vae.encode(images).mean, vae.encode(images).latent_dist.mean)
        assert close(ours.vae.decode(x), vae.decode(x).sample)
        assert close(ours.text_encoder(ids), text_encoder(ids).last_hidden_state)


@pytest.mark.filterwarnings("ignore")
def test_diffusers_loads_our_folder_unchanged(model, folder):
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    compare(load_checkpoint(folder), pipe.unet, pipe.vae, pipe.text_encoder)
    assert type(pipe.scheduler).__name__ == "EulerDiscreteScheduler"
    assert pipe.scheduler.config.timestep_spacing == "trailing"
    assert pipe.vae.config.scaling_factor == model.vae.config.scaling_factor
    assert pipe.tokenizer("a cat", padding="max_length").input_ids == model.tokenizer("a cat", padding="max_length").input_ids
    assert pipe("a cat", num_inference_steps=2, output_type="np").images.shape == (1, 32, 32, 3)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("options", [{}, {"variant": "fp16"}, {"max_shard_size": "60KB"}], ids=["plain", "fp16", "pieces"])
def test_we_load_diffusers_folders(model, folder, tmp_path, options):
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    theirs = tmp_path / "theirs"
    if "max_shard_size" in options:
        for name in PARTS:
            getattr(pipe, name).save_pretrained(theirs / name, **options)
        assert (theirs / "unet" / "diffusion_pytorch_model.safetensors.index.json").exists()
        assert (theirs / "text_encoder" / "model.safetensors.index.json").exists()
    else:
        pipe.save_pretrained(theirs, **options)
    loaded = load_checkpoint(theirs)
    assert loaded.config.unet == model.config.unet
    assert loaded.config.vae == model.config.vae
    compare(loaded, pipe.unet, pipe.vae, pipe.text_encoder)
    if "max_shard_size" not in options:
        assert loaded.scheduler.to_config() == model.scheduler.to_config()
        assert loaded.tokenizer("a cat").input_ids == model.tokenizer("a cat").input_ids


@pytest.mark.filterwarnings("ignore")
def test_one_network_of_diffusers_alone(tmp_path, model):
    config = {k: v for k, v in model.vae.config.to_dict().items() if not k.startswith("_")}
    theirs = diffusers.AutoencoderKL(**config).eval()
    theirs.save_pretrained(tmp_path / "sd-vae")
    ours = load_component(tmp_path / "sd-vae", "vae")
    z = torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        assert close(ours.decode(z), theirs.decode(z).sample)


@pytest.mark.filterwarnings("ignore")
def test_half_precision_folders_load_in_diffusers(model, tmp_path):
    folder = save_checkpoint(model, tmp_path / "half", dtype=torch.float16)
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder, local_files_only=True, torch_dtype=torch.float16)
    assert torch.equal(pipe.unet.conv_in.weight, model.unet.conv_in.weight.half())
    assert pipe.text_encoder.dtype == torch.float16
