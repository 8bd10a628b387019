"""Right and wrong pictures, told apart: a pipeline that returns the real ones finds everything, another nothing."""

import pytest
import torch

from ldm_tutorial.evaluation.accuracy import (
    by,
    empty_figures,
    empty_prompts,
    score,
    split_figures,
    wording_table,
    wordings,
    worst,
)
from ldm_tutorial.evaluation.drawing import Request, draw_all
from ldm_tutorial.evaluation.judge import Verdict, look
from ldm_tutorial.evaluation.reference import Question, sample
from ldm_tutorial.evaluation.samplers import Crowd, Sweep, likeness_table


def values(figures):
    return {figure.key: figure.value for figure in figures}


def ask(reference, numbers):
    return [reference.full(i) for i in numbers]


def draw(pipe, judge, questions):
    return draw_all(pipe, judge, [question.request for question in questions])


def test_real_pictures_are_found_to_be_right(reference, small_judge, make_pipe):
    questions = ask(reference, reference.unseen)
    figures = split_figures("held_out", questions, draw(make_pipe(), small_judge, questions))
    assert set(values(figures).values()) == {1.0}
    assert [figure.reached for figure in figures] == [True, None, True]


def test_pictures_of_other_subjects_are_found_to_be_wrong(reference, small_judge, make_pipe):
    questions = ask(reference, reference.trained)
    other = make_pipe(lambda prompt, seed: seed + 3)  # another subject in the same style, in most cases
    found = values(split_figures("trained", questions, draw(other, small_judge, questions)))
    assert found["subject.trained"] < 0.1
    assert found["style.trained"] > 0.7


def test_the_right_subject_in_another_style_is_half_right(reference, small_judge, make_pipe):
    numbers = [i for i, e in enumerate(reference.entries) if e.style == "noto" and reference.entries[i + 1].label == e.label]
    questions = ask(reference, numbers)
    found = values(split_figures("trained", questions, draw(make_pipe(lambda p, seed: seed + 1), small_judge, questions)))
    assert found["subject.trained"] == 1 and found["style.trained"] == 0


