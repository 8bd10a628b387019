"""The tool that says what a step costs the processor."""

import re
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
import time_training


@pytest.fixture
def cost(monkeypatch, capsys):
    def run(*arguments):
        threads = torch.get_num_threads()
        monkeypatch.setattr(sys, "argv", ["time_training.py", *map(str, arguments)])
        try:
            time_training.main()
        finally:
            torch.set_num_threads(threads)
        millions, train, forward = re.match(
            r"([\d.]+) M parameters; a sample costs ([\d.]+) ms of one core in training, ([\d.]+) ms forward only",
            capsys.readouterr().out,
        ).groups()
        return float(millions), float(train), float(forward)

    return run


UNET = ("unet", "--channels", 16, 32, "--attention", 2, "--heads", 2, "--batch-size", 2, "--side", 8, "--repeats", 1)
VAE = ("autoencoder", "--channels", 16, 32, "--batch-size", 1, "--side", 16, "--repeats", 1)


@pytest.mark.parametrize("arguments", [UNET, (*UNET, "--precision", "bfloat16"), (*UNET, "--channels-last"), VAE])
def test_training_costs_more_than_drawing(cost, arguments):
    millions, train, forward = cost(*arguments)
    assert millions > 0
    assert train > forward > 0


def test_attention_at_another_level_is_counted(cost):
    assert cost(*UNET, "--attention", 1, 2)[0] > cost(*UNET)[0]
