"""A file of stages: they run in turn, each once, each from where the one before left off, whenever it was interrupted."""

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from ldm_tutorial import cli
from ldm_tutorial.training.logs import read_log
from ldm_tutorial.training.stages import read_stages, run_stages

FILE = """
[words]
part = clip
steps = 3

[pictures, softly]
part = autoencoder
steps = 2
learning-rate = 8e-4
frozen-encoder = yes

[pictures, sharply]
part = autoencoder
steps = 4
"""


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Trainings that add up their steps in a file, and log each; `world.kill` says at which step to die, and where."""
    world = types.SimpleNamespace(calls=[], kill=None, folder=tmp_path / "model")

    def training(part):
        module = types.ModuleType(part)

        def add_arguments(parser):
            parser.add_argument("--folder", required=True)
            if part != "judge":
                parser.add_argument("--start-from")
            parser.add_argument("--steps", type=int, default=1)
            parser.add_argument("--learning-rate", type=float, default=1e-3)
            parser.add_argument("--frozen-encoder", action="store_true")

        def main(args):
            world.calls.append((part, args.steps, getattr(args, "start_from", None), args.frozen_encoder))
            run, weights = world.folder / "training" / part, world.folder / f"{part}.weights"
            run.mkdir(parents=True, exist_ok=True)
            state = run / "state.pt"
            begin = int(weights.read_text()) if args.start_from else 0
            step, total = json.loads(state.read_text()) if state.exists() else (0, begin)
            while step < args.steps:
                if world.kill == (part, step):
                    raise KeyboardInterrupt
                step, total = step + 1, total + 1
                state.write_text(json.dumps((step, total)))
                with open(run / "log.jsonl", "a") as log:
                    log.write(json.dumps({"step": step, "total": total}) + "\n")
            weights.write_text(str(total))
            if world.kill == (part, "end"):
                raise KeyboardInterrupt

        module.add_arguments, module.main = add_arguments, main
        monkeypatch.setitem(sys.modules, f"trainings.{part}", module)

    for part in ("clip", "autoencoder", "judge"):
        training(part)
    world.parts = {part: f"trainings.{part}" for part in ("clip", "autoencoder", "judge")}
    world.path = tmp_path / "stages.ini"
    world.path.write_text(FILE)
    world.run = lambda **more: run_stages(read_stages(world.path, world.parts), world.folder, world.parts, **more)
    return world


def test_stages_run_in_turn_and_begin_where_the_one_before_of_their_part_ended(world):
    world.run()
    folder = str(world.folder)
    assert world.calls == [("clip", 3, None, False), ("autoencoder", 2, None, True), ("autoencoder", 4, folder, False)]
    assert (world.folder / "autoencoder.weights").read_text() == "6"


def test_one_log_a_part_goes_through_all_stages_from_the_first_step_on(world):
    world.run()
    log = read_log(world.folder / "training" / "autoencoder.jsonl")
    assert log["step"].tolist() == log["total"].tolist() == [1, 2, 3, 4, 5, 6]
    assert log["stage"].tolist() == [0, 0, 1, 1, 1, 1]
    assert (world.folder / "stages" / "pictures, softly" / "log.jsonl").is_file()


@pytest.mark.parametrize(
    "kill", [("clip", 1), ("clip", "end"), ("autoencoder", 0), ("autoencoder", 1), ("autoencoder", 3), ("autoencoder", "end")]
)
def test_wherever_it_was_killed_it_goes_on_to_the_same_weights_and_the_same_log(world, kill):
    world.kill = kill
    with pytest.raises(KeyboardInterrupt):
        world.run()
    world.kill = None
    world.run()
    assert (world.folder / "autoencoder.weights").read_text() == "6"
    log = read_log(world.folder / "training" / "autoencoder.jsonl")
    assert log["total"].tolist() == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_while_a_finished_stage_is_put_aside_it_is_not_trained_again(world, monkeypatch, moment):
    def rename(path, target):
        if moment == "after":
            os.rename(path, target)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        with pytest.raises(KeyboardInterrupt):
            world.run()
    world.run()
    assert (world.folder / "clip.weights").read_text() == "3"
    assert read_log(world.folder / "training" / "clip.jsonl")["total"].tolist() == [1, 2, 3]
    assert (world.folder / "autoencoder.weights").read_text() == "6"
    assert not list(world.folder.rglob("state.pt"))  # large, and of no more use


def test_other_trainings_in_the_folder_stay_where_they_are(world):
    logs = [world.folder / "training" / name / "log.jsonl" for name in ("distill", "judge", "lora", "unet", "word")]
    for log in logs:
        log.parent.mkdir(parents=True)
        log.write_text(f'{{"step": 1, "of": "{log.parent.name}"}}\n')
    world.run()
    assert all(json.loads(log.read_text())["of"] == log.parent.name for log in logs)
    assert read_log(world.folder / "stages" / "words" / "log.jsonl")["total"].tolist() == [1, 2, 3]


def test_a_training_that_was_begun_otherwise_is_not_continued_as_a_stage(world):
    world.kill = ("autoencoder", 1)
    with pytest.raises(KeyboardInterrupt):
        world.run()
    world.kill = None
    world.path.write_text(FILE.replace("8e-4", "1e-4"))
    words = r"autoencoder.* holds an unfinished training, begun with .*'learning-rate': '8e-4'.*'pictures, softly'.*'1e-4'"
    with pytest.raises(ValueError, match=words):
        world.run()
    world.path.write_text(FILE)
    world.run()
    assert (world.folder / "autoencoder.weights").read_text() == "6"


def test_a_training_by_hand_is_not_continued_as_a_stage(world):
    run = world.folder / "training" / "clip"
    run.mkdir(parents=True)
    (run / "state.pt").write_text("[3, 3]")
    with pytest.raises(ValueError, match=r"clip holds an unfinished training, begun with no file.*'words'"):
        world.run()
    assert not world.calls


def test_what_is_finished_is_not_trained_again(world):
    world.run()
    calls = len(world.calls)
    world.run()
    assert len(world.calls) == calls


def test_until_stops_after_a_stage(world):
    world.run(until="pictures, softly")
    assert [call[0] for call in world.calls] == ["clip", "autoencoder"]
    with pytest.raises(ValueError, match="--until 'nothing': the file's stages are 'words', 'pictures, softly'"):
        world.run(until="nothing")


def test_a_file_that_changed_what_is_finished_is_refused(world):
    world.run(until="words")
    world.path.write_text(FILE.replace("steps = 3", "steps = 5"))
    with pytest.raises(ValueError, match="'words' is finished, with .*'steps': '3'.*the file says .*'steps': '5'"):
        world.run()
    assert len(world.calls) == 1


@pytest.mark.parametrize("change", ["before", "renamed"])
def test_what_is_finished_must_be_the_beginning_of_the_file(world, change):
    world.run(until="pictures, softly")
    first = "[pictures, at first]\npart = autoencoder\nsteps = 9\n\n[pictures, softly]"
    text = {"before": FILE.replace("[pictures, softly]", first), "renamed": FILE.replace("[words]", "[texts]")}
    world.path.write_text(text[change])
    with pytest.raises(ValueError, match="finished are 'pictures, softly', 'words'; the file begins with"):
        world.run()
    assert len(world.calls) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no .stage."),
        ("steps = 3", "names no stages"),
        ("[a]\npart = clip\n[a]\npart = clip", "names no stages"),
        ("[a]\nsteps = 3", r"\[a\]: part=None must be one of clip, autoencoder, judge"),
        ("[a]\npart = umet", r"\[a\]: part='umet' must be one of clip, autoencoder, judge"),
        ("[a]\npart = clip\nstepz = 3", r"\[a\]: unrecognized arguments: --stepz 3"),
        ("[a]\npart = clip\nsteps = many", r"\[a\]: argument --steps: invalid int value: 'many'"),
        ("[a]\npart = clip\nfolder = elsewhere", r"\[a\]: folder is not for a stage to say"),
        ("[a]\npart = clip\nhelp = yes", r"\[a\]: unrecognized arguments: --help"),
        ("[DEFAULT]\nsteps = 3\n[a]\npart = clip", r"\[DEFAULT\]: part=None must be one of"),
        ("[a/b]\npart = clip", r"\[a/b\]: .* a folder has this name"),
        ("[..]\npart = clip", r"\[..\]: .* a folder has this name"),
        ("[a]\npart = judge\n[b]\npart = judge", r"\[b\]: part='judge' can be trained once only: it has no option --start-from"),
    ],
)
def test_what_names_no_stages_is_refused_before_anything_is_trained(world, text, message):
    world.path.write_text(text)
    with pytest.raises(ValueError, match=message):
        world.run()
    assert not world.calls


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_in_two_processes_a_stage_begins_when_the_one_before_is_written(tmp_path):
    script, environment = Path(__file__).with_name("stages_in_two.py"), os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, script, tmp_path], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "begun").read_text() == "0 2 "  # what the second process began with
    assert (tmp_path / "weights").read_text() == "5"
    assert done.stdout == "[first] train net --steps 2\n[second] train net --steps 3\n"
    assert read_log(tmp_path / "training" / "net.jsonl")["step"].tolist() == [2, 3]


def test_the_recipe_of_the_shipped_model_can_be_read():
    parts = {name: f"ldm_tutorial.{module}" for name, (module, _) in cli.PARTS_TO_TRAIN.items()}
    stages = read_stages(cli.make_parser(["train", "all"]).parse_args(["train", "all"]).file, parts)
    assert list(dict.fromkeys(stage.part for stage in stages)) == ["clip", "autoencoder", "unet"]


def test_the_command_reads_the_file_and_hands_over(world, monkeypatch, capsys):
    monkeypatch.setattr(cli, "PARTS_TO_TRAIN", {"clip": ("training.clip", "")})
    monkeypatch.setitem(sys.modules, "ldm_tutorial.training.clip", sys.modules["trainings.clip"])
    world.path.write_text("[words]\npart = clip\nsteps = 2\n")
    assert cli.main(["train", "all", str(world.path), "--folder", str(world.folder)]) == 0
    assert capsys.readouterr().out == "[words] train clip --steps 2\n"
    assert world.calls == [("clip", 2, None, False)]
