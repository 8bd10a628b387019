"""Two processes that share each batch take the same steps as one that has it to itself: CLIP, autoencoder and U-Net.

To rounding, and not bit for bit: each adds up its own half of the batch first.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from ldm_tutorial.training.compute import Compute, SharedBatchNorm
from ldm_tutorial.training.logs import read_log
from tests.training.small_world import train

SCRIPT = Path(__file__).with_name("small_world.py")


def launch(folder, processes):
    folder.mkdir()
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "LDM_QUIET": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([*launcher, SCRIPT, folder], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    return launch(tmp_path_factory.mktemp("processes") / "one", 1)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return launch(tmp_path_factory.mktemp("processes") / "two", 2)


def leaves(state, name=""):
    if isinstance(state, dict):
        for key, value in state.items():
            yield from leaves(value, f"{name}.{key}")
    elif isinstance(state, torch.Tensor):
        yield name, state


@pytest.mark.parametrize("name", ["clip", "autoencoder", "unet"])
def test_both_processes_end_with_the_same_bits(two, name):
    states = [dict(leaves(torch.load(two / f"{name}-{rank}.pt", weights_only=True))) for rank in (0, 1)]
    assert states[0].keys() == states[1].keys() and len(states[0]) > 100
    assert [key for key in states[0] if not torch.equal(states[0][key], states[1][key])] == []


@pytest.mark.parametrize("name", ["clip", "autoencoder", "unet"])
def test_two_processes_take_the_steps_of_one(one, two, name):
    states = [dict(leaves(torch.load(folder / f"{name}-0.pt", weights_only=True))) for folder in (one, two)]
    assert states[0].keys() == states[1].keys()
    for key, expected in states[0].items():
        torch.testing.assert_close(states[1][key], expected, rtol=0, atol=1e-9, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize("name", ["clip", "autoencoder", "unet"])
def test_their_logs_say_the_same(one, two, name):
    logs = [read_log(folder / "training" / name / "log.jsonl") for folder in (one, two)]
    assert list(logs[0]) == list(logs[1])
    for column in set(logs[0]) - {"seconds"}:
        assert logs[1][column] == pytest.approx(logs[0][column], rel=1e-3, abs=1e-5, nan_ok=True), column


def test_what_only_one_process_finds_on_its_disk_is_encoded_anew_by_both(one, two):
    alone, *both = (torch.load(path, weights_only=True) for path in (one / "examples-0.pt", *sorted(two.glob("examples-*.pt"))))
    assert len(both) == 2 and len(alone) == 110
    assert torch.equal(both[0], alone) and torch.equal(both[1], alone)


def test_a_batch_that_cannot_be_shared_out_evenly_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(Compute, "__init__", lambda self, _: vars(self).update(rank=1, count=4))
    with pytest.raises(ValueError, match="--batch-size 6 must be a multiple of the 4 processes"):
        train("clip", tmp_path)
    assert Compute("no").mine(8) == slice(1, None, 4)


def test_batch_normalization_over_all_processes_is_that_of_the_whole_batch():
    """With one process in the group, the whole batch is its own."""
    torch.manual_seed(0)
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        for layer, x in ((nn.BatchNorm2d(3), torch.randn(4, 3, 5, 6)), (nn.BatchNorm1d(3, affine=False), torch.randn(4, 3))):
            shared = type(layer)(3, affine=layer.affine)
            shared.__class__ = SharedBatchNorm
            for training in (True, True, False):
                a, b = (x.clone().requires_grad_() for _ in range(2))
                ours, theirs = shared.train(training)(a), layer.train(training)(b)
                (ours**3).sum().backward(), (theirs**3).sum().backward()
                torch.testing.assert_close(ours, theirs)
                torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(shared.state_dict(), layer.state_dict())
    finally:
        torch.distributed.destroy_process_group()
