"""The whole evaluation, and its command: on a pipeline that draws the data set's own pictures, in seconds."""

import copy
import json
import math

import pytest
import torch
from PIL import Image

from ldm_tutorial import cli, pipeline
from ldm_tutorial.checkpoints import hub
from ldm_tutorial.data.dataset import is_held_out
from ldm_tutorial.evaluation import evaluate as module
from ldm_tutorial.evaluation.evaluate import QUICK, Evaluation, Plan
from ldm_tutorial.evaluation.judge import save_judge
from ldm_tutorial.evaluation.report import Measurement, Report, Table, share
from ldm_tutorial.schedulers import make_scheduler

SMALL = Plan(
    trained=20,
    held_out=None,
    reworded=3,
    empty=3,
    swept=4,
    guidance=(2.0, 7.5),
    steps=(5, 25),
    crowd_prompts=2,
    crowd_seeds=4,
    open_captions=2,
    open_seeds=3,
    paths=1,
    path_length=3,
    reconstructed=6,
    predicted=4,
    taken_back=3,
    strengths=(0.2, 0.5),
    back_guidance=(1.0, 7.5),
)


def test_the_real_pictures_score_full_marks(make_pipe, small_judge, small_data):
    evaluation = Evaluation(make_pipe(), small_judge, small_data, SMALL)
    report = evaluation.run()
    for key in ("subject.trained", "style.trained", "subject.held_out", "style.held_out", "judge.real.subject"):
        assert report[key] == 1.0, key
    assert report["memorized.trained"] == 1.0  # they are the training pictures
    assert report["nearest_own.trained"] == 1.0 and report["ratio.trained"] == 0 < report["ratio.held_out"]
    assert [table.key for table in report.tables] == [
        "category",
        "style",
        "wording",
        "guidance",
        "steps",
        "likeness",
        "distribution",
        "detail",
        "prediction",
    ]
    names = [name for name, sheet in evaluation.sheets() if isinstance(sheet, Image.Image)]
    assert len(set(names)) == len(names) == 8


def test_the_real_pictures_are_as_sharp_as_themselves_and_as_white(make_pipe, small_judge, small_data):
    report = Evaluation(make_pipe(), small_judge, small_data, SMALL).run()
    for split in ("trained", "held_out"):
        assert report[f"sharpness.{split}"] == pytest.approx(1.0)
        assert 0 <= report[f"speckle.{split}"] < 1
        assert report[f"kernel_distance.{split}"] == pytest.approx(0, abs=1e-6)


def test_the_table_of_ways_back_has_a_row_for_each_guidance_and_a_column_for_each_strength(make_pipe, small_judge, small_data):
    report = Evaluation(make_pipe(), small_judge, small_data, SMALL).run()
    table = next(table for table in report.tables if table.key == "detail")
    assert [name for name, _ in table.rows] == ["guidance 1", "guidance 7.5"]
    for _, figures in table.rows:
        assert [figure.key for figure in figures] == ["strength_0.2", "strength_0.5", "from_noise"]
        assert all(math.isfinite(figure.value) for figure in figures)
    assert "3 trained pairs, DDIM, 50 steps" in table.to_markdown()


def test_wrong_pictures_do_not(make_pipe, small_judge, small_data):
    report = Evaluation(make_pipe(lambda prompt, seed: seed + 3), small_judge, small_data, SMALL).run()
    assert report["subject.trained"] < 0.2 and report["nearest_own.trained"] < 0.2
    assert report["judge.real.subject"] == 1.0  # that is a matter of the judge alone


def test_the_ceiling_of_held_out_pairs_is_measured_on_their_real_pictures_alone(make_pipe, small_judge, small_data):
    data = copy.copy(small_data)
    unseen = [i for i, entry in enumerate(data.entries) if is_held_out(entry.label, entry.style)]
    data.pictures = small_data.pictures.clone()
    data.pictures[unseen] = 255  # as if the classifier recognized nothing in them
    report = Evaluation(make_pipe(), small_judge, data, SMALL).run()
    for kind in ("subject", "style"):
        assert report[f"judge.real_held_out.{kind}"] < report[f"judge.real.{kind}"] == 1.0
    figures = {figure.key: figure for figure in report.figures}
    assert figures["judge.real_held_out.subject"].count == len(unseen)
    assert "held-out pairs, new to the classifier" in figures["judge.reconstructed_held_out.style"].what


def test_every_picture_is_asked_for_once_and_at_one_seed(make_pipe, small_judge, small_data):
    evaluation = Evaluation(make_pipe(), small_judge, small_data, SMALL)
    evaluation.run()
    drawn = [asked for asked in evaluation.pipe.asked if dict(asked[2]).keys() >= {"guidance_scale"}]
    assert len(set(drawn)) == len(drawn) == len(set(evaluation.requests()))


def test_quick_draws_at_most_380_pictures_worth_of_25_steps(make_pipe, small_judge):
    """The pairs of the small data set are fewer than the plan asks for, and so counted as asked."""
    swept = 4 * QUICK.swept * (sum(QUICK.steps) + 25 * sum(g != 7.5 for g in QUICK.guidance)) - 25 * QUICK.swept
    pictures = QUICK.trained + QUICK.held_out + 5 * QUICK.reworded + QUICK.empty + 4 * QUICK.crowd_prompts * QUICK.crowd_seeds
    pictures += QUICK.open_captions * QUICK.open_seeds
    back = QUICK.taken_back * len(QUICK.back_guidance) * (1 + sum(QUICK.strengths) * 50 / 25)
    assert swept / 25 + pictures + back + 2 * QUICK.paths * QUICK.path_length + 25 <= 380


