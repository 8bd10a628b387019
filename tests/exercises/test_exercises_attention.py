"""The checks of notebook 04 name the mistake in every wrong answer."""

import pytest

from ldm_tutorial.exercises import verdict
from tests.exercises.answers import assert_named

BYTES = "return heads * n * n * bytes_per_number"
SCORES, SILENT = "scores = q @ k.T / q.shape[-1] ** 0.5", "scores[:, j] = -torch.inf"
SOFTMAX = "return scores.softmax(dim=-1) @ v"
READY_MADE = "    return torch.nn.functional.scaled_dot_product_attention(q, k, v)\n    largest = torch"
HIGHER = "higher = torch.maximum(largest, scores.max(dim=-1, keepdim=True).values)"


@pytest.mark.parametrize(
    ("exercise", "old", "new", "mistake"),
    [
        ("04.1", BYTES, "return n * n * bytes_per_number", "that of one head"),
        ("04.1", BYTES, "return heads * n * n", "not their bytes"),
        ("04.1", BYTES, "return heads * n * bytes_per_number", "squared"),
        ("04.1", BYTES, "return n * n * bytes_per_number / heads", "share the channels"),
        ("04.1", BYTES, "return heads * n * n * bytes_per_number * 8", "bits"),
        ("04.1", "height * width", "height + width", "has 35 positions, not 12"),
        ("04.1", BYTES, "return 7", "should be 7350, and yours is 7"),
        ("04.1", BYTES, "return f'{heads} GiB'", "must be a number"),
        ("04.2", SILENT, "pass", "still counts"),
        ("04.2", SILENT, "scores[:, j] = 0", "a score of 0 still counts"),
        ("04.2", SILENT, "k[j] = 0", "changes its inputs"),
        ("04.2", SILENT, "scores[:, j + 1] = -torch.inf", "you left out word 3; asked was word 2"),
        ("04.2", SILENT, "scores[j] = -torch.inf", "not finite"),
        ("04.2", SILENT, "q = q[[0, 1, 3, 4]]; scores = scores[[0, 1, 3, 4]]", "not a word"),
        ("04.2", SOFTMAX, "w = scores.softmax(dim=-1); w[:, j] = 0; return w", "must have shape (5, 3)"),
        ("04.2", SOFTMAX, "return scores.softmax(dim=0) @ v", "the softmax runs over the words"),
        ("04.2", SCORES, "scores = q @ k.T", "not divided by sqrt(d)"),
        ("04.2", SOFTMAX, "return scores.softmax(dim=-1) @ (2 * v)", "other numbers"),
        ("04.3", "old = (largest - higher).exp()", "old = 1.0", "not rescaled"),
        ("04.3", HIGHER, "higher = torch.zeros_like(largest)", "exp of large ones is infinite"),
        ("04.3", "range(0, len(k), size)", "range(0, len(k) - size, size)", "the last block is missing"),
        ("04.3", "/ q.shape[-1] ** 0.5", "", "not divided by sqrt(d)"),
        ("04.3", "    largest = torch.full", "    size = len(k)\n    largest = torch.full", "not in blocks"),
        ("04.3", "    largest = torch", READY_MADE, "not in blocks"),
        ("04.3", "return out / total", "return out", "not divided by the sum of all weights"),
        ("04.3", "return out / total", "return total", "must be a tensor (5, 3)"),
        ("04.3", "largest = torch.full((len(q), 1), -torch.inf)", "largest = torch.full((len(q), 1), torch.inf)", "not finite"),
    ],
)
def test_a_wrong_answer_is_told_its_mistake(exercise, old, new, mistake):
    assert_named(exercise, old, new, mistake)


def test_leaving_the_word_out_of_keys_and_values_is_right_too():
    def drop(q, k, v, j):
        others = [i for i in range(len(k)) if i != j]
        return (q @ k[others].T / q.shape[-1] ** 0.5).softmax(dim=-1) @ v[others]

    assert verdict("04.2", drop) == "[04.2] correct"


def test_a_softmax_over_the_pixels_is_told():
    def drop(q, k, v, j):
        others = [i for i in range(len(k)) if i != j]
        return (q @ k[others].T / q.shape[-1] ** 0.5).softmax(dim=0) @ v[others]

    assert "your softmax runs over the pixels" in verdict("04.2", drop)


def test_weights_set_to_0_after_the_softmax_are_told():
    def zeroed(q, k, v, j):
        weights = (q @ k.T / q.shape[-1] ** 0.5).softmax(dim=-1)
        weights[:, j] = 0
        return weights @ v

    assert "sum to less than 1" in verdict("04.2", zeroed)


def test_a_softmax_for_each_block_is_told():
    def each(q, k, v, size):
        return sum((q @ k[i : i + size].T / 2).softmax(-1) @ v[i : i + size] for i in range(0, len(k), size))

    assert "of *all* blocks together" in verdict("04.3", each)
