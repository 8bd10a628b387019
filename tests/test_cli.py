"""The command line: what is asked for is drawn, what is wrong is one line, and nothing is left half done."""

import os
import re
import signal
import subprocess
import sys
import types
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from ldm_tutorial import cli, pipeline
from ldm_tutorial.images import read_settings


@pytest.fixture
def ldm_tutorial(make_tiny_pipe, monkeypatch, tmp_path, capsys):
    """A function that runs a command in an empty folder, with the tiny model: (exit code, stdout, stderr)"""
    pipe = make_tiny_pipe()

    def load_pipeline(model, **options):
        load_pipeline.asked = {"model": model, **options}
        return pipe

    monkeypatch.setattr(pipeline, "load_pipeline", load_pipeline)
    monkeypatch.chdir(tmp_path)

    def run(*argv):
        try:
            code = cli.main([str(argument) for argument in argv])
        except SystemExit as done:  # argparse
            code = done.code
        return code, *capsys.readouterr()

    run.pipe, run.load_pipeline = pipe, load_pipeline
    return run


def shell(*argv, **options):
    command = [sys.executable, "-m", "ldm_tutorial", *argv]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, **options)


# ---- generate


def test_generate_draws_what_the_pipeline_draws(ldm_tutorial):
    code, out, err = ldm_tutorial("generate", "a cat", "-o", "cat.png", "--steps", 3, "--seed", 5, "--scheduler", "euler")
    assert (code, out, err) == (0, "cat.png\n", "")
    (expected,) = ldm_tutorial.pipe("a cat", scheduler="euler", steps=3, seed=5)
    assert np.array_equal(Image.open("cat.png"), expected)
    assert read_settings("cat.png") == expected.info


def test_every_option_of_generate_arrives(ldm_tutorial):
    code, *_ = ldm_tutorial(
        "generate",
        "a cat",
        "--output",
        "cat.png",
        "--model",
        "sd15",
        "--revision",
        "abc",
        "--device",
        "cpu",
        "--dtype",
        "bfloat16",
        "--negative-prompt",
        "a dog",
        "--scheduler",
        "ddim",
        "--scheduler-option",
        "eta=0.5",
        "--scheduler-option",
        "timestep_spacing=trailing",
        "--scheduler-option",
        "set_alpha_to_one = true",
        "--steps",
        2,
        "--guidance",
        3,
        "--guidance-rescale",
        0.7,
        "--seed",
        9,
        "--size",
        "40x24",
        "--quiet",
    )
    assert code == 0
    assert ldm_tutorial.load_pipeline.asked == {
        "model": "sd15",
        "device": "cpu",
        "dtype": "bfloat16",
        "revision": "abc",
        "engine": "torch",
    }
    settings = read_settings("cat.png")
    del settings["software"]
    assert settings == {
        "prompt": "a cat",
        "negative_prompt": "a dog",
        "seed": 9,
        "scheduler": "ddim",
        "steps": 2,
        "guidance_scale": 3.0,
        "scheduler_options": {"eta": 0.5, "timestep_spacing": "trailing", "set_alpha_to_one": True},
        "guidance_rescale": 0.7,
        "width": 40,
        "height": 24,
        "model": "tiny",
        "dtype": "float32",
    }


def test_several_pictures_have_their_seed_in_their_names(ldm_tutorial):
    code, out, _ = ldm_tutorial("generate", "a cat", "-o", "cat.png", "--num-images", 3, "--seed", 8, "--steps", 1)
    assert code == 0
    assert out.split() == ["cat-seed8.png", "cat-seed9.png", "cat-seed10.png"]
    assert sorted(os.listdir()) == ["cat-seed10.png", "cat-seed8.png", "cat-seed9.png"]
    assert read_settings("cat-seed9.png")["seed"] == 9


def test_several_pictures_can_be_one_grid(ldm_tutorial):
    code, out, _ = ldm_tutorial("generate", "a cat", "-o", "cat.png", "--num-images", 3, "--grid", "--steps", 1)
    assert (code, out) == (0, "cat.png\n")
    assert Image.open("cat.png").width > 2 * 256
    assert read_settings("cat.png")["prompt"] == "a cat"


def test_upscale_copies_pixels(ldm_tutorial):
    for name, options in (("small.png", []), ("large.png", ["--upscale", 3])):
        assert ldm_tutorial("generate", "a cat", "-o", name, "--steps", 1, *options)[0] == 0
    small, large = np.asarray(Image.open("small.png")), np.asarray(Image.open("large.png"))
    assert np.array_equal(large, small.repeat(3, axis=0).repeat(3, axis=1))
    assert read_settings("large.png") == read_settings("small.png")


