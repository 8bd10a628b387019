"""The tool that compares models of different objectives: their numbers, intervals and sheet, from the same prompts and noise."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from ldm_tutorial.checkpoints import save_checkpoint
from ldm_tutorial.pipeline import load_pipeline
from ldm_tutorial.schedulers import FlowMatchEulerDiscreteScheduler
from ldm_tutorial.weights import EMOJI_FOLDER

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
import compare_objectives


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """The shipped model beside itself, and beside its weights read as those of flow matching, which they are not."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("diffusion", "again", "flow"):
        shutil.copytree(EMOJI_FOLDER, folder / name)
        (folder / name / "training" / "unet").mkdir(parents=True)
        (folder / name / "training" / "unet" / "log.jsonl").write_text('{"step": 1, "seconds": 1.0, "loss": 1.0, "mse": 0.9}\n')
    save_checkpoint({"scheduler": FlowMatchEulerDiscreteScheduler()}, folder / "flow")
    with pytest.MonkeyPatch.context() as patch:
        models = [f"{name}={folder / name}" for name in ("diffusion", "again", "flow")]
        options = [
            "--evaluations",
            "3",
            "--second-order",
            "--prompts",
            "2",
            "-o",
            str(folder / "out.json"),
            "--sheet",
            str(folder / "out.webp"),
        ]
        patch.setattr(sys, "argv", ["compare_objectives.py", *models, *options])
        compare_objectives.main()
    return json.loads((folder / "out.json").read_text()), Image.open(folder / "out.webp")


def test_equal_models_have_equal_numbers_and_no_difference(result):
    found, _ = result
    rows = {(row["model"], row["split"]): row for row in found["results"] if row["order"] == 1}
    assert len(rows) == 6 and len(found["results"]) == 12
    for split in ("train", "held_out"):
        assert rows["diffusion", split]["subject"] == rows["again", split]["subject"]
        assert rows["again", split]["subject"]["difference_interval"] == [0, 0]
        low, high = rows["again", split]["style"]["interval"]
        assert low <= rows["again", split]["style"]["share"] <= high


def test_the_error_of_x0_says_which_model_its_weights_are_of(result):
    found, sheet = result
    models = found["models"]
    assert models["diffusion"]["error_of_x0.train"] == models["again"]["error_of_x0.train"]
    assert models["diffusion"]["error_of_x0.train"][0] < models["diffusion"]["error_of_x0.train"][-1]
    assert all(a > b for a, b in zip(models["flow"]["error_of_x0.train"][:6], models["diffusion"]["error_of_x0.train"]))
    assert (models["flow"]["trained_by"], models["again"]["trained_by"]) == ("flow matching", "diffusion")
    assert models["flow"]["log"] == {"step": [1.0], "mse": [0.9]}
    assert sheet.width > 3 * 64 and sheet.format == "WEBP"


def test_the_levels_are_those_of_the_models_own_schedule():
    pipe = load_pipeline("emoji", device="cpu")
    torch.testing.assert_close(
        torch.from_numpy(compare_objectives.train_sigmas_of(pipe)).double(), pipe.scheduler.sigma_at(torch.arange(1000)).double()
    )
