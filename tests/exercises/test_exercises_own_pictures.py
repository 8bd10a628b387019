"""The checks of notebook 17 name the mistake in every wrong answer."""

import pytest

from tests.exercises.answers import assert_named

COUNT = "sum(rank * (d_out + d_in) for d_out, d_in in shapes)"
MERGE = "weight + scale * alpha / len(a) * (b @ a)"
SVD, PARTS = "torch.linalg.svd(after - before)", "v[:rank], u[:, :rank] * s[:rank]"


@pytest.mark.parametrize(
    ("exercise", "old", "new", "mistake"),
    [
        ("17.1", "(d_out + d_in)", "(d_out * d_in)", "added, and not multiplied"),
        ("17.1", "rank * (d_out + d_in)", "d_out * d_in", "the layers themselves"),
        ("17.1", "(d_out + d_in)", "d_in", "B, (d_out, rank), is missing"),
        ("17.1", "(d_out + d_in)", "d_out", "A, (rank, d_in), is missing"),
        ("17.1", "rank * (d_out", "rank**2 * (d_out", "the rank is used twice"),
        ("17.1", "rank * (d_out + d_in)", "(d_out + d_in)", "the rank is missing"),
        ("17.1", "in shapes)", "in shapes[:1])", "the first layer only"),
        ("17.1", "in shapes)", "in shapes[-1:])", "the last layer only"),
        ("17.1", "(d_out + d_in)", "(d_out + d_in) + 1", "a setting and no weight"),
        ("17.1", "sum(rank", "len(shapes) * sum(rank", "once for each layer"),
        ("17.1", "sum(rank", "4 * sum(rank", "bytes in float32"),
        ("17.1", "sum(rank", "2 * sum(rank", "counted twice"),
        ("17.1", "(d_out + d_in)", "(d_out + d_in) + d_out * d_in", "frozen weights are counted"),
        ("17.1", "(d_out + d_in)", "(d_out + d_in) + d_out", "no bias"),
        ("17.1", "(d_out + d_in)", "(d_out + d_in + rank)", "no matrix (rank, rank)"),
        ("17.1", COUNT, f"{COUNT} // len(shapes)", "a mean over the layers"),
        ("17.1", COUNT, "[rank * (d_out + d_in) for d_out, d_in in shapes]", "return one number"),
        ("17.1", f"return {COUNT}", f"n = {COUNT}; shapes.clear(); return n", "changes the list"),
        ("17.2", " / len(a)", "", "alpha is not divided by the rank"),
        ("17.2", "scale * alpha / len(a)", "scale", "alpha / rank is missing"),
        ("17.2", "alpha / len(a)", "len(a) / alpha", "upside down"),
        ("17.2", "scale * alpha / len(a)", "scale / len(a)", "alpha is missing"),
        ("17.2", "len(a)", "a.shape[1]", "the number of inputs"),
        ("17.2", "len(a)", "len(b)", "the number of outputs"),
        ("17.2", "len(a)", "len(a) ** 0.5", "the root of the rank"),
        ("17.2", "/ len(a)", "* len(a)", "multiplied by the rank"),
        ("17.2", "scale * alpha", "alpha", "the scale is missing"),
        ("17.2", "scale * alpha", "scale**2 * alpha", "the scale is used twice"),
        ("17.2", "scale * alpha", "(1 - scale) * alpha", "1 - scale stands where"),
        ("17.2", "scale * alpha", "1 / scale * alpha", "divide by the scale"),
        ("17.2", "weight + scale", "weight - scale", "is subtracted"),
        ("17.2", "weight + scale", "scale", "this is the change only"),
        ("17.2", "weight + scale", "(1 - scale) * weight + scale", "multiplied by 1 - scale"),
        ("17.2", "weight + scale", "scale * weight + scale", "multiplied by the scale, too"),
        ("17.2", MERGE, "weight - alpha / len(a) * (b @ a)", "two mistakes"),
        ("17.2", MERGE, "weight", "nothing is added"),
        ("17.2", MERGE, f"({MERGE}).T", "the transposed one"),
        ("17.2", f"return {MERGE}", "weight += scale * alpha / len(a) * (b @ a); return weight", "changes weight"),
        ("17.2", "b @ a", "a @ b", "shapes cannot be multiplied"),
        ("17.2", MERGE, f"({MERGE}).tolist()", "yours is list"),
        ("17.3", PARTS, "u[:, :rank] * s[:rank], v[:rank]", "A and B are swapped"),
        ("17.3", PARTS, "v[:, :rank], u[:, :rank] * s[:rank]", "A is transposed"),
        ("17.3", PARTS, "v[:rank].T, (u[:, :rank] * s[:rank]).T", "both are transposed"),
        ("17.3", PARTS, "v[:rank], (u[:, :rank] * s[:rank]).T", "B is transposed"),
        ("17.3", PARTS, "v, u", "all singular vectors are kept"),
        ("17.3", " * s[:rank]", "", "the singular values are missing"),
        ("17.3", "v[:rank], u", "s[:rank, None] * v[:rank], u", "used twice"),
        ("17.3", "s[:rank]", "s[:rank].sqrt()", "only the roots"),
        ("17.3", "after - before", "before - after", "the sign is wrong"),
        (
            "17.3",
            SVD,
            "torch.linalg.svd(after - before, full_matrices=False); u, s, v = u.flip(1), s.flip(0), v.flip(0)",
            "smallest",
        ),
        ("17.3", "after - before", "after", "the weight after the training"),
        ("17.3", "after - before", "before", "the weight before the training"),
        ("17.3", "* s[:rank]", "/ s[:rank]", "you divide by the singular values"),
        ("17.3", "after - before", "after + before", "you add the two weights"),
        ("17.3", "s[:rank]", "s[:rank].flip(0)", "the wrong singular values"),
        ("17.3", PARTS, "v[:rank], 0 * u[:, :rank]", "this is how a LoRA starts"),
        ("17.3", PARTS, "(u[:, :rank] * s[:rank]) @ v[:rank]", "return two tensors"),
        ("17.3", "return v", "after -= before; return v", "changes the weights"),
    ],
)
def test_a_wrong_answer_is_told_its_mistake(exercise, old, new, mistake):
    assert_named(exercise, old, new, mistake)