def test_a_model_of_another_size_is_refused(tiny_pipe, small_judge, small_data):
    with pytest.raises(ValueError, match="'tiny' draws 32x32; evaluated are models of 64x64 emoji"):
        Evaluation(tiny_pipe, small_judge, small_data, SMALL)


def test_a_model_of_flow_matching_is_refused_before_anything_is_drawn(make_pipe, small_judge, small_data):
    pipe = make_pipe()
    pipe.scheduler = make_scheduler("flow_euler")
    with pytest.raises(ValueError, match="'fake' predicts velocity; evaluated are models of diffusion"):
        Evaluation(pipe, small_judge, small_data, SMALL)


@pytest.mark.parametrize("name", ["crowd_prompts", "crowd_seeds", "open_seeds", "path_length"])
def test_one_alone_cannot_be_compared(name):
    with pytest.raises(ValueError, match=f"{name}=1 must be 2 or more"):
        Plan(**{name: 1})


# ---- the command


@pytest.fixture
def run(make_pipe, small_judge, small_data, monkeypatch, tmp_path, capsys):
    """A function that runs `evaluate` in an empty folder: (exit code, stdout, stderr)"""
    pipe = make_pipe()
    loaded = []

    def load(model, **options):
        loaded.append(options)
        return pipe

    monkeypatch.setattr(pipeline, "load_pipeline", load)
    monkeypatch.setattr(hub, "resolve", lambda model: tmp_path / "judge")
    monkeypatch.setattr(module, "EmojiDataset", lambda split: small_data)
    monkeypatch.setattr(module, "QUICK", SMALL)
    save_judge(small_judge, tmp_path / "judge")
    monkeypatch.chdir(tmp_path)

    def command(*argv):
        try:
            code = cli.main(["evaluate", *map(str, argv)])
        except SystemExit as done:
            code = done.code
        return code, *capsys.readouterr()

    command.pipe, command.loaded = pipe, loaded
    return command


def test_the_table_is_printed_and_all_files_are_written(run, tmp_path):
    code, out, err = run("--quick", "--judge", "judge", "-o", "card.md", "--json", "card.json", "--sheets", "sheets")
    assert (code, err) == (0, "")
    assert out == (tmp_path / "card.md").read_text()
    assert "| trained pairs: the right subject is the nearest | 100.0% of 20 (83.9 to 100.0) | at least 95%: reached |" in out
    content = json.loads((tmp_path / "card.json").read_text())
    assert content["figures"]["subject.trained"]["value"] == 1.0 and content["about"]["model"].startswith("fake")
    assert content["tables"]["wording"]["the label alone"]["subject"]["count"] == 3
    assert len(list((tmp_path / "sheets").iterdir())) == 8
    assert not list(tmp_path.rglob("*.partial"))


def test_the_model_is_loaded_as_asked(run):
    assert run("--quick", "--judge", "judge", "--device", "cpu", "--dtype", "bfloat16")[0] == 0
    assert run.loaded == [{"device": "cpu", "dtype": "bfloat16"}]


@pytest.mark.parametrize("option", ["--json", "--output"])
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_drawn(run, tmp_path, option):
    for path in ("no/such/folder.md", "."):
        code, out, err = run("--quick", "--judge", "judge", option, path)
        assert (code, out) == (2, "") and f"{option} {path}: no file can be written there" in err
    assert not hasattr(run.pipe, "asked")


def test_without_a_judge_it_is_said_how_to_get_one(run):
    code, out, err = run("--judge", "nowhere")
    assert (code, out) == (2, "")
    assert err == "ldm-tutorial: error: there is no classifier in nowhere; `ldm-tutorial train judge` trains one\n"


def test_an_interrupted_evaluation_leaves_the_old_files(run, tmp_path, monkeypatch):
    (tmp_path / "card.json").write_text("old")

    def interrupt(*_):
        raise KeyboardInterrupt

    run.pipe.answer = interrupt
    assert run("--quick", "--judge", "judge", "--json", "card.json")[0] == 130
    assert (tmp_path / "card.json").read_text() == "old"


# ---- the report


def test_a_figure_says_what_it_is_and_whether_that_is_enough():
    flags = torch.tensor([True] * 9 + [False])
    assert share("k", "w", flags).text() == "90.0% of 10 (59.6 to 98.2)"
    assert share("k", "w", flags, at_least=0.8).wanted() == "at least 80%: reached"
    assert Measurement("k", "w", 3.0, "{:.1f}", at_least=1, at_most=2).wanted() == "at least 1.0 and at most 2.0: missed"
    assert Measurement("k", "w", 3.0).wanted() == ""


def test_what_was_not_measured_is_no_number():
    nothing = share("k", "w", torch.zeros(0, dtype=torch.bool), at_least=0.5)
    assert nothing.text() == "not measured" and nothing.reached is None and nothing.wanted() == "at least 50%"
    report = Report({"model": "x"}, (nothing, Measurement("n", "w", math.nan)), ())
    content = json.loads(report.to_json(), parse_constant=lambda name: pytest.fail(name))
    assert content["figures"]["k"]["value"] is None is content["figures"]["n"]["value"]


def test_a_name_cannot_break_the_table():
    table = Table("t", "Title", ("a", "b"), (("x | y", (Measurement("k", "w", 1.0),)),))
    assert table.to_markdown().splitlines()[-1] == "| x \\| y | 1 |"