def test_an_image_is_redrawn_at_the_models_size(ldm_tutorial):
    photo = Image.effect_noise((90, 50), 100)
    photo.save("photo.jpg")
    code, *_ = ldm_tutorial("generate", "a cat", "-o", "cat.png", "--init-image", "photo.jpg", "--steps", 5)
    assert code == 0
    assert Image.open("cat.png").size == (32, 32)
    assert read_settings("cat.png")["strength"] == 0.6


def test_inside_a_mask_it_is_drawn_anew(ldm_tutorial):
    Image.effect_noise((32, 32), 100).save("photo.png")
    Image.new("L", (32, 32), 255).save("mask.png")
    arguments = ["generate", "a cat", "-o", "cat.png", "--init-image", "photo.png", "--mask", "mask.png", "--steps", 2]
    assert ldm_tutorial(*arguments)[0] == 0
    assert read_settings("cat.png")["strength"] == 1.0
    assert ldm_tutorial(*arguments, "--strength", 0.5)[0] == 0
    assert read_settings("cat.png")["strength"] == 0.5


# ---- compare


def test_compare_labels_a_grid(ldm_tutorial, monkeypatch):
    drawn = []
    call = pipeline.StableDiffusion.__call__
    monkeypatch.setattr(
        pipeline.StableDiffusion,
        "__call__",
        lambda self, *a, **k: drawn.append((k["steps"], k["scheduler"])) or call(self, *a, **k),
    )
    code, out, err = ldm_tutorial("compare", "a cat", "-o", "cat.png", "--steps", 1, 3, "--seed", 3)
    assert (code, out, err) == (0, "cat.png\n", "")
    assert drawn == [(steps, name) for steps in (1, 3) for name in ("ddpm", "ddim", "euler", "euler_a")]
    settings = read_settings("cat.png")
    assert settings["scheduler"] == "ddpm, ddim, euler, euler_a"
    assert settings["steps"] == [1, 3]
    assert settings["seed"] == 3
    width, height = Image.open("cat.png").size
    assert 4 * 256 < width < 5 * 256
    assert 2 * 256 < height < 3 * 256


def test_compare_can_be_of_two(ldm_tutorial):
    assert ldm_tutorial("compare", "a cat", "-o", "cat.jpg", "--steps", 1, "--schedulers", "ddim", "euler a")[0] == 0
    assert 2 * 256 < Image.open("cat.jpg").width < 3 * 256


def test_compare_can_be_of_several_prompts(ldm_tutorial):
    arguments = ["compare", "a cat", "--also", "a dog", "a rocket", "--schedulers", "ddim", "euler", "--seed", 4]
    assert ldm_tutorial(*arguments, "-o", "one.png", "--steps", 1)[0] == 0
    assert ldm_tutorial(*arguments, "-o", "two.png", "--steps", 1, 2)[0] == 0
    one, two = Image.open("one.png"), Image.open("two.png")
    assert 2 * 256 < one.width < 3 * 256 and 3 * 256 < one.height < 4 * 256  # prompts by schedulers
    assert 4 * 256 < two.width < 5 * 256 and 3 * 256 < two.height < 4 * 256  # steps within schedulers
    settings = read_settings("two.png")
    assert (settings["prompt"], settings["scheduler"], settings["steps"]) == ("a cat; a dog; a rocket", "ddim, euler", [1, 2])


@pytest.mark.parametrize("part", ["clip", "autoencoder", "unet", "judge"])
def test_the_help_of_a_training_tells_each_default(ldm_tutorial, part):
    code, out, _ = ldm_tutorial("train", part, "--help")
    assert code == 0
    entries = re.split(r"\n  (?=--)", out.partition("options:")[2])[1:]
    told = {entry.split()[0]: " ".join(entry.split()) for entry in entries}
    silent = {name for name, entry in told.items() if not re.search(r"\(default: |Default: |\(in words: ", entry)}
    assert len(told) > 8
    assert silent <= {
        "--debug",
        "--start-from",
        "--frozen-encoder",
        "--vgg16",
        "--lpips-heads",
        "--distill-empty",
    }
    assert part != "unet" or ("(default: 0.999)" in told["--ema-decay"] and "(in words: 0.85)" in told["--first-caption"])


def test_the_help_of_a_whole_training_tells_each_default(ldm_tutorial):
    code, out, _ = ldm_tutorial("train", "all", "--help")
    told = " ".join(out.split())
    assert code == 0
    assert "(default: those of the shipped model)" in told
    assert "(default: runs/emoji)" in told
    assert "(default: after the last)" in told


