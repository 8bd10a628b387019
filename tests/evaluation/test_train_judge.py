"""`ldm-tutorial train judge`, with a small network on few emoji: it learns, resumes, and never sees what is held out."""

import argparse
import functools
import json
import re

import pytest
import torch

from ldm_tutorial.data import STYLES, EmojiDataset
from ldm_tutorial.data.dataset import is_held_out
from ldm_tutorial.evaluation import train_judge as training
from ldm_tutorial.evaluation.judge import JudgeConfig, load_judge


@pytest.fixture(autouse=True)
def small_world(monkeypatch, small_data):
    labels = set(small_data.subjects)

    def few(split):
        data = EmojiDataset(split, STYLES[:3], size=64)
        data.entries = [entry for entry in data.entries if entry.label in labels]
        return data

    monkeypatch.setattr(training, "EmojiDataset", few)
    monkeypatch.setattr(training, "JudgeConfig", functools.partial(JudgeConfig, channels=(8, 12, 20), dimensions=16))


def train(folder, *options):
    parser = argparse.ArgumentParser()
    training.add_arguments(parser)
    options = ["--folder", folder, "--batch-size", 24, "--log-every", 1, "--mixed-precision", "no", *options]
    training.main(parser.parse_args([str(option) for option in options]))


def read_log(folder, name="judge"):
    return [json.loads(line) for line in (folder / "training" / name / "log.jsonl").read_text().splitlines()]


def test_the_loss_falls_and_the_judge_is_there(tmp_path, capsys, small_data):
    train(tmp_path, "--steps", 24, "--sample-every", 20, "--learning-rate", 1e-2)
    losses = [line["loss"] for line in read_log(tmp_path) if "loss" in line]
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])
    judge = load_judge(tmp_path / "judge")
    assert judge.config.subjects == tuple(small_data.subjects) and not judge.training
    assert [p.name for p in (tmp_path / "training" / "judge" / "samples").iterdir()] == ["0000020.png"]
    assert "real pictures: subject" in capsys.readouterr().out


def test_a_killed_training_goes_on_bit_for_bit(tmp_path, monkeypatch):
    train(tmp_path / "whole", "--steps", 6, "--save-every", 2)
    draw_batch = training.batch_indices

    def killing(n, batch_size, step, seed):
        if step == 5:
            raise KeyboardInterrupt
        return draw_batch(n, batch_size, step, seed)

    monkeypatch.setattr(training, "batch_indices", killing)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", "--steps", 6, "--save-every", 2)
    monkeypatch.setattr(training, "batch_indices", draw_batch)
    train(tmp_path / "killed", "--steps", 6, "--save-every", 2)
    whole, killed = (load_judge(tmp_path / name / "judge").state_dict() for name in ("whole", "killed"))
    assert all(torch.equal(whole[key], killed[key]) for key in whole)


def test_it_never_learns_from_held_out_pairs_and_says_how_it_does_on_them(tmp_path, monkeypatch, capsys, small_data):
    sizes = []
    draw_batch = training.batch_indices
    monkeypatch.setattr(training, "batch_indices", lambda n, *rest: sizes.append(n) or draw_batch(n, *rest))
    train(tmp_path, "--steps", 1)
    held_out = sum(is_held_out(entry.label, entry.style) for entry in small_data.entries)
    assert held_out and sizes == [len(small_data) - held_out]
    assert re.search(rf"real pictures that it never saw: subject .*% of {held_out}\n", capsys.readouterr().out)
