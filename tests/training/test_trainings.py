"""The three trainings from end to end, on forty emoji and with very small networks."""

import importlib
import math
import shutil
import types

import pytest
import torch
from PIL import Image

from ldm_tutorial.checkpoints import load_checkpoint
from ldm_tutorial.checkpoints.tensors import read_tensors
from ldm_tutorial.data import EmojiDataset
from ldm_tutorial.training import autoencoder, clip, diffusion, redrawn
from ldm_tutorial.training.compute import Compute
from ldm_tutorial.training.logs import read_log
from ldm_tutorial.training.loop import batch_indices, learning_rate
from ldm_tutorial.training.recipes import RecipeObjective
from tests.training.small_world import TINY, TRAININGS, forty, train

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
    latents = torch.cat([model.vae.encode(p[None].float() / 127.5 - 1).mode() for p in forty("train").pictures])
    assert (latents * model.vae.config.scaling_factor).std().item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("name, warmup", [("clip", 0.05), ("autoencoder", 0.05), ("unet", 0.02)])
def test_a_log_tells_the_learning_rate_of_each_step(trained, name, warmup):
    log = read_log(trained("--steps", 4, "--learning-rate", 0.002) / "training" / name / "log.jsonl")
    assert log["step"].tolist() == [1, 2, 3, 4]
    assert log["learning_rate"] == pytest.approx([learning_rate(step, 4, 0.002, warmup) for step in range(4)], rel=1e-5)


def test_rows_without_a_prompt_are_added_from_the_share_of_the_steps_that_is_asked_for(trained, tmp_path, monkeypatch):
    folder = without_trainings(trained("--steps", 1), tmp_path / "agree")
    rows, ask = [], RecipeObjective.ask

    def counting(objective, *args):
        batch = ask(objective, *args)
        rows.append(len(batch.noisy))
        return batch

    monkeypatch.setattr(RecipeObjective, "ask", counting)
    agree = ("--recipe", "agree", "--caption-dropout", 1, "--late-dropout", 1)  # every caption has a row without it
    train("diffusion", folder, "--steps", 5, *agree, "--agree-from", 0.5)
    assert rows == [6, 6, 6, 12, 12]


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


@pytest.mark.parametrize("share", [0, 1])
def test_clip_can_be_trained_on_pictures_alone_and_on_scenes_alone(tmp_path, monkeypatch, share):
    composed, compose = [], clip.compose
    monkeypatch.setattr(clip, "compose", lambda *arguments: composed.append(1) or compose(*arguments))
    train("clip", tmp_path, "--steps", 2, "--scenes", share)
    assert len(composed) == 2 * 6 * share
    assert read_log(tmp_path / "training" / "clip" / "log.jsonl")["step"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("name", "option", "value", "allowed"),
    [
        ("clip", "--scenes", 1.5, "a number, 0 ... 1"),
        ("clip", "--scenes", -0.1, "a number, 0 ... 1"),
        ("autoencoder", "--equivariance", 2, "a number, 0 ... 1"),
        ("autoencoder", "--redrawn", math.nan, "a number, 0 ... 1"),
        ("autoencoder", "--crop", 0, "a share of 64 pixels, and a multiple of 4 pixels"),
        ("autoencoder", "--crop", 1.5, "a share of 64 pixels, and a multiple of 4 pixels"),
        ("autoencoder", "--crop", 0.6, "a share of 64 pixels, and a multiple of 4 pixels"),
        ("diffusion", "--side", 50, "a multiple of 4 pixels"),
        ("diffusion", "--side", 0, "a multiple of 4 pixels"),
        ("diffusion", "--views", 0, "a whole number, 1 or more"),
        ("diffusion", "--scenes", -1, "a whole number, 0 or more"),
    ],
)
def test_an_option_that_means_nothing_is_refused_before_the_training(trained, tmp_path, name, option, value, allowed):
    folder = without_trainings(trained("--steps", 1), tmp_path / "model")
    with pytest.raises(ValueError, match=rf"^{option}={value}(\.0)? must be {allowed}$"):
        train(name, folder, option, value, "--steps", 1)
    assert not (folder / "training").exists()


