"""The three trainings from end to end, on forty emoji and with very small networks."""

import argparse
import importlib
import shutil

import pytest
import torch

from ldm_tutorial.checkpoints import load_checkpoint
from ldm_tutorial.config import AutoencoderConfig, CLIPTextConfig, StableDiffusionConfig, UNetConfig
from ldm_tutorial.data import EmojiDataset
from ldm_tutorial.training import autoencoder, clip, diffusion
from ldm_tutorial.training.logs import read_log
from ldm_tutorial.training.loop import learning_rate

TINY = StableDiffusionConfig(
    AutoencoderConfig(block_out_channels=(4, 8, 12), layers_per_block=1, norm_num_groups=2, sample_size=64),
    UNetConfig(
        block_out_channels=(8, 12),
        attention_levels=(False, True),
        layers_per_block=1,
        num_attention_heads=2,
        cross_attention_dim=16,
        norm_num_groups=2,
        sample_size=16,
    ),
    CLIPTextConfig(
        vocab_size=600, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2, projection_dim=8
    ),
)


@pytest.fixture(autouse=True)
def small_world(monkeypatch):
    def forty(split="all"):
        data = EmojiDataset(split)
        data.entries = data.entries[:40]
        return data

    for module in (clip, autoencoder, diffusion):
        monkeypatch.setattr(module, "EMOJI", TINY)
        monkeypatch.setattr(module, "EmojiDataset", forty)


def train(name, folder, *options):
    module = importlib.import_module(f"ldm_tutorial.training.{name}")
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    module.main(parser.parse_args(["--folder", str(folder), "--batch-size", "6", "--log-every", "1", *map(str, options)]))


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
def test_a_log_tells_the_learning_rate_of_each_step(tmp_path, name, warmup):
    for training in ("clip", "autoencoder", "diffusion"):
        train(training, tmp_path, "--steps", 4, "--learning-rate", 0.002)
    log = read_log(tmp_path / "training" / name / "log.jsonl")
    assert log["step"].tolist() == [1, 2, 3, 4]
    assert log["learning_rate"] == pytest.approx([learning_rate(step, 4, 0.002, warmup) for step in range(4)], rel=1e-5)


@pytest.mark.parametrize(
    "name, part, more",
    [("autoencoder", "vae", ()), ("diffusion", "unet", ()), ("diffusion", "unet", ("--distill-empty", "--agree", 10))],
)
def test_a_killed_training_goes_on_bit_for_bit(tmp_path, monkeypatch, name, part, more):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        train("clip", folder, "--steps", 1)
        train("autoencoder", folder, "--steps", 1)
        train("diffusion", folder, "--steps", 1)
        if name == "autoencoder":
            (folder / "training" / "autoencoder" / "state.pt").unlink()
    options = ("--steps", 6, "--save-every", 2, *more)
    state = f"training/{'unet' if name == 'diffusion' else name}/state.pt"
    if name == "diffusion":
        (whole / state).unlink()
        (killed / state).unlink()
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
def test_a_training_can_begin_with_the_weights_of_a_model(tmp_path, name, part):
    first, second = tmp_path / "first", tmp_path / "second"
    for training in ("clip", "autoencoder", "diffusion"):
        train(training, first, "--steps", 2)
        train(training, second, "--steps", 1, "--seed", 1)  # other weights, unless told where to begin
    a, b = weights(first, part), weights(second, part)
    assert max((a[key] - b[key]).abs().max() for key in a) > 0.01
    shutil.rmtree(second / "training")
    train(name, second, "--steps", 1, "--learning-rate", 1e-9, "--start-from", first)
    b = weights(second, part)
    assert max((a[key] - b[key]).abs().max() for key in a) < 1e-6


def test_a_decoder_can_be_trained_alone_and_the_latents_stay_bit_for_bit(tmp_path):
    for training in ("clip", "autoencoder", "diffusion"):
        train(training, tmp_path / "first", "--steps", 1)
    first, second = tmp_path / "first", shutil.copytree(tmp_path / "first", tmp_path / "second")
    shutil.rmtree(second / "training")
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


