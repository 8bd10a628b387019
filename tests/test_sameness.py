"""One seed is one picture: alone or in a batch, with one thread or two, beside others, after Ctrl-C, from shell or notebook."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ldm_tutorial import load_pipeline
from ldm_tutorial.checkpoints import load_checkpoint, save_checkpoint
from ldm_tutorial.engines.kernels import onednn_works
from ldm_tutorial.images import open_image, save_image
from ldm_tutorial.schedulers import SCHEDULERS
from ldm_tutorial.weights import EMOJI_FOLDER

QUICK = {"steps": 4, "guidance_scale": 5.0}


def last_latents(pipe, prompt="a cat", **options):
    *_, last = pipe.stream(prompt, **QUICK | options)
    return last.latents


def same(a, b):
    """To 1e-5 of their size, and no number of them further than 1e-4: sums in another order are all that may differ."""
    apart, size = a - b, b.square().mean().sqrt().item()
    return apart.square().mean().sqrt().item() <= 1e-5 * size and apart.abs().max().item() <= 1e-4 * size


@pytest.fixture(scope="module")
def emoji():
    return load_pipeline("emoji", device="cpu", dtype="float32")


# ---- batches and threads


@pytest.mark.parametrize(
    ("model", "name"), [*(("tiny", name) for name in SCHEDULERS), ("emoji", "ddim"), ("emoji", "euler_a"), ("emoji", "heun")]
)
def test_a_picture_alone_is_that_of_a_batch(tiny_pipe, emoji, model, name):
    """In twelve steps of `emoji`: with four, the first step alone can make a difference in rounding a hundred times as large."""
    final = partial(last_latents, steps=4 if model == "tiny" else 12)
    pipe = tiny_pipe if model == "tiny" else emoji
    batch = final(pipe, ["a cat", "a dog with a hat", "a cat"], scheduler=name, seed=[3, 4, 5])
    alone = [
        final(pipe, prompt, scheduler=name, seed=seed) for prompt, seed in (("a cat", 3), ("a dog with a hat", 4), ("a cat", 5))
    ]
    assert same(batch, torch.cat(alone))


@pytest.fixture
def threads():
    """A function that sets PyTorch's number of threads, which is put back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["ddim", "euler_a"])
def test_one_thread_draws_what_two_draw(tiny_pipe, emoji, threads, name):
    for pipe in (tiny_pipe, emoji):
        found = []
        for count in (1, 2):
            threads(count)
            found.append(last_latents(pipe, scheduler=name, seed=1))
        assert same(*found)


# ---- two at once


@pytest.mark.filterwarnings("ignore:prompt is longer")
def test_pictures_drawn_at_once_from_one_pipeline_are_those_drawn_one_after_the_other(tiny_pipe):
    """Four threads, each with its own prompt, scheduler, size, kind of drawing and seed; and a thread that changes none of it."""
    image, mask = Image.effect_noise((32, 32), 80).convert("RGB"), Image.linear_gradient("L").resize((32, 32))
    orders = [
        lambda seed: tiny_pipe("a cat", seed=seed, scheduler="euler_a", progress=False, **QUICK),
        lambda seed: tiny_pipe(["a dog", "an octopus"], seed=seed, scheduler="dpmpp_2m", width=48, progress=False, **QUICK),
        lambda seed: tiny_pipe.img2img("a hat " * 90, image, seed=seed, scheduler="heun", progress=False, **QUICK),
        lambda seed: tiny_pipe.inpaint("é 猫", image, mask, seed=seed, scheduler="ddpm", progress=False, **QUICK),
    ]
    seeds = range(3)
    expected = [[order(seed) for seed in seeds] for order in orders]
    found: dict[int, list] = {}
    workers = [
        threading.Thread(target=lambda i=i, order=order: found.update({i: [order(seed) for seed in seeds]}))
        for i, order in enumerate(orders)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for i, pictures in enumerate(expected):
        for ours, theirs in zip(found[i], pictures):
            assert all(np.array_equal(a, b) for a, b in zip(ours, theirs)), i


# ---- Ctrl-C


class Interrupts:
    """Ctrl-C in a moment of ours, for whoever is at work then."""

    def __init__(self):
        self.before = signal.signal(signal.SIGALRM, signal.default_int_handler)

    def after(self, seconds):
        signal.setitimer(signal.ITIMER_REAL, seconds)

    def end(self):
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self.before)


@pytest.fixture
def ctrl_c():
    if not hasattr(signal, "setitimer"):
        pytest.skip("no timers here")
    interrupts = Interrupts()
    yield interrupts
    interrupts.end()


def interrupted(ctrl_c, work, times, seconds):
    """How often the work was broken off, at random moments of the time that it takes."""
    rng, count = random.Random(0), 0
    for _ in range(times):
        try:
            ctrl_c.after(rng.uniform(0.0005, seconds))
            work()
            ctrl_c.after(0)
        except (KeyboardInterrupt, ValueError, RuntimeError):  # of which C code in a library may make another error
            ctrl_c.after(0)
            count += 1
    return count


def test_ctrl_c_at_any_moment_leaves_the_pipeline_as_it_was(tiny_pipe, ctrl_c):
    image = Image.effect_noise((32, 32), 80).convert("RGB")

    def draw():
        return tiny_pipe.img2img("a cat", image, 1.0, seed=1, scheduler="heun", progress=False, **QUICK)[0]

    began = time.perf_counter()
    expected, threads = np.asarray(draw()), torch.get_num_threads()
    count = interrupted(ctrl_c, draw, 60, (time.perf_counter() - began) / 2)
    assert count >= 2
    assert np.array_equal(draw(), expected)
    assert torch.get_num_threads() == threads and torch.is_grad_enabled()


