"""Sheets to be named by somebody who does not know the prompts."""

import pytest
import torch
from PIL import Image

from ldm_tutorial import cli, pipeline
from ldm_tutorial.data import EmojiDataset
from ldm_tutorial.evaluation import blind
from ldm_tutorial.evaluation.blind import blind_sheets, numbered_sheet


def key(path):
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def pipe(make_pipe):
    """It draws the data set's own pictures: the caption tells which."""
    everything = EmojiDataset()
    row = {entry.captions[0]: i for i, entry in enumerate(everything.entries)}
    pipe = make_pipe()
    pipe.pictures = everything.pictures
    pipe.answer = lambda prompt, seed: row[prompt]
    return pipe


def test_sheets_and_keys_are_apart_and_tell_of_the_same_pictures(pipe, tmp_path):
    sheets = blind_sheets(pipe, tmp_path, seed=3, count=12, progress=False)
    assert [path.relative_to(tmp_path).as_posix() for path in sheets] == [
        "sheets/trained.png", "sheets/held_out.png", "sheets/real.png",
    ]  # fmt: skip
    everything = EmojiDataset()
    real = {entry.captions[0]: picture for entry, picture in zip(everything.entries, everything.pictures)}
    for path in sheets:
        rows = key(tmp_path / "keys" / f"{path.stem}.txt")
        assert [number for number, _ in rows] == [str(i + 1) for i in range(12)]
        expected = numbered_sheet(torch.stack([real[caption] for _, caption in rows]))
        assert Image.open(path).convert("RGB").tobytes() == expected.tobytes()
        assert not {word for _, caption in rows for word in caption.split()} & set(Image.open(path).info)
    assert {seed for _, seed, _ in pipe.asked} == {3}
    assert all(not dict(options).keys() - {"progress"} for *_, options in pipe.asked)  # at the defaults


def test_each_sheet_asks_for_pairs_of_its_split_and_the_real_ones_are_others(pipe, tmp_path):
    blind_sheets(pipe, tmp_path, seed=0, count=30, progress=False)
    captions = {path.stem: {caption for _, caption in key(path)} for path in (tmp_path / "keys").iterdir()}
    assert all(len(some) == 30 for some in captions.values())
    assert captions["held_out"] <= {entry.captions[0] for entry in EmojiDataset("held_out").entries}
    trained = {entry.captions[0] for entry in EmojiDataset("train").entries}
    assert captions["trained"] | captions["real"] <= trained
    assert captions["trained"] != captions["real"]


def test_another_seed_asks_for_other_pairs_and_the_same_seed_for_the_same(pipe, tmp_path):
    for folder, seed in (("a", 0), ("b", 1), ("c", 0)):
        blind_sheets(pipe, tmp_path / folder, seed=seed, count=8, progress=False)
    first, other, again = (key(tmp_path / folder / "keys" / "held_out.txt") for folder in "abc")
    assert first == again != other


def test_the_command_draws_the_sheets_and_measures_nothing(pipe, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pipeline, "load_pipeline", lambda model, **options: pipe)
    monkeypatch.setattr(blind, "sample", lambda numbers, count, seed: list(numbers)[:4])
    assert cli.main(["evaluate", "--blind", str(tmp_path / "blind"), "--blind-seed", "5", "-q"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.rsplit("/", 1)[-1] for line in out] == ["trained.png", "held_out.png", "real.png"]
    assert {seed for _, seed, _ in pipe.asked} == {5}
