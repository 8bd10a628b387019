"""The widgets, driven through their traits: what a browser would do, without one (tests/browser has the real one)."""

import ast
import base64
import io
import re
import threading
import time
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ldm_tutorial
from ldm_tutorial.images import read_settings
from ldm_tutorial.inputs import Options
from ldm_tutorial.widgets import (
    Compare,
    DenoisingExplorer,
    LatentExplorer,
    Playground,
    SchedulerLab,
    drawing,
    lab,
    latents,
    panel,
)
from ldm_tutorial.widgets.recording import attention_heard, record, word_map, words_of
from ldm_tutorial.widgets.runner import NewestWins

FOLDER = Path(drawing.__file__).parent
CAT = "a cat in the style of noto"


class Log:
    """Stands where a widget would, and writes down what it is told."""

    def __init__(self, **options):
        self.shown, self.errors, self.ends = [], [], 0
        self.runner = NewestWins(self.shown.append, self.errors.append, self.finished, **options)

    def finished(self):
        self.ends += 1


# ---- the runner


def test_the_newest_request_wins_and_nothing_of_the_older_is_shown_after_it():
    log, halfway, go_on = Log(background=True), threading.Event(), threading.Event()

    def slow():
        yield "old 1"
        halfway.set()
        go_on.wait(10)
        yield "old 2"

    log.runner.start(slow)
    assert halfway.wait(10)
    log.runner.start(lambda: ["new 1", "new 2"])
    go_on.set()
    log.runner.wait()
    assert log.shown == ["old 1", "new 1", "new 2"]
    assert log.ends == 1


def test_a_cancelled_request_shows_nothing_more_and_is_closed():
    log, halfway, go_on, closed = Log(background=True), threading.Event(), threading.Event(), []

    def slow():
        try:
            yield 1
            halfway.set()
            go_on.wait(10)
            yield 2
            yield 3
        finally:
            closed.append(True)

    log.runner.start(slow)
    assert halfway.wait(10)
    log.runner.cancel()
    go_on.set()
    log.runner.wait()
    assert (log.shown, log.ends, closed) == ([1], 0, [True])
    log.runner.start(lambda: [4])
    log.runner.wait()
    assert log.shown == [1, 4]


def test_an_error_is_told_and_the_next_request_works():
    log = Log(background=True)

    def broken():
        yield 1
        raise RuntimeError("no")

    log.runner.start(broken)
    log.runner.wait()
    log.runner.start(lambda: [2])
    log.runner.wait()
    assert log.shown == [1, 2]
    assert [str(error) for error in log.errors] == ["no"]


def test_a_slider_that_moves_on_costs_nothing():
    log, begun = Log(background=True), []

    def work(i):
        begun.append(i)
        yield i

    for i in range(12):
        log.runner.start(lambda i=i: work(i), delay=0.1)
    log.runner.wait()
    assert begun == log.shown == [11]


def test_two_widgets_take_turns():
    at_once, most, lock = 0, 0, threading.Lock()

    def work():
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.05)
        yield 1
        with lock:
            at_once -= 1

    logs = [Log(background=True), Log(background=True)]
    for log in logs:
        log.runner.start(work)
    for log in logs:
        log.runner.wait()
    assert most == 1
    assert [log.shown for log in logs] == [[1], [1]]


def test_in_colab_the_work_is_done_in_the_callback(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "google.colab", types.ModuleType("google.colab"))
    log, threads = Log(), []
    log.runner.start(lambda: iter([threads.append(threading.current_thread())]), delay=5)
    assert threads == [threading.current_thread()]
    log.runner.start(lambda: (_ for _ in ()).throw(KeyboardInterrupt))  # Colab's way to stop
    assert panel.explain(log.errors[0]) == "Stopped."


def test_the_lock_is_free_again_after_all_that():
    done = Log(background=True)
    done.runner.start(lambda: [1])
    done.runner.wait(5)
    assert done.shown == [1]


# ---- drawing


def image(color="#D55E00"):
    return Image.new("RGB", (32, 32), color)


def half_mask():
    return latents.paint(latents.empty_mask((32, 32)), "rectangle", (0, 50), (0, 100))


