"""`ldm-tutorial benchmark`: both sides do equal work, in turn, and ratios come out of rounds."""

import json
import time
from contextlib import nullcontext

import pytest
import torch

from ldm_tutorial import cli
from ldm_tutorial.config import EMOJI, SD15
from ldm_tutorial.evaluation import benchmark

CPU = torch.device("cpu")


def test_both_sides_take_turns_after_a_warm_up_and_change_who_begins():
    calls = []
    result = benchmark.in_turn("k", "work", lambda: calls.append("ours"), lambda: calls.append("theirs"), rounds=3)
    assert calls == ["ours", "theirs"] + ["theirs", "ours"] + ["ours", "theirs"] + ["theirs", "ours"]
    assert len(result.ours) == len(result.other) == 3


def test_a_side_that_takes_twice_as_long_has_the_ratio_two(monkeypatch):
    now = [0.0]  # a clock that only the work moves: on a full machine, sleeps of 100 and 50 ms had the ratio 2.8

    def take(seconds):
        now[0] += seconds

    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: now[0])
    result = benchmark.in_turn("k", "work", lambda: take(0.5), lambda: take(0.25), rounds=3)
    assert result.ratios == [2, 2, 2]
    assert result.ours == [0.5, 0.5, 0.5]


def test_the_row_has_medians_and_the_range_of_the_ratio():
    result = benchmark.Result("k", "drawing", "s", [1.0, 3.0, 2.0], [4.0, 4.0, 4.0])
    assert result.row() == "| drawing | 2 s | 4 | 0.50 (0.25 to 0.75) |"
    assert benchmark.Result("k", "drawing", "s", [1.0], []).row() == "| drawing | 1 s |  |  |"


def test_pictures_are_drawn_with_the_same_settings_on_both_sides(monkeypatch, tiny_pipe):
    asked = []

    class Theirs:
        def to(self, device):
            return self

        def set_progress_bar_config(self, **_):
            pass

        scheduler = type("", (), {"config": {}})

        def __call__(self, prompts, **settings):
            asked.append((prompts, settings))

    class Diffusers:
        StableDiffusionPipeline = type("", (), {"from_pretrained": staticmethod(lambda *_, **__: Theirs())})
        DDIMScheduler = type("", (), {"from_config": staticmethod(lambda config: "ddim")})

    monkeypatch.setattr(benchmark, "load_pipeline", lambda *_, **__: tiny_pipe)
    monkeypatch.setattr(benchmark.importlib.util, "find_spec", lambda name: None)
    drawn = []
    monkeypatch.setattr(type(tiny_pipe), "__call__", lambda self, prompt, **settings: drawn.append((prompt, settings)))
    results = list(benchmark.pictures(1, Diffusers, CPU))
    assert [result.key for result in results] == ["pictures.1.default", "pictures.24.default"]
    assert [len(prompts) for prompts, _ in asked] == [1, 1, 24, 24] == [settings["num_images"] for _, settings in drawn]
    assert {prompt for prompts, _ in asked for prompt in prompts} == {prompt for prompt, _ in drawn}
    assert all(settings == {"num_inference_steps": 25, "guidance_scale": 7.5} for _, settings in asked)  # our defaults


def test_training_counts_pictures_a_second(monkeypatch, tiny_pipe):
    monkeypatch.setattr(benchmark, "EMOJI", tiny_pipe.config)
    results = list(benchmark.training(1, None, CPU))
    assert [(result.key, result.unit) for result in results] == [("training.32", "pictures/s"), ("training.128", "pictures/s")]
    assert all(result.ours[0] > 0 for result in results)


def test_v15s_unet_is_compared_with_diffusers_that_has_the_same_weights(monkeypatch):
    diffusers = pytest.importorskip("diffusers")
    small = {"block_out_channels": (32, 64), "attention_levels": (True, False), "layers_per_block": 1, "cross_attention_dim": 768}
    config = type(SD15.unet)(**small, num_attention_heads=4, sample_size=64)
    monkeypatch.setattr(benchmark, "SD15", type(SD15)(SD15.vae, config, SD15.text_encoder))
    answers = {}

    def compare(key, what, ours, other, rounds):
        with torch.no_grad():
            answers[key] = ours(), other().sample
        return benchmark.Result(key, what, "s", [1.0], [1.0])

    monkeypatch.setattr(benchmark, "in_turn", compare)
    list(benchmark.full_unet(1, diffusers, CPU))
    assert list(answers) == ["unet.float32", "unet.bfloat16"]
    assert torch.allclose(*answers["unet.float32"], atol=1e-4)
    assert torch.allclose(*answers["unet.bfloat16"], atol=0.1)


def test_a_single_file_is_opened_by_both(monkeypatch, tiny_pipe):
    """In processes of their own; ours is run, on a small model, and tells its seconds and its memory."""
    monkeypatch.setattr(benchmark, "SD15", EMOJI)
    with benchmark.single_file() as (file, folder):
        taken, memory = map(float, benchmark.run_python("-c", benchmark.OURS, str(file)).split())
        assert 0 < taken < 300 and 0.1 < memory < 8
        assert not list(folder.rglob("*.safetensors")) and (folder / "unet" / "config.json").is_file()
        if pytest.importorskip("diffusers"):
            taken, memory = map(float, benchmark.run_python("-c", benchmark.DIFFUSERS, str(file), str(folder)).split()[-2:])
            assert 0 < taken < 300 and 0.1 < memory < 8
    assert not file.exists()


