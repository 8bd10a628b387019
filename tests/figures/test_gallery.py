"""The gallery draws what the pipeline draws, each thing once, and knows what it cost."""

import numpy as np
import pytest
from PIL import Image

from ldm_tutorial.data import EmojiDataset, canonical_caption
from ldm_tutorial.figures.canvas import to_picture
from ldm_tutorial.figures.gallery import PROMPTS, Gallery, count_calls, draw_gallery, label_of
from ldm_tutorial.schedulers import DDIMScheduler

CAT, DOG = "a cat in the style of noto", "a dog in the style of fluent"


@pytest.fixture(scope="module")
def small(tiny_pipe):
    return draw_gallery(tiny_pipe, [CAT, DOG], ["ddim", "euler a"], steps=(2, 3), seeds=(5, 7), progress=False)


def test_each_picture_is_the_pipelines_own(small, tiny_pipe):
    assert len(small.pictures) == 2 * 2 * 2 * 2
    for (prompt, title, steps, seed), picture in small.pictures.items():
        scheduler = {"DDIM": "ddim", "Euler ancestral": "euler_a"}[title]
        [alone] = tiny_pipe(prompt, scheduler=scheduler, steps=steps, seed=seed, progress=False)
        assert picture.info == alone.info
        assert np.abs(np.int16(picture) - np.int16(alone)).max() <= 1  # a batch may round in another order
    assert len({picture.tobytes() for picture in small.pictures.values()}) == 16


def test_columns_are_in_one_order(small):
    assert small.of("DDIM", 3) == [small.pictures[p, "DDIM", 3, s] for p, s in ((CAT, 5), (CAT, 7), (DOG, 5), (DOG, 7))]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_batches_change_nothing(small, tiny_pipe, batch_size):
    one = draw_gallery(tiny_pipe, [CAT, DOG], ["ddim"], 2, (5, 7), batch_size=batch_size, progress=False)
    for a, b in zip(one.of("DDIM", 2), small.of("DDIM", 2)):
        assert np.abs(np.int16(a) - np.int16(b)).max() <= 1
    assert one.costs["DDIM", 2].calls == small.costs["DDIM", 2].calls


@pytest.mark.parametrize(("options", "a_step"), [({}, 2), ({"guidance_scale": 1}, 1), ({"guidance_scale": 0}, 2)])
def test_calls_are_counted(tiny_pipe, options, a_step):
    gallery = draw_gallery(tiny_pipe, [CAT, DOG], steps=(1, 4), progress=False, **options)
    assert {place: cost.calls for place, cost in gallery.costs.items()} == {
        (title, n): a_step * n for title in ("DDPM", "DDIM", "Euler", "Euler ancestral") for n in (1, 4)
    }
    assert all(0 < cost.seconds < 60 for cost in gallery.costs.values())
    lines = [line.split() for line in gallery.calls().splitlines()]
    assert lines[0] == ["steps", "1", "4"]
    assert lines[-1] == ["Euler", "ancestral", str(a_step), str(4 * a_step)]


def test_counting_ends_with_its_block_even_after_an_error(tiny_pipe):
    counted = []

    def count_and_fail():
        with count_calls(tiny_pipe.unet) as shown:
            counted.append(shown)
            tiny_pipe(CAT, steps=1, num_images=3, progress=False)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        count_and_fail()
    tiny_pipe(CAT, steps=1, progress=False)
    assert counted == [[6]]


def test_schedulers_can_be_objects_with_names_of_ones_own(tiny_pipe):
    ways = {"even": DDIMScheduler(timestep_spacing="linspace"), "as usual": "ddim"}
    gallery = draw_gallery(tiny_pipe, CAT, ways, steps=2, progress=False)
    assert gallery.schedulers == ("even", "as usual")
    [even], [usual] = gallery.of("even", 2), gallery.of("as usual", 2)
    assert even.info["scheduler_options"] == {"timestep_spacing": "linspace"}
    assert usual.info["scheduler_options"] == {}
    assert even.tobytes() != usual.tobytes()


def test_options_arrive(tiny_pipe):
    options = {"negative_prompt": "a rocket", "guidance_scale": 3.0, "width": 48, "height": 40}
    [picture] = draw_gallery(tiny_pipe, CAT, ["ddim"], 1, progress=False, **options).pictures.values()
    assert picture.size == (48, 40)
    assert {name: picture.info[name] for name in options} == options


# ---- figures


def gray_gallery(prompts=(CAT, DOG), steps=(25, 50), seeds=(0,), schedulers=("DDIM", "Euler"), size=(64, 64)):
    """A picture's color says which one it is."""
    places = [(p, s, n, k) for p in prompts for s in schedulers for n in steps for k in seeds]
    pictures = {}
    for i, place in enumerate(places):
        pictures[place] = Image.new("RGB", size, (200, 20 + 10 * i, 0))
        pictures[place].info.update(model="emoji", guidance_scale=7.5, negative_prompt="")
    return Gallery(prompts, schedulers, steps, seeds, pictures, {})