def test_the_unet_can_begin_with_smaller_pictures_and_go_on_with_whole_ones(trained, tmp_path):
    """As v1.5's did: 256x256, then 512x512 (its model card)."""
    small = without_trainings(trained("--steps", 2), tmp_path / "small")
    train("diffusion", small, "--steps", 2, "--side", 32, "--optimizer", "muon", "--sample-every", 2)
    size = TINY.vae.downsampling
    with Image.open(small / "training" / "unet" / "samples" / "0000002.png") as sheet:
        assert sheet.width < 12 * 64  # twelve pictures of 32 and what is between them
    mean = read_tensors(small / "training" / "examples.safetensors")[0]["mean"]
    assert mean.shape[1:] == (4, 32 // size, 32 // size)
    large = without_trainings(small, tmp_path / "large")
    train("diffusion", large, "--steps", 1, "--start-from", small, "--optimizer", "muon")
    assert load_checkpoint(large).unet.config == TINY.unet


def test_a_decoder_can_be_trained_alone_and_the_latents_stay_bit_for_bit(trained, tmp_path):
    first = trained("--steps", 1)
    second = without_trainings(first, tmp_path / "second")
    train("autoencoder", second, "--steps", 3, "--gan-start", 0.5, "--start-from", first, "--frozen-encoder")
    a, b = weights(first, "vae"), weights(second, "vae")
    moved = {key.split(".")[0] for key in a if not torch.equal(a[key], b[key])}
    assert moved == {"decoder", "post_quant_conv"}
    assert load_checkpoint(first).vae.config == load_checkpoint(second).vae.config  # the scaling factor, too


def test_a_decoder_learns_from_what_the_unet_has_drawn_and_keeps_it(trained, tmp_path, monkeypatch):
    start, folder = trained("--steps", 2), without_trainings(trained("--steps", 2), tmp_path / "folder")
    options = ("--start-from", start, "--frozen-encoder", "--equivariance", 0, "--gan-start", 2)
    train("autoencoder", folder, *options, "--redrawn", 1, "--steps", 1)
    kept = folder / "training" / "autoencoder" / "redrawn.safetensors"
    latents = read_tensors(kept)[0]["latents"]
    data, model = forty(), load_checkpoint(start)
    clean = model.vae.encode(data.pictures.float() / 127.5 - 1).mode()
    assert latents.shape == clean.shape and not torch.allclose(latents, clean, atol=1e-3)
    decoded = model.vae.decode(latents[batch_indices(40, 6, 0, 0)])
    pictures = data.pictures[batch_indices(40, 6, 0, 0)].float() / 127.5 - 1
    expected = (pictures - decoded).abs().mean().item()
    assert read_log(folder / "training" / "autoencoder" / "log.jsonl")["l1"][0] == pytest.approx(expected, rel=0.02)

    monkeypatch.setattr(redrawn, "redraw_all", None)  # they are read
    again = shutil.copytree(folder, tmp_path / "again")
    (again / "training" / "autoencoder" / "state.pt").unlink()
    train("autoencoder", again, *options, "--redrawn", 1, "--steps", 1)
    assert torch.equal(read_tensors(again / "training" / "autoencoder" / "redrawn.safetensors")[0]["latents"], latents)


@pytest.fixture(scope="module")
def redrawn_once(trained, tmp_path_factory):
    """Where a decoder has learned from redrawn latents for one step, and the model that drew them."""
    model = trained("--steps", 1)
    folder = without_trainings(model, tmp_path_factory.mktemp("redrawn") / "model")
    train("autoencoder", folder, "--start-from", model, *DECODER_ALONE)
    return folder, model


DECODER_ALONE = ("--frozen-encoder", "--equivariance", 0, "--gan-start", 2, "--redrawn", 1, "--steps", 1)


def redrawn_again(folder, to, start, *options):
    """How many pictures a second training of the decoder redraws that finds what the first one has kept."""
    shutil.copytree(folder, to)
    (to / "training" / "autoencoder" / "state.pt").unlink()
    calls, redraw = [], redrawn.redraw
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            redrawn, "redraw", lambda pipe, pictures, *rest: (calls.append(len(pictures)), redraw(pipe, pictures, *rest))[1]
        )
        train("autoencoder", to, "--start-from", start, *DECODER_ALONE, *options)
    return sum(calls)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_what_the_unet_has_drawn_is_drawn_again_for_another_network(redrawn_once, trained, tmp_path, part):
    folder, model = redrawn_once
    other = without_trainings(model, tmp_path / "other")
    shutil.rmtree(other / part)
    shutil.copytree(trained("--steps", 1, "--seed", 1) / part, other / part)
    assert redrawn_again(folder, tmp_path / "to", other) == 40


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda data: setattr(data, "pictures", data.pictures.flip(-1)), id="pictures"),
        pytest.param(lambda data: setattr(data, "entries", data.entries[1:] + data.entries[:1]), id="captions"),
    ],
)
def test_what_the_unet_has_drawn_is_drawn_again_for_another_data_set(redrawn_once, tmp_path, monkeypatch, change):
    """Of as many pictures: their number tells nothing."""

    def changed(split="all"):
        data = forty(split)
        assert len(data.pictures) == 40  # and they stay as they are when the entries change
        change(data)
        return data

    monkeypatch.setattr(autoencoder, "EmojiDataset", changed)
    folder, model = redrawn_once
    assert redrawn_again(folder, tmp_path / "to", model) == 40


