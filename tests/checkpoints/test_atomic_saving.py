"""Whatever goes wrong while saving, the old files are whole, and nothing is left lying about."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import torch

from ldm_tutorial.checkpoints import atomic, compvis, load_checkpoint, save_checkpoint
from ldm_tutorial.checkpoints import folder as model_folder


class PowerCut(BaseException):
    pass


def fail_at(monkeypatch, module, name, count, error):
    """The function works until its `count`-th call, which raises."""
    real, calls = getattr(module, name), []

    def function(*args, **kwargs):
        calls.append(1)
        if len(calls) == count:
            raise error
        return real(*args, **kwargs)

    monkeypatch.setattr(module, name, function)
    return calls


@pytest.fixture
def other(random_model, model):
    return random_model(model.config, model.tokenizer, model.scheduler, seed=1)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), PowerCut(), RuntimeError()])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("old", [True, False])
def test_a_folder_when_writing_fails(monkeypatch, other, model, tmp_path, contents, old, count, error):
    if old:
        save_checkpoint(model, tmp_path / "model")
        (tmp_path / "model" / "README.md").write_text("card")
    before = contents(tmp_path)
    fail_at(monkeypatch, model_folder, "write_tensors", count, error)
    with pytest.raises(type(error)):
        save_checkpoint(other, tmp_path / "model")
    assert contents(tmp_path) == before
    assert [p.name for p in tmp_path.iterdir()] == (["model"] if old else [])


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("old", [True, False])
def test_a_file_when_writing_fails(monkeypatch, other, model, tmp_path, contents, old, error):
    if old:
        save_checkpoint(model, tmp_path / "model.safetensors")
    before = contents(tmp_path)
    fail_at(monkeypatch, compvis, "write_tensors", 1, error)
    with pytest.raises(type(error)):
        save_checkpoint(other, tmp_path / "model.safetensors")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("error", [PermissionError(13, "in use"), KeyboardInterrupt()])
@pytest.mark.parametrize("count", [1, 2])
def test_moving_into_place_is_undone_if_it_fails_half_way(monkeypatch, other, folder, contents, error, count):
    """Where the system cannot exchange two folders in one step, the old one is moved aside first."""
    before, rename = contents(folder), os.rename
    monkeypatch.setattr(atomic.sys, "platform", "other")
    fail_at(monkeypatch, os, "rename", count, error)
    with pytest.raises(type(error)) as caught:
        save_checkpoint(other, folder)
    assert isinstance(error, KeyboardInterrupt) or "model: in use; nothing was changed" in str(caught.value)
    monkeypatch.setattr(os, "rename", rename)
    assert contents(folder) == before
    assert [p.name for p in folder.parent.iterdir()] == ["model"]
    save_checkpoint(other, folder)  # and it works in two steps
    assert contents(folder) != before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_folder_that_is_being_saved_when_the_process_is_killed_is_the_old_or_the_new(other, folder, contents):
    """Killed before each fifth thing that Python does with files, and each of the last forty: linking, renaming, removing."""
    (folder / "README.md").write_text("card")
    old = contents(folder)
    save_checkpoint(other, folder)
    new = contents(folder)
    assert new.keys() == old.keys() and new != old
    seen, total = set(), 0

    def count_all(event, arguments):
        nonlocal total
        total += counting and is_step(event)

    def is_step(event):
        return event in ("open", "ctypes.dlsym") or event.startswith(("os.", "shutil.", "tempfile."))

    sys.addaudithook(count_all)
    counting = True
    save_checkpoint(other, folder)
    counting = False
    assert total > 50
    for step in [*range(1, total - 40, 5), *range(total - 40, total + 2)]:
        for name, data in old.items():
            (folder / name).write_bytes(data)
        child = os.fork()
        if child == 0:
            left = step

            def count(event, arguments):
                nonlocal left
                left -= is_step(event)
                if left <= 0:
                    os._exit(9)

            try:
                sys.addaudithook(count)
                save_checkpoint(other, folder)
            finally:
                os._exit(0)
        killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        found = contents(folder)
        assert found in (old, new), step
        seen.add(found == new)
        for left_over in folder.parent.iterdir():
            if left_over != folder:
                shutil.rmtree(left_over)
    assert not killed  # the last is one more than there are
    assert seen == {True, False}


SAVE_ON_A_FULL_DISK = """
    import resource, sys
    import torch
    from ldm_tutorial.checkpoints import load_checkpoint, save_checkpoint

    model = load_checkpoint(sys.argv[1])
    with torch.no_grad():
        model.unet.conv_in.weight.zero_()
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))  # no file may grow beyond
    try:
        save_checkpoint(model, sys.argv[2])
    except OSError as error:
        print(error)
        sys.exit(7)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs setrlimit")
@pytest.mark.parametrize("name", ["model", "model.safetensors"])
def test_a_full_disk(model, tmp_path, contents, same_weights, name):
    path = save_checkpoint(model, tmp_path / name)
    before = contents(tmp_path)
    code = textwrap.dedent(SAVE_ON_A_FULL_DISK)
    done = subprocess.run([sys.executable, "-c", code, path, path], capture_output=True, text=True, timeout=600)
    assert done.returncode == 7, done.stderr
    assert f"could not write {path}: File too large; nothing was changed" in done.stdout
    assert contents(tmp_path) == before
    same_weights(model, load_checkpoint(path))


@pytest.mark.skipif(sys.platform == "win32", reason="permissions")
def test_files_have_the_usual_permissions(folder, tmp_path):
    (tmp_path / "usual").mkdir()
    (tmp_path / "usual" / "file").write_text("x")
    for path in (folder, *folder.rglob("*")):
        usual = tmp_path / "usual" if path.is_dir() else tmp_path / "usual" / "file"
        assert path.stat().st_mode == usual.stat().st_mode, path


def test_saving_through_a_link_keeps_the_link(model, tmp_path, same_weights):
    (tmp_path / "real").mkdir()
    try:
        (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    except OSError:
        pytest.skip("no links here")
    save_checkpoint(model, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    same_weights(model, load_checkpoint(tmp_path / "real"))


def test_the_files_of_a_loaded_model_may_be_deleted(model, folder, contents):
    loaded = load_checkpoint(folder)
    expected = model.vae.decoder.conv_in.weight
    save_checkpoint({"vae": loaded.vae}, folder)
    assert torch.equal(loaded.vae.decoder.conv_in.weight, expected)


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="no such signal here")
def test_ctrl_c_while_the_unfinished_folder_is_removed_is_ctrl_c_and_nothing_is_left(monkeypatch, tmp_path):
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    close, calls = os.close, []

    def close_and_interrupt(number):
        close(number)
        if not calls:
            calls.append(number)
            signal.raise_signal(signal.SIGALRM)

    def write_half_of_it():
        with atomic.atomic_path(tmp_path / "model", folder=True) as new:
            (new / "unet").mkdir()
            (new / "unet" / "config.json").write_text("{}")
            monkeypatch.setattr(os, "close", close_and_interrupt)
            raise PowerCut

    try:
        with pytest.raises(KeyboardInterrupt):
            write_half_of_it()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert calls
    deadline = time.monotonic() + 30
    while list(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not list(tmp_path.iterdir())