@pytest.mark.parametrize("way", ["text", "img2img", "inpaint"])
def test_the_last_frame_is_what_the_pipeline_returns(tiny_pipe, way):
    options = {"scheduler": "euler_a", "steps": 5, "guidance_scale": 3.0, "seed": 4, "num_images": 2}
    inputs = {"text": {}, "img2img": {"image": image(), "strength": 0.7}, "inpaint": {"image": image(), "mask": half_mask()}}[way]
    method = {"text": tiny_pipe, "img2img": tiny_pipe.img2img, "inpaint": tiny_pipe.inpaint}[way]
    frames = list(drawing.draw_frames(tiny_pipe, CAT, Options(**options), **inputs))
    expected = method(CAT, **inputs, **options)
    assert [np.array_equal(a, b) for a, b in zip(frames[-1].pictures, expected)] == [True, True]
    assert [p.info for p in frames[-1].pictures] == [p.info for p in expected]
    assert frames[-1].is_last and not any(frame.is_last for frame in frames[:-1])
    assert frames[0].pictures and len(frames) == frames[0].total


def test_two_pictures_at_once_do_not_corrupt_each_other(tiny_pipe):
    """Step by step in turns, as two widgets without a lock would."""
    settings = [{"scheduler": "euler_a", "steps": 4, "seed": 1}, {"scheduler": "ddpm", "steps": 4, "seed": 2}]
    runs = [drawing.draw_frames(tiny_pipe, CAT, Options(**s), every_step=True) for s in settings]
    frames = list(zip(*runs))
    for last, s in zip(frames[-1], settings):
        assert np.array_equal(last.pictures[0], tiny_pipe(CAT, **s)[0])


def test_a_strength_of_nothing_still_ends_in_a_picture(tiny_pipe):
    [frame] = drawing.draw_frames(tiny_pipe, CAT, Options(steps=5), image(), strength=0.0)
    assert frame.is_last and np.array_equal(frame.pictures[0], tiny_pipe.img2img(CAT, image(), 0.0, steps=5)[0])


def test_what_the_pipeline_warns_of_is_in_the_frames(tiny_pipe, recwarn):
    [frame] = drawing.draw_frames(tiny_pipe, "cat " * 100, Options(steps=1))
    assert "is longer than the 75 tokens" in frame.note
    assert not recwarn.list


def test_previews_take_at_most_half_of_the_time(tiny_pipe, monkeypatch):
    decode, calls = tiny_pipe.decode, []

    def slow(latents):
        calls.append(1)
        time.sleep(0.4)
        return decode(latents)

    monkeypatch.setattr(tiny_pipe, "decode", slow)
    frames = list(drawing.draw_frames(tiny_pipe, CAT, Options(steps=12)))
    assert 2 <= len(calls) < 12
    assert sum(bool(frame.pictures) for frame in frames) == len(calls)


def test_the_code_draws_the_same_pictures(tiny_pipe, monkeypatch):
    settings = {
        "prompt": 'a "cat"\'s \\ hat',
        "negative_prompt": "a dog",
        "scheduler": "euler",
        "steps": 3,
        "guidance_scale": 2.5,
        "seed": 7,
        "num_images": 2,
    }
    monkeypatch.setattr(ldm_tutorial.pipeline, "load_pipeline", {"owner/tiny": tiny_pipe}.get)
    for model, names in (("owner/tiny", {}), ("a folder of yours", {"pipe": tiny_pipe})):
        exec(drawing.as_code(model, settings), names)
        for a, b in zip(names["pictures"], tiny_pipe(**settings), strict=True):
            assert np.array_equal(a, b)


def test_a_saved_picture_knows_its_settings(tiny_pipe, tmp_path):
    [picture] = tiny_pipe(CAT, steps=2, seed=9)
    file = tmp_path / "cat.png"
    file.write_bytes(base64.b64decode(drawing.png_url(picture).partition(",")[2]))
    assert read_settings(file) == picture.info
    assert np.array_equal(Image.open(file), picture)


def test_difference_of_pictures():
    black, white = image("black"), image("white")
    same, none = drawing.difference(black, black)
    apart, all_of_it = drawing.difference(black, white)
    assert none == 0 and all_of_it == 255
    assert np.asarray(same).mean() < np.asarray(apart).mean()
    with pytest.raises(ValueError, match="one size"):
        drawing.difference(black, black.resize((16, 16)))


def test_the_shared_slider_is_as_far_along_in_each_column():
    assert [drawing.index_at(p, 10, 5) for p in range(1, 11)] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert [drawing.index_at(p, 10, 10) for p in range(1, 11)] == list(range(10))
    assert drawing.index_at(1, 50, 1) == drawing.index_at(50, 50, 1) == 0