def test_five_nearest_and_margin_follow_from_the_cosines(reference):
    cosines = torch.tensor([[0.9, 0.1, 0.2, 0.3, 0.4, 0.5], [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]])
    verdict = Verdict(torch.zeros(2, 1), cosines, torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    questions = [Question(Request("", 0), reference.entries[0], frozenset(right), 0) for right in ({0, 1}, {5})]
    result = score(questions, verdict)
    assert result.subject.tolist() == [True, False]
    assert result.among_five.tolist() == [True, False]
    assert result.style.tolist() == [False, True]
    assert result.margin.tolist() == pytest.approx([0.4, -0.5])


def test_categories_hold_all_questions(reference, small_judge, make_pipe):
    questions = ask(reference, range(len(reference.entries)))
    table = by("category", lambda entry: entry.group, questions, draw(make_pipe(), small_judge, questions))
    assert {name for name, _ in table.rows} == {entry.group for entry in reference.entries}
    assert sum(figures[0].count for _, figures in table.rows) == len(questions)


def test_the_worst_come_first_with_what_they_were_taken_for(reference, small_judge, make_pipe):
    questions = ask(reference, range(12))
    bad = make_pipe(lambda prompt, seed: seed + 6 if seed == 4 else seed)
    (question, taken_for), *_ = worst(questions, draw(bad, small_judge, questions), 3)
    assert question == questions[4]
    assert reference.subject_names[taken_for] == reference.entries[10].label


# ---- wording


def test_a_tag_allows_every_subject_that_has_it(reference):
    for i, entry in enumerate(reference.entries):
        question = reference.by_tag(i)
        if not entry.tags:
            assert question is None
            continue
        tag = question.request.prompt
        assert tag in entry.tags and question.style is None and question.request.seed == i
        named = {e.label for e in reference.entries if tag in (e.label, *e.tags)}
        assert {reference.subject_names[s] for s in question.subjects} == named


def test_wordings_differ_from_the_caption_and_keep_its_seed(reference):
    for i in range(len(reference.entries)):
        questions = wordings(reference, i)
        prompts = [question.request.prompt for question in questions.values()]
        assert len(set(prompts)) == len(prompts) and {question.request.seed for question in questions.values()} == {i}
        assert questions["capitals"].request.prompt == prompts[0].upper()


def test_a_wording_that_draws_something_else_is_seen(reference, small_judge, make_pipe):
    numbers = list(range(0, len(reference.entries), 3))
    deaf = make_pipe(lambda prompt, seed: seed + 3 * prompt.isupper())
    requests = [q.request for i in numbers for q in wordings(reference, i).values()]
    table = wording_table(reference, numbers, draw_all(deaf, small_judge, requests))
    rows = {name: values(figures) for name, figures in table.rows}
    assert rows["the full caption"] == {"subject": 1.0, "same": 1.0} == rows["the label alone"]
    assert rows["THE FULL CAPTION IN CAPITALS"]["same"] < 0.1


def test_an_empty_prompt_must_lie_among_the_emoji(small_judge, make_pipe, small_data):
    requests = empty_prompts(6)
    real = look(small_judge, small_data.pictures).features
    good = values(empty_figures(requests, draw_all(make_pipe(), small_judge, requests), real))
    assert good["empty.plausible"] == 1 and good["empty.subjects"] == 2  # six pictures of two subjects
    assert values(empty_figures(requests, draw_all(make_pipe(), small_judge, requests), real + 100))["empty.plausible"] == 0


# ---- drawing, samples


def test_equal_drawings_are_drawn_once_in_batches_of_equal_settings(small_judge, make_pipe):
    pipe = make_pipe()
    requests = [Request("a", 1), Request("b", 2, steps=5), Request("a", 1), Request("c", 3)]
    drawn = draw_all(pipe, small_judge, requests, batch_size=2)
    assert [(prompt, seed) for prompt, seed, _ in pipe.asked] == [("a", 1), ("c", 3), ("b", 2)]
    assert dict(pipe.asked[2][2])["steps"] == 5
    assert drawn.rows(requests).tolist() == [0, 2, 0, 1]
    assert torch.equal(drawn.pictures[2], pipe.pictures[2])
    with pytest.raises(KeyError):
        drawn.rows([Request("a", 2)])


def test_a_smaller_sample_is_the_head_of_a_larger():
    assert sample(range(50), 10) == sample(range(50), 20)[:10]
    assert sorted(sample(range(50), 99)) == list(range(50)) == sample(range(50), None)


# ---- schedulers


def test_a_curve_falls_where_the_pictures_get_worse(reference, small_judge, make_pipe):
    pipe = make_pipe()

    class FewStepsFail(type(pipe)):
        def __call__(self, prompt, *, steps=25, seed=0, **options):
            return super().__call__(prompt, seed=[s + 6 * (steps < 10) for s in seed], **options)

    pipe.__class__ = FewStepsFail
    sweep = Sweep("steps", (5, 25), tuple(ask(reference, range(0, 12, 3))))
    drawn = draw_all(pipe, small_judge, sweep.requests())
    for few, many in sweep.curves(drawn).values():
        assert few[0].value == 0 and many[0].value == 1
    assert [name for name, _ in sweep.table(drawn).rows] == ["5", "25"]
    rows = {name: values(figures) for name, figures in likeness_table(sweep, drawn).rows}
    assert rows["DDIM, 5 steps and 25"]["same_subject"] == 0
    assert rows["Euler and DDIM, 25 steps"] == {"psnr": pytest.approx(68.1, abs=0.1), "same_subject": 1}


def test_a_scheduler_that_draws_something_else_has_another_distribution(small_judge, make_pipe):
    pipe = make_pipe()

    class EulerDiffers(type(pipe)):
        def __call__(self, prompt, *, scheduler, seed, **options):
            return super().__call__(prompt, seed=[s % 5 + 10 * (scheduler == "euler") for s in seed], **options)

    pipe.__class__ = EulerDiffers
    crowd = Crowd(("a cat", "a dog"), seeds=10)
    seeds = [request.seed for request in crowd.requests()]
    assert len(set(seeds)) == len(seeds)
    rows = {name: values(figures) for name, figures in crowd.table(draw_all(pipe, small_judge, crowd.requests())).rows}
    assert rows["Euler and DDIM"]["p"] < 0.01
    assert rows["Euler ancestral and DDPM"]["p"] > 0.05