def shown(figure):
    """The colors of a figure's pictures in the order of reading, as numbers of places."""
    axes = sorted(figure.axes, key=lambda a: (-round(a.get_position().y0, 4), a.get_position().x0))
    return [(int(a.images[0].get_array()[0, 0, 1]) - 20) // 10 for a in axes]


def words(figure):
    return {text.get_text() for text in figure.texts}


def test_a_figure_shows_two_axes_and_says_the_others():
    gallery = gray_gallery()
    figure = gallery.figure("prompt", "scheduler", steps=50)
    assert shown(figure) == [1, 3, 5, 7]
    assert words(figure) == {
        "a cat in the style\nof noto",
        "a dog in the style\nof fluent",
        "DDIM",
        "Euler",
        "emoji, guidance 7.5, 50 steps, seed 0",
    }
    figure = gallery.figure("steps", "scheduler", title="a cat", prompt=CAT)
    assert shown(figure) == [0, 2, 1, 3]
    assert words(figure) == {"25 steps", "50 steps", "DDIM", "Euler", "a cat", "emoji, guidance 7.5, seed 0"}


def test_a_figure_may_have_columns_in_columns():
    figure = gray_gallery().figure("prompt", ("scheduler", "steps"))
    assert shown(figure) == list(range(8))
    assert {"DDIM", "Euler", "25 steps", "50 steps"} < words(figure)


def test_seeds_are_an_axis_too():
    gallery = gray_gallery(prompts=(CAT,), steps=(9,), seeds=(3, 4))
    figure = gallery.figure("scheduler", "seed")
    assert shown(figure) == [0, 1, 2, 3]
    assert words(figure) == {"DDIM", "Euler", "seed 3", "seed 4", "emoji, guidance 7.5, 9 steps"}


@pytest.mark.parametrize(
    ("arguments", "only", "problem"),
    [
        (("prompt", "scheduler"), {}, "steps must be in rows or columns, or have one value: steps=25"),
        (("prompt", "scheduler"), {"steps": 75}, "steps=75 is not supported; choose one of 25, 50"),
        (("prompt", "prompt"), {}, "must be two or three different axes"),
        (("prompt", ()), {}, "must be two or three different axes"),
        (("prompt", "color"), {}, "axis='color' is not supported; choose one of 'prompt'"),
    ],
)
def test_an_axis_left_open_or_unknown_is_an_error(arguments, only, problem):
    with pytest.raises(ValueError, match=problem):
        gray_gallery().figure(*arguments, **only)


def test_large_pictures_are_made_smaller_and_small_ones_larger_by_a_whole_factor():
    for size, shown_at, expected in (((512, 768), 128, (128, 192)), ((64, 64), 150, (128, 128)), ((64, 64), 64, (64, 64))):
        figure = gray_gallery(size=size).figure("prompt", "scheduler", steps=25, shown=shown_at)
        assert {axes.images[0].get_array().shape[1::-1] for axes in figure.axes} == {expected}


def test_long_prompts_have_short_labels_and_a_whole_figure():
    figure = gray_gallery(prompts=PROMPTS["sd15"][:2], size=(256, 256)).figure("prompt", "scheduler", steps=25)
    label = label_of("prompt", PROMPTS["sd15"][3])
    assert len(label.splitlines()) == 4 and max(map(len, label.splitlines())) <= 20 and label.endswith(" ...")
    assert to_picture(figure).width < 2 * 256 + 240


# ---- what is asked for


@pytest.mark.parametrize(
    ("arguments", "error", "problem"),
    [
        ({"prompts": []}, ValueError, r"prompts=\[\] must be one or more, each once"),
        ({"prompts": [CAT, CAT]}, ValueError, "prompts=.* must be one or more, each once"),
        ({"steps": (2, 2)}, ValueError, r"steps=\(2, 2\) must be one or more"),
        ({"steps": (2, 0)}, ValueError, "steps=0 must be a whole number, 1 ... 1000"),
        ({"steps": (2, 2.5)}, TypeError, "steps=2.5 must be a whole number"),
        ({"seeds": []}, ValueError, r"seeds=\[\] must be one or more"),
        ({"schedulers": ["ddim", "pndm"]}, ValueError, "scheduler='pndm' is unknown"),
        ({"schedulers": {"mine": "pndm"}}, ValueError, "scheduler='pndm' is unknown"),
        ({"schedulers": ["euler_a", "Euler a"]}, ValueError, "schedulers=.*Euler ancestral.* each once"),
        ({"batch_size": 0}, ValueError, "batch_size=0 must be a whole number, 1 or more"),
        ({"seed": 3}, TypeError, "unexpected keyword argument 'seed'"),
        ({"num_images": 2}, TypeError, "unexpected keyword argument 'num_images'"),
    ],
)
def test_a_wrong_argument_is_told_before_anything_is_drawn(tiny_pipe, monkeypatch, arguments, error, problem):
    monkeypatch.setattr(type(tiny_pipe), "__call__", lambda *_, **__: pytest.fail("something was drawn"))
    with pytest.raises(error, match=problem):
        draw_gallery(tiny_pipe, **{"prompts": CAT, "steps": 2, "progress": False, **arguments})


def test_the_prompts_of_emoji_are_captions_of_its_training_set():
    entries = EmojiDataset("train").entries
    assert set(PROMPTS["emoji"]) <= {canonical_caption(entry.label, entry.style) for entry in entries}
