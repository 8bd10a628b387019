"""Going on from the middle of a run: a branch that changes nothing is its parent, and what is changed holds from there on."""

import gc
import json
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ldm_tutorial.engines.kernels import OnceARun
from ldm_tutorial.images import read_settings, save_image
from ldm_tutorial.schedulers import FLOW_SCHEDULERS, SCHEDULERS, DDIMScheduler, FlowMatchEulerDiscreteScheduler
from ldm_tutorial.schedulers.few_steps import FewSteps
from ldm_tutorial.schedulers.switching import most_steps
from ldm_tutorial.widgets import BranchExplorer
from ldm_tutorial.widgets.branching import branch, changes_in_words, draw_kept, tree_figure, tree_in_words

CAT, ROCKET = "a cat in the style of noto", "a rocket in the style of fluent"


def last(runs):
    *_, run = runs
    assert run.is_finished and len(run.moments) == run.total + 1
    return run


def apart(run, other):
    """The largest difference of their last latents, relative to the largest of these.

    The first step of a run has its own rounding: from the second on, the engine computes with packed weights.
    """
    x, y = run.moments[-1].latents, other.moments[-1].latents
    return ((x - y).abs().max() / y.abs().max()).item()


@pytest.fixture(scope="module")
def flow_pipe(make_tiny_pipe):
    """As if its U-Net had been trained by flow matching."""
    pipe = make_tiny_pipe()
    pipe.scheduler = FlowMatchEulerDiscreteScheduler()
    return pipe


@pytest.fixture(scope="module")
def cat(tiny_pipe):
    return last(draw_kept(tiny_pipe, CAT, steps=6, seed=3, guidance_scale=4.0))


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_kept_run_is_the_run(tiny_pipe, name):
    run = last(draw_kept(tiny_pipe, CAT, scheduler=name, steps=4, seed=2, num_images=2))
    pictures = tiny_pipe(CAT, scheduler=name, steps=4, seed=2, num_images=2, progress=False)
    assert [np.array_equal(a, b) for a, b in zip(run.previews[-1], pictures, strict=True)] == [True, True]
    assert [a.info for a in run.previews[-1]] == [b.info for b in pictures]
    steps = list(tiny_pipe.stream(CAT, scheduler=name, steps=4, seed=2, num_images=2))
    assert all(torch.equal(moment.latents, step.latents) for moment, step in zip(run.moments[1:], steps, strict=True))


@pytest.mark.parametrize("name", [*SCHEDULERS, *FLOW_SCHEDULERS])
def test_without_a_change_a_branch_ends_where_its_parent_did(tiny_pipe, flow_pipe, name):
    """At every step, of Heun also in its middle; also a branch of a branch, and after the parent's noise is used up."""
    pipe = flow_pipe if name in FLOW_SCHEDULERS else tiny_pipe
    run = last(draw_kept(pipe, CAT, scheduler=name, steps=5, seed=3))
    for after in range(run.total):
        again = last(branch(pipe, run, after))
        assert apart(again, run) < 1e-5
        assert again.total == run.total - after and changes_in_words(again) == "nothing changed"
        if 1 < again.total:
            once_more = last(branch(pipe, again, 1, steps=again.steps_left(1), guidance_scale=7.5))
            assert apart(once_more, run) < 1e-5


def test_ddim_goes_on_as_euler_and_draws_the_same(tiny_pipe):
    """One step of one differential equation, on one grid; the other way round, too."""
    grid = {"timestep_spacing": "trailing"}
    runs = {
        "ddim": {"scheduler": "ddim", "scheduler_options": grid | {"set_alpha_to_one": True}},
        "euler": {"scheduler": "euler", "scheduler_options": grid},
    }
    for one, other in (("ddim", "euler"), ("euler", "ddim")):
        run = last(draw_kept(tiny_pipe, CAT, steps=10, seed=1, guidance_scale=2.0, **runs[one]))
        for after in (1, 4, 9):
            switched = last(branch(tiny_pipe, run, after, **runs[other]))
            assert switched.inputs.timesteps.tolist() == run.inputs.timesteps[after:].tolist()
            assert apart(switched, run) < 1e-4
            assert changes_in_words(switched) == {"ddim": "DDIM", "euler": "Euler"}[other]


