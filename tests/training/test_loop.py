"""Randomness by step, the schedule of the learning rate, and the folder a run resumes from."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ldm_tutorial import cli
from ldm_tutorial.training.loop import TrainingRun, batch_indices, learning_rate, step_generator


def test_a_step_draws_the_same_numbers_whatever_came_before():
    torch.manual_seed(1)
    first = torch.randn(5, generator=step_generator(0, step=7))
    torch.randn(100)
    assert torch.equal(first, torch.randn(5, generator=step_generator(0, step=7)))


@pytest.mark.parametrize("other", [{"seed": 1, "step": 7}, {"seed": 0, "step": 8}, {"seed": 0, "step": 7, "process": 1}])
def test_seed_step_and_process_all_change_what_is_drawn(other):
    assert not torch.equal(torch.randn(5, generator=step_generator(0, 7)), torch.randn(5, generator=step_generator(**other)))


@given(n=st.integers(2, 40), batch_size=st.integers(1, 50), epochs=st.integers(1, 3))
def test_an_epoch_shows_every_example_once(n, batch_size, epochs):
    steps = -(-n * epochs // batch_size)
    order = torch.cat([batch_indices(n, batch_size, step, seed=3) for step in range(steps)])
    for epoch in order[: n * epochs].split(n):
        assert sorted(epoch.tolist()) == list(range(n))


def test_the_learning_rate_warms_up_stays_and_falls_to_zero():
    rates = [learning_rate(step, 1000, peak=2.0, warmup=0.1, decay=0.4) for step in range(1000)]
    assert rates[0] == pytest.approx(0.02)
    assert rates[99:600] == pytest.approx([2.0] * 501)
    assert rates[800] == pytest.approx(1.0)
    assert 0 < rates[-1] < 0.01


class Model(nn.Linear):
    def __init__(self):
        super().__init__(3, 2)


def train(folder, steps, stop_before=None, save_every=4):
    """A small training in the way of the real ones; `stop_before` kills it in the middle of a step."""
    torch.manual_seed(0)
    model = Model()
    optimizer = torch.optim.AdamW(model.parameters())
    run = TrainingRun(folder, {"model": model, "optimizer": optimizer}, steps, save_every=save_every)
    for step in run.steps():
        loss = model(torch.randn(4, 3, generator=step_generator(0, step))).square().mean()
        optimizer.zero_grad()
        loss.backward()
        if step == stop_before:
            raise RuntimeError("killed")
        optimizer.step()
        run.log(loss=loss.item())
    return model


def read_log(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


@pytest.mark.parametrize("stop_before", [0, 3, 4, 9, 10])
def test_a_run_that_was_killed_and_resumed_is_bit_identical(tmp_path, stop_before):
    whole = train(tmp_path / "whole", 11)
    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path / "killed", 11, stop_before)
    resumed = train(tmp_path / "killed", 11)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters()))
    assert read_log(tmp_path / "killed") == read_log(tmp_path / "whole")


def test_a_full_disk_while_saving_leaves_the_state_before(tmp_path, monkeypatch):
    train(tmp_path, 4)
    before = (tmp_path / "state.pt").read_bytes()

    def disk_full(state, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", disk_full)
    with pytest.raises(OSError, match="No space left"):
        train(tmp_path, 8)
    assert (tmp_path / "state.pt").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log.jsonl", "samples", "state.pt"]


@pytest.mark.parametrize("half", ['{"step": 11, "seconds": 0.0, "lo', "{", ""])
def test_a_run_that_was_killed_within_a_line_of_its_log_goes_on(tmp_path, half):
    whole = train(tmp_path / "whole", 11)
    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path / "killed", 11, 9)
    with open(tmp_path / "killed" / "log.jsonl", "a") as file:
        file.write(half)
    resumed = train(tmp_path / "killed", 11)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters()))
    assert read_log(tmp_path / "killed") == read_log(tmp_path / "whole")


@pytest.mark.parametrize("option", ["--steps", "--batch-size", "--log-every", "--sample-every", "--save-every"])
@pytest.mark.parametrize("value", ["0", "-3", "2.5", "many"])
def test_a_count_below_one_is_named_before_anything_is_read(tmp_path, capsys, option, value):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["train", "clip", "--folder", str(tmp_path), f"{option}={value}"])
    assert f"argument {option}: '{value}' must be a whole number, 1 or more" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
