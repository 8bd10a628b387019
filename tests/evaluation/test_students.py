"""The student beside its teacher: the right calls, equal pairs and noise, and a pipeline that is left as it was."""

import json

import pytest

from ldm_tutorial import cli, pipeline
from ldm_tutorial.adapters import new_lora, save_lora
from ldm_tutorial.evaluation import evaluate, students
from ldm_tutorial.evaluation.judge import save_judge
from ldm_tutorial.evaluation.students import student_table
from ldm_tutorial.inputs import Options
from ldm_tutorial.schedulers.few_steps import FewSteps


@pytest.fixture
def lora(make_pipe, tmp_path):
    """It adds nothing, so that the answers of the pipeline alone decide."""
    made = new_lora({"unet": make_pipe().unet}, rank=1)
    made.few_steps = FewSteps(4, 6.0)
    return save_lora(made, tmp_path / "student.safetensors")


def test_all_three_draw_the_same_pairs_from_the_same_noise_each_in_its_way(make_pipe, small_judge, reference, lora):
    pipe = make_pipe()
    own = pipe.scheduler
    table = student_table(pipe, small_judge, reference, lora, pairs=3, progress=False)
    settings = {}
    for prompt, seed, options in pipe.asked:
        told = dict(options)
        settings.setdefault((told["steps"], told["guidance_scale"], told["scheduler"]), []).append((prompt, seed))
    assert list(settings) == [(25, 6.0, "ddim"), (4, 6.0, "ddim"), (4, 1.0, "ddim")]
    first, *others = settings.values()
    assert len(first) == 6 and all(each == first for each in others)
    rows = {name: {figure.key: figure for figure in figures} for name, figures in table.rows}
    assert [(name, row["evaluations"].value, row["distance"].value) for name, row in rows.items()] == [
        ("teacher, 25 steps", 50, 0),
        ("teacher, 4 steps", 8, 0),
        ("student, 4 steps", 4, 0),
    ]
    assert all(row["subject.trained"].value == row["style.held_out"].value == 1 for row in rows.values())
    assert all(row["subject.trained"].interval and row["subject.trained"].count == 3 for row in rows.values())
    assert pipe.scheduler is own and pipe.loras == {} and len(table.header) == len(table.rows[0][1]) + 1


def test_the_noise_levels_and_the_weights_are_those_that_the_row_says(make_pipe, small_judge, reference, lora, monkeypatch):
    pipe, seen, draw = make_pipe(), [], students.draw_all

    def watched(pipe, judge, requests, progress):
        given = {"scheduler": "ddim", "steps": requests[0].steps, "guidance_scale": requests[0].guidance}
        inputs = pipe.prepare("a cat", Options(**{**pipe.own_arguments(given), **given}))  # as pipe(...) does
        seen.append((inputs.timesteps.tolist()[:4], pipe.loras["student"].scale))
        return draw(pipe, judge, requests, progress=progress)

    monkeypatch.setattr(students, "draw_all", watched)
    student_table(pipe, small_judge, reference, lora, pairs=1, progress=False)
    assert seen == [([961, 921, 881, 841], 0), ([999, 749, 499, 249], 0), ([999, 749, 499, 249], 1)]


def test_another_lora_is_refused_and_taken_away_again(make_pipe, small_judge, reference, tmp_path):
    pipe = make_pipe()
    other = save_lora(new_lora({"unet": pipe.unet}, rank=1), tmp_path / "style.safetensors")
    with pytest.raises(
        ValueError, match="style.safetensors is not of a distilled model: `ldm-tutorial train distill` writes one"
    ):
        student_table(pipe, small_judge, reference, other, pairs=1)
    assert pipe.loras == {}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("--blind b --student s", "--student: not with --blind, which measures nothing"),
        ("--blind b --judge j", "--judge: not with --blind, which measures nothing"),
        ("--blind b --quick", "--quick: not with --blind, which measures nothing"),
        ("--blind b -o table.md", "--output: not with --blind, which measures nothing"),
        ("--blind b --json table.json", "--json: not with --blind, which measures nothing"),
        ("--blind b --sheets s", "--sheets: not with --blind, which measures nothing"),
        ("--student s --sheets s", "--sheets: not with --student, which prints one table"),
        ("--student s --blind-seed 0", "--blind-seed 0: only with --blind"),
        ("--blind-seed 5", "--blind-seed 5: only with --blind"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused_before_anything_is_loaded(given, words, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(pipeline, "load_pipeline", lambda *_, **__: pytest.fail("a model was loaded"))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["evaluate", *given.split()]) == 2
    assert capsys.readouterr().err == f"ldm-tutorial: error: {words}\n"
    assert not list(tmp_path.iterdir())


def test_the_command_prints_the_table_and_writes_it(make_pipe, small_judge, small_data, lora, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(pipeline, "load_pipeline", lambda *_, **__: make_pipe())
    monkeypatch.setattr(evaluate, "EmojiDataset", lambda split: small_data)
    judge = save_judge(small_judge, tmp_path / "judge")
    written = {"--output": tmp_path / "table.md", "--json": tmp_path / "table.json"}
    options = [word for pair in written.items() for word in pair]
    assert cli.main(["evaluate", "--student", *map(str, (lora, "--judge", judge, "--quick", "-q", *options))]) == 0
    printed = capsys.readouterr().out
    assert written["--output"].read_text() == printed and "| student, 4 steps | 4 | 100.0% of" in printed
    assert list(json.loads(written["--json"].read_text())) == ["teacher, 25 steps", "teacher, 4 steps", "student, 4 steps"]