# ---- the playground


@pytest.fixture
def playground(make_tiny_pipe):
    return Playground(make_tiny_pipe(), CAT, background=True, steps=3)


def expected(playground):
    return playground.pipes[playground.model.value](**playground.settings)


def test_the_playground_begins_with_a_picture(playground):
    assert np.array_equal(playground.pictures[0], expected(playground)[0])
    assert len(playground.drawn) == 1
    assert "data:image/png" in playground.screen.value


@pytest.mark.parametrize(
    ("control", "value"),
    [("scheduler", "euler_a"), ("steps", 5), ("guidance_scale", 2.0), ("seed", 8), ("num_images", 2), ("prompt", "a dog")],
)
def test_a_change_draws_anew(playground, control, value):
    playground.controls[control].value = value
    playground.runner.wait()
    for a, b in zip(playground.pictures, expected(playground), strict=True):
        assert np.array_equal(a, b)
    assert playground.drawn[-1].settings[control] == value


def test_a_moving_slider_draws_once(playground):
    for steps in range(4, 12):
        playground.controls["steps"].value = steps
    playground.runner.wait()
    assert [drawn.settings["steps"] for drawn in playground.drawn] == [3, 11]


def test_nothing_is_drawn_on_change_unless_asked_for(playground):
    playground.live.value = False
    playground.controls["seed"].value = 5
    playground.runner.wait()
    assert len(playground.drawn) == 1
    playground.generate.click()
    playground.runner.wait()
    assert playground.drawn[-1].settings["seed"] == 5


def test_cancel_stops_and_the_playground_goes_on(playground, monkeypatch):
    pipe = playground.pipes["tiny"]
    halfway, go_on, decode = threading.Event(), threading.Event(), pipe.decode

    def wait(latents):
        halfway.set()
        go_on.wait(10)
        return decode(latents)

    monkeypatch.setattr(pipe, "decode", wait)
    playground.controls["seed"].value = 3
    assert halfway.wait(10)
    playground.stop.click()
    go_on.set()
    playground.runner.wait()
    assert len(playground.drawn) == 1 and "Cancelled" in playground.said
    playground.generate.click()
    playground.runner.wait()
    assert playground.drawn[-1].settings["seed"] == 3