# ---- what is wrong


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["draw"], "invalid choice: 'draw'"),
        (["generate", "-o", "x.png"], "required: PROMPT"),
        (["generate", "a cat"], "required: -o/--output"),
        (["generate", "a", "cat", "-o", "x.png"], "unrecognized arguments: cat; a prompt of several words needs quotes"),
        (["generate", "a cat", "-o", "x.png", "--step", "5"], "unrecognized arguments: --step 5"),
        (["generate", "a cat", "-o", "x.png", "--steps", "many"], "argument --steps: invalid int value: 'many'"),
        (["generate", "a cat", "-o", "x.png", "--steps", "0"], "steps=0 must be a whole number, 1"),
        (["generate", "a cat", "-o", "x.png", "--steps", "1001"], "steps=1001 must be a whole number, 1 ... 1000"),
        (
            ["generate", "a cat", "-o", "x.png", "--scheduler", "pndm"],
            "scheduler='pndm' is unknown; choose one of 'ddpm', 'ddim'",
        ),
        (["generate", "a cat", "-o", "x.png", "--scheduler-option", "eta"], "'eta' must be NAME=VALUE"),
        (["generate", "a cat", "-o", "x.png", "--scheduler-option", "etta=1"], "has no setting 'etta'"),
        (["generate", "a cat", "-o", "x.png", "--size", "63x64"], "width=63 must be a multiple of 4; the nearest are 60 and 64"),
        (["generate", "a cat", "-o", "x.png", "--size", "large"], "argument --size: 'large' must be WIDTHxHEIGHT"),
        (["generate", "a cat", "-o", "x.png", "--size", "4x4x4"], "argument --size: '4x4x4' must be WIDTHxHEIGHT"),
        (["generate", "a cat", "-o", "x.png", "--guidance", "nan"], "guidance_scale=nan must be a finite number"),
        (["generate", "a cat", "-o", "x.png", "--num-images", "0"], "num_images=0 must be"),
        (["generate", "a cat", "-o", "x.png", "--seed", "-1"], "seed=-1 must be a whole number"),
        (["generate", "a cat", "-o", "x.png", "--upscale", "0"], "--upscale 0 must be 1 or more"),
        (["generate", "a cat", "-o", "x.png", "--strength", "0.5"], "--strength needs --init-image"),
        (["generate", "a cat", "-o", "x.png", "--start-at", "400"], "--start-at needs --init-image"),
        (["generate", "a cat", "-o", "x.png", "--feather", "4"], "--feather needs --mask"),
        (["generate", "a cat", "-o", "x.png", "--clip-skip", "2"], "clip_skip=2 must be a whole number, 0 ... 1"),
        (["generate", "a (cat", "-o", "x.png", "--prompt-weights"], "prompt has a '(' at position 2 that is never closed"),
        (["generate", "a cat", "-o", "x.png", "--init-image", "no.png"], "--init-image: there is no file no.png"),
        (["generate", "a cat", "-o", "x.png", "--mask", "no.png"], "--mask: there is no file no.png"),
        (["generate", "a cat", "-o", "x.bmp"], "output x.bmp: the name must end in one of .png"),
        (["generate", "a cat", "-o", "no/x.png"], "output no/x.png: there is no folder no"),
        (["compare", "a cat", "-o", "x.png", "--schedulers", "ddim", "pndm"], "scheduler='pndm' is unknown"),
        (["compare", "a cat", "-o", "x.png", "--steps", "2", "0"], "steps=0 must be a whole number"),
        (["compare", "a", "cat", "-o", "x.png"], "unrecognized arguments: cat; a prompt of several words needs quotes"),
        (["compare", "a cat", "--also", "a cat", "-o", "x.png"], "prompts=['a cat', 'a cat'] must be one or more, each once"),
        (["train", "everything"], "invalid choice: 'everything'"),
        (["train", "unet", "mypics"], "unrecognized arguments: mypics; each value needs the name of its option before it"),
        (["info", "all"], "unrecognized arguments: all (see"),
    ],
)
def test_wrong_input_is_one_line_and_code_2(ldm_tutorial, monkeypatch, argv, words):
    monkeypatch.setattr(pipeline.StableDiffusion, "decode", lambda *_: pytest.fail("something was drawn"))
    code, out, err = ldm_tutorial(*argv)
    assert code == 2
    assert out == ""
    assert re.fullmatch(r"ldm-tutorial: error: .*\n", err), err
    assert words in err
    assert os.listdir() == []


