"""Weights, chunks and clip skip in the pipeline: off unless asked for, and then equal to their references."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ldm_tutorial import load_pipeline
from ldm_tutorial.adapters import Word
from ldm_tutorial.engines import as_written, make_engine
from ldm_tutorial.images import read_settings, save_image
from ldm_tutorial.inputs import Options, tokenize
from ldm_tutorial.prompts import escape, tokenize_in_chunks
from ldm_tutorial.weights import EMOJI_FOLDER

QUICK = {"steps": 3, "seed": 4, "guidance_scale": 5.0}
LONG = "an octopus with a hat, a rocket and a hamburger, " * 6  # two chunks of the tiny tokenizer, or more
ALL_ON = {"prompt_weights": True, "long_prompts": True}


def drawn(pipe, prompt="a cat", **options):
    return [step.latents for step in pipe.stream(prompt, **QUICK | options)][-1]


# ---- off unless asked for


def test_without_the_options_the_text_encoder_reads_what_it_always_read(tiny_pipe):
    """The context of the loop, bit for bit; and parentheses are text."""
    prompts = ["a (cat:1.3) in the style of (noto)", r"a \(dog\)"]
    with torch.no_grad():
        by_hand = tiny_pipe.text_encoder(tokenize(tiny_pipe.tokenizer, ["", *prompts]))
    context = tiny_pipe.start(tiny_pipe.prepare(prompts, Options(negative_prompt=""))).context
    torch.testing.assert_close(context, by_hand[[0, 0, 1, 2]], rtol=1e-5, atol=1e-5)
    assert torch.equal(context, torch.cat([tiny_pipe.encode_prompt(["", ""]), tiny_pipe.encode_prompt(prompts)]))
    assert Options().reading == {}


@pytest.mark.parametrize("prompt", ["a cat", "", "an octopus, with: a hat \\o/", "l'œuf à 20 €, 猫 🐈"])
def test_switched_on_a_prompt_without_the_syntax_is_drawn_bit_for_bit_as_before(tiny_pipe, prompt):
    assert torch.equal(drawn(tiny_pipe, prompt, **ALL_ON), drawn(tiny_pipe, prompt))


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
@settings(deadline=None, max_examples=25)
def test_weight_1_is_the_prompt_itself(tiny_pipe, text):
    plain = tiny_pipe.encode_prompt(text)
    assert torch.equal(tiny_pipe.encode_prompt(f"({escape(text)}:1.0)", prompt_weights=True), plain)
    some = tiny_pipe.encode_prompt(f"({escape(text[:5])}:1.0){escape(text[5:])}", prompt_weights=True)
    assert torch.equal(some, plain)


def test_the_picture_says_how_its_prompt_was_read(tiny_pipe, tmp_path):
    assert not {"prompt_weights", "long_prompts", "clip_skip"} & tiny_pipe("a cat", **QUICK, progress=False)[0].info.keys()
    [picture] = tiny_pipe("a (cat:1.3)", **QUICK, **ALL_ON, clip_skip=1, progress=False)
    kept = read_settings(save_image(picture, tmp_path / "cat.png"))
    assert kept["prompt"] == "a (cat:1.3)" and (kept["prompt_weights"], kept["long_prompts"], kept["clip_skip"]) == (
        True,
        True,
        1,
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt_weights": "yes"}, "prompt_weights='yes' is not supported; choose one of False, True"),
        ({"long_prompts": 2}, "long_prompts=2 is not supported"),
        ({"clip_skip": -1}, "clip_skip=-1 must be a whole number, 0"),
        ({"clip_skip": 2}, r"clip_skip=2 must be a whole number, 0 \.\.\. 1"),
        ({"clip_skip": 0.5}, "clip_skip=0.5 must be a whole number"),
        ({"prompt_weights": True, "negative_prompt": "(dog:x)"}, "negative_prompt has the weight 'x' at position 4"),
    ],
)
def test_a_wrong_option_is_named_before_anything_is_computed(tiny_pipe, monkeypatch, options, message):
    monkeypatch.setattr(tiny_pipe.text_encoder, "forward", lambda *_: pytest.fail("the text encoder was asked"))
    with pytest.raises((TypeError, ValueError), match=message):
        tiny_pipe("a cat", **options)


# ---- weights


def test_a_weight_moves_the_states_of_its_words_and_of_no_others(tiny_pipe):
    plain, empty = tiny_pipe.encode_prompt("a cat with a hat"), tiny_pipe.encode_prompt("")
    weighted = tiny_pipe.encode_prompt("a (cat:1.5) with a hat", prompt_weights=True)
    changed = (weighted != plain).any(-1)[0]
    tokens = tiny_pipe.tokenizer.convert_ids_to_tokens(tokenize(tiny_pipe.tokenizer, ["a cat with a hat"])[0].tolist())
    assert "".join(token for token, one in zip(tokens, changed) if one) == "cat</w>"
    torch.testing.assert_close(weighted[0, changed], (empty + 1.5 * (plain - empty))[0, changed])


def test_a_weight_changes_the_picture_and_0_is_not_the_word_left_out_of_the_tokens(tiny_pipe):
    pictures = [drawn(tiny_pipe, f"a (cat:{weight})", prompt_weights=True) for weight in (0, 1, 1.5)]
    assert torch.equal(pictures[1], drawn(tiny_pipe))
    apart = [(x - pictures[1]).abs().max() for x in pictures]
    assert apart[0] > 1e-3 and apart[2] > 1e-3


def test_a_weighted_picture_is_the_same_alone_and_in_a_batch(tiny_pipe):
    """The web UI's way would fail here: there the mean of the whole batch is restored."""
    prompts = ["a (cat:1.4)", "a dog", "(an octopus:0.3)"]
    both = tiny_pipe.encode_prompt(prompts, prompt_weights=True)
    alone = torch.cat([tiny_pipe.encode_prompt(prompt, prompt_weights=True) for prompt in prompts])
    torch.testing.assert_close(both, alone, rtol=1e-5, atol=1e-5)


