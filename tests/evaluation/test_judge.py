"""The judge: what it answers, its files, and what is wrong with them."""

import json

import pytest
import torch

from ldm_tutorial.checkpoints.tensors import CheckpointError
from ldm_tutorial.data import STYLES, EmojiDataset
from ldm_tutorial.evaluation.judge import (
    Judge,
    JudgeConfig,
    accuracy,
    at_size,
    judge_loss,
    load_judge,
    look,
    right_answers,
    save_judge,
)
from ldm_tutorial.weights import JUDGE


def make_judge(**options):
    torch.manual_seed(0)
    return Judge(
        JudgeConfig(
            ("cat", "dog", "cow", "owl", "ant"), STYLES, channels=(4, 6, 8), style_channels=(3, 5), dimensions=7, **options
        )
    ).eval()


@pytest.mark.parametrize("size", [(64, 64), (32, 32), (21, 33), (1, 1)])
def test_it_answers_for_pictures_of_any_size(size):
    features, cosines, styles = make_judge()(torch.rand(2, 3, *size) * 2 - 1)
    assert features.shape == (2, 4 + 6 + 8)
    assert cosines.shape == (2, 5) and cosines.abs().max() <= 1 + 1e-6
    assert styles.shape == (2, len(STYLES))


def test_an_answer_does_not_depend_on_the_other_pictures():
    judge, pictures = make_judge(), torch.randint(0, 256, (5, 3, 64, 64), dtype=torch.uint8)
    together, alone = look(judge, pictures, batch_size=2), look(judge, pictures[3:4])
    assert torch.allclose(together.cosines[3:4], alone.cosines, atol=1e-5)


def test_the_style_is_read_from_textures_alone_and_the_subject_from_none_of_them():
    judge, pictures = make_judge(), torch.rand(2, 3, 32, 32) * 2 - 1
    means, textures = judge.means(pictures), judge.textures(pictures)
    assert means.shape == (2, 4 + 6 + 8) and textures.shape == (2, 2 * (3 + 5))
    right, other = judge.answer(means, textures), judge.answer(means.flip(0), textures)
    assert torch.equal(right.styles, other.styles) and not torch.equal(right.cosines, other.cosines)


def test_plain_pictures_train_it_too():
    judge = make_judge().train()
    verdict = judge(torch.ones(4, 3, 16, 16))
    judge_loss(verdict, torch.arange(4), torch.arange(4)).backward()
    assert all(parameter.grad.isfinite().all() for parameter in judge.parameters())


def test_for_all_subjects_its_weights_are_within_2_and_a_half_mb():
    judge = Judge(JudgeConfig(tuple(EmojiDataset("all").subjects), STYLES))
    assert sum(tensor.numel() for tensor in judge.state_dict().values()) * 2 <= 2_500_000


def test_it_learns_what_it_is_shown(small_judge, small_data):
    assert accuracy(look(small_judge, small_data.pictures), *right_answers(small_judge.config, small_data.entries)) == (1.0, 1.0)


def test_saved_in_half_precision_it_answers_the_same(tmp_path, small_judge, small_data):
    save_judge(small_judge, tmp_path / "judge", dtype=torch.float16)
    loaded = load_judge(tmp_path / "judge")
    assert loaded.config == small_judge.config and not loaded.training
    ours, theirs = (look(judge, small_data.pictures) for judge in (small_judge, loaded))
    assert torch.allclose(ours.cosines, theirs.cosines, atol=0.02)
    assert torch.equal(ours.cosines.argmax(dim=1), theirs.cosines.argmax(dim=1))


@pytest.mark.parametrize(
    "options, words",
    [
        ({"subjects": ()}, "subjects must be"),
        ({"subjects": ("cat", "cat")}, "each once"),
        ({"styles": (1, 2)}, "styles must be"),
        ({"channels": ()}, "channels="),
        ({"channels": (4, 0)}, "channels="),
        ({"style_channels": ()}, "style_channels="),
        ({"dimensions": 2.0}, "dimensions="),
        ({"size": 0}, "size=0"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        JudgeConfig(**{"subjects": ("cat",), "styles": STYLES, **options})


@pytest.mark.parametrize("pictures", [torch.zeros(1, 3, 8, 8), torch.zeros(3, 8, 8, dtype=torch.uint8)])
def test_pictures_of_another_kind_are_refused(pictures):
    with pytest.raises(ValueError, match=r"must be uint8 \(n, 3, h, w\)"):
        look(make_judge(), pictures)


def test_a_subject_it_does_not_know_is_named():
    with pytest.raises(ValueError, match="does not know the subject .*another data set"):
        right_answers(make_judge().config, EmojiDataset("held_out").entries[:3])


def test_the_shipped_judge_knows_the_data_set():
    judge, data = load_judge(), EmojiDataset("held_out")
    assert judge.config.subjects == tuple(EmojiDataset("all").subjects)
    assert (JUDGE / "model.safetensors").stat().st_size <= 2_500_000
    subject, style = accuracy(look(judge, data.pictures), *right_answers(judge.config, data.entries))
    assert subject > 0.95 and style > 0.98


# ---- files


def test_where_there_is_no_judge_it_is_said_how_to_get_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="train judge"):
        load_judge(tmp_path)


def damage(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize(
    "harm, words",
    [
        (lambda f: (f / "config.json").write_text("{"), "not JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "JSON object"),
        (lambda f: damage(f, color="red"), "no classifier can be built"),
        (lambda f: damage(f, subjects="cat"), "no classifier can be built"),
        (lambda f: damage(f, channels=["a"]), "no classifier can be built"),
        (lambda f: damage(f, subjects=["cat", "dog"]), "does not fit"),
        (lambda f: (f / "model.safetensors").write_bytes(b""), "is empty"),
        (lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:500]), "cut short"),
    ],
)
def test_a_damaged_judge_is_refused(tmp_path, harm, words):
    save_judge(make_judge(), tmp_path)
    harm(tmp_path)
    with pytest.raises(CheckpointError, match=words):
        load_judge(tmp_path)


def test_it_looks_at_the_means_of_equal_areas_whatever_the_size_of_a_picture():
    judge = make_judge(size=16)
    small = torch.randint(256, (3, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    large = small.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    assert torch.equal(at_size(large, 16), small)
    assert at_size(small, 16) is small
    for seen, expected in zip(look(judge, large), look(judge, small)):
        assert torch.equal(seen, expected)
    assert not torch.equal(look(make_judge(size=32), small).features, look(judge, small).features)
