"""The speedrun: a fixed start, a budget that holds, errors that say where, and a table that is the records."""

import ast
import copy
import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from ldm_tutorial import cli, pipeline
from ldm_tutorial.data.dataset import is_held_out
from ldm_tutorial.evaluation import speedrun as module
from ldm_tutorial.evaluation.judge import save_judge
from ldm_tutorial.evaluation.speedrun import (
    BASELINE,
    BEGIN_RECORDS,
    END_RECORDS,
    EntryError,
    TrainingData,
    first_weights,
    held_out_loss,
    load_entry,
    read_records,
    run_entry,
    table_of,
)

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture
def pipe(make_pipe):
    return make_pipe()


@pytest.fixture
def data(pipe, small_data, tmp_path):
    return TrainingData(pipe, trained_part(small_data), 12, 0, tmp_path / "kept" / "examples.safetensors")


def trained_part(small_data, held_out=False):
    some = copy.copy(small_data)
    some.__dict__ = {
        name: value for name, value in vars(small_data).items() if name not in vars(type(small_data))
    }  # no pictures yet
    some.entries = [entry for entry in small_data.entries if is_held_out(entry.label, entry.style) == held_out]
    return some


@pytest.fixture
def enter(pipe, data, tmp_path):
    """Run a function, given as the lines of its body."""

    def run(*lines, seed=0):
        path = tmp_path / "mine.py"
        path.write_text("import torch, copy\n\n\ndef train(unet, data, seed):\n" + "".join(f"    {line}\n" for line in lines))
        return run_entry(path, pipe, data, seed)

    return run


ONE_STEP = (
    "optimizer = torch.optim.SGD(unet.parameters(), lr=0.1)",
    "for batch in data.batches(5):",
    "    loss = unet(batch.latents, torch.tensor(500), batch.words).square().mean()",
    "    optimizer.zero_grad(); loss.backward(); optimizer.step()",
)


# ---- the budget and the data


def test_batches_end_with_the_budget_and_show_each_picture_once_before_any_twice(pipe, small_data, tmp_path):
    trained = trained_part(small_data)
    n = len(trained)
    data = TrainingData(pipe, trained, 2 * n + 3, 0, tmp_path / "examples.safetensors")
    seen, sizes = [], []
    for batch in data.batches(7):
        sizes.append(len(batch.latents))
        seen += [captions[0] for captions in batch.captions]
        assert batch.latents.shape == (sizes[-1], 4, 16, 16) and batch.words.shape == (sizes[-1], 77, 16)
        torch.testing.assert_close(batch.words, pipe.encode_prompt([captions[0] for captions in batch.captions]))
    assert len(seen) == 2 * n + 3 and set(sizes[:-1]) == {7} and data.spent == 1 and list(data.batches(7)) == []
    assert len(set(seen[:n])) == len(set(seen[n : 2 * n])) == n and seen[:n] != seen[n : 2 * n]


def test_a_seed_is_one_order_and_one_noise(pipe, small_data, tmp_path):
    def first(seed):
        data = TrainingData(pipe, trained_part(small_data), 4, seed, tmp_path / "examples.safetensors")
        return next(data.batches(4)).latents

    assert torch.equal(first(1), first(1)) and not torch.equal(first(1), first(2))


def test_all_begin_with_the_same_weights_whatever_was_drawn_before(pipe):
    torch.manual_seed(5)
    a = first_weights(pipe.unet.config).state_dict()
    state = torch.get_rng_state()
    b = first_weights(pipe.unet.config).state_dict()
    assert all(torch.equal(a[key], b[key]) for key in a) and torch.equal(torch.get_rng_state(), state)
    assert a["conv_out.weight"].abs().max() == 0 < a["conv_in.weight"].abs().max()


def test_what_was_trained_is_what_comes_back_in_place_or_returned(enter, pipe):
    start = first_weights(pipe.unet.config).state_dict()
    in_place, seconds = enter(*ONE_STEP)
    assert seconds > 0 and not in_place.training and not in_place._forward_pre_hooks
    moved = [key for key, weight in in_place.state_dict().items() if not torch.equal(weight, start[key])]
    assert moved
    returned, _ = enter("return copy.deepcopy(unet).requires_grad_(False)")
    assert all(torch.equal(weight, start[key]) for key, weight in returned.state_dict().items())