def test_the_noise_goes_on_where_it_was(tiny_pipe):
    """DDPM's run, gone on with as Euler ancestral, adds the noise that DDPM would have added."""
    grid = {"timestep_spacing": "trailing"}
    run = last(draw_kept(tiny_pipe, CAT, scheduler="ddpm", scheduler_options=grid, steps=8, seed=1, guidance_scale=2.0))
    switched = last(branch(tiny_pipe, run, 3, scheduler="euler_a", scheduler_options=grid))
    assert apart(switched, run) < 1e-4


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": ROCKET},
        {"negative_prompt": "a dog"},
        {"guidance_scale": 1.0},
        {"guidance_scale": 9.0},
        {"scheduler": "euler_a"},
        {"scheduler": "heun", "steps": 2},
        {"scheduler": "dpmpp_2m", "scheduler_options": {"use_karras_sigmas": True}},
        {"steps": 9},
    ],
)
def test_what_is_changed_holds_from_there_on(tiny_pipe, cat, changes):
    before = [moment.latents.clone() for moment in cat.moments]
    run = last(branch(tiny_pipe, cat, 2, **changes))
    assert not torch.allclose(run.moments[-1].latents, before[-1], atol=1e-3)
    assert all(torch.equal(moment.latents, x) for moment, x in zip(cat.moments, before))  # the parent stays as it is
    info = run.previews[-1][0].info
    assert all(info[name] == value for name, value in changes.items() if name != "scheduler_options")
    assert info["steps"] == run.steps_left(0) == changes.get("steps", 4)
    assert info["branch"] == {"after": 2, "of": cat.settings}
    sigmas = [run.inputs.scheduler.sigma_at(t).item() for t in run.inputs.timesteps]
    assert sigmas[0] == pytest.approx(cat.inputs.scheduler.sigma_at(cat.inputs.timesteps[2]).item(), rel=1e-5)
    assert sigmas == sorted(sigmas, reverse=True)


def test_the_words_of_a_branch_are_those_of_a_run_with_them(tiny_pipe, cat):
    """Its first step is what the loop does from there, computed once more by hand."""
    run = last(branch(tiny_pipe, cat, 3, prompt=ROCKET, guidance_scale=5.0))
    inputs = tiny_pipe.prepare(ROCKET, cat.inputs.options)
    context = torch.cat([tiny_pipe.encode_prompt(""), tiny_pipe.encode_prompt(ROCKET)])
    x, t = cat.moments[3].latents, inputs.timesteps[3]
    with torch.no_grad():
        uncond, cond = tiny_pipe.unet(torch.cat([x, x]), t.float(), context).chunk(2)
    expected = inputs.scheduler.step(uncond + 5.0 * (cond - uncond), t, x).prev_sample
    torch.testing.assert_close(run.moments[1].latents, expected, rtol=1e-4, atol=1e-4)


def test_a_saved_picture_says_how_it_branched(tiny_pipe, cat, tmp_path):
    child = last(branch(tiny_pipe, cat, 2, guidance_scale=2.0))
    grandchild = last(branch(tiny_pipe, child, 1, prompt=ROCKET))
    kept = read_settings(save_image(grandchild.previews[-1][0], tmp_path / "rocket.png"))
    assert kept == json.loads(json.dumps(grandchild.previews[-1][0].info))
    assert kept["branch"]["after"] == 1 and kept["branch"]["of"]["branch"] == {"after": 2, "of": cat.settings}


@given(st.sampled_from([*SCHEDULERS]), st.sampled_from([*SCHEDULERS]), st.integers(0, 30), st.integers(1, 12))
@settings(deadline=None, max_examples=12, derandomize=True)
def test_any_scheduler_goes_on_as_any_other(tiny_pipe, one, other, after, steps):
    run = last(draw_kept(tiny_pipe, CAT, scheduler=one, steps=4))
    after %= run.total
    most = most_steps(run.inputs.scheduler, run.inputs.scheduler.sigma_at(run.inputs.timesteps[after]).item())
    child = last(branch(tiny_pipe, run, after, scheduler=other, steps=min(steps, most)))
    assert child.moments[-1].latents.isfinite().all()


