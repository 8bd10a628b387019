"""The pages that are drawn: the menu of prompts and the gallery of mistakes are made as they say."""

import draw_mistakes
import lesson_paths
import prompt_menu
import pytest
import torch

from ldm_tutorial.data import EmojiDataset, canonical_caption
from ldm_tutorial.evaluation.evaluate import fingerprint
from ldm_tutorial.schedulers import DDIMScheduler, EulerDiscreteScheduler
from ldm_tutorial.weights import EMOJI_FOLDER

MENU = lesson_paths.ROOT / "docs" / "prompts.md"


def test_prompts_on_the_menu_are_captions_of_trained_pairs():
    trained = {canonical_caption(entry.label, entry.style) for entry in EmojiDataset("train").entries}
    listed = [line[2:] for line in MENU.read_text(encoding="utf-8").splitlines() if line.startswith("- ")]
    assert len(listed) >= 40 and len(set(listed)) == len(listed)
    assert not set(listed) - trained


def test_the_menu_is_of_the_shipped_weights():
    assert fingerprint(EMOJI_FOLDER) in MENU.read_text(encoding="utf-8"), "python tools/prompt_menu.py"


@pytest.mark.parametrize("group", list(prompt_menu.GROUPS))
def test_candidates_are_short_names_of_one_group_each_once(group):
    found = prompt_menu.candidates(group, 16)
    assert len(found) == 16 == len({entry.label for entry in found})
    assert {entry.group for entry in found} == {group}
    assert all(len(entry.label.split()) <= 2 for entry in found)


def test_each_sheet_of_mistakes_is_on_the_page():
    page = (lesson_paths.GUIDE / "mistakes.md").read_text(encoding="utf-8")
    drawn = sorted(path.name for path in (lesson_paths.GUIDE / "images").glob("mistakes_*.png"))
    assert drawn == [
        "mistakes_euler.png",
        "mistakes_guidance.png",
        "mistakes_noise.png",
        "mistakes_scale.png",
        "mistakes_schedule.png",
    ]
    assert all(f"(images/{name})" in page for name in drawn)


def test_mistakes_are_what_they_are_called():
    right, wrong = DDIMScheduler(), draw_mistakes.OneMinusBeta()
    for scheduler in (right, wrong):
        scheduler.set_timesteps(5)
    torch.testing.assert_close(wrong.alpha_bars[:-1], (1 - right.betas[right.timesteps.long()]).float())
    assert draw_mistakes.SmallStart().init_noise_sigma == 1.0 < EulerDiscreteScheduler().init_noise_sigma
    no_end = draw_mistakes.NoEnd(timestep_spacing="trailing")
    no_end.set_timesteps(12)
    assert no_end.sigmas[-1] == no_end.sigmas[-2] > 0.1

    without, with_prompt = torch.randn(2, 1, 4, 3, 5, generator=torch.Generator().manual_seed(0))
    rules = draw_mistakes.RULES
    torch.testing.assert_close(rules["halves swapped"](without, with_prompt, 7.5), with_prompt + 7.5 * (without - with_prompt))
    torch.testing.assert_close(rules["no parentheses"](without, with_prompt, 7.5), 7.5 * with_prompt)
    assert torch.equal(rules["with the prompt only"](without, with_prompt, 7.5), with_prompt)
