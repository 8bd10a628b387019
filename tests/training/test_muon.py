"""Muon equals PyTorch's own, in any number of processes; AdamW takes the rest of the weights."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from ldm_tutorial.training.compute import Compute
from ldm_tutorial.training.muon import Muon, orthogonalize, share_out
from tests.training.muon_in_two import Network, three_steps

SCRIPT = Path(__file__).with_name("muon_in_two.py")


@pytest.mark.parametrize("shape", [(8, 8), (5, 40), (40, 5)])
def test_the_singular_values_of_a_step_are_near_one_whatever_those_of_the_gradient(shape):
    u, _, vh = torch.linalg.svd(torch.randn(shape, generator=torch.Generator().manual_seed(0)), full_matrices=False)
    gradient = u @ torch.diag(torch.logspace(0, -1.5, min(shape))) @ vh
    step = orthogonalize(gradient).float()
    assert step.shape == shape
    values = torch.linalg.svdvals(step)
    assert 0.6 < values.min() and values.max() < 1.3
    assert torch.nn.functional.cosine_similarity(step.flatten(), (u @ vh).flatten(), dim=0) > 0.97


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="PyTorch has Muon from 2.9 on")
def test_matrices_get_the_steps_of_pytorchs_muon_and_convolutions_those_of_their_rows():
    ours, theirs = Network(), Network()
    three_steps(ours, Muon(ours, Compute("no"), learning_rate=1e-2))
    flat = {
        name: nn.Parameter(theirs.get_parameter(name).detach().flatten(1))
        for name in ("conv.weight", "wide.weight", "tall.weight")
    }
    settings = {"weight_decay": 0.01, "momentum": 0.95, "adjust_lr_fn": "match_rms_adamw"}
    optimizer = torch.optim.Muon(flat.values(), lr=1e-2, **settings)
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        for name, weight in theirs.named_parameters():
            gradient = torch.randn(weight.shape, generator=generator)
            if name in flat:
                flat[name].grad = gradient.flatten(1)
        optimizer.step()
    for name, expected in flat.items():
        assert torch.allclose(ours.get_parameter(name).flatten(1), expected, rtol=0, atol=1e-7), name


def test_all_other_weights_get_the_steps_of_adamw():
    ours, theirs = Network(), Network()
    three_steps(ours, Muon(ours, Compute("no"), learning_rate=1e-2))
    three_steps(theirs, torch.optim.AdamW(theirs.parameters(), lr=1e-2, betas=(0.9, 0.99), weight_decay=0.01))
    others = ["conv_in.weight", "conv_in.bias", "conv.bias", "wide.bias", "norm.weight", "norm.bias"]
    for name in others:
        assert torch.allclose(ours.get_parameter(name), theirs.get_parameter(name), rtol=0, atol=1e-6), name
    changed = set(dict(ours.named_parameters())) - set(others)
    assert changed == {"conv.weight", "wide.weight", "tall.weight"}


def test_a_run_goes_on_from_a_saved_state_as_if_it_had_not_been_stopped():
    whole, stopped = Network(), Network()
    three_steps(whole, one := Muon(whole, Compute("no")))
    three_steps(whole, one)
    three_steps(stopped, first := Muon(stopped, Compute("no")))
    second = Muon(stopped, Compute("no"))
    second.load_state_dict(first.state_dict())
    three_steps(stopped, second)
    for (name, expected), found in zip(whole.named_parameters(), stopped.parameters()):
        assert torch.equal(found, expected), name


def test_two_processes_that_share_the_matrices_end_with_the_bits_of_one(tmp_path):
    for processes in (1, 2):
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": os.getcwd()}
        done = subprocess.run([*launcher, SCRIPT, tmp_path], env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
    one, *two = (torch.load(tmp_path / name, weights_only=True) for name in ("0-of-1.pt", "0-of-2.pt", "1-of-2.pt"))
    for state in two:
        assert all(torch.equal(state[name], one[name]) for name in one)


def test_the_matrices_are_shared_out_evenly():
    sides = [64, 64, 32, 96, 16, 48]
    owners = share_out([torch.zeros(side, side) for side in sides], 2)
    loads = [sum(side**3 for side, owner in zip(sides, owners) if owner == rank) for rank in (0, 1)]
    assert min(loads) > 0.6 * max(loads)
