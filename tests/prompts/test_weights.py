"""`(cat:1.3)`: what is read as a weight, what as text, what is refused; and which token gets which weight."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ldm_tutorial.inputs import tokenize
from ldm_tutorial.prompts import Span, escape, plain_text, read_weights, token_weights, weigh

SETTINGS = settings(deadline=None, max_examples=60)
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
MANY_MARKS = st.text("()\\:.1 ab-é猫", max_size=20)
WEIGHTS = st.floats(0, 10).map(lambda w: round(w, 3))


@pytest.mark.parametrize(
    ("prompt", "spans"),
    [
        ("", []),
        ("a cat", [("a cat", 1)]),
        ("a (cat:1.3) on a mat", [("a ", 1), ("cat", 1.3), (" on a mat", 1)]),
        ("(cat)", [("cat", 1.1)]),
        ("((cat))", [("cat", 1.1**2)]),
        ("((red:0.5) cat:2) nap", [("red", 1), (" cat", 2), (" nap", 1)]),
        ("(a (b (c:2):2) d)", [("a ", 1.1), ("b ", 2.2), ("c", 4.4), (" d", 1.1)]),
        (r"a \(noto\) cat", [("a (noto) cat", 1)]),
        (r"(\(cat\):1.5)", [("(cat)", 1.5)]),
        (r"(half past 9\:30:1.2)", [("half past 9:30", 1.2)]),
        ("half past 9:30: a cat", [("half past 9:30: a cat", 1)]),
        (r"c:\cats \n \\", [("c:\\cats \\n \\", 1)]),
        ("(cat: 1.3 )(dog:.5)(fox:2.)(owl:+1)", [("cat", 1.3), ("dog", 0.5), ("fox", 2), ("owl", 1)]),
        ("(cat:1)", [("cat", 1)]),
        ("() (:1.5) a", [("  a", 1)]),
        ("[cat] {dog}", [("[cat] {dog}", 1)]),
    ],
)
def test_the_syntax(prompt, spans):
    read = read_weights(prompt)
    assert [span.text for span in read] == [text for text, _ in spans]
    assert [span.weight for span in read] == pytest.approx([weight for _, weight in spans])


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("a (cat", r"negative_prompt has a '\(' at position 2 that is never closed; as text, write \\\("),
        ("((cat)", r"has a '\(' at position 0 that is never closed"),
        ("(cat:", r"has a ':' at position 4 without a number and '\)' after it; as text, write \\:"),
        ("(cat:1.3", r"has a ':' at position 4 without a number"),
        ("(a:b:1.3)", r"has a ':' at position 2 without a number"),
        ("a cat)", r"has a '\)' at position 5 that closes nothing; as text, write \\\)"),
        ("a cat :)", r"has a '\)' at position 7 that closes nothing"),
        ("(cat:x)", r"has the weight 'x' at position 4; a weight is a number, 0 ... 10, such as \(cat:1.3\); for a colon that"),
        ("(cat:)", "has the weight '' at position 4"),
        ("(cat:-1)", "has the weight '-1' at position 4; a weight is a number, 0 ... 10"),
        ("(cat:1e3)", "has the weight '1e3'"),
        ("(cat:nan)", "has the weight 'nan'"),
        ("(cat:٣)", "has the weight '٣'"),
        ("(cat:1000)", "has the weight '1000'"),
        ("((cat:5):5)", r"gives 'cat' the weight 25; a weight is 0 ... 10"),
    ],
)
def test_a_mistake_is_named_with_its_place(prompt, message):
    with pytest.raises(ValueError, match=message):
        read_weights(prompt, "negative_prompt")


@given(ANY_TEXT | MANY_MARKS)
@SETTINGS
def test_any_text_can_be_escaped(text):
    assert read_weights(escape(text)) == ([Span(text, 1.0)] if text else [])


@given(st.lists(st.tuples(ANY_TEXT | MANY_MARKS, WEIGHTS), max_size=5))
@SETTINGS
def test_what_is_written_is_what_is_read(parts):
    read = read_weights("".join(f"({escape(text)}:{weight})" for text, weight in parts))
    assert plain_text(read) == "".join(text for text, _ in parts)
    letters = [(letter, weight) for text, weight in parts for letter in text]
    assert [(letter, span.weight) for span in read for letter in span.text] == letters
    assert all(a.weight != b.weight for a, b in zip(read, read[1:]))


@given(MANY_MARKS)
@SETTINGS
def test_any_prompt_is_read_or_refused_by_name(prompt):
    try:
        spans = read_weights(prompt)
    except ValueError as error:
        spans, message = [], str(error)
    else:
        message = "prompt is right"
    assert message.startswith("prompt ")
    assert all(0 <= weight <= 10 and math.isfinite(weight) for _, weight in spans)


@given(st.lists(st.tuples(ANY_TEXT, WEIGHTS), max_size=4))
@SETTINGS
def test_a_token_has_the_weight_of_its_first_character(tiny_tokenizer, parts):
    """Also within a word, of any script: the tokens are those of the whole text."""
    spans = [Span(text, weight) for text, weight in parts if text]
    weights = token_weights(tiny_tokenizer, spans)
    assert len(weights) == 77
    known = {weight for _, weight in spans} | {1.0}
    assert weights[0] == 1 and weights[-1] == 1 and set(weights) <= known
    alone = tiny_tokenizer(plain_text(spans), add_special_tokens=False).input_ids
    assert all(weight == 1 for weight in weights[1 + len(alone) :])


def test_the_weights_stand_where_the_words_do(tiny_tokenizer):
    spans = read_weights("a (cat:1.5) with a (hat:0.5)")
    row = tiny_tokenizer.convert_ids_to_tokens(tokenize(tiny_tokenizer, [plain_text(spans)])[0].tolist())
    weighted = [(token, weight) for token, weight in zip(row, token_weights(tiny_tokenizer, spans)) if weight != 1]
    assert "".join(token for token, weight in weighted if weight == 1.5) == "cat</w>"
    assert "".join(token for token, weight in weighted if weight == 0.5) == "hat</w>"
    assert {weight for _, weight in weighted} == {1.5, 0.5}


def test_a_weight_moves_an_embedding_on_the_line_through_the_empty_prompts():
    h, h0 = torch.randn(2, 5, 3), torch.randn(1, 5, 3)
    weights = torch.tensor([[1, 0, 0.5, 2, 1], [1, 1, 1, 1, 1.0]])
    moved = weigh(h, h0, weights)
    assert torch.equal(moved[1], h[1]) and torch.equal(moved[0, [0, 4]], h[0, [0, 4]])  # weight 1: bit for bit
    assert torch.equal(moved[0, 1], h0[0, 1])
    torch.testing.assert_close(moved[0, 2], (h[0, 2] + h0[0, 2]) / 2)
    torch.testing.assert_close(moved[0, 3], 2 * h[0, 3] - h0[0, 3])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_in_half_precision_it_is_rounded_once(dtype):
    h, h0, weights = torch.randn(1, 4, 3).to(dtype), torch.randn(1, 4, 3).to(dtype), torch.tensor([[1, 1.3, 0, 3]])
    exact = h0.double() + weights.double()[..., None] * (h.double() - h0.double())
    moved = weigh(h, h0, weights)
    assert moved.dtype == dtype and torch.equal(moved[:, 0], h[:, 0])
    torch.testing.assert_close(moved.double(), exact, rtol=2 * torch.finfo(dtype).eps, atol=1e-3)