def test_a_loaded_word_can_be_weighted(make_tiny_pipe):
    pipe = make_tiny_pipe()
    pipe.add_word(Word("<mine>", torch.randn(3, 18, generator=torch.Generator().manual_seed(0))))
    plain, weighted = pipe.encode_prompt("a <mine> cat"), pipe.encode_prompt("a (<mine>:1.5) cat", prompt_weights=True)
    assert (weighted != plain).any(-1).sum() == 3  # its vectors


# ---- chunks


def test_each_chunk_is_read_by_itself(tiny_pipe):
    rows = tokenize_in_chunks(tiny_pipe.tokenizer, [LONG])
    count = rows.shape[1] // 77
    assert count >= 2
    with torch.no_grad():
        by_hand = torch.cat([tiny_pipe.text_encoder(rows[:, 77 * i : 77 * (i + 1)]) for i in range(count)], dim=1)
    torch.testing.assert_close(tiny_pipe.encode_prompt(LONG, long_prompts=True), by_hand, rtol=1e-5, atol=1e-5)


def test_prompt_and_negative_prompt_get_equally_many_chunks(tiny_pipe):
    count = tokenize_in_chunks(tiny_pipe.tokenizer, [LONG]).shape[1] // 77
    empty = tiny_pipe.encode_prompt("")
    for prompt, negative, row in ((LONG, "a dog", 0), ("a dog", LONG, 1)):
        context = tiny_pipe.start(tiny_pipe.prepare(prompt, Options(negative_prompt=negative, long_prompts=True))).context
        assert context.shape == (2, 77 * count, 18)
        assert torch.equal(context[row, :77], tiny_pipe.encode_prompt("a dog")[0])
        for i in range(1, count):
            torch.testing.assert_close(context[row, 77 * i : 77 * (i + 1)], empty[0])


def test_what_was_cut_changes_the_picture_once_it_is_read(tiny_pipe):
    with pytest.warns(UserWarning, match=r"are cut, beginning with .*; long_prompts=True reads them, too"):
        cut = drawn(tiny_pipe, LONG)
    with pytest.warns(UserWarning, match="are cut"):
        same = drawn(tiny_pipe, LONG + "a dog")
    assert torch.equal(cut, same)
    whole = drawn(tiny_pipe, LONG, long_prompts=True)
    assert (whole - cut).abs().max() > 1e-3
    assert (drawn(tiny_pipe, LONG + "a dog", long_prompts=True) - whole).abs().max() > 1e-4