def test_an_error_is_one_line_and_the_playground_goes_on(playground, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(playground.pipes["tiny"], "decode", lambda _: (_ for _ in ()).throw(RuntimeError("out of\n <b>luck</b>")))
        playground.controls["seed"].value = 1
        playground.runner.wait()
    assert 'role="alert"' in playground.said
    assert "RuntimeError: out of &lt;b&gt;luck&lt;/b&gt;" in playground.said and "\n" not in playground.said
    playground.controls["seed"].value = 2
    playground.runner.wait()
    assert 'role="alert"' not in playground.said
    assert np.array_equal(playground.pictures[0], expected(playground)[0])


def test_a_wrong_input_is_told_in_the_words_of_the_pipeline(playground):
    playground.controls["prompt"].value = "\ud800"
    playground.runner.wait()
    assert "prompt holds" in playground.said and "ValueError" not in playground.said


def test_history_brings_back_settings_and_picture_without_drawing(playground):
    first = playground.pictures[0]
    playground.controls["scheduler"].value = "euler_a"
    playground.runner.wait()
    assert len(playground.strip.children) == 2
    playground.strip.children[-1].children[-1].click()  # the button of the oldest
    playground.runner.wait()
    assert playground.controls["scheduler"].value == "ddim"
    assert playground.pictures[0] is first
    assert len(playground.drawn) == 2 and "Restored no. 1" in playground.said


def test_history_is_bounded_and_numbers_go_on(playground):
    for seed in range(1, 15):
        playground.controls["seed"].value = seed
        playground.runner.wait()
    assert [drawn.number for drawn in playground.drawn] == list(range(4, 16))
    assert len(playground.strip.children) == 12


def test_the_same_picture_again_is_no_new_entry(playground):
    playground.generate.click()
    playground.runner.wait()
    assert len(playground.drawn) == 1


def test_a_prompt_is_text_and_never_html(playground):
    playground.controls["prompt"].value = '<script>alert("x")</script>'
    playground.runner.wait()
    shown = playground.screen.value + playground.take_away.value + playground.said
    shown += "".join(entry.children[0].value for entry in playground.strip.children)
    assert "<script" not in shown and "&lt;script&gt;" in shown


def test_a_wrong_start_is_an_error(tiny_pipe):
    with pytest.raises(TypeError, match="no setting strength; it has negative_prompt, scheduler"):
        Playground(tiny_pipe, strength=3)
    with pytest.raises(ValueError, match="'emojy' is unknown"):
        Playground("emojy")


# ---- the others


def test_columns_of_compare_are_pictures_of_the_pipeline(tiny_pipe):
    c = Compare(tiny_pipe, CAT, "steps", (2, 4), background=True)
    for settings, run in zip(c.settings, c.runs, strict=True):
        assert np.array_equal(run[-1].pictures[0], tiny_pipe(**settings)[0])
    c.position.value = 1
    assert [caption for _, caption in c.rows()[0]] == ["2 steps, step 1 of 2", "4 steps, step 1 of 4"]
    assert c.shared["steps"].layout.display == "none"

    c.vary.value = "scheduler"
    c.columns.value = 3
    assert [control.value for control in c.values.children] == ["ddim", "euler", "ddpm"]
    assert [s["seed"] for s in c.settings] == [0, 0, 0]
    c.values.children[1].value = "ddim"
    c.shared["steps"].value = 3
    c.go.click()
    c.runner.wait()
    pictures, apart = c.rows()
    assert np.array_equal(pictures[0][0], pictures[1][0])
    assert apart[1][1] == "differs from column 1 by 0.0 of 255" != apart[2][1]


def test_compare_says_what_it_can(tiny_pipe):
    with pytest.raises(ValueError, match="vary='prompt' must be one of 'scheduler'"):
        Compare(tiny_pipe, vary="prompt")
    with pytest.raises(ValueError, match="two to four"):
        Compare(tiny_pipe, vary="seed", values=(1,))


def test_scheduler_lab_shows_what_is_asked():
    s = SchedulerLab(background=True)
    first = s.snapshot()
    s.spacing.value = "leading"
    s.runner.wait()
    second = s.snapshot()
    assert not np.array_equal(first, second)
    s.view.value = "Paths"
    s.runner.wait()
    ended = s.snapshot()
    s.step.value = 2
    s.runner.wait()
    assert not np.array_equal(ended, s.snapshot())
    assert s.step.layout.display == "" and SchedulerLab("Noise levels").step.layout.display == "none"
    with pytest.raises(ValueError, match="view='x'"):
        SchedulerLab("x")


def test_more_steps_bring_the_lab_closer_to_the_exact_path():
    errors = [lab.path_error(lab.schedulers(n, "linspace")["euler"]) for n in (10, 20, 40)]
    # First order, halved when the steps double, but for the few points that start between two clouds
    assert errors[0] > 1.5 * errors[1] > 1.5**2 * errors[2]


def test_ddim_and_euler_walk_one_path_in_the_lab_and_the_others_do_not():
    walked = {name: lab.paths(s)[0] for name, s in lab.schedulers(25, "linspace").items()}
    same = (walked["ddim"][-2] - walked["euler"][-2]).abs().max()
    other = (walked["ddim"][-2] - walked["euler_a"][-2]).abs().max()
    assert same < 0.3 < other


def test_energy_distance_is_zero_for_equals_and_grows():
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 1000, 2, generator=g)
    apart = [lab.energy_distance(lab.LAB_MIXTURE.sample(lab.POINTS, g), lab.LAB_MIXTURE.sample(lab.POINTS, g)) for _ in range(20)]
    assert sum(distance > lab.CHANCE for distance in apart) <= 3  # 1 of 20 on average
    assert max(apart) > lab.CHANCE / 3
    assert abs(lab.energy_distance(a, b)) < 0.01 < lab.energy_distance(a, b + 0.5) < lab.energy_distance(a, b + 1)


def test_a_recording_is_the_run_and_hears_every_word(tiny_pipe):
    *_, r = record(tiny_pipe, CAT, scheduler="euler", steps=3, seed=2)
    assert np.array_equal(tiny_pipe.decode(r.latents[-1][None])[0], tiny_pipe(CAT, scheduler="euler", steps=3, seed=2)[0])
    assert [x.shape for x in r.attention] == [(77, 8, 8)] * 3
    torch.testing.assert_close(r.attention[0].sum(0), torch.ones(8, 8))  # each position shares out all it listens
    assert [word for word, _ in r.words] == ["a", "cat", "in", "the", "style", "of", "noto"]
    assert word_map(r, 1, 1).aminmax() == (0, 1)
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in tiny_pipe.unet.modules())