def test_a_failure_is_one_line_and_code_1(ldm_tutorial, monkeypatch):
    def broken(*_):
        raise RuntimeError("mat1 and mat2 do not fit\nand ten more lines")

    monkeypatch.setattr(ldm_tutorial.pipe.unet, "forward", broken)
    code, _, err = ldm_tutorial("generate", "a cat", "-o", "x.png")
    assert (code, err) == (1, "ldm-tutorial: error: RuntimeError: mat1 and mat2 do not fit (--debug shows where)\n")
    with pytest.raises(RuntimeError):
        ldm_tutorial("generate", "a cat", "-o", "x.png", "--debug")
    assert os.listdir() == []


def test_a_missing_model_is_wrong_input_and_an_unreachable_hub_a_failure(ldm_tutorial, monkeypatch):
    for error, expected in ((FileNotFoundError("there is no file or folder x"), 2), (OSError("the hub could not be reached"), 1)):

        def load_pipeline(*_, error=error, **__):
            raise error

        monkeypatch.setattr(pipeline, "load_pipeline", load_pipeline)
        code, _, err = ldm_tutorial("generate", "a cat", "-o", "x.png", "--model", "x")
        assert (code, err) == (expected, f"ldm-tutorial: error: {error}\n")


def test_a_full_disk_leaves_the_old_picture_and_says_so(ldm_tutorial):
    resource = pytest.importorskip("resource")  # not on Windows
    assert ldm_tutorial("generate", "a cat", "-o", "x.png", "--steps", 1)[0] == 0
    with open("x.png", "rb") as file:
        before, limits = file.read(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        code, out, err = ldm_tutorial("generate", "a dog", "-o", "x.png", "--steps", 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (code, out) == (1, "")
    assert err == "ldm-tutorial: error: could not write x.png: File too large; nothing was changed\n"
    assert os.listdir() == ["x.png"]
    with open("x.png", "rb") as file:
        assert file.read() == before


def test_an_old_picture_is_replaced(ldm_tutorial):
    for prompt in ("a cat", "a dog"):
        assert ldm_tutorial("generate", prompt, "-o", "x.png", "--steps", 1)[0] == 0
        assert read_settings("x.png")["prompt"] == prompt
    assert os.listdir() == ["x.png"]


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C in another way")
def test_ctrl_c_ends_with_130_and_nothing_written(ldm_tutorial, monkeypatch):
    forward = ldm_tutorial.pipe.unet.forward

    def press_ctrl_c(*arguments):
        signal.raise_signal(signal.SIGINT)
        return forward(*arguments)

    monkeypatch.setattr(ldm_tutorial.pipe.unet, "forward", press_ctrl_c)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts with Ctrl-C ignored
    try:
        code, out, err = ldm_tutorial("generate", "a cat", "-o", "x.png")
    finally:
        signal.signal(signal.SIGINT, before)
    assert (code, out, err) == (130, "", "ldm-tutorial: error: interrupted\n")
    assert os.listdir() == []


def test_how_a_prompt_is_read_and_where_a_redrawing_begins_arrive(ldm_tutorial):
    Image.new("RGB", (32, 32), "teal").save("in.png")
    Image.linear_gradient("L").resize((32, 32)).save("mask.png")
    image, mask, prompt = Image.open("in.png"), Image.open("mask.png"), "a (cat:1.4) " + "with a hat " * 80
    reading = {"prompt_weights": True, "long_prompts": True, "clip_skip": 1, "steps": 3}
    options = ["--prompt-weights", "--long-prompts", "--clip-skip", 1, "--steps", 3]
    code, _, err = ldm_tutorial("generate", prompt, "-o", "a.png", *options, "--init-image", "in.png", "--start-at", 500)
    assert (code, err) == (0, "")
    assert np.array_equal(Image.open("a.png"), ldm_tutorial.pipe.img2img(prompt, image, start_at=500, **reading)[0])
    options += ["--init-image", "in.png", "--mask", "mask.png", "--feather", 5]
    code, _, err = ldm_tutorial("generate", prompt, "-o", "b.png", *options)
    assert (code, err) == (0, "")
    assert np.array_equal(Image.open("b.png"), ldm_tutorial.pipe.inpaint(prompt, image, mask, feather=5, **reading)[0])
    code, _, err = ldm_tutorial("generate", prompt, "-o", "c.png", *options, "--strength", 0.5, "--start-at", 500)
    assert code == 2 and "--strength and --start-at both say how much is redrawn; give one of them" in err


@pytest.mark.filterwarnings("default")  # also where the environment silences warnings
def test_a_long_prompt_is_drawn_with_a_warning_of_one_line(ldm_tutorial):
    code, _, err = ldm_tutorial("compare", "word " * 10_000, "-o", "x.png", "--steps", 1)
    assert code == 0
    assert re.fullmatch(r"ldm-tutorial: warning: prompt is longer than the 75 tokens .* cut, beginning with .*\n", err), err


# ---- train


def test_train_hands_over_to_the_training(ldm_tutorial, monkeypatch):
    training, seen = types.ModuleType("training"), []
    training.add_arguments = lambda parser: parser.add_argument("--steps", type=int, default=7)
    training.main = lambda args: seen.append(args.steps)
    for name, (module, _) in cli.PARTS_TO_TRAIN.items():
        monkeypatch.setitem(sys.modules, f"ldm_tutorial.{module}", training)
        assert ldm_tutorial("train", name, "--steps", 3)[0] == 0
    assert ldm_tutorial("train", "clip")[0] == 0
    assert seen == [3] * len(cli.PARTS_TO_TRAIN) + [7]
    assert ldm_tutorial("train", "clip", "--stepz", 3)[0] == 2


@pytest.mark.parametrize(
    "text, expected",
    [
        ("a.safetensors", ("a.safetensors", 1.0)),
        ("a.safetensors:0.5", ("a.safetensors", 0.5)),
        ("C:\\a.safetensors", ("C:\\a.safetensors", 1.0)),
        ("C:\\a.safetensors:-1", ("C:\\a.safetensors", -1.0)),
    ],
)
def test_a_lora_is_a_file_with_or_without_a_scale(text, expected):
    assert cli.lora(text) == expected


def test_loras_and_words_are_loaded_and_not_called_unknown(ldm_tutorial, tmp_path):
    from ldm_tutorial.adapters import Word, new_lora, save_lora, save_word

    pipe = ldm_tutorial.pipe
    pipe.name = "emoji"
    lora = save_lora(new_lora({"unet": pipe.unet}), tmp_path / "style.safetensors")
    word = save_word(Word("<paris>", torch.ones(1, pipe.text_encoder.config.hidden_size)), tmp_path / "word.safetensors")
    options = ["-o", tmp_path / "x.png", "--steps", 2, "-q"]
    code, _, err = ldm_tutorial("generate", "a cat in paris", *options)
    assert code == 0 and 'was never trained with "paris"' in err
    code, _, err = ldm_tutorial("generate", "a cat, <Paris>", *options, "--word", word)
    assert code == 0 and "never trained" not in err
    pipe.unload_word()
    code, _, err = ldm_tutorial("generate", "a cat in paris", *options, "--lora", f"{lora}:0.5")
    assert code == 0 and "never trained" not in err
    assert read_settings(tmp_path / "x.png")["loras"] == {"style": 0.5}
    code, _, err = ldm_tutorial("generate", "a cat", *options, "--lora", tmp_path / "no.safetensors")
    assert code == 2 and "there is no file" in err


def test_a_word_is_called_unknown_each_time_whatever_python_is_told_about_warnings(ldm_tutorial):
    ldm_tutorial.pipe.name = "emoji"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(2):
            code, _, err = ldm_tutorial("generate", "a cat in paris", "-o", "x.png", "--steps", 2, "-q")
            assert code == 0 and 'was never trained with "paris"' in err


@pytest.mark.parametrize("name", cli.PARTS_TO_TRAIN)
def test_each_training_has_its_own_help(ldm_tutorial, name):
    code, out, _ = ldm_tutorial("train", name, "--help")
    assert code == 0
    assert f"usage: ldm-tutorial train {name}" in out
    assert "--learning-rate" in out


# ---- the whole program


def test_help_answers_without_torch():
    code = "import sys; from ldm_tutorial.cli import main\ntry: main(['--help'])\nfinally: assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    for command in ("generate", "compare", "evaluate", "info", "train"):
        assert command in done.stdout


def test_version_and_module(tmp_path):
    from ldm_tutorial import __version__

    assert shell("--version").stdout == f"ldm-tutorial {__version__}\n"
    wrong = shell("generate", "a cat", "-o", "no/x.png", cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.getcwd()})
    assert wrong.returncode == 2
    assert wrong.stderr == "ldm-tutorial: error: output no/x.png: there is no folder no\n"


def test_info_describes_this_machine(ldm_tutorial):
    code, out, err = ldm_tutorial("info")
    assert (code, err) == (0, "")
    for section in ("ldm_tutorial", "machine", "packages", "models", "environment"):
        assert f"{section}\n" in out


@pytest.mark.skipif(os.name == "nt", reason="a pipe closes otherwise on Windows")
def test_a_reader_that_leaves_early_is_no_error():
    script = f"{sys.executable} -m ldm_tutorial info | head -n 1 >/dev/null; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
