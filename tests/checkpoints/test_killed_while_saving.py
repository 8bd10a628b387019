"""SIGKILL at any moment, two processes that save to one place, a disk that is full: the old model or the new one, whole."""

import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from itertools import count

import pytest
import torch

from ldm_tutorial.checkpoints import load_checkpoint, save_checkpoint, save_component
from ldm_tutorial.checkpoints.folder import PARTS
from ldm_tutorial.images import open_image, save_image

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture
def two(random_model, model):
    """Two models that differ in every number."""
    return [random_model(model.config, model.tokenizer, model.scheduler, seed=seed) for seed in (1, 2)]


def in_a_fork(work):
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return child


def which(models, path):
    """The number of the model that is there; fails if it is none of them, or parts of both."""
    found = load_checkpoint(path)
    for number, model in enumerate(models):
        if all(
            torch.equal(tensor, getattr(found, part).state_dict()[name])
            for part in PARTS
            for name, tensor in getattr(model, part).state_dict().items()
        ):
            return number
    raise AssertionError("neither the one model nor the other")


@pytest.mark.parametrize("name", ["model", "model.safetensors"])
def test_a_process_killed_at_any_moment_leaves_the_old_model_or_the_new(two, tmp_path, name):
    """Twenty times, at random moments of a process that saves again and again."""
    path, rng = save_checkpoint(two[0], tmp_path / name), random.Random(0)
    began = time.monotonic()
    save_checkpoint(two[0], path)
    seconds, seen, inside = time.monotonic() - began, [], 0
    for _ in range(20):
        child = in_a_fork(lambda: [save_checkpoint(two[i % 2], path) for i in count(1)])
        time.sleep(rng.uniform(0, 3 * seconds))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        seen.append(which(two, path))
        for left in tmp_path.iterdir():
            if left != path:  # what a process that is killed cannot take away: hidden names, ours and one of safetensors
                assert left.name.startswith((f".{name}.", ".tmp"))
                inside += 1
                shutil.rmtree(left) if left.is_dir() else left.unlink()
    assert inside >= 3 or name.endswith(".safetensors"), "it was never killed while saving"
    assert len(seen) == 20


@pytest.mark.parametrize("name", ["model", "model.safetensors"])
def test_two_processes_may_save_to_one_place_while_a_third_reads(two, tmp_path, name):
    place, notes = tmp_path / "place", tmp_path / "notes"
    place.mkdir(), notes.mkdir()
    path = place / name

    def save(number):
        try:
            while not (notes / "enough").exists():
                save_checkpoint(two[number], path)
                time.sleep(0.3)
        except BaseException as error:
            (notes / f"error-{number}").write_text(repr(error))

    children = [in_a_fork(lambda number=number: save(number)) for number in (0, 1)]
    try:
        while not path.exists():
            time.sleep(0.01)
        seen = [which(two, path) for _ in range(4)]
    finally:
        (notes / "enough").touch()
        for child in children:
            os.waitpid(child, 0)
    assert [file.read_text() for file in notes.glob("error-*")] == []
    assert len(seen) == 4
    assert which(two, path) in (0, 1)
    assert [file.name for file in place.iterdir()] == [name]


def test_many_processes_may_make_one_place(two, tmp_path):
    """None is there yet: all but the first find one when they come to put theirs."""
    for turn in range(5):
        path = tmp_path / f"vae-{turn}"
        children = [in_a_fork(lambda path=path: save_component(two[0].vae, path)) for _ in range(4)]
        for child in children:
            os.waitpid(child, 0)
        assert sorted(file.name for file in path.iterdir()) == ["config.json", "diffusion_pytorch_model.safetensors"]
    assert len(list(tmp_path.iterdir())) == 5


def test_a_picture_that_is_being_saved_when_the_process_is_killed_is_the_old_or_the_new(tmp_path):
    from PIL import Image

    path, rng = tmp_path / "x.png", random.Random(0)
    colors = ["red", "blue"]
    save_image(Image.effect_noise((300, 300), 90), path)
    save_image(Image.new("RGB", (64, 64), "red"), path)
    for _ in range(40):
        child = in_a_fork(lambda: [save_image(Image.new("RGB", (64, 64), colors[i % 2]), path) for i in range(1000)])
        time.sleep(rng.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert open_image(path).getpixel((5, 5)) in [(255, 0, 0), (0, 0, 255)]


SAVE = """
    import sys
    from ldm_tutorial.checkpoints import load_checkpoint, save_checkpoint

    try:
        save_checkpoint(load_checkpoint(sys.argv[1]), sys.argv[2])
    except OSError as error:
        print(error)
        sys.exit(7)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a small disk of its own")
def test_a_disk_that_is_full(model, two, tmp_path, same_weights, contents):
    """A file system of 700 KB in memory, of which one model takes more than half."""
    source, place = save_checkpoint(two[0], tmp_path / "new"), tmp_path / "disk"
    place.mkdir()
    script, old = tmp_path / "save.py", save_checkpoint(model, tmp_path / "old")
    script.write_text(textwrap.dedent(SAVE))
    size = sum(len(data) for data in contents(old).values()) // 1024
    commands = f"""
        mount -t tmpfs -o size={size * 3 // 2}k none {place} || exit 99
        cp -r {old} {place}/model && {sys.executable} {script} {source} {place}/model
        code=$?; cp -r {place}/. {tmp_path}/after; exit $code
    """
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", commands], capture_output=True, text=True, timeout=300
    )
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip("no right to mount one here")
    assert done.returncode == 7, done.stderr
    assert f"could not write {place}/model: No space left on device; nothing was changed" in done.stdout
    assert [path.name for path in (tmp_path / "after").iterdir()] == ["model"]
    same_weights(model, load_checkpoint(tmp_path / "after" / "model"))