@pytest.mark.parametrize(
    ("after", "changes", "error", "words"),
    [
        (6, {}, ValueError, r"after=6 must be a whole number, 0 \.\.\. 5"),
        (-1, {}, ValueError, r"after=-1 must be a whole number, 0 \.\.\. 5"),
        (2, {"seed": 4}, TypeError, "seed=4 is no change that a run can go on with; there are prompt"),
        (2, {"cfg": 4}, TypeError, "did you mean guidance_scale"),
        (2, {"steps": 0}, ValueError, "steps=0 must be a whole number"),
        (2, {"steps": 900}, ValueError, r"steps=900 must be a whole number, 1 \.\.\. \d+"),
        (2, {"guidance_scale": "much"}, TypeError, "guidance_scale='much'"),
        (2, {"prompt": 3}, TypeError, "prompt must be a string"),
        (2, {"scheduler": "flow_euler"}, ValueError, "does not fit this model"),
    ],
)
def test_wrong_changes_are_named(tiny_pipe, cat, after, changes, error, words):
    with pytest.raises(error, match=words):
        next(branch(tiny_pipe, cat, after, **changes))


def test_a_distilled_model_is_not_warned_of_for_its_own_steps(make_tiny_pipe):
    pipe = make_tiny_pipe()
    pipe.scheduler = DDIMScheduler(timestep_spacing="trailing")
    pipe.scheduler.few_steps = FewSteps(4, 6.0)
    run = last(draw_kept(pipe, CAT))
    assert run.total == 4 and run.note == ""
    for changes in ({}, {"prompt": ROCKET}, {"scheduler": "ddim"}):
        assert last(branch(pipe, run, 2, **changes)).note == ""
    assert "distilled to 4 steps" in last(branch(pipe, run, 2, steps=7)).note


def test_what_a_run_computes_once_is_not_kept(tiny_pipe, cat):
    """The engine's packed weights hang on the words: a tree that held them would fill the memory."""

    def alive():
        gc.collect()
        return {id(thing) for thing in gc.get_objects() if type(thing) is OnceARun}

    before = alive()
    run = last(branch(tiny_pipe, cat, 2, prompt=ROCKET))
    assert run.is_finished and alive() <= before


# ---- the tree


def test_the_tree_says_and_shows_what_was_changed(tiny_pipe, cat):
    dog = last(branch(tiny_pipe, cat, 2, prompt="a dog", guidance_scale=2.0))
    noisy = last(branch(tiny_pipe, cat, 4, scheduler="euler_a"))
    short = last(branch(tiny_pipe, dog, 1, steps=2))
    runs = [cat, dog, noisy, short]
    assert tree_in_words(runs) == [
        f"1: “{CAT}”, DDIM, 6 steps, guidance 4, seed 3",
        "2: from 1 after step 2 of 6: “a dog”, guidance 2",
        "3: from 1 after step 4 of 6: Euler ancestral",
        "4: from 2 after step 1 of 4: 2 steps instead of 3",
    ]
    figure = tree_figure(runs)
    [axes] = figure.axes
    places = [tuple(image.get_extent()) for image in axes.images]
    columns = [sorted({left for left, *_ in places}).index(left) for left, *_ in places]
    rows = [sorted({top for *_, top in places}).index(top) for *_, top in places]
    assert (columns, rows) == ([0, 1, 1, 2], [0, 0, 1, 0])
    assert all(np.array_equal(image.get_array(), np.asarray(run.previews[-1][0])) for image, run in zip(axes.images, runs))
    assert len(axes.lines) == 3 and len(places) == len(set(places)) == 4
    text = " ".join(label.get_text() for label in axes.texts)
    assert "from 1 after step 4" in text and "Euler ancestral" in text
    for wrong in ([], [dog, cat], [cat, short]):
        with pytest.raises(ValueError, match="each of them after its parent"):
            tree_figure(wrong)


