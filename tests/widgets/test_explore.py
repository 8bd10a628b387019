"""The small widget of the notebooks, driven through its controls' traits (tests/browser moves them by keyboard)."""

import base64
import io
import sys
import threading
import types

import ipywidgets
import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.figure import Figure
from PIL import Image

from ldm_tutorial.widgets import Explore, choice, number, real, stops, switch, text, whole


def gray(level, **_):
    return Image.new("L", (6, 4), level), f"level {level} of 255"


def stored(widget):
    data, metadata = widget._repr_mimebundle_()
    return base64.b64decode(data["image/png"]), metadata["image/png"]["alt"], data["text/plain"]


@pytest.fixture
def explore():
    """Of one gray, in a background thread."""
    return Explore(gray, alt="One gray.", width=60, background=True, level=whole("Level", 100, 0, 255))


def test_the_picture_is_the_functions_of_what_the_controls_say(explore):
    assert "level 100 of 255" in explore.said and 'width="60" height="40"' in explore.screen.value
    first = explore.screen.value
    explore.controls["level"].value = 200
    explore.runner.wait()
    assert explore.values == {"level": 200}
    assert "level 200 of 255" in explore.said and explore.screen.value != first
    assert 'alt="One gray. Level 200. level 200 of 255"' in explore.screen.value


def test_all_kinds_of_controls_go_by_their_names_and_are_told_in_words():
    asked = []
    widget = Explore(
        lambda **values: asked.append(values) or Image.new("RGB", (9, 9)),
        alt="x",
        background=True,
        n=whole("Steps", 3, 1, 9),
        eta=real("Eta", 0.25, 0, 1, 0.05),
        s=number("Seed", 7),
        way=choice("Way", [("by foot", 1), ("by car", 2)], 1),
        k=stops("Levels", [5, 10, 50], 10),
        on=switch("Karras"),
        p=text("Prompt", "<b>"),
    )
    assert asked == [{"n": 3, "eta": 0.25, "s": 7, "way": 1, "k": 10, "on": False, "p": "<b>"}]
    assert widget.settings == "Steps 3, Eta 0.25, Seed 7, Way by foot, Levels 10, Karras off, Prompt <b>"
    assert "<b>" not in widget.screen.value
    for name, value in {"way": 2, "k": 50, "on": True}.items():
        widget.controls[name].value = value
        widget.runner.wait()
        assert asked[-1][name] == value
    assert widget.settings.endswith("Way by car, Levels 50, Karras on, Prompt <b>")


def test_a_slider_at_its_first_stop_is_told():
    assert Explore(lambda k: Image.new("RGB", (9, 9)), alt="x", k=stops("Levels", [5, 10], 5)).settings == "Levels 5"


def test_what_is_stored_is_the_picture_with_its_settings(explore):
    data, alt, plain = stored(explore)
    assert plain == "Explore()"  # nbval compares it
    assert alt == "One gray. Level 100. level 100 of 255"
    picture = np.asarray(Image.open(io.BytesIO(data)))
    assert (picture[-10, 10] == 100).all()  # the picture, ten times enlarged
    assert picture.shape[0] > 40 + 20  # and words above it
    explore.controls["level"].value = 5
    explore.runner.wait()
    data, alt, _ = stored(explore)
    assert "Level 5." in alt and (np.asarray(Image.open(io.BytesIO(data)))[-10, 10] == 5).all()


def test_noise_can_be_stored_in_few_colors():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    sizes = [len(stored(Explore(lambda a: noise, alt="noise", colors=c, a=whole("A", 0, 0, 1)))[0]) for c in (None, 16)]
    assert sizes[1] < sizes[0] / 2


def test_figures_are_shown_as_they_are_and_pyplots_are_refused():
    def draw(n):
        figure = pyplot.figure(figsize=(2, 1)) if n == 2 else Figure(figsize=(2, 1), dpi=100)
        figure.add_subplot().plot(range(n + 2))
        return figure

    widget = Explore(draw, alt="a line", background=True, n=whole("Points", 1, 0, 5))
    assert 'width="200" height="100"' in widget.screen.value and widget.said.endswith("></div>")  # no text
    widget.controls["n"].value = 2
    widget.runner.wait()
    pyplot.close("all")
    assert 'role="alert"' in widget.said and "draw must not use pyplot" in widget.said


def test_an_error_is_a_line_and_the_widget_goes_on_but_the_first_is_the_cells():
    def draw(n):
        if n == 3:
            raise ValueError("three is\ntoo much")
        return gray(n)

    widget = Explore(draw, alt="x", background=True, n=whole("N", 1, 0, 9))
    before = widget.screen.value
    widget.controls["n"].value = 3
    widget.runner.wait()
    assert "three is too much" in widget.said and 'role="alert"' in widget.said
    assert widget.screen.value == before
    widget.controls["n"].value = 4
    widget.runner.wait()
    assert "level 4" in widget.said and widget.screen.value != before
    with pytest.raises(ValueError, match="three is"):
        Explore(draw, alt="x", n=whole("N", 3, 0, 9))


def test_a_generator_is_live_and_a_change_ends_it():
    halfway, go_on, closed = threading.Event(), threading.Event(), []

    def draw(n):
        try:
            yield gray(n)
            if n == 2:
                halfway.set()
                go_on.wait(10)
            yield gray(n + 100)
        finally:
            closed.append(n)

    widget = Explore(draw, alt="x", background=True, n=whole("N", 1, 0, 9))
    assert "level 101" in widget.said
    widget.controls["n"].value = 2
    assert halfway.wait(10)
    assert "level 2 of" in widget.said
    widget.controls["n"].value = 3
    go_on.set()
    widget.runner.wait()
    assert "level 103" in widget.said and "N 3." in widget.screen.value
    assert closed == [1, 2, 3]


def test_gradients_are_off_wherever_it_runs():
    seen = []

    def draw(n):
        seen.append((torch.is_grad_enabled(), threading.current_thread() is threading.main_thread()))
        return gray(n)

    widget = Explore(draw, alt="x", background=True, n=whole("N", 1, 0, 9))
    widget.controls["n"].value = 2
    widget.runner.wait()
    assert seen == [(False, True), (False, False)]
    assert torch.is_grad_enabled()


def test_in_colab_it_works_in_the_callback_when_a_slider_is_let_go(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    widget = Explore(gray, alt="x", level=whole("Level", 1, 0, 255))
    assert not widget.controls["level"].continuous_update
    widget.controls["level"].value = 9
    assert "level 9" in widget.said  # at once: nothing to wait for


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"alt": " ", "level": whole("Level", 1, 0, 9)}, ValueError, "alt=' ' must say"),
        ({"alt": "x"}, TypeError, "needs a control"),
        ({"alt": "x", "level": (0, 9)}, TypeError, r"level=\(0, 9\) must be a control with a label"),
        ({"alt": "x", "level": ipywidgets.IntSlider()}, TypeError, "must be a control with a label"),
        ({"alt": "x", "levle": whole("Level", 1, 0, 9)}, TypeError, "levle|level"),
    ],
)
def test_a_wrong_use_is_one_clear_error(options, error, message):
    with pytest.raises(error, match=message):
        Explore(gray, **options)


def test_what_is_no_picture_is_a_clear_error():
    with pytest.raises(TypeError, match="must return a PIL image or a matplotlib figure, or that and a text; got int"):
        Explore(lambda n: n, alt="x", n=whole("N", 1, 0, 9))
