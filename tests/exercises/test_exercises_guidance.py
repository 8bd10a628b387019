"""The checks of notebook 12 name the mistake in every wrong answer."""

import pytest

from tests.exercises.answers import assert_named

TAKEN = "int(round(steps * strength, 6))"
COST = "return taken * (1 if guidance_scale == 1 else 2)"
GUIDED, BACK = "guide(without, with_words, scale, rescale)", "return (x - signal * picture) / noise"
BOTH = "without, with_words = (x - noise * uncond) / signal, (x - noise * cond) / signal"
OUTSIDE = "outside = there**0.5 * known + (1 - there) ** 0.5 * draw()"
STEP = "x = step(x, model(x, here), here, there)"
FRESH = "x = step(x, model(x, here), here, 1) * there**0.5 + (1 - there) ** 0.5 * draw()"
KEEP, UP = "x = (1 - mask) * outside + mask * x", "x = r**0.5 * x + (1 - r) ** 0.5 * draw()"


def own(axes: str = "(1, 2, 3)", model: str = "with_words", share: str = "rescale", ratio: str = "m / g") -> str:
    """The rescaling written out, with one piece of it to change."""
    stds = f"m, g = ({model}.std({axes}, keepdim=True), p.std({axes}, keepdim=True))"
    return f"guide(without, with_words, scale); p = picture; {stds}; s = {share}; picture = s * p * {ratio} + (1 - s) * p"


@pytest.mark.parametrize(
    ("exercise", "old", "new", "mistake"),
    [
        ("12.1", COST, "return taken * 2", "multiplied by 0"),
        ("12.1", COST, "return taken", "each step needs two predictions"),
        ("12.1", "guidance_scale == 1", "guidance_scale <= 1", "below 1, too"),
        ("12.1", TAKEN, "round(steps * strength)", "round down"),
        ("12.1", TAKEN, "steps * strength", "round down"),
        ("12.1", TAKEN, "int(steps * (1 - strength))", "that *are* taken"),
        ("12.1", TAKEN, "steps", "only the last steps are taken"),
        ("12.1", COST, "return '50'", "must be a number"),
        ("12.1", COST, "return 7", "it should be 50, and yours is 7"),
        ("12.2", BACK, "return picture", "go back to ε"),
        ("12.2", BACK, "return guide(uncond, cond, scale, rescale)", "you rescale the noise"),
        ("12.2", GUIDED, "guide(without, with_words, scale)", "nothing is rescaled"),
        ("12.2", GUIDED, own(axes="(0, 1, 2, 3)"), "each picture has its own"),
        ("12.2", GUIDED, own(axes="(2, 3)"), "changes the colors"),
        ("12.2", GUIDED, own(model="without"), "*with* the prompt"),
        ("12.2", GUIDED, own(share="1 - rescale"), "are swapped"),
        ("12.2", GUIDED, own(ratio="g / m"), "upside down"),
        ("12.2", GUIDED, "guide(without, with_words, scale, 1.0)", "all the way"),
        ("12.2", BACK, "return (x - picture) / noise", "has the weight sqrt(ᾱ)"),
        ("12.2", BACK, "return picture.mean()", "must be a tensor (3, 4, 5, 6)"),
        ("12.3", KEEP, "x = mask * outside + (1 - mask) * x", "you keep what should be painted"),
        ("12.3", OUTSIDE, "draw(); outside = known", "goes back without noise"),
        ("12.3", OUTSIDE, OUTSIDE.replace("there", "here"), "gets the noise of `here`"),
        ("12.3", STEP, FRESH, "draws no noise"),
        ("12.3", "if turn + 1 < turns:", "if True:", "after the last turn"),
        ("12.3", UP, "pass", "without going back"),
        ("12.3", "r = here / there", "r = here", "x holds the noise of `there` already"),
        ("12.3", "(1 - r) ** 0.5 * draw()", "(1 - r) * draw()", "is a variance"),
        ("12.3", "    x = draw()\n", "    x, turns = draw(), 1\n", "each level is visited once"),
        ("12.3", "    return x\n", "    return 2 * x\n", "other points"),
        ("12.3", "    return x\n", "    return x[0]\n", "a tensor (7, 2)"),
    ],
)
def test_a_wrong_answer_is_told_its_mistake(exercise, old, new, mistake):
    assert_named(exercise, old, new, mistake)