def test_what_the_unet_has_drawn_is_drawn_again_with_another_seed_or_from_a_damaged_file(redrawn_once, tmp_path):
    folder, model = redrawn_once
    assert redrawn_again(folder, tmp_path / "same", model) == 0
    assert redrawn_again(folder, tmp_path / "seed", model, "--seed", 1) == 40
    damaged = shutil.copytree(folder, tmp_path / "damaged")
    kept = damaged / "training" / "autoencoder" / "redrawn.safetensors"
    kept.write_bytes(kept.read_bytes()[:100])
    assert redrawn_again(damaged, tmp_path / "mended", model) == 40


def test_processes_share_the_batches_to_be_redrawn_and_each_gets_all(monkeypatch):
    """What is exchanged is put together here; tests/training/test_muon.py has `Compute.exchange` in two processes."""
    pipe = types.SimpleNamespace(vae=types.SimpleNamespace(config=TINY.vae))
    pictures, captions = (
        torch.arange(11, dtype=torch.uint8).view(11, 1, 1, 1).expand(11, 3, 8, 12),
        [f"picture {i}" for i in range(11)],
    )
    drawn = []

    def redraw(pipe, some, words, strength, guidance, seed):
        assert words == [f"picture {i}" for i in some[:, 0, 0, 0].tolist()] and seed == some[0, 0, 0, 0]
        assert redrawn.STRENGTHS[0] <= strength <= redrawn.STRENGTHS[1] and redrawn.GUIDANCE[0] <= guidance <= redrawn.GUIDANCE[1]
        drawn.append(len(some))
        return (some[:, :1, :2, :3] + strength + guidance).repeat(1, 4, 1, 1)

    def exchange(parts, owners, rank):
        for number, owner in enumerate(owners):
            if owner == rank:
                shared[number] = parts[number]
        for number, part in shared.items():
            parts[number].copy_(part)

    monkeypatch.setattr(redrawn, "redraw", redraw)
    found, shared = [], {}
    for rank, count in ((0, 1), (0, 2), (1, 2)):
        shared = shared if rank else {}
        compute = Compute("no")
        vars(compute).update(rank=rank, count=count, exchange=lambda parts, owners, rank=rank: exchange(parts, owners, rank))
        found.append(redrawn.redraw_all(pipe, pictures, captions, compute, seed=3, batch_size=4))
    assert drawn == [4, 4, 3] + [4, 3] + [4, 4]  # one process; the first of two; the second, which does the first batch, too
    assert found[0].shape == (11, 4, 2, 3) and torch.equal(found[0], found[2])
    assert torch.equal(found[1][[*range(4), *range(8, 11)]], found[0][[*range(4), *range(8, 11)]])


@pytest.mark.parametrize("options", [(), ("--frozen-encoder", "--equivariance", 0.5), ("--frozen-encoder", "--crop", 0.5)])
def test_redrawn_latents_are_of_whole_pictures_and_for_the_decoder_alone(trained, tmp_path, options):
    with pytest.raises(ValueError, match="--redrawn=0.5 needs --frozen-encoder"):
        train("autoencoder", tmp_path, "--start-from", trained("--steps", 2), "--redrawn", 0.5, *options)


def test_latents_are_kept_for_the_next_training_unless_the_autoencoder_is_another(trained, tmp_path, monkeypatch):
    folder = shutil.copytree(trained("--steps", 1), tmp_path / "model")
    other = trained("--steps", 1, "--seed", 1)
    shutil.rmtree(folder / "training" / "unet")
    calls, encode = [], diffusion.encode_pictures
    monkeypatch.setattr(diffusion, "encode_pictures", lambda vae, x: (calls.append(len(x)), encode(vae, x))[1])
    train("diffusion", folder, "--steps", 1)
    assert not calls
    shutil.rmtree(folder / "vae")
    shutil.copytree(other / "vae", folder / "vae")
    train("diffusion", folder, "--steps", 2)
    assert sum(calls) == 2 * 40 + 6  # views and scenes
    shutil.rmtree(folder / "training" / "unet")
    train("diffusion", folder, "--steps", 1)
    assert sum(calls) == 2 * 40 + 6


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