def test_a_file_may_hold_dataclasses(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n\n\n@dataclass\nclass Settings:\n"
        "    rate: float = 0.1\n\n\ndef train(unet, data, seed):\n    return Settings().rate\n"
    )
    assert load_entry(path)(None, None, 0) == 0.1


def test_a_seed_gives_the_same_network_again(enter, pipe, small_data, tmp_path, data):
    noisy = (ONE_STEP[0], ONE_STEP[1], "    batch.latents.add_(torch.randn(batch.latents.shape))", *ONE_STEP[2:])
    first, _ = enter(*noisy)
    data.given, data._order = 0, data._shuffles()
    again, _ = enter(*noisy)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters()))


@pytest.mark.parametrize(
    "lines",
    [
        ("batches = list(data.batches(6))", "for batch in batches * 2:", "    unet(batch.latents, torch.tensor(5), batch.words)"),
        (
            "other = copy.deepcopy(unet)",
            "for batch in data.batches(6):",
            "    for each in (unet, other):",
            "        each(latents=batch.latents, timesteps=torch.tensor(5), context=batch.words)",
        ),
        (
            "for batch in list(data.batches(6)) * 2:",
            "    unet(timesteps=torch.tensor([5]), context=batch.words, latents=batch.latents)",  # one timestep for six latents
        ),
    ],
)
def test_more_samples_than_the_budget_are_an_error_also_of_kept_batches_and_copies(enter, lines):
    with pytest.raises(EntryError, match=r"mine.py, line \d: more than 12 samples went through the U-Net with gradients"):
        enter(*lines)


def test_without_gradients_nothing_is_counted(enter):
    enter("with torch.no_grad():", "    for b in list(data.batches(6)) * 3: unet(b.latents, torch.tensor(5), b.words)")


# ---- errors


@pytest.mark.parametrize(
    "lines, words",
    [
        (("return 3",), "train must return a U-Net, or nothing; it returned int"),
        (("return torch.nn.Linear(2, 2)",), "or one of the same layers"),
        (("unet.conv_in.weight.data[0] = float('nan')",), "after 0 samples the weights are not finite"),
        (("x = 1", "raise KeyError('lost')"), r"mine.py, line 6: KeyError: 'lost'"),
        (("next(data.batches(0))",), r"mine.py, line 5: ValueError: batch_size=0 must be a whole number, 1 or more"),
    ],
)
def test_an_error_of_an_entry_says_what_and_where(enter, lines, words):
    with pytest.raises(EntryError, match=words):
        enter(*lines)


@pytest.mark.parametrize(
    "text, words",
    [
        ("x = 1", r"must hold a function: def train\(unet, data, seed\)"),
        ("train = 3", r"must hold a function"),
        ("def train(unet, data): pass", r"train\(unet, data\) must be def train\(unet, data, seed\)"),
        ("def train(unet, data, seed):\n    x = (", "mine.py, line 2: SyntaxError"),
        ("y = 1\nimport no_such_module", "mine.py, line 2: ModuleNotFoundError"),
    ],
)
def test_a_file_without_the_function_is_refused(tmp_path, text, words):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(EntryError, match=words):
        load_entry(tmp_path / "mine.py")


def test_a_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_entry(tmp_path / "mine.py")
    (tmp_path / "mine.txt").write_text("")
    with pytest.raises(EntryError, match="must be a Python file"):
        load_entry(tmp_path / "mine.txt")


# ---- the score


def test_the_loss_is_that_of_equation_3_and_the_same_for_everyone(pipe, small_data, monkeypatch):
    held_out = trained_part(small_data, held_out=True)
    monkeypatch.setattr(type(pipe.unet), "forward", lambda self, latents, timesteps, context: torch.zeros_like(latents))
    losses = held_out_loss(pipe, held_out)
    assert losses.shape == (len(held_out),)
    assert losses.mean().item() == pytest.approx(1, abs=0.05)  # the mean square of the noise itself
    assert torch.equal(losses, held_out_loss(pipe, held_out))


# ---- the command and the records