def test_attention_is_that_of_the_blocks_and_of_this_thread_only(tiny_pipe):
    context = tiny_pipe.encode_prompt(CAT)
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    made = []
    with torch.no_grad():
        block = tiny_pipe.unet.down_blocks[0].attentions[0].transformer_blocks[0]
        hook = block.attn2.register_forward_hook(lambda m, inputs, _: made.append(m.maps(*inputs)))
        with attention_heard(tiny_pipe.unet, (8, 8)) as heard:
            tiny_pipe.unet(x, 500, context)
            other = threading.Thread(target=lambda: tiny_pipe.unet(x, 500, context))
            other.start()
            other.join()
        hook.remove()
        only = types.SimpleNamespace(modules=lambda: [block], register_forward_hook=tiny_pipe.unet.register_forward_hook)
        with attention_heard(only, (8, 8)) as of_one:
            tiny_pipe.unet(x, 500, context)
    assert len(heard) == 1
    torch.testing.assert_close(of_one[0], made[0].mean(1).transpose(1, 2).unflatten(2, (8, 8)))


def test_words_keep_their_pieces_together(tiny_pipe):
    words = words_of(tiny_pipe, "an octopus")
    assert [word for word, _ in words] == ["an", "octopus"]
    positions = sum((positions for _, positions in words), [])
    assert positions == list(range(1, len(positions) + 1))


def test_denoising_explorer_shows_the_step_and_the_word(tiny_pipe):
    d = DenoisingExplorer(tiny_pipe, CAT, background=True)
    assert dict(d.word.options)["cat"] == d.word.value
    before = d.screen.value
    d.step.value = 3
    assert d.screen.value != before and "after step 3" in d.screen.value
    d.steps.value = 4
    d.prompt.value = " "
    d.go.click()
    d.runner.wait()
    assert "prompt is empty" in d.said
    d.prompt.value = "a dog"
    d.go.click()
    d.runner.wait()
    assert (len(d.recording.sigmas), d.step.max, list(dict(d.word.options))) == (4, 4, ["a", "dog"])


def test_latent_explorer_goes_there_and_back(tiny_pipe):
    e = LatentExplorer(tiny_pipe, background=True)
    assert [caption for _, caption in e._shown[:3]] == ["picture", "there and back", "channel 0"]
    e.mode.value = "Interpolate"
    e.fraction.value = 1.0
    e.runner.wait()
    (a, _), (mixed, _), (pixels, _), (b, _) = e._shown
    assert np.array_equal(pixels, b) and np.array_equal(mixed, latents.through_autoencoder(tiny_pipe, b)[0])
    assert not np.array_equal(a, b)

    e.steps.value = 4
    e.mode.value = "Redraw"
    e.runner.wait()
    options = {"scheduler": "ddim", "steps": 4, "guidance_scale": 7.5, "seed": 0}
    assert np.array_equal(e._shown[-1][0], tiny_pipe.img2img(e.prompt.value, a, 0.6, **options)[0])

    e.mode.value = "Inpaint"
    e.runner.wait()
    assert np.array_equal(e._shown[-1][0], tiny_pipe.inpaint(e.prompt.value, a, e.mask, 0.6, **options)[0])
    e.clear.click()
    e.runner.wait()
    assert "Paint a shape first" in e.said
    e.across.value, e.down.value = (0, 100), (0, 100)
    e.add.click()
    e.erase.click()
    e.add.click()
    e.runner.wait()
    assert e.mask.getextrema()[1] == 255 and e._shown[-1][1] == "result"


def test_a_source_that_is_none_is_one_line(tiny_pipe):
    e = LatentExplorer(tiny_pipe, background=True)
    e.sources[0].value = "rockett, fluent"
    e.runner.wait()
    assert "did you mean &#x27;rocket, fluent&#x27;?" in e.said
    e.sources[0].value = ""
    e.runner.wait()
    assert "Picture is empty" in e.said


