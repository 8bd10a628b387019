"""A word is one more row of the table of embeddings, and a token that is found in a prompt; taken away, all is as before."""

import copy

import pytest
import torch
from safetensors.torch import load_file, save_file

from ldm_tutorial.adapters import Word, read_word, save_word
from ldm_tutorial.checkpoints import CheckpointError, load_checkpoint, save_checkpoint
from ldm_tutorial.inputs import tokenize


def vectors(count=1, seed=0, width=18):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def table(pipe):
    return pipe.text_encoder.text_model.embeddings.token_embedding


def ids(pipe, prompt):
    return pipe.tokenizer(prompt, add_special_tokens=False).input_ids


def test_a_word_is_one_token_behind_all_others_and_its_vector_the_row(pipe):
    size, before = len(pipe.tokenizer), ids(pipe, "a cat , with ")
    pipe.add_word(Word("<mine>", vectors()))
    assert len(pipe.tokenizer) == pipe.text_encoder.config.vocab_size == table(pipe).num_embeddings == size + 1
    assert torch.equal(table(pipe).weight[size], vectors()[0])
    assert ids(pipe, "a cat <mine>, with <Mine>")[len(ids(pipe, "a cat")) :][0] == size
    assert [i for i in ids(pipe, "a cat <mine>, with <Mine>") if i != size] == before


def test_only_prompts_with_the_word_change(pipe):
    plain, other = pipe.encode_prompt("a cat"), pipe.encode_prompt("a cat <mine>")
    pipe.add_word(Word("<mine>", vectors()))
    assert torch.equal(pipe.encode_prompt("a cat"), plain)
    assert not torch.allclose(pipe.encode_prompt("a cat <mine>"), other, atol=0.05)
    pipe.unload_word("<mine>")
    assert torch.equal(pipe.encode_prompt("a cat <mine>"), other)


def test_unloaded_all_is_as_before_bit_for_bit(pipe):
    picture, config, weight = pipe("a <mine> cat", steps=2, progress=False)[0], pipe.config, table(pipe).weight.clone()
    tokenizer = pipe.tokenizer
    pipe.add_word(Word("<mine>", vectors()))
    pipe.add_word(Word("other-word", vectors(3)))
    assert pipe("a <mine> cat", steps=2, progress=False)[0].tobytes() != picture.tobytes()
    pipe.unload_word()
    assert pipe.tokenizer is tokenizer and pipe.config == config and torch.equal(table(pipe).weight, weight)
    assert pipe("a <mine> cat", steps=2, progress=False)[0].tobytes() == picture.tobytes()


def test_a_word_of_several_vectors_takes_as_many_tokens(pipe):
    size = len(pipe.tokenizer)
    pipe.add_word(Word("<one>", vectors(1, seed=1)))
    pipe.add_word(Word("<mine>", vectors(3, seed=2)))
    assert pipe.dictionary.first_row("<mine>") == size + 1
    spelled = pipe.dictionary.spell_out("A <MINE>, <one> and x<mine>")
    assert spelled == "A <mine> <mine>_1 <mine>_2, <one> and x<mine>"
    assert ids(pipe, pipe.dictionary.spell_out("<mine>")) == [size + 1, size + 2, size + 3]
    by_hand = pipe.text_encoder(tokenize(pipe.tokenizer, ["a <mine> <mine>_1 <mine>_2"]))
    assert torch.equal(pipe.encode_prompt("a <mine>"), by_hand)
    pipe.unload_word("<one>")  # the others move up
    assert torch.equal(table(pipe).weight[size:], vectors(3, seed=2))
    assert torch.equal(pipe.encode_prompt("a <mine>"), by_hand)


def test_it_goes_to_the_text_encoder_that_the_pipeline_has_now(pipe, make_tiny_pipe):
    pipe.text_encoder = make_tiny_pipe().text_encoder
    pipe.add_word(Word("<mine>", vectors()))
    assert torch.equal(table(pipe).weight[-1], vectors()[0])


def test_where_there_is_no_word_unloading_changes_nothing(pipe, make_tiny_pipe):
    """A tokenizer, or a text encoder, that took the place of the first one stays."""
    other = make_tiny_pipe()
    pipe.text_encoder, pipe.tokenizer = other.text_encoder, copy.deepcopy(other.tokenizer)
    tokenizer, weight = pipe.tokenizer, table(pipe).weight
    pipe.unload_word()
    assert pipe.tokenizer is tokenizer and table(pipe).weight is weight
    with pytest.raises(ValueError, match="no word '<mine>' is loaded; loaded: none"):
        pipe.unload_word("<mine>")


def test_it_is_found_as_a_word_and_not_inside_of_one(pipe):
    pipe.add_word(Word("zorb", vectors()))
    new = len(pipe.tokenizer) - 1
    assert new in ids(pipe, "a zorb.") and new in ids(pipe, "zorb, a cat") and new not in ids(pipe, "zorbs")


