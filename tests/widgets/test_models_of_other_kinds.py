"""The widgets of models that are drawn with otherwise: with LoRAs, distilled to few steps, trained by flow matching."""

import threading

import numpy as np
import pytest
import torch

from ldm_tutorial.adapters import new_lora, save_lora
from ldm_tutorial.pipeline import load_pipeline
from ldm_tutorial.schedulers import FLOW_SCHEDULERS, SCHEDULERS, FlowMatchEulerDiscreteScheduler
from ldm_tutorial.schedulers.few_steps import FewSteps
from ldm_tutorial.widgets import BranchExplorer, Compare, DenoisingExplorer, LatentExplorer, Playground, drawing

CAT = "a cat in the style of noto"
FOUR = FewSteps(4, 6.0)


@pytest.fixture
def pipe(make_tiny_pipe):
    return make_tiny_pipe()


@pytest.fixture
def write_lora(pipe, tmp_path):
    """A function: a file with a LoRA of random numbers, of a distilled model if `few_steps` is given."""

    def write(name, seed=0, few_steps=None):
        lora, generator = new_lora({"unet": pipe.unet}, rank=2), torch.Generator().manual_seed(seed)
        for update in lora.by_name().values():
            torch.nn.init.normal_(update.up.weight, std=0.3, generator=generator)
        lora.few_steps = few_steps
        return str(save_lora(lora, tmp_path / f"{name}.safetensors"))

    return write


def drawn(pipe, **settings):
    return np.asarray(pipe(CAT, progress=False, **settings)[0])


def names_offered(menu):
    return [name for _, name in menu.options]


# ---- LoRAs in the playground


def test_a_loaded_lora_is_chosen_and_its_scale_is_the_playgrounds_own(pipe, write_lora):
    plain = drawn(pipe, steps=3)
    pipe.load_lora(write_lora("style"), 0.6)
    at_6 = drawn(pipe, steps=3)
    p = Playground(pipe, CAT, background=True, steps=3)
    assert (names_offered(p.lora), p.lora.value, p.scale.value) == (["", "style"], "style", 0.6)
    assert (p.scale.min, p.scale.max) == (0, 2)
    assert np.array_equal(p.pictures[0], at_6) and "LoRA style at 0.6" in p.alt

    p.scale.value = 1.8
    p.runner.wait()
    pipe.loras["style"].scale = 1.8
    assert np.array_equal(p.pictures[0], drawn(pipe, steps=3))
    pipe.loras["style"].scale = 0.6
    p.lora.value = ""
    p.runner.wait()
    assert np.array_equal(p.pictures[0], plain)
    assert pipe.loras["style"].scale == 0.6 and np.array_equal(drawn(pipe, steps=3), at_6)
    assert [entry.asked.lora for entry in p.drawn] == ["style", "style", ""]


def test_a_given_file_is_loaded_and_drawn_with_and_the_pipeline_stays_as_it_is(pipe, write_lora):
    plain, file = drawn(pipe, steps=3), write_lora("new")
    p = Playground(pipe, CAT, background=True, steps=3)
    assert names_offered(p.lora) == [""] and np.array_equal(p.pictures[0], plain)
    p.file.value = file
    p.runner.wait()
    assert (names_offered(p.lora), p.lora.value, p.scale.value) == (["", "new"], "new", 1.0)
    assert pipe.loras == {} and np.array_equal(drawn(pipe, steps=3), plain)
    pipe.load_lora(file)
    assert np.array_equal(p.pictures[0], drawn(pipe, steps=3))
    p.lora.value = ""
    p.runner.wait()
    p.load_lora(file)  # the same file again is chosen again
    p.runner.wait()
    assert p.lora.value == "new" and len(p.pipes["tiny"].loras) == 1


