"""The three trainings on one's own pictures, from end to end, with a very small model."""

import argparse
import shutil
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from ldm_tutorial import cli, load_pipeline
from ldm_tutorial.adapters import Word
from ldm_tutorial.checkpoints import save_checkpoint
from ldm_tutorial.config import EMOJI, SD15
from ldm_tutorial.data.drawings import write_drawings
from ldm_tutorial.training import finetune, lora, own, word
from ldm_tutorial.training.logs import read_log
from ldm_tutorial.training.loop import step_generator
from ldm_tutorial.training.objective import sample_timesteps
from tests.training.small_world import forty

TRAININGS = {
    "unet": (finetune, ()),
    "lora": (lora, ()),
    "lora-text": (lora, ("--text-encoder",)),
    "word": (word, ("--word", "<mine>")),
}


@pytest.fixture(scope="module")
def drawings(tmp_path_factory):
    return write_drawings(tmp_path_factory.mktemp("drawings"), size=32)


@pytest.fixture(scope="module")
def model(make_tiny_pipe, tmp_path_factory):
    return save_checkpoint(make_tiny_pipe(), tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def train(model, drawings, monkeypatch):
    monkeypatch.setattr(own, "EmojiDataset", forty)

    def run(name, folder, *options):
        module, more = TRAININGS[name]
        parser = argparse.ArgumentParser()
        module.add_arguments(parser)
        usual = ["--data", drawings, "--model", model, "--folder", folder, "--batch-size", 4, "--log-every", 1]
        module.main(parser.parse_args([str(option) for option in (*usual, "--mixed-precision", "no", *more, *options)]))
        return folder

    return run


def result(name, folder):
    """What a training wrote, as tensors."""
    if name == "unet":
        return load_pipeline(folder, device="cpu", dtype="float32").unet.state_dict()
    return load_file(folder / f"{name.partition('-')[0]}.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("name", TRAININGS)
def test_each_learns_its_part_alone_and_the_result_loads(train, model, tmp_path, name):
    train(name, tmp_path / "a", "--steps", 3, "--sample-every", 2, "--emoji-share", 0.5)
    log = read_log(tmp_path / "a" / "training" / name.partition("-")[0] / "log.jsonl")
    assert log["step"].tolist() == [1, 2, 3] and (log["loss"] > 0).all()
    assert len(list(tmp_path.glob("a/training/*/samples/0000002.png"))) == 1
    pipe, before = (load_pipeline(model, device="cpu") for _ in range(2))
    prompt = "a house in the style of <mine>"
    if name == "unet":
        pipe = load_pipeline(tmp_path / "a", device="cpu")
        assert same(pipe.vae.state_dict(), before.vae.state_dict())
        assert same(pipe.text_encoder.state_dict(), before.text_encoder.state_dict())
        assert not same(pipe.unet.state_dict(), before.unet.state_dict())
    elif name == "word":
        assert pipe.load_word(tmp_path / "a" / "word.safetensors").text == "<mine>"
    else:
        names = pipe.load_lora(tmp_path / "a" / "lora.safetensors").names
        assert {n.split(".")[0] for n in names} == ({"unet", "text_encoder"} if name == "lora-text" else {"unet"})
    options = {"steps": 2, "progress": False, "scheduler_options": {"timestep_spacing": "trailing"}}
    assert pipe(prompt, **options)[0].tobytes() != before(prompt, **options)[0].tobytes()


@pytest.mark.parametrize("name", TRAININGS)
def test_a_killed_training_goes_on_bit_for_bit(train, tmp_path, monkeypatch, name):
    options = ("--steps", 4, "--save-every", 2, "--emoji-share", 0.25)
    train(name, tmp_path / "whole", *options)
    draw, calls = own.step_generator, []

    def killing(seed, step):
        calls.append(step)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return draw(seed, step)

    monkeypatch.setattr(own, "step_generator", killing)
    with pytest.raises(KeyboardInterrupt):
        train(name, tmp_path / "killed", *options)
    train(name, tmp_path / "killed", *options)
    assert calls == [0, 1, 2, 3, 2, 3]
    assert same(result(name, tmp_path / "whole"), result(name, tmp_path / "killed"))


@pytest.mark.parametrize("name", ["unet", "lora"])
def test_what_is_learned_makes_the_pictures_likelier(train, tmp_path, name):
    peak = {"unet": 3e-3, "lora": 3e-2}[name]
    train(
        name, tmp_path / "a", "--steps", 60, "--learning-rate", peak, "--batch-size", 12, "--emoji-share", 0, "--recipe", "plain"
    )
    loss = read_log(tmp_path / "a" / "training" / name / "log.jsonl")["mse"]
    assert loss[-15:].mean() < 0.97 * loss[:5].mean(), (loss[:5], loss[-15:])


def test_the_gradient_of_a_word_is_that_of_its_row(make_tiny_pipe):
    """And it goes on through the U-Net: the word stands in two of three captions, once twice."""
    pipe, start = make_tiny_pipe(), torch.randn(2, 18, generator=torch.Generator().manual_seed(0))
    pipe.add_word(Word("<mine>", start))
    row = pipe.dictionary.first_row("<mine>")
    states = own.LiveStates(pipe, ["", "a cat like <mine>", "<mine> and <mine>"])
    x, numbers = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([1, 2, 0, 2])

    def loss():
        return pipe.unet(x, torch.tensor([3, 700, 50, 400]), states[numbers]).square().mean()

    table = word.embeddings(pipe)
    (expected,) = torch.autograd.grad(loss(), table.weight)
    learner = word.WordVectors(start, row)
    hook = learner.attach(table)
    (found, rest) = torch.autograd.grad(loss(), (learner.vectors, table.weight))
    assert expected[row:].abs().max() > 0 and rest[row:].abs().max() == 0
    torch.testing.assert_close(found, expected[row:], rtol=1e-4, atol=1e-9)
    assert torch.equal(states[0], pipe.encode_prompt("")[0])

    first = states[1]
    learner.vectors.data *= 2
    moved = states[1]
    hook.remove()
    assert torch.equal(states[1], first) and not torch.equal(moved, first)


def test_a_batch_is_yours_and_its_share_emoji_each_as_often(train):
    examples = own.OwnExamples(torch.zeros(12, 1), torch.zeros(12, 1), [("",)] * 12, own=5)
    batches = [examples.batch(8, 0.25, step, seed=3) for step in range(35)]
    assert all((batch < 5).sum() == 6 and (batch >= 5).sum() == 2 for batch in batches)
    counts = torch.bincount(torch.cat(batches), minlength=12)
    assert counts[:5].tolist() == [42] * 5 and counts[5:].tolist() == [10] * 7
    assert (examples.batch(8, 0, 0, seed=3) < 5).all()


@pytest.mark.parametrize("name, of_emoji", [("unet", 0.25), ("lora", 0.25), ("lora-text", 0.25), ("word", 0.0)])
def test_emoji_are_mixed_in_where_they_have_a_gradient(name, of_emoji):
    """Not for a word: their captions do not contain it."""
    module, more = TRAININGS[name]
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    for config, share in ((EMOJI, of_emoji), (SD15, 0.0)):
        pipe = SimpleNamespace(text_encoder=SimpleNamespace(config=config.text_encoder))
        assert own.share_of_emoji(parser.parse_args(["--data", "pictures", *more]), pipe) == share
        assert own.share_of_emoji(parser.parse_args(["--data", "pictures", "--emoji-share", "0.5", *more]), pipe) == 0.5


def test_yours_and_the_emoji_get_timesteps_from_the_whole_range():
    """Those of a batch rise from its first picture to its last, so the emoji must not always be the last."""
    examples = own.OwnExamples(torch.zeros(12, 1), torch.zeros(12, 1), [("",)] * 12, own=5)
    yours, emoji = [], []
    for step in range(100):
        batch, t = examples.batch(8, 0.25, step, seed=3), sample_timesteps(8, 1000, step_generator(3, step))
        yours += t[batch < 5].tolist()
        emoji += t[batch >= 5].tolist()
    for name, timesteps in (("yours", yours), ("emoji", emoji)):
        shares = torch.tensor(timesteps).float().histc(4, 0, 1000) / len(timesteps)
        assert (shares - 0.25).abs().max() < 0.1, (name, shares)


def test_pictures_are_encoded_once_and_again_when_they_change(train, tmp_path, monkeypatch, model, drawings):
    calls, encode = [], own.encode_pictures
    monkeypatch.setattr(own, "encode_pictures", lambda vae, x: (calls.append(len(x)), encode(vae, x))[1])
    other = shutil.copytree(drawings, tmp_path / "other")
    train("lora", tmp_path / "a", "--steps", 1)
    train("lora", tmp_path / "a", "--steps", 2, "--emoji-share", 0)
    assert calls == [12]
    (other / "house.png").write_bytes((drawings / "rocket.png").read_bytes())
    (other / "rocket.png").unlink()
    lines = [line for line in (other / "metadata.csv").read_text().splitlines() if "rocket" not in line]
    (other / "metadata.csv").write_text("\n".join(lines))
    train("lora", tmp_path / "a", "--steps", 3, "--data", other)
    (tmp_path / "a" / "training" / "lora" / "examples.safetensors").write_bytes(b"x")
    train("lora", tmp_path / "a", "--steps", 4)
    assert calls == [12, 11, 12]


def test_encodings_of_another_autoencoder_are_not_taken(make_tiny_pipe, tmp_path):
    """Nor of one whose weights have the same sums, as those of one have that stand in another order."""
    pipe, pictures = make_tiny_pipe(), torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8)
    weight = pipe.vae.encoder.conv_in.weight
    with torch.no_grad():
        weight.copy_((64 * weight).round() / 64)  # whose sum is exact, in whatever order they are added up
    first = own.encode_once(pipe, pictures, tmp_path / "kept.safetensors")
    with torch.no_grad():
        weight.copy_(weight.flip(0))
    second = own.encode_once(pipe, pictures, tmp_path / "kept.safetensors")
    assert not torch.allclose(first["mean"], second["mean"], atol=1e-3)
    again = own.encode_once(pipe, pictures, tmp_path / "kept.safetensors")
    assert all(torch.equal(again[name], second[name]) for name in ("mean", "std"))


@pytest.mark.parametrize("kind, caption", [("style", "a house in the style of <mine>"), ("thing", "a <mine>")])
def test_captions_get_the_word(kind, caption):
    assert word.captions_with("<mine>", kind, "a house") == caption
    assert word.captions_with("<mine>", kind, "here is <Mine>") == "here is <Mine>"


def test_a_word_begins_as_others_and_may_take_several_tokens(train, tmp_path, model):
    pipe = load_pipeline(model, device="cpu")
    table = word.embeddings(pipe).weight
    ids = pipe.tokenizer("cat", add_special_tokens=False).input_ids
    start = word.first_vectors(pipe, "cat", 2)
    assert torch.equal(start, table[ids].mean(0).expand(2, -1))
    train("word", tmp_path / "a", "--steps", 2, "--vectors", 3, "--like", "cat", "--learning-rate", 1e-9)
    (written,) = result("word", tmp_path / "a").values()
    assert written.shape == (3, table.shape[1])
    assert (written - start[:1]).abs().max() < 1 and not torch.equal(written[0], written[1])


@pytest.mark.parametrize(
    "name, options, words",
    [
        ("lora", ("--rank", 0), "rank=0 must be"),
        ("lora", ("--output", "x.pt"), "--output x.pt must end in .safetensors"),
        ("lora", ("--emoji-share", 0.9), "--emoji-share 0.9 of --batch-size 4 leaves none"),
        ("lora", ("--emoji-share", 2), "--emoji-share=2.0 must be a number, 0 ... 1"),
        ("unet", ("--data", "nowhere"), "there is no folder nowhere"),
        ("word", ("--vectors", 0), "--vectors 0 must be 1 or more"),
        ("word", ("--like", " "), "--like ' ' must be one or more words"),
        ("word", ("--word", "a"), "'a' is a word of the model itself"),
    ],
)
def test_what_means_nothing_is_refused_before_anything_is_written(train, tmp_path, name, options, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        train(name, tmp_path / "a", "--steps", 1, *options)
    assert not list(tmp_path.iterdir())


def test_a_model_that_predicts_something_else_is_refused(train, tmp_path, make_tiny_pipe):
    pipe = make_tiny_pipe()
    pipe.scheduler.prediction_type = "v_prediction"
    other = save_checkpoint(pipe, tmp_path / "v")
    with pytest.raises(ValueError, match="predicts v_prediction; only the noise can be trained here"):
        train("lora", tmp_path / "a", "--model", other)


def test_train_unet_with_data_is_the_fine_tuning(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(finetune, "main", lambda args: asked.append((args.data.name, args.steps)))
    assert cli.main(["train", "unet", "--data=pictures", "--steps", "7"]) == 0
    assert cli.main(["train", "unet", "--data", "pictures"]) == 0
    assert asked == [("pictures", 7), ("pictures", 1000)]
    with pytest.raises(SystemExit, match="2"):
        cli.main(["train", "word", "--data", "pictures"])
    assert "--word" in capsys.readouterr().err
