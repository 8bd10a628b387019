"""The checks of notebook 02 name the mistake in every wrong answer."""

import pytest

from tests.exercises.answers import assert_named

PSNR, ERROR = "(10 * torch.log10(4 / error)).item()", "(a - b).square().mean()"
SCALE, EACH, RATIO = "return 1 / variance**0.5", "0.5 * (l2 - l1 + ratio - 1)", "(l1.exp() + (m1 - m2) ** 2) / l2.exp()"
KL = "return each.sum(dim=(1, 2, 3))"


@pytest.mark.parametrize(
    ("exercise", "old", "new", "mistake"),
    [
        ("02.1", "4 / error", "1 / error", "your peak is 1"),
        ("02.1", "4 / error", "255**2 / error", "your peak is 255"),
        ("02.1", "4 / error", "2 / error", "the peak must be squared"),
        ("02.1", "10 * torch", "20 * torch", "20 is right for a ratio of amplitudes"),
        ("02.1", "torch.log10", "torch.log", "natural logarithm"),
        ("02.1", "10 * torch", "-10 * torch", "the sign is wrong"),
        ("02.1", ERROR, "(a - b).abs().mean()", "mean *absolute* error"),
        ("02.1", ERROR, "(a - b).square().sum()", "averaged, not summed"),
        ("02.1", PSNR, "20 * torch.log10(2 / error)", "the *root*"),
        ("02.1", PSNR, "(error + 7).item()", "it should be"),
        ("02.1", ERROR, "(a - b).square()", "raised RuntimeError"),
        ("02.2", SCALE, "return variance**0.5", "that is the standard deviation"),
        ("02.2", SCALE, "return 1 / variance", "take the root"),
        ("02.2", "- (total / count) ** 2", "", "the mean is not subtracted"),
        ("02.2", "for batch in batches:", "for batch in [next(batches)]:", "the first batch only"),
        ("02.2", "for batch in batches:", "for batch in list(batches)[-1:]:", "the last batch only"),
        (
            "02.2",
            "count, total, squares = 0, 0.0, 0.0",
            "all_ = list(batches); return 3 / sum(b.std().item() for b in all_)",
            "standard deviations of the batches",
        ),
        (
            "02.2",
            "count, total, squares = 0, 0.0, 0.0",
            "return 1 / torch.cat(list(batches)).std(dim=(0, 2, 3)).mean()",
            "the channels' own",
        ),
        (
            "02.2",
            "count, total, squares = 0, 0.0, 0.0",
            "return 1 / torch.cat(list(batches)).std(dim=(0, 2, 3))",
            "must be one number",
        ),
        ("02.2", SCALE, "return 0.18215", "Stable Diffusion's latents"),
        ("02.3", EACH, "l2 - l1 + ratio - 1", "1/2 is missing"),
        ("02.3", EACH, "0.5 * (l2 - l1 + ratio)", "the -1 is missing"),
        ("02.3", EACH, "0.5 * (ratio - 1)", "logarithm of the two variances is missing"),
        ("02.3", EACH, "0.5 * (l1 - l2 + ratio - 1)", "wrong sign"),
        ("02.3", RATIO, "l1.exp() / l2.exp()", "distance of the means is missing"),
        ("02.3", RATIO, "l1.exp() / l2.exp() + (m1 - m2) ** 2", "in units of the second variance"),
        ("02.3", RATIO, "(l1 + (m1 - m2) ** 2) / l2", "logvar is a logarithm"),
        ("02.3", "ratio = ", "m1, l1, m2, l2 = m2, l2, m1, l1; ratio = ", "the two are swapped"),
        ("02.3", "ratio = ", "l1, l2 = 2 * l1, 2 * l2; ratio = ", "do not square it"),
        ("02.3", "ratio = ", "m2, l2 = 0 * m2, 0 * l2; ratio = ", "the second Gaussian is not used"),
        ("02.3", KL, "return each.mean(dim=(1, 2, 3))", "is the sum"),
        ("02.3", KL, "return each", "one number for each latent"),
        ("02.3", KL, "return each.sum()", "for the whole batch"),
        ("02.3", KL, "return each.sum(dim=1)", "must have one number for each picture"),
        ("02.3", KL, "return each.sum(dim=(1, 2, 3)) + 1", "other numbers"),
    ],
)
def test_a_wrong_answer_is_told_its_mistake(exercise, old, new, mistake):
    assert_named(exercise, old, new, mistake)