def test_without_words_a_unet_learns_what_its_average_answers_with_them(tmp_path, monkeypatch):
    for training in ("clip", "autoencoder"):
        train(training, tmp_path, "--steps", 1)
    calls, answer, loss = [], diffusion.answer_with_words, diffusion.paired_loss
    monkeypatch.setattr(diffusion, "answer_with_words", lambda *args: calls.append((args, answer(*args))) or calls[-1][1])
    monkeypatch.setattr(diffusion, "paired_loss", lambda *args: calls.append(args) or loss(*args))
    train("diffusion", tmp_path, "--steps", 1, "--caption-dropout", 1, "--distill-empty")  # late ones, too
    ((average, noisy, timesteps, heard), taught), (unet, same, target, at, context, pairs) = calls
    assert not len(pairs)  # each row once, unless asked to agree
    assert torch.equal(noisy, same) and torch.equal(timesteps, at) and torch.equal(target, taught)
    assert average is not unet and not taught.requires_grad
    assert all(torch.equal(row, context[0]) for row in context)  # it hears the empty caption only,
    assert not any(torch.equal(row, context[0]) for row in heard)  # the average what belongs to the pictures


def test_rows_that_should_agree_are_there_twice_with_the_same_latents_with_words_and_without(tmp_path, monkeypatch):
    for training in ("clip", "autoencoder"):
        train(training, tmp_path, "--steps", 1)
    calls, loss = [], diffusion.paired_loss
    monkeypatch.setattr(diffusion, "paired_loss", lambda *args: calls.append(args) or loss(*args))
    train("diffusion", tmp_path, "--steps", 1, "--caption-dropout", 0.5, "--agree", 10)
    ((_, noisy, noise, timesteps, context, pairs),) = calls
    heard, unheard = pairs.unbind(1)
    assert 0 < len(pairs) < (b := len(noisy) - len(pairs))
    assert heard.unique().tolist() == heard.tolist() and heard.max() < b and unheard.tolist() == list(range(b, len(noisy)))
    for tensor in (noisy, noise, timesteps):
        assert torch.equal(tensor[heard], tensor[unheard])
    empty = context[b]
    assert all(torch.equal(row, empty) for row in context[b:]) and not any(torch.equal(row, empty) for row in context[:b])


@pytest.mark.parametrize("below", [300, 600])
def test_answers_that_differ_cost_as_much_as_asked_up_to_the_timestep_asked(tmp_path, monkeypatch, below):
    for training in ("clip", "autoencoder"):
        train(training, tmp_path, "--steps", 1)
    calls, loss = [], diffusion.paired_loss

    def one_apart(*args):
        calls.append(args)
        losses, apart = loss(*args)
        return 0 * losses, 1 + 0 * apart

    monkeypatch.setattr(diffusion, "paired_loss", one_apart)
    train(
        "diffusion", tmp_path, "--steps", 1, "--caption-dropout", 1, "--agree", 10, "--agree-below", below, "--timestep-power", 1
    )
    ((_, noisy, _, timesteps, _, pairs),) = calls
    at = timesteps[pairs[:, 1]]
    weights = diffusion.min_snr_weight(diffusion.DDPMScheduler().alphas_cumprod, at, offset=1)
    shared = (weights * diffusion.agreement_weight(at, below)).sum().item()
    assert 0 < shared < weights.sum()  # some of them late, some not
    (logged,) = read_log(tmp_path / "training" / "unet" / "log.jsonl")["loss"]
    assert logged == pytest.approx(10 * shared / len(noisy), rel=1e-4)


def test_shares_of_captions_that_are_more_than_all_are_refused_before_anything_is_computed(tmp_path):
    with pytest.raises(ValueError, match="--first-caption, --bare-caption, --label-caption: .* add up to 1.05"):
        train("diffusion", tmp_path, "--steps", 1, "--label-caption", 0.2)  # --first-caption is 0.85 by itself
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "options, told",
    [
        (("--caption-dropout", 1.5), "--caption-dropout: a share from 0 to 1, not 1.5"),
        (("--late-dropout", -0.1), "--late-dropout: a share from 0 to 1, not -0.1"),
        (("--agree", -1), "--agree, --agree-below: at least 0 and above 0, not -1 and 300"),
        (("--agree-below", 0), "--agree, --agree-below: at least 0 and above 0, not 0 and 0"),
    ],
)
def test_a_share_or_weight_that_means_nothing_is_refused_before_anything_is_computed(tmp_path, options, told):
    with pytest.raises(ValueError, match=told):
        train("diffusion", tmp_path, "--steps", 1, *options)
    assert not list(tmp_path.iterdir())


def test_a_unet_without_an_autoencoder_is_refused_before_anything_is_computed(tmp_path):
    with pytest.raises(FileNotFoundError, match="vae"):
        train("diffusion", tmp_path, "--steps", 1)