def test_a_written_word_is_read_again(pipe, tmp_path):
    for count in (1, 3):
        path = save_word(Word("<mine>", vectors(count)), tmp_path / "new" / "x.safetensors")
        word = pipe.load_word(path)
        assert word.text == "<mine>" and torch.equal(word.vectors, vectors(count))
        pipe.unload_word()
    assert pipe.load_word(path, "another").text == "another" and list(pipe.dictionary.words) == ["another"]
    with pytest.raises(ValueError, match=r"must end in .safetensors"):
        save_word(word, tmp_path / "x.pt")


@pytest.mark.parametrize("name, text", [("emb_params", "easy-style"), ("*", "easy-style"), ("<theirs>", "<theirs>")])
@pytest.mark.parametrize("shape", [(18,), (1, 18), (4, 18)])
def test_files_of_a1111_and_diffusers_load(pipe, tmp_path, name, text, shape):
    save_file({name: torch.ones(shape).half()}, tmp_path / "easy-style.safetensors")
    word = pipe.load_word(tmp_path / "easy-style.safetensors")
    assert word.text == text and word.vectors.shape == (shape[0] if len(shape) == 2 else 1, 18)
    assert pipe.encode_prompt(f"a cat, {text}").isfinite().all()


def test_diffusers_reads_what_we_write_and_means_the_same(pipe, tmp_path):
    diffusers = pytest.importorskip("diffusers")
    folder = save_checkpoint(pipe, tmp_path / "model")
    theirs = diffusers.StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    path = save_word(Word("<mine>", vectors(3)), tmp_path / "mine.safetensors")
    theirs.load_textual_inversion(str(path))
    pipe.load_word(path)
    with torch.no_grad():
        expected, _ = theirs.encode_prompt("a cat like <mine>", "cpu", 1, False)
    torch.testing.assert_close(pipe.encode_prompt("a cat like <mine>"), expected, rtol=1e-5, atol=1e-5)


def test_a_model_is_saved_with_its_words(pipe, tmp_path):
    pipe.add_word(Word("<mine>", vectors()))
    for path in (tmp_path / "model", tmp_path / "model.safetensors"):
        saved = load_checkpoint(save_checkpoint(pipe, path))
        assert saved.tokenizer("a <mine>").input_ids == pipe.tokenizer("a <mine>").input_ids
        with torch.no_grad():
            again = saved.text_encoder(tokenize(saved.tokenizer, ["a <mine>"]))
        assert torch.equal(again, pipe.encode_prompt("a <mine>"))


@pytest.mark.parametrize(
    "tensors, words",
    [
        ({}, "is no word: it must hold one tensor, and holds 0"),
        ({"a": torch.ones(18), "b": torch.ones(18)}, "is no word: it must hold one tensor, and holds 2"),
        ({"clip_l": torch.ones(2, 18), "clip_g": torch.ones(2, 30)}, "is a word for Stable Diffusion XL"),
        ({"<a>": torch.ones(2, 3, 18)}, r"is no word: <a> must be vectors \(k, d\)"),
        ({"<a>": torch.ones(18, dtype=torch.int64)}, "is no word: <a> must be vectors"),
        ({"<a>": torch.ones(0, 18)}, "is no word: <a> must be vectors"),
        ({"<a>": torch.ones(18) / 0}, "is damaged: <a> holds numbers that are not finite"),
        ({" a": torch.ones(18)}, "word=' a' must be 1 ... 100 characters"),
        ({"<a>": torch.ones(1024)}, "have width 1024 of Stable Diffusion 2; this text encoder has 18"),
        ({"<a>": torch.ones(76, 18)}, "has 76 vectors; a prompt has 75 tokens"),
        ({"a": torch.ones(18)}, "'a' is a word of the model itself; give another, such as '<a>'"),
    ],
)
def test_a_wrong_file_is_refused_and_nothing_has_changed(pipe, tmp_path, tensors, words):
    save_file(tensors, tmp_path / "x.safetensors")
    tokenizer, weight = pipe.tokenizer, table(pipe).weight
    with pytest.raises(ValueError, match=words):
        pipe.load_word(tmp_path / "x.safetensors")
    assert pipe.tokenizer is tokenizer and table(pipe).weight is weight and pipe.dictionary.words == {}


def test_a_word_is_there_once(pipe, tmp_path):
    pipe.add_word(Word("<mine>", vectors(2)))
    for text in ("<mine>", "<MINE>", "<mine>_1"):
        with pytest.raises(ValueError, match="is loaded already"):
            pipe.add_word(Word(text, vectors()))
    with pytest.raises(ValueError, match="no word '<his>' is loaded; loaded: '<mine>'"):
        pipe.unload_word("<his>")
    with pytest.raises(FileNotFoundError):
        read_word(tmp_path / "nowhere.safetensors")
    (tmp_path / "x.safetensors").write_bytes(b"PK\3\4")
    with pytest.raises(CheckpointError, match="is a pickle"):
        read_word(tmp_path / "x.safetensors")


def test_the_file_is_that_of_diffusers(tmp_path):
    tensors = load_file(save_word(Word("<mine>", vectors(2)), tmp_path / "x.safetensors"))
    assert list(tensors) == ["<mine>"] and torch.equal(tensors["<mine>"], vectors(2))