def test_weights_reach_into_later_chunks(tiny_pipe):
    plain = tiny_pipe.encode_prompt(LONG + "a dog", long_prompts=True)
    weighted = tiny_pipe.encode_prompt(LONG + "a (dog:1.5)", **ALL_ON)
    changed = (weighted != plain).any(-1)[0].nonzero().flatten()
    assert len(changed) and changed.min() > 77
    cut = pytest.warns(UserWarning, match="are cut")
    with cut:
        assert torch.equal(tiny_pipe.encode_prompt(LONG + "(dog:1.5)", prompt_weights=True), tiny_pipe.encode_prompt(LONG))


@pytest.mark.parametrize("name", ["torch", "onnx"])
def test_every_engine_draws_a_long_prompt(make_tiny_pipe, name):
    """The keys and values that are kept for a run are those of all chunks; ONNX Runtime leaves longer prompts to PyTorch."""
    if name == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    plain, other = make_tiny_pipe(), make_tiny_pipe()
    plain.engine = as_written
    other.engine = make_engine(name, other.unet)
    for options in ({"long_prompts": True}, {}, ALL_ON):
        prompt = LONG if options else "a cat"
        torch.testing.assert_close(drawn(other, prompt, **options), drawn(plain, prompt, **options), rtol=0, atol=1e-4)


# ---- clip skip


@pytest.fixture(scope="module")
def diffusers_emoji():
    diffusers = pytest.importorskip("diffusers")
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(EMOJI_FOLDER, local_files_only=True)
    if not hasattr(pipe.text_encoder, "text_model"):  # diffusers 0.42 looks for its normalization there; transformers 5 has none
        vars(pipe.text_encoder)["text_model"] = pipe.text_encoder
    return pipe


@pytest.fixture(scope="module")
def emoji():
    return load_pipeline("emoji", device="cpu", dtype="float32")


def test_clip_skip_of_emoji_equals_that_of_diffusers(emoji, diffusers_emoji):
    prompt = "a cat in the style of noto"
    seen = []
    for skip in range(emoji.text_encoder.config.num_hidden_layers):
        with torch.no_grad():
            theirs, _ = diffusers_emoji.encode_prompt(prompt, "cpu", 1, False, clip_skip=skip)
        ours = emoji.encode_prompt(prompt, clip_skip=skip)
        torch.testing.assert_close(ours, theirs.float(), rtol=1e-4, atol=1e-4)
        assert all(not torch.allclose(ours, other, atol=0.1) for other in seen)  # each is another one
        seen.append(ours)
    assert torch.equal(seen[0], emoji.encode_prompt(prompt))


def test_clip_skip_leaves_out_the_last_layers_and_keeps_the_normalization(tiny_pipe):
    model, ids = tiny_pipe.text_encoder.text_model, tokenize(tiny_pipe.tokenizer, ["a cat"])
    with torch.no_grad():
        by_hand = model.final_layer_norm(model.encoder.layers[0](model.embeddings(ids)))
    assert torch.equal(tiny_pipe.encode_prompt("a cat", clip_skip=1), by_hand)
    torch.testing.assert_close(by_hand.std(-1), torch.ones(1, 77), rtol=0, atol=0.05)  # as the U-Net expects it
    assert (drawn(tiny_pipe, clip_skip=1) - drawn(tiny_pipe)).abs().max() > 1e-3
    assert torch.equal(drawn(tiny_pipe, clip_skip=0), drawn(tiny_pipe))


def test_it_reaches_the_empty_prompt_too(tiny_pipe):
    """Of a weighted prompt, of the negative one, and of the chunks that fill up."""
    context = tiny_pipe.start(tiny_pipe.prepare(LONG, Options(long_prompts=True, clip_skip=1))).context
    assert torch.equal(context[0, :77], tiny_pipe.encode_prompt("", clip_skip=1)[0])
    assert torch.equal(context[0, 77:154], tiny_pipe.encode_prompt("", clip_skip=1)[0])
    weighted = tiny_pipe.encode_prompt("(a cat:0)", prompt_weights=True, clip_skip=1)
    n = len(tiny_pipe.tokenizer("a cat").input_ids)
    assert np.array_equal(weighted[0, : n - 1], tiny_pipe.encode_prompt("", clip_skip=1)[0, : n - 1])