# ---- the widget


@pytest.fixture
def explorer(tiny_pipe):
    return BranchExplorer(tiny_pipe, CAT, background=True, steps=5)


def test_it_begins_with_one_run_and_offers_its_middle(explorer, tiny_pipe):
    [run] = explorer.runs
    assert np.array_equal(run.previews[-1][0], tiny_pipe(CAT, steps=5, progress=False)[0])
    assert (explorer.after.value, explorer.after.max, explorer.controls["steps"].value) == (2, 4, 3)
    assert explorer.changes == {} and "after step 2" in explorer.now.value
    assert "data:image/png" in explorer.screen.value and explorer.snapshot() is not None


def test_it_goes_on_with_what_was_changed_and_keeps_the_tree(explorer, tiny_pipe):
    explorer.after.value = 1
    assert explorer.controls["steps"].value == 4
    explorer.controls["guidance_scale"].value = 2.0
    explorer.go.click()
    explorer.runner.wait()
    explorer.controls["guidance_scale"].value = 7.5
    explorer.controls["scheduler"].value = "euler_a"
    explorer.go.click()
    explorer.runner.wait()
    first, second, third = explorer.runs
    expected = last(branch(tiny_pipe, first, 1, guidance_scale=2.0))
    assert torch.equal(second.moments[-1].latents, expected.moments[-1].latents)
    assert third.parent is first and third.settings["scheduler"] == "euler_a"
    assert [label for label, _ in explorer.origin.options] == tree_in_words(explorer.runs)
    assert "2: from 1 after step 1 of 5: guidance 2" in explorer.alt and explorer.alt.count("from 1") == 2

    explorer.origin.value = 2  # the controls are those of the third
    assert explorer.controls["scheduler"].value == "euler_a" and explorer.changes == {}
    assert explorer.after.max == third.total - 1
    explorer.controls["prompt"].value = ROCKET
    explorer.go.click()
    explorer.runner.wait()
    assert explorer.runs[3].parent is third and explorer.runs[3].settings["prompt"] == ROCKET


def test_a_new_tree_takes_the_place_of_the_old_one(explorer, tiny_pipe):
    explorer.go.click()
    explorer.runner.wait()
    assert len(explorer.runs) == 2
    explorer.controls["steps"].value = 3
    explorer.seed.value = 7
    explorer.new.click()
    explorer.runner.wait()
    [run] = explorer.runs
    assert np.array_equal(run.previews[-1][0], tiny_pipe(CAT, steps=3, seed=7, progress=False)[0])
    assert explorer.origin.value == 0 and explorer.after.max == 2


def test_an_error_is_one_line_and_cancel_keeps_the_tree(explorer, tiny_pipe, monkeypatch):
    explorer.after.value = 4
    explorer.controls["steps"].value = 100
    explorer.go.click()
    explorer.runner.wait()
    assert 'role="alert"' in explorer.said and "steps=100 must be a whole number" in explorer.said
    explorer.controls["steps"].value = 1
    halfway, go_on, decode = threading.Event(), threading.Event(), tiny_pipe.decode

    def wait(latents):
        halfway.set()
        go_on.wait(10)
        return decode(latents)

    monkeypatch.setattr(tiny_pipe, "decode", wait)
    explorer.go.click()
    assert halfway.wait(10)
    explorer.stop.click()
    go_on.set()
    explorer.runner.wait()
    assert len(explorer.runs) == 1 and "Cancelled" in explorer.said


def test_a_wrong_start_is_named(tiny_pipe):
    with pytest.raises(TypeError, match="no setting strength; it has scheduler, steps, guidance_scale, seed"):
        BranchExplorer(tiny_pipe, strength=3)
    wrong = BranchExplorer(tiny_pipe, "\ud800")
    assert 'role="alert"' in wrong.said and wrong.snapshot() is None
    wrong.go.click()  # nothing to go on from
    assert wrong.runs == []
