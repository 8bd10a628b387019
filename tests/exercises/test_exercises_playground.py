"""The checks of notebook 14 name the mistake in every wrong answer."""

import pytest

from tests.exercises.answers import assert_named

DIFFERS = "return {name for name in columns[0] if len({column[name] for column in columns}) > 1}"
ERROR = "np.abs(np.float32(picture) - np.float32(reference)).mean()"
FIRST_TWO = "name for name in columns[0] if columns[0][name] != columns[1][name]"
GUARD, RESULT = "(step.index + 1) % every == 0", "    yield pipe.decode(step.latents)[0]"
DRAW = "pipe(prompt, scheduler=scheduler, steps=steps, seed=seed)[0]"


@pytest.mark.parametrize(
    ("exercise", "old", "new", "mistake"),
    [
        ("14.1", DIFFERS, f"return [{FIRST_TWO}]", "must be a set of names"),
        ("14.1", DIFFERS, f"return {{{FIRST_TWO}}}", "the first two columns only"),
        ("14.1", DIFFERS, DIFFERS.replace("> 1", "== 1"), "you return what is equal"),
        (
            "14.1",
            DIFFERS,
            "return {v for c in columns for v in c.values()} - {*columns[0].values()}",
            "the names, not the values",
        ),
        (
            "14.1",
            DIFFERS,
            DIFFERS.replace("for column in columns", "for column in columns if column[name]"),
            "0 is a value like any other",
        ),
        ("14.1", DIFFERS, f"{DIFFERS.replace('return ', 'x = ')}; return set(sorted(x)[:1])", "you find only"),
        ("14.1", DIFFERS, f"{DIFFERS.replace('return ', 'x = ')}; return x or {{'seed'}}", "nothing differs"),
        ("14.1", DIFFERS, "return columns[0].names", "raised AttributeError"),
        ("14.2", "step.denoised", "step.latents", "the noisy latents"),
        ("14.2", "pipe.decode(step.latents)", "pipe.decode(step.denoised)", "still a prediction"),
        ("14.2", GUARD, "step.index % every == 0", "you begin with the first step"),
        ("14.2", GUARD, "True", "you show every step"),
        ("14.2", RESULT, "    pass", "the result itself is missing"),
        ("14.2", "yield pipe.decode(step.latents)[0]", "yield pipe.decode(step.latents)", "yield pictures"),
        ("14.2", RESULT, "    return [pipe.decode(step.latents)[0]]", "the result itself is missing"),
        ("14.2", "prompt, **options)", "prompt, **{**options, 'seed': 0})", "or others"),
        ("14.3", ERROR, "np.abs(np.float32(picture) - np.float32(reference)).max()", "The mean is asked for"),
        ("14.3", ERROR, "(np.asarray(picture) - np.asarray(reference)).mean()", "wraps around"),
        ("14.3", DRAW, "pipe(prompt, scheduler=scheduler, steps=steps)[0]", "seed must be 3 in every call"),
        ("14.3", DRAW, "pipe(prompt, steps=steps, seed=seed)[0]", "scheduler must be 'euler_a'"),
        ("14.3", "draw(64)", "draw(32)", "draw the picture of 64 steps"),
        ("14.3", "(2, 4, 8, 16, 32)", "(32, 16, 8, 4, 2)", "the largest number of steps"),
        ("14.3", "<= tolerance", ">= tolerance", "the smallest number of steps is"),
    ],
)
def test_a_wrong_answer_is_told_its_mistake(exercise, old, new, mistake):
    assert_named(exercise, old, new, mistake)
