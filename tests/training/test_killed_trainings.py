"""Each of the three trainings, killed at every step in turn, ends with the bits of one left alone; in two processes, too."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.training.small_world import TRAININGS, module_of, shrink, train

STEPS = 5
OPTIONS = {
    "clip": ("clip", ()),
    "autoencoder": ("autoencoder", ("--gan-start", 0.4)),
    "diffusion": ("unet", ("--caption-dropout", 0.5, "--agree", 10)),
}


class Killed(BaseException):
    """Not an Exception, so that nothing but the system's own end of a process is like it."""


def state(folder, name):
    return torch.load(folder / "training" / OPTIONS[name][0] / "state.pt", weights_only=True)


def leaves(content, place=""):
    if isinstance(content, dict):
        for key, value in content.items():
            yield from leaves(value, f"{place}.{key}")
    elif isinstance(content, (list, tuple)):
        for i, value in enumerate(content):
            yield from leaves(value, f"{place}.{i}")
    else:
        yield place, content


def assert_same_bits(a, b):
    ours, theirs = dict(leaves(a["state"])), dict(leaves(b["state"]))
    assert ours.keys() == theirs.keys() and len(ours) > 50
    assert [key for key, value in ours.items() if not equal(value, theirs[key])] == []


def equal(a, b):
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A folder with what a training needs of the ones before."""
    folder = tmp_path_factory.mktemp("begun")
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        for name in TRAININGS:
            train(name, folder, "--steps", 1)
    return folder


@pytest.mark.parametrize("name", TRAININGS)
@pytest.mark.parametrize("save_every", [1, 3])
def test_a_training_killed_at_every_step_in_turn_ends_with_the_bits_of_one_left_alone(
    begun, tmp_path, monkeypatch, name, save_every
):
    shrink(monkeypatch)
    whole, killed = (shutil.copytree(begun, tmp_path / way) for way in ("whole", "killed"))
    for folder in (whole, killed):
        shutil.rmtree(folder / "training")
    options = ("--steps", STEPS, "--save-every", save_every, *OPTIONS[name][1])
    train(name, whole, *options)

    module = module_of(name)
    draw, kill_at = module.batch_indices, []

    def killing(n, batch_size, step, seed):
        if step in kill_at:
            raise Killed
        return draw(n, batch_size, step, seed)

    monkeypatch.setattr(module, "batch_indices", killing)
    for kill_at[:] in [[step] for step in range(STEPS)]:
        with pytest.raises(Killed):
            train(name, killed, *options)
    kill_at.clear()
    train(name, killed, *options)
    assert_same_bits(state(whole, name), state(killed, name))


IN_TWO = Path(__file__).with_name("killed_in_two.py")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_the_trainings_in_two_processes_killed_in_turn_end_with_the_bits_of_ones_left_alone(tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "LDM_QUIET": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, IN_TWO, tmp_path], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == [str(-signal.SIGKILL)] * 3 + ["0", "0"]  # killed three times, then to the end; left alone
    for name in TRAININGS:
        assert_same_bits(state(tmp_path / "alone", name), state(tmp_path / "killed", name))