def test_uploads_of_both_ipywidgets():
    file = io.BytesIO()
    Image.new("RGBA", (50, 80), (0, 0, 0, 0)).save(file, "PNG")
    content = file.getvalue()
    assert latents.uploaded(()) is latents.uploaded({}) is None
    assert latents.uploaded(({"name": "x.png", "content": memoryview(content)},)) == content  # 8
    assert latents.uploaded({"x.png": {"content": content, "metadata": {}}}) == content  # 7
    picture = latents.read_picture(content, 32)
    assert picture.size == (32, 32) and picture.getpixel((5, 5)) == (255, 255, 255)
    with pytest.raises(ValueError, match="not a picture that can be read"):
        latents.read_picture(b"<svg/>", 32)


def as_upload(picture):
    """As ipywidgets 8 hands it over."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    return ({"name": "mask.png", "type": "image/png", "size": 1, "content": memoryview(file.getvalue())},)


def test_a_mask_painted_elsewhere_is_white_where_it_is_light_and_opaque():
    painted = Image.new("RGBA", (100, 60), "white")  # wider than high: its middle counts
    painted.paste((255, 255, 255, 0), (0, 0, 50, 60))  # left: transparent; so is half of the middle
    painted.paste((90, 90, 90, 255), (50, 30, 100, 60))  # below: dark
    mask = np.asarray(latents.read_mask(latents.uploaded(as_upload(painted)), 30))
    assert mask.shape == (30, 30) and set(np.unique(mask)) == {0, 255}
    assert (mask[:14, 16:] == 255).all() and not mask[:, :14].any() and not mask[16:].any()
    with pytest.raises(ValueError, match="dark all over"):
        latents.read_mask(latents.uploaded(as_upload(Image.new("RGB", (9, 9)))), 30)


def test_an_uploaded_mask_is_painted_into_and_a_wrong_one_changes_nothing(tiny_pipe):
    e = LatentExplorer(tiny_pipe, mode="Inpaint", background=True)
    e.steps.value = 2
    e.runner.wait()
    half = Image.new("L", (64, 64))
    half.paste(255, (32, 0, 64, 64))
    e.take_mask(as_upload(half))
    e.runner.wait()
    mask = e.mask
    assert np.asarray(mask).mean() == pytest.approx(255 / 2, abs=8) and e._shown[-1][1] == "result"
    options = {"scheduler": "ddim", "steps": 2, "guidance_scale": 7.5, "seed": 0}
    picture = latents.emoji_picture("cat face, noto").resize((32, 32), Image.Resampling.LANCZOS)
    assert np.array_equal(e._shown[-1][0], tiny_pipe.inpaint(e.prompt.value, picture, mask, 0.6, **options)[0])
    e.take_mask(as_upload(Image.new("L", (64, 64))))
    assert "dark all over" in e.said and e.mask is mask
    e.take_mask(())  # nothing chosen
    assert e.mask is mask


def test_painting():
    mask = latents.paint(latents.empty_mask((40, 20)), "rectangle", (50, 100), (0, 50))
    assert np.asarray(mask)[:10, 20:].min() == 255 and np.asarray(mask).mean() == 255 / 4
    assert latents.paint(mask, "rectangle", (0, 100), (0, 100), white=False).getextrema() == (0, 0)
    assert latents.paint(mask, "ellipse", (30, 30), (0, 100)).tobytes() == mask.tobytes()  # no width: nothing
    with pytest.raises(ValueError, match="shape='star'"):
        latents.paint(mask, "star", (0, 1), (0, 1))


# ---- all of them


@pytest.fixture(scope="module")
def widgets(make_tiny_pipe):
    pipe = make_tiny_pipe()
    return [
        Playground(pipe, steps=2),
        Compare(pipe, vary="steps", values=(1, 2)),
        SchedulerLab(),
        DenoisingExplorer(pipe),
        LatentExplorer(pipe),
    ]


def test_where_no_widget_lives_there_is_a_picture_with_alt_text(widgets):
    for widget in widgets:
        data, metadata = widget._repr_mimebundle_()
        assert data["text/plain"] == f"{type(widget).__name__}()"  # nbval compares it
        picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
        assert min(picture.size) > 100
        assert len(metadata["image/png"]["alt"]) > 40


def test_a_widget_that_began_with_an_error_is_shown_all_the_same(tiny_pipe):
    widgets = [
        LatentExplorer(tiny_pipe, "no such emoji"),
        Playground(tiny_pipe, "\ud800"),
        Compare(tiny_pipe, "\ud800"),
        DenoisingExplorer(tiny_pipe, ""),
    ]
    for widget in widgets:
        assert 'role="alert"' in widget.said
        data, metadata = widget._repr_mimebundle_()
        assert "image/png" not in data and not metadata
        assert data["text/plain"] == f"{type(widget).__name__}()"


def test_every_control_has_a_label(widgets):
    def controls(widget):
        for child in getattr(widget, "children", ()):
            yield from controls(child)
        if hasattr(widget, "value") and type(widget).__name__ != "HTML" or type(widget).__name__ == "Button":
            yield widget

    for widget in widgets:
        found = list(controls(widget))
        assert len(found) > 4
        assert all(control.description.strip() for control in found)
        for control in found:
            if type(control).__name__ == "Button":
                assert control.tooltip


def test_no_widget_prints_or_plots_through_pyplot():
    for path in FOLDER.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        imported = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom) for a in node.names}
        assert not {"print", "display"} & names, path
        assert not any("pyplot" in name for name in imported), path


# ---- what is on the screen, and what it is of


def test_pictures_of_older_settings_are_marked(tiny_pipe):
    c = Compare(tiny_pipe, CAT, "steps", (2, 3), background=True)
    assert "Done" in c.said and "opacity:1" in c.screen.value
    for change, back in (
        (lambda: setattr(c.prompt, "value", "a dog"), lambda: setattr(c.prompt, "value", CAT)),
        (lambda: setattr(c.values.children[0], "value", 4), lambda: setattr(c.values.children[0], "value", 2)),
        (lambda: setattr(c.vary, "value", "seed"), lambda: None),
    ):
        change()
        assert c.is_outdated and "Click Compare" in c.said and "opacity:0.35" in c.screen.value
        back()
        if c.vary.value == "steps":
            assert not c.is_outdated and "Done" in c.said and "opacity:1" in c.screen.value
    c.go.click()
    c.runner.wait()
    assert not c.is_outdated and "Done" in c.said and "seed 0, step" in c.screen.value


def test_settings_that_change_while_columns_are_drawn_are_not_called_done(tiny_pipe):
    c = Compare(tiny_pipe, CAT, "steps", (2, 3), background=False)
    c.shared["seed"].value = 5
    asked = c.settings
    c.shared["seed"].value = 6
    c.begin(lambda: c._draw("steps", asked))
    assert c.is_outdated and "Click Compare" in c.said and "opacity:0.35" in c.screen.value


def test_four_columns_stand_in_one_row_of_a_narrow_page(tiny_pipe):
    c = Compare(tiny_pipe, CAT, "steps", (1, 2, 1, 2), background=True)
    widths = [int(width) for width in re.findall(r"margin:0;width:(\d+)px", c.screen.value)]
    assert len(widths) == 8 and sum(widths[:4]) + 3 * 10 < 600


def test_a_seed_below_zero_is_named_and_not_changed(tiny_pipe):
    p = Playground(tiny_pipe, steps=2, background=False)
    p.controls["seed"].value = -5
    assert 'role="alert"' in p.said and "-5" in p.said
    assert p.controls["seed"].value == -5


def test_cancel_says_that_the_picture_is_not_finished(tiny_pipe):
    p = Playground(tiny_pipe, steps=4, background=False)
    p.bar.max, p.bar.value = 4, 3
    p.stop.click()
    assert "Cancelled after step 3 of 4: this picture is not finished." in p.said
    p.stop.click()
    assert "Cancelled." in p.said


def test_the_playground_names_words_that_the_small_model_does_not_know(tiny_pipe, monkeypatch):
    monkeypatch.setattr(tiny_pipe, "name", "emoji")
    p = Playground(tiny_pipe, "a cat in Paris", steps=2, background=False)
    assert "paris" in p.said and "docs/prompts.md" in p.said
    p.controls["prompt"].value = ""
    assert "the prompt is empty" in p.said
    p.controls["prompt"].value = CAT
    assert "prompts.md" not in p.said and "empty" not in p.said


def test_a_widget_that_cannot_be_shown_where_widgets_do_not_run_cannot_be_made():
    class Blind(panel.LivePanel):
        def show(self, thing):
            """Nothing."""

    with pytest.raises(TypeError, match="alt.*snapshot"):
        Blind([])