def test_a_file_that_is_none_is_one_line_and_nothing_changes(pipe, tmp_path):
    p = Playground(pipe, CAT, background=True, steps=3)
    before = p.pictures
    p.file.value = str(tmp_path / "no_such.safetensors")
    p.runner.wait()
    assert 'role="alert"' in p.said and "no_such" in p.said
    assert p.pictures is before and names_offered(p.lora) == [""]


def test_several_loaded_ones_are_taken_as_they_are_until_one_is_chosen(pipe, write_lora):
    pipe.load_lora(write_lora("one", 1), 0.5)
    pipe.load_lora(write_lora("two", 2), 0.9)
    both = drawn(pipe, steps=3)
    p = Playground(pipe, CAT, background=True, steps=3)
    assert np.array_equal(p.pictures[0], both)
    p.lora.value = "two"
    p.runner.wait()
    pipe.loras["one"].scale, pipe.loras["two"].scale = 0, 1
    assert np.array_equal(p.pictures[0], drawn(pipe, steps=3))
    p.lora.value = "*"
    p.runner.wait()
    assert np.array_equal(p.pictures[0], both)


def test_while_the_playground_draws_a_cell_draws_as_always(pipe, write_lora):
    """In two threads at once: the widget's in the background, with a LoRA; this one without."""
    plain = drawn(pipe, steps=12)
    p = Playground(pipe, CAT, background=True, steps=12)
    p.load_lora(write_lora("style"))
    p.runner.wait()
    alone = np.asarray(p.pictures[0])
    begun, decode = threading.Event(), p.pipes["tiny"].decode

    def told(latents):
        begun.set()
        return decode(latents)

    p.pipes["tiny"].decode = told
    p.generate.click()
    assert begun.wait(30)
    assert np.array_equal(drawn(pipe, steps=12), plain)
    p.runner.wait()
    assert np.array_equal(p.pictures[0], alone) and not np.array_equal(alone, plain)


def test_history_brings_back_the_lora_and_the_code_draws_the_same(pipe, write_lora, monkeypatch):
    file = write_lora("style")
    p = Playground(pipe, CAT, background=True, steps=3)
    p.file.value = file
    p.runner.wait()
    p.scale.value = 0.5
    p.runner.wait()
    with_it = p.drawn[-1]
    code = drawing.as_code("tiny", with_it.settings, {file: 0.5})
    assert f"pipe.load_lora({file!r}, scale=0.5)" in code and "load_lora" in p.take_away.value
    names = {"pipe": pipe}
    exec(code, names)
    assert np.array_equal(names["pictures"][0], with_it.pictures[0])
    p.lora.value = ""
    p.runner.wait()
    assert "load_lora" not in p.take_away.value
    p.restore(with_it)
    assert (p.lora.value, p.scale.value) == ("style", 0.5) and "LoRA style at 0.5" in p.said
    assert p.drawn[-1].asked.lora == ""  # nothing was drawn


# ---- distilled models


def test_a_distilled_lora_brings_its_steps_and_takes_them_away_again(pipe, write_lora):
    p = Playground(pipe, CAT, background=True, steps=9, guidance_scale=3.0)
    p.file.value = write_lora("fast", few_steps=FOUR)
    p.runner.wait()
    settings = {name: p.settings[name] for name in ("scheduler", "steps", "guidance_scale")}
    assert settings == {"scheduler": "ddim", "steps": 4, "guidance_scale": 1.0}
    assert "distilled" not in p.said and p.drawn[-1].settings["steps"] == 4
    pipe.load_lora(p.file.value)
    assert np.array_equal(p.pictures[0], drawn(pipe))  # as the model is drawn with by itself
    p.controls["steps"].value = 7
    p.runner.wait()
    assert "distilled to 4 steps" in p.said
    p.lora.value = ""
    p.runner.wait()
    assert (p.settings["steps"], p.settings["guidance_scale"]) == (9, 3.0) and "distilled" not in p.said