@pytest.fixture
def command(monkeypatch, pipe, small_data, small_judge, tmp_path, capsys):
    def dataset(split="all"):
        return small_data if split == "all" else trained_part(small_data, held_out=split == "held_out")

    monkeypatch.setattr(module, "EmojiDataset", dataset)
    monkeypatch.setattr(pipeline, "load_pipeline", lambda *_, **__: pipe)
    judge = save_judge(small_judge, tmp_path / "judge")

    def run(*options):
        usual = ["--judge", judge, "--folder", tmp_path / "runs", "--pairs", 3, "--samples", 8, "-q"]
        code = cli.main(["speedrun", *map(str, usual), *map(str, options)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_a_record_is_a_line_and_the_page_has_its_row(command, tmp_path):
    page, records = tmp_path / "page.md", tmp_path / "records.jsonl"
    page.write_text(f"# Records\n\n{BEGIN_RECORDS}\n{END_RECORDS}\n\nThe end.\n")
    mine = shutil.copy(BASELINE, tmp_path / "mine.py")
    assert command("--who", "us", "--record", records, "--write", page)[0] == 0
    assert command(mine, "--who", "Ada | B.", "--seed", 3, "--record", records, "--write", page)[0] == 0
    first, second = read_records(records)
    assert (first["who"], first["file"], second["who"], second["file"]) == ("us", BASELINE.name, "Ada | B.", "mine.py")
    assert first["sha256"] == second["sha256"] and first["start"] == second["start"] and first["used"] == first["samples"] == 8
    loss = first["scores"]["loss.held_out"]
    assert loss["interval"][0] <= loss["value"] <= loss["interval"][1]
    assert first["scores"]["subject.trained"] == {"value": 1.0, "interval": pytest.approx([0.4385, 1], abs=1e-3), "count": 3}
    text = page.read_text()
    assert table_of([first, second]) in text and "Ada \\| B." in text and text.endswith("The end.\n")
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    losses = [float(re.search(r"\| (\d\.\d{4}) \(", row)[1]) for row in rows[1:]]
    assert losses == sorted(losses) and len(losses) == 2


def test_no_picture_that_is_held_out_is_given_to_an_entry(command, tmp_path, small_data):
    """An entry that keeps all captions it sees, for longer than all pictures last."""
    path = tmp_path / "mine.py"
    body = "seen = {c[0] for batch in data.batches(50) for c in batch.captions}"
    path.write_text(
        f"def train(unet, data, seed):\n    {body}\n    open({str(tmp_path / 'seen')!r}, 'w').write('\\n'.join(seen))\n"
    )
    assert command(path, "--samples", len(small_data))[0] == 0
    seen = set((tmp_path / "seen").read_text().splitlines())
    assert seen == {entry.captions[0] for entry in trained_part(small_data).entries}
    assert {entry.captions[0] for entry in trained_part(small_data, held_out=True).entries} and len(seen) < len(small_data)


def test_without_a_file_the_record_is_printed(command, tmp_path):
    code, out, _ = command()
    assert code == 0
    assert json.loads(out.splitlines()[-1])["who"] == "anonymous" and "| anonymous |" in out


@pytest.mark.parametrize(
    "options, words",
    [
        (("--write", "page.md"), "--write needs --record"),
        (("--record", "no/where.jsonl"), "--record no/where.jsonl: no file can be written there"),
        (("none.py",), "there is no file none.py"),
        (("--record", "wrong.jsonl"), "wrong.jsonl, line 1 is no record: KeyError: 'who'"),
        (("--record", "new.jsonl", "--write", "page.md"), "the page must hold, once each and in this order"),
    ],
)
def test_what_is_wrong_is_said_before_the_training(command, monkeypatch, tmp_path, options, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.jsonl").write_text('{"a": 1}\n')
    (tmp_path / "page.md").write_text("no marks")
    monkeypatch.setattr(module, "run_entry", lambda *_: pytest.fail("it was trained"))
    code, _, err = command(*options)
    assert code == 2 and words in err and err.count("\n") == 1


def test_the_page_shows_the_records_and_our_function():
    page = (DOCS / "speedrun.md").read_text(encoding="utf-8")
    records = read_records(DOCS / "speedrun.jsonl")
    assert f"{BEGIN_RECORDS}\n\n{table_of(records)}\n\n{END_RECORDS}" in page
    assert f"```python\n{BASELINE.read_text(encoding='utf-8')}```" in page
    (function,) = [node for node in ast.parse(BASELINE.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)]
    assert len(BASELINE.read_text(encoding="utf-8").split(ast.unparse(function.body[0]))) and function.end_lineno <= 26