def test_opening_tells_seconds_with_and_without_imports_and_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(benchmark, "single_file", lambda: nullcontext((tmp_path / "model.safetensors", tmp_path)))

    def run(_, program, *__):
        time.sleep(0.05)
        return "0.01 4.5" if program == benchmark.OURS else "warnings and such\n0.02 5"

    monkeypatch.setattr(benchmark, "run_python", run)
    inside, all_of_it, memory = benchmark.opening(2, object(), CPU)
    assert [result.key for result in (inside, all_of_it, memory)] == ["opening.s", "opening.all.s", "opening.GiB"]
    assert (inside.ours, inside.other, memory.ours, memory.other) == ([0.01] * 2, [0.02] * 2, [4.5] * 2, [5.0] * 2)
    assert len(all_of_it.ours) == len(all_of_it.other) == 2 and min(all_of_it.ours + all_of_it.other) >= 0.05


def test_a_process_that_fails_says_why():
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        benchmark.run_python("-c", "1 / 0")


def test_the_command_prints_a_table_and_writes_all_numbers(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(
        benchmark.SMALL_WORK, "imports", lambda *_: iter([benchmark.Result("import", "importing", "s", [2.0], [4.0])])
    )
    assert cli.main(["benchmark", "--only", "imports", "--rounds", "1", "--json", str(tmp_path / "b.json")]) == 0
    assert "| importing | 2 s | 4 | 0.50 (0.50 to 0.50) |" in capsys.readouterr().out
    assert json.loads((tmp_path / "b.json").read_text())["results"]["import"]["ours"] == [2.0]


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--rounds", "0"], "--rounds 0 must be 1 or more"),
        (["--device", "tpu"], "device"),
        (["--only", "dancing"], "invalid choice: 'dancing'"),
    ],
)
def test_wrong_arguments_are_named(capsys, argv, message):
    try:
        code = cli.main(["benchmark", *argv])
    except SystemExit as end:
        code = end.code
    assert code == 2 and message in capsys.readouterr().err


def test_a_picture_beside_a_busy_process_is_measured_against_one_alone(monkeypatch, tiny_pipe):
    monkeypatch.setattr(benchmark, "load_pipeline", lambda *_: tiny_pipe)
    [result] = benchmark.busy(1, None, CPU)
    assert len(result.ours) == len(result.other) == 1 and result.ratios[0] > 0


def test_the_table_is_put_between_the_marks_of_a_page(monkeypatch, tmp_path, capsys):
    rows = [benchmark.Result("import", "importing", "s", [2.0], [4.0])]
    monkeypatch.setitem(benchmark.SMALL_WORK, "imports", lambda *_: iter(rows))
    page = tmp_path / "speed.md"
    page.write_text(f"before\n{benchmark.BEGIN}\nold\n{benchmark.END}\nafter\n")
    for _ in range(2):
        assert cli.main(["benchmark", "--only", "imports", "--rounds", "1", "--write", str(page)]) == 0
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert text.count("| importing | 2 s | 4 | 0.50 (0.50 to 0.50) |") == 1


@pytest.mark.parametrize("content", ["no marks", "{end} {begin}", "{begin} {end} {begin} {end}"])
def test_a_page_without_its_marks_is_refused_before_anything_is_measured(monkeypatch, tmp_path, capsys, content):
    monkeypatch.setitem(benchmark.SMALL_WORK, "imports", lambda *_: pytest.fail("it was measured"))
    page = tmp_path / "speed.md"
    page.write_text(content.format(begin=benchmark.BEGIN, end=benchmark.END))
    before = page.read_text()
    assert cli.main(["benchmark", "--only", "imports", "--rounds", "1", "--write", str(page)]) == 2
    assert page.read_text() == before and f"--write {page}: the page must hold, once each" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(benchmark.SMALL_WORK, "imports", lambda *_: pytest.fail("it was measured"))
    nowhere = tmp_path / "nowhere" / "b.json"
    assert cli.main(["benchmark", "--only", "imports", "--rounds", "1", "--json", str(nowhere)]) == 2
    assert f"--json {nowhere}: no file can be written there" in capsys.readouterr().err


def test_the_commands_choices_are_the_benchmarks():
    assert set(cli.BENCHMARKS) == {*benchmark.SMALL_WORK, *benchmark.FULL_SIZE_WORK}


def test_the_model_of_full_size_reads_the_words_of_the_small_one():
    words = benchmark.with_words_of(EMOJI.text_encoder)
    assert (words.vocab_size, words.hidden_size) == (EMOJI.text_encoder.vocab_size, SD15.text_encoder.hidden_size)
    assert (words.bos_token_id, words.eos_token_id) == (EMOJI.text_encoder.bos_token_id, EMOJI.text_encoder.eos_token_id)


def test_the_memory_of_a_process_that_opens_a_model_is_its_own():
    """Of a child that does nothing but import PyTorch, while this process has had a gigabyte more."""
    held = bytearray(2**30)
    held[:: 2**12] = b"x" * len(held[:: 2**12])
    program = benchmark.OPENING.format(imports="", work="pass")
    seconds, gib = map(float, benchmark.run_python("-c", program).split())
    assert seconds < 1 and gib < 0.8
