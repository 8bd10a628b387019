"""The three trainings from end to end, on forty emoji and with very small networks."""

import importlib
import shutil

import pytest
import torch

from ldm_tutorial.checkpoints import load_checkpoint
from ldm_tutorial.data import EmojiDataset
from ldm_tutorial.training import clip
from ldm_tutorial.training.logs import read_log
from ldm_tutorial.training.loop import learning_rate
from tests.training.small_world import TINY, TRAININGS, train

pytestmark = pytest.mark.usefixtures("small_world")


@pytest.fixture(scope="module")
def trained(small_world, tmp_path_factory):
    """A function: options -> a folder in which the three trainings have run with them, for all tests: copy it to change it."""
    folders = {}

    def folder_of(*options):
        if options not in folders:
            folders[options] = tmp_path_factory.mktemp("trained")
            for name in TRAININGS:
                train(name, folders[options], *options)
        return folders[options]

    return folder_of


def without_trainings(folder, to):
    """A copy of a model without what its trainings have kept: another one begins there with its first step."""
    return shutil.copytree(folder, to, ignore=shutil.ignore_patterns("training"))


def weights(folder, part):
    return getattr(load_checkpoint(folder), part).state_dict()


def test_the_three_trainings_in_turn_make_a_model_that_draws(tmp_path):
    train("clip", tmp_path, "--steps", 3)
    train("autoencoder", tmp_path, "--steps", 3, "--sample-every", 2)
    train("diffusion", tmp_path, "--steps", 3, "--sample-every", 2)
    model = load_checkpoint(tmp_path)
    assert model.unet.config == TINY.unet and model.text_encoder.config == TINY.text_encoder
    assert model.tokenizer("a cat").input_ids[-1] == TINY.text_encoder.eos_token_id
    assert model.scheduler is not None
    assert sorted(p.name for p in tmp_path.glob("training/*/samples/*.png")) == ["0000002.png"] * 2
    latents = torch.cat([model.vae.encode(p[None].float() / 127.5 - 1).mode() for p in EmojiDataset("train").pictures[:40]])
    assert (latents * model.vae.config.scaling_factor).std().item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("name, warmup", [("clip", 0.05), ("autoencoder", 0.05), ("unet", 0.02)])
def test_a_log_tells_the_learning_rate_of_each_step(trained, name, warmup):
    log = read_log(trained("--steps", 4, "--learning-rate", 0.002) / "training" / name / "log.jsonl")
    assert log["step"].tolist() == [1, 2, 3, 4]
    assert log["learning_rate"] == pytest.approx([learning_rate(step, 4, 0.002, warmup) for step in range(4)], rel=1e-5)


@pytest.mark.parametrize(
    "name, part, more",
    [
        ("autoencoder", "vae", ()),
        ("autoencoder", "vae", ("--mixed-precision", "fp16", "--gan-start", 0, "--batch-size", 2)),  # slow on a CPU
        ("diffusion", "unet", ()),
        ("diffusion", "unet", ("--distill-empty", "--agree", 10)),
        ("diffusion", "unet", ("--objective", "flow")),
    ],
)
def test_a_killed_training_goes_on_bit_for_bit(trained, tmp_path, monkeypatch, name, part, more):
    whole, killed = (without_trainings(trained("--steps", 1), tmp_path / way) for way in ("whole", "killed"))
    options = ("--steps", 6, "--save-every", 2, *more)
    train(name, whole, *options)

    module = importlib.import_module(f"ldm_tutorial.training.{name}")
    draw_batch, calls = module.batch_indices, []

    def killing(n, batch_size, step, seed):
        calls.append(step)
        if step == 5:
            raise KeyboardInterrupt
        return draw_batch(n, batch_size, step, seed)

    monkeypatch.setattr(module, "batch_indices", killing)
    with pytest.raises(KeyboardInterrupt):
        train(name, killed, *options)
    monkeypatch.setattr(module, "batch_indices", draw_batch)
    train(name, killed, *options)
    assert calls == [0, 1, 2, 3, 4, 5]

    a, b = weights(whole, part), weights(killed, part)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("name, part", [("clip", "text_encoder"), ("autoencoder", "vae"), ("diffusion", "unet")])
def test_a_training_can_begin_with_the_weights_of_a_model(trained, tmp_path, name, part):
    first = trained("--steps", 2)
    other = trained("--steps", 1, "--seed", 1)
    second = without_trainings(other, tmp_path / "second")  # other weights, unless a training is told where to begin
    a, b = weights(first, part), weights(second, part)
    assert max((a[key] - b[key]).abs().max() for key in a) > 0.01
    train(name, second, "--steps", 1, "--learning-rate", 1e-9, "--start-from", first)
    b = weights(second, part)
    assert max((a[key] - b[key]).abs().max() for key in a) < 1e-6


def test_a_decoder_can_be_trained_alone_and_the_latents_stay_bit_for_bit(trained, tmp_path):
    first = trained("--steps", 1)
    second = without_trainings(first, tmp_path / "second")
    train("autoencoder", second, "--steps", 3, "--gan-start", 0.5, "--start-from", first, "--frozen-encoder")
    a, b = weights(first, "vae"), weights(second, "vae")
    moved = {key.split(".")[0] for key in a if not torch.equal(a[key], b[key])}
    assert moved == {"decoder", "post_quant_conv"}
    assert load_checkpoint(first).vae.config == load_checkpoint(second).vae.config  # the scaling factor, too


def test_a_frozen_encoder_must_come_from_somewhere(tmp_path):
    with pytest.raises(ValueError, match="--frozen-encoder: needs --start-from"):
        train("autoencoder", tmp_path, "--frozen-encoder")


def test_clip_goes_on_with_the_tokens_that_its_weights_belong_to(tmp_path, monkeypatch):
    def others(split="all"):
        data = EmojiDataset(split)
        data.entries = data.entries[400:440]
        return data

    train("clip", tmp_path / "first", "--steps", 1)
    monkeypatch.setattr(clip, "EmojiDataset", others)
    train("clip", tmp_path / "alone", "--steps", 1)
    train("clip", tmp_path / "second", "--steps", 1, "--start-from", tmp_path / "first")
    merges = [(tmp_path / name / "tokenizer" / "tokenizer.json").read_text() for name in ("first", "second", "alone")]
    assert merges[0] == merges[1] != merges[2]


def test_a_recipe_that_means_nothing_is_refused_before_anything_is_computed(tmp_path):
    with pytest.raises(ValueError, match="--first-caption, --bare-caption, --label-caption: .* add up to 1.05"):
        train("diffusion", tmp_path, "--steps", 1, "--label-caption", 0.2)  # --first-caption is 0.85 by itself
    assert not list(tmp_path.iterdir())


def test_a_unet_without_an_autoencoder_is_refused_before_anything_is_computed(tmp_path):
    with pytest.raises(FileNotFoundError, match="vae"):
        train("diffusion", tmp_path, "--steps", 1)