@pytest.mark.parametrize("widget", [Playground, Compare, DenoisingExplorer, BranchExplorer, LatentExplorer])
def test_a_distilled_model_does_not_warn_at_the_widgets_defaults(pipe, write_lora, widget, recwarn, monkeypatch):
    notes = []
    started = drawing.started

    def noted(*args):
        run, note = started(*args)
        notes.append(note)
        return run, note

    for module in ("drawing", "branching"):
        monkeypatch.setattr(f"ldm_tutorial.widgets.{module}.started", noted)
    pipe.load_lora(write_lora("fast", few_steps=FOUR))
    made = widget(pipe, background=False)
    if widget is LatentExplorer:
        made.mode.value = "Redraw"
        assert "takes 2 of 4 steps" in made.said
    assert 'role="alert"' not in made.said and notes and not any(notes)
    assert not [w for w in recwarn.list if "distilled" in str(w.message)]


# ---- flow matching


@pytest.mark.parametrize("widget", [Playground, Compare, DenoisingExplorer, BranchExplorer, LatentExplorer])
def test_a_model_of_flow_matching_is_offered_its_schedulers(pipe, widget):
    pipe.scheduler = FlowMatchEulerDiscreteScheduler()
    made = widget(pipe, background=False)
    assert 'role="alert"' not in made.said
    menu = {
        Playground: lambda: made.controls["scheduler"],
        BranchExplorer: lambda: made.controls["scheduler"],
        Compare: lambda: made.values.children[0],
    }.get(widget, lambda: made.scheduler)()
    assert names_offered(menu) == [*FLOW_SCHEDULERS] and menu.value == "flow_euler"
    menu.value = "flow_heun"
    if widget is LatentExplorer:
        made.mode.value = "Redraw"
    for button in ("go", "generate"):
        if hasattr(made, button):
            getattr(made, button).click()
    assert 'role="alert"' not in made.said and made.snapshot() is not None


def test_its_picture_is_that_of_the_pipeline(pipe):
    pipe.scheduler = FlowMatchEulerDiscreteScheduler()
    p = Playground(pipe, CAT, background=False, steps=3)
    assert np.array_equal(p.pictures[0], drawn(pipe, scheduler="flow_euler", steps=3))
    assert "Flow Euler, 3 steps" in p.alt


def test_another_model_brings_its_own_menus(pipe, write_lora, monkeypatch):
    """Chosen before it is loaded: its schedulers are known only then."""
    file = write_lora("style")
    pipe.load_lora(file)
    flow = pipe.sharing_weights()
    flow.unload_lora()
    flow.name, flow.scheduler = "other", FlowMatchEulerDiscreteScheduler()
    monkeypatch.setattr("ldm_tutorial.widgets.playground.local_models", lambda: ["other"])
    monkeypatch.setattr("ldm_tutorial.widgets.playground.load_pipeline", {"other": flow}.get)
    p = Playground(pipe, CAT, background=False, steps=3)
    p.model.value = "other"
    assert names_offered(p.controls["scheduler"]) == [*FLOW_SCHEDULERS] and p.controls["scheduler"].value == "flow_euler"
    assert 'role="alert"' not in p.said and names_offered(p.lora) == [""]
    assert p.drawn[-1].asked.model == "other" and p.drawn[-1].settings["scheduler"] == "flow_euler"
    assert np.array_equal(p.pictures[0], flow(**p.settings, progress=False)[0])
    p.load_lora(file)
    assert names_offered(p.lora) == ["", "style"] and p.drawn[-1].asked.lora == "style"
    p.restore(p.drawn[0])
    assert (p.model.value, p.lora.value, p.controls["scheduler"].value) == ("tiny", "style", "ddim")
    assert names_offered(p.controls["scheduler"]) == [*SCHEDULERS]


def test_the_shipped_model_begins_as_it_did():
    own = load_pipeline("emoji").scheduler
    assert drawing.starting_settings(own) == {"scheduler": "ddim", "steps": 25, "guidance_scale": 7.5}