@pytest.mark.parametrize("name", ["model", "model.safetensors"])
def test_ctrl_c_at_any_moment_of_saving_and_reading_leaves_a_whole_model(tiny_pipe, make_tiny_pipe, ctrl_c, tmp_path, name):
    other = make_tiny_pipe()
    with torch.no_grad():
        other.unet.conv_in.bias.add_(1)
    path, turn = save_checkpoint(tiny_pipe, tmp_path / name), [0]

    def work():
        turn[0] += 1
        save_checkpoint((tiny_pipe, other)[turn[0] % 2], path)
        load_checkpoint(path)

    began = time.perf_counter()
    work()
    count = interrupted(ctrl_c, work, 25, (time.perf_counter() - began) / 2)
    assert count >= 2
    bias = load_checkpoint(path).unet.conv_in.bias
    assert any(torch.equal(bias, pipe.unet.conv_in.bias) for pipe in (tiny_pipe, other))
    save_checkpoint(other, path)
    assert torch.equal(load_checkpoint(path).unet.conv_in.bias, other.unet.conv_in.bias)


@pytest.mark.parametrize("moment", ["__enter__", "__exit__"])
def test_ctrl_c_while_a_network_is_built_leaves_no_mode_of_torch_switched_on(tiny_pipe, tmp_path, moment):
    """Such a mode makes all later networks without memory, or without initial values."""
    path = save_checkpoint(tiny_pipe, tmp_path / "model")

    def interrupt(frame, event, _):
        if frame.f_code.co_name == moment and Path(frame.f_code.co_filename).name in ("overrides.py", "_device.py"):
            raise KeyboardInterrupt

    before = sys.gettrace()
    sys.settrace(interrupt)  # of this thread, as Ctrl-C is of the main one
    try:
        with contextlib.suppress(KeyboardInterrupt):
            load_checkpoint(path)
    finally:
        sys.settrace(before)
        left = torch._C._len_torch_function_stack()
        for _ in range(left):
            torch._C._pop_torch_function_stack()
    assert left == 0


# ---- the global random state


def test_nothing_touches_the_global_random_state(tiny_pipe, tmp_path):
    def state():
        numpy = [str(part) for part in np.random.get_state()]  # noqa: NPY002  # the global one is what it is about
        return torch.random.get_rng_state().tolist(), random.getstate(), numpy

    image, mask = Image.new("RGB", (32, 32)), Image.new("L", (32, 32), 255)
    onednn_works.cache_clear()  # what a process does at its first picture only counts as well
    before = state()
    for name in SCHEDULERS:
        tiny_pipe("a cat", scheduler=name, seed=None, progress=False, **QUICK)
    tiny_pipe("a cat", scheduler="ddim", scheduler_options={"eta": 1.0}, progress=False, **QUICK)
    tiny_pipe("a cat", scheduler="euler", scheduler_options={"s_churn": 9.0}, progress=False, **QUICK)
    tiny_pipe.img2img("a cat", image, progress=False, **QUICK)
    tiny_pipe.inpaint("a cat", image, mask, progress=False, **QUICK)
    tiny_pipe.decode(tiny_pipe.encode(image))
    load_checkpoint(save_checkpoint(tiny_pipe, tmp_path / "model"))
    load_checkpoint(save_checkpoint(tiny_pipe, tmp_path / "model.safetensors"))
    load_pipeline("emoji", device="cpu")
    assert state() == before


# ---- a shell and a notebook; no word of warning


DRAW = """
    from ldm_tutorial import load_pipeline
    from ldm_tutorial.images import save_image

    pipe = load_pipeline("emoji", device="cpu", dtype="float32")
    save_image(pipe("a cat in the style of noto", steps=4, seed=5)[0], {path!r})
"""


def test_a_shell_a_notebook_and_a_script_draw_the_same_picture_and_none_of_them_warns(emoji, tmp_path):
    """-W error: of anything, by anyone, but while libraries are imported, which is theirs."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pictures = {name: str(tmp_path / f"{name}.png") for name in ("shell", "notebook", "script")}
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    shell = [
        "-m",
        "ldm_tutorial",
        "generate",
        "a cat in the style of noto",
        "--steps",
        "4",
        "--seed",
        "5",
        "-o",
        pictures["shell"],
    ]
    script = ["-c", textwrap.dedent(DRAW.format(path=pictures["script"]))]
    for arguments in (shell, script):
        done = subprocess.run(
            [sys.executable, "-W", "error", *arguments], env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(textwrap.dedent(DRAW.format(path=pictures["notebook"])))]
    )
    nbclient.NotebookClient(notebook, timeout=300).execute()
    assert not [output for output in notebook.cells[0].outputs if "Warning" in str(output)]
    save_image(emoji("a cat in the style of noto", steps=4, seed=5, progress=False)[0], tmp_path / "here.png")
    here = np.asarray(open_image(tmp_path / "here.png"), dtype=int)
    for name, path in pictures.items():
        assert np.abs(np.asarray(open_image(path), dtype=int) - here).max() <= 1, name


@pytest.mark.filterwarnings("error")
def test_no_warning_on_any_clean_way_through(tiny_pipe, tmp_path):
    image, mask = Image.new("RGB", (32, 32)), Image.new("L", (32, 32), 255)
    for name in SCHEDULERS:
        tiny_pipe("a cat", scheduler=name, steps=10, progress=False)
    tiny_pipe.img2img("a cat", image, progress=False)
    tiny_pipe.inpaint("a cat", image, mask, progress=False)
    for place in ("model", "model.safetensors"):
        load_pipeline(save_checkpoint(tiny_pipe, tmp_path / place))("a cat", progress=False)
    load_pipeline(EMOJI_FOLDER, dtype="bfloat16")("a cat", steps=2, scheduler="euler", progress=False)
