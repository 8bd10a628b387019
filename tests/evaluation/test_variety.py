"""Captions that leave the style open: how many styles eight seeds show, and how far apart they are."""

import torch

from ldm_tutorial.evaluation.drawing import draw_all
from ldm_tutorial.evaluation.variety import OpenCaptions, mean_distance, open_captions

SEEDS = 6


def figures_of(make_pipe, judge, reference, answer):
    """Of a pipeline that answers the prompt's subject k and a seed with the picture of number `answer(numbers, seed)`."""
    captions = open_captions(reference, 3, SEEDS)
    numbers = {}
    for prompt in captions.prompts:
        labels = [i for i, entry in enumerate(reference.entries) if prompt.endswith(entry.label)]
        longest = max(len(reference.entries[i].label) for i in labels)
        numbers[prompt] = [i for i in labels if len(reference.entries[i].label) == longest]
    pipe = make_pipe(lambda prompt, seed: answer(numbers[prompt], seed))
    drawn = draw_all(pipe, judge, captions.requests(), progress=False)
    return {figure.key: figure.value for figure in captions.figures(drawn)}, captions


def test_a_model_that_draws_every_style_in_turn_has_all_of_them(make_pipe, small_judge, reference):
    found, captions = figures_of(make_pipe, small_judge, reference, lambda numbers, seed: numbers[seed % len(numbers)])
    assert len(captions.prompts) == 3 and all(len(real) == 3 for real in captions.real)
    assert found["open.styles"] == 3 and found["open.three"] == 1
    assert 0.5 < found["open.distance"] < 1  # of six pictures some are equal


def test_a_model_that_draws_one_style_only_has_one_and_no_distance(make_pipe, small_judge, reference):
    found, _ = figures_of(make_pipe, small_judge, reference, lambda numbers, seed: numbers[0])
    assert found == {"open.styles": 1, "open.three": 0, "open.distance": 0}


def test_the_prompts_name_no_style_and_have_their_article(reference):
    captions = open_captions(reference, 100, 2)
    assert len(captions.prompts) == len(set(captions.prompts)) > 3
    assert not any("style" in prompt for prompt in captions.prompts)
    assert any(prompt.startswith(("a ", "an ")) for prompt in captions.prompts)
    assert [(r.prompt, r.seed) for r in captions.requests()[:3]] == [
        (captions.prompts[0], 0),
        (captions.prompts[0], 1),
        (captions.prompts[1], 0),
    ]


def test_the_distance_is_the_mean_over_all_pairs():
    pictures = torch.zeros(3, 3, 2, 2, dtype=torch.uint8)
    pictures[2] = 30
    assert mean_distance(pictures) == 20  # 0, 30, 30


def test_without_a_subject_in_three_styles_there_is_nothing_to_say(small_data, reference):
    assert OpenCaptions((), (), 8).figures(None) == []
