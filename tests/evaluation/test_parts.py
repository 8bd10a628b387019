"""CLIP is right where a picture's own caption is the nearest, and a prediction's error is that of the latents."""

import pytest
import torch

from ldm_tutorial.clip import CLIP
from ldm_tutorial.evaluation.parts import TIMESTEPS, caption_figures, prediction_table
from ldm_tutorial.images import to_images, to_unit_range
from ldm_tutorial.inputs import tokenize


@pytest.fixture
def clip(tiny_config):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CLIP(tiny_config.text_encoder).eval()


@pytest.mark.parametrize("shifted", [0, 1])
def test_clip_is_right_where_the_own_caption_is_the_nearest_of_all(clip, tiny_tokenizer, reference, monkeypatch, shifted):
    """Each picture's vector is that of the caption `shifted` places after its own."""
    captions = [reference.full(i).request.prompt for i in range(len(reference.entries))]
    vectors = torch.nn.functional.normalize(torch.randn(len(captions), 16, generator=torch.Generator().manual_seed(0)), dim=1)
    ids = tokenize(tiny_tokenizer, captions).tolist()
    monkeypatch.setattr(clip, "encode_text", lambda rows: vectors[[ids.index(row) for row in rows.tolist()]])
    monkeypatch.setattr("ldm_tutorial.evaluation.parts.image_vectors", lambda clip, some: vectors.roll(-shifted, 0)[: len(some)])
    assert len({tuple(row) for row in ids}) == len(captions) <= 256  # one part, so the pictures are the first ones
    trained, held_out = caption_figures(clip, tiny_tokenizer, reference)
    assert trained.value == held_out.value == (shifted == 0)
    assert (trained.count, held_out.count) == (len(reference.trained), len(reference.unseen))
    assert f"all {len(captions)} captions" in trained.what


@pytest.fixture
def questions(reference):
    return [reference.full(i) for i in reference.trained[:5]]


def rows_of(table):
    return {name: {figure.key: figure.value for figure in figures} for name, figures in table.rows}


def test_a_network_that_knows_the_noise_errs_nowhere(make_pipe, reference, questions, monkeypatch):
    pipe = make_pipe()
    latents = pipe.encode(to_images(to_unit_range(reference.pictures[[q.request.seed for q in questions]])))

    def knows(x, timesteps, context):
        alpha_bar = pipe.scheduler.alpha_bar_at(float(timesteps[0]))
        return ((x - alpha_bar.sqrt() * latents) / (1 - alpha_bar).sqrt()).float()

    monkeypatch.setattr(pipe.unet, "forward", knows)
    for row in rows_of(prediction_table(pipe, reference, questions)).values():
        assert row == pytest.approx(dict.fromkeys(row, 0.0), abs=1e-6)


def test_a_network_that_sees_no_noise_errs_by_all_of_it_and_each_caption_is_asked(make_pipe, reference, questions, monkeypatch):
    pipe, asked = make_pipe(), []
    own = pipe.encode_prompt([q.request.prompt for q in questions])

    def blind(x, timesteps, context):
        asked.append(context)
        return torch.zeros_like(x)

    monkeypatch.setattr(pipe.unet, "forward", blind)
    table = rows_of(prediction_table(pipe, reference, questions))
    assert list(table) == [f"t = {t}" for t in TIMESTEPS]
    for t, row in zip(TIMESTEPS, table.values()):
        alpha_bar = float(pipe.scheduler.alpha_bar_at(t))
        assert row["own"] == row["empty"] == row["other"] == pytest.approx((1 - alpha_bar) / alpha_bar, rel=0.2)
    for context, expected in zip(asked, (own, pipe.encode_prompt("").expand_as(own), own.roll(1, 0))):
        torch.testing.assert_close(context, expected)
