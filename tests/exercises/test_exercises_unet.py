"""The checks of notebook 06 name the mistake in every wrong answer."""

import pytest

from tests.exercises.answers import answer, assert_named, assert_told

LAST = "if i < len(config.block_out_channels) - 1:"
UP = "pairs += [(i, out) for inputs, out in zip(up, reversed(channels)) for i in inputs]"


@pytest.mark.parametrize(
    ("exercise", "old", "new", "mistake"),
    [
        ("06.1", "stack = [config.block_out_channels[0]]", "stack = []", "the result of conv_in"),
        ("06.1", "return stack", "return stack[::-1]", "in which they come off"),
        ("06.1", LAST, "if True:", "the last level does not downsample"),
        ("06.1", LAST, "if False:", "results of the downsamplings are missing"),
        ("06.1", "stack.append(channels)", "stack.append(config.block_out_channels[i + 1])", "keeps the channels of its level"),
        ("06.1", "return stack", "return stack[:5]", "there are 12 feature maps on the stack; yours has 5"),
        ("06.1", "return stack", "return sum(stack)", "must be a list"),
        ("06.1", "return stack", "return stack[1:] + stack[:1]", "the stack should be"),
        ("06.2", "stack.pop()", "stack.pop(0)", "not pop(0)"),
        ("06.2", "reversed(levels)", "levels", "in the wrong order"),
        ("06.2", "torch.cat([x, skip], dim=1)", "torch.cat([skip, x], dim=1)", "joined in the wrong order"),
        ("06.2", "torch.cat([x, skip], dim=1)", "torch.cat([x, x], dim=1)", "the skip is not used"),
        ("06.2", 'mode="nearest"', 'mode="bilinear"', "bilinearly"),
        ("06.2", "size=skip.shape[-2:]", "scale_factor=2", "fails for 5 x 7"),
        (
            "06.2",
            "stack.append(x)\n        x = F.avg_pool2d(x, 2, ceil_mode=True)",
            "x = F.avg_pool2d(x, 2, ceil_mode=True)\n        stack.append(x)",
            "push after halving",
        ),
        ("06.2", "torch.cat([x, skip], dim=1)", "x + skip", "raised RuntimeError"),
        ("06.2", "x = middle(x)", "pass", "the middle is missing"),
        ("06.2", "stack = []", "stack = []; x.mul_(2)", "changes its input"),
        ("06.3", "out * (i + 1) if i != out else 0", "0", "1x1 shortcuts are missing"),
        ("06.3", "total += 2 * i + 2 * out", "total += 0", "norms are missing"),
        ("06.3", "total += out * (time + 1)", "total += 0", "takes the time"),
        ("06.3", "pairs += [(channels[-1], channels[-1])] * 2", "pass", "in the middle"),
        ("06.3", UP, "pass", "the way up is missing"),
        ("06.3", "return total", "return total + 1", "it should be"),
        ("06.3", "return total", "return float(total)", "a whole number"),
    ],
)
def test_a_wrong_answer_is_told_its_mistake(exercise, old, new, mistake):
    assert_named(exercise, old, new, mistake)


def test_a_way_up_without_skips_is_told():
    without = "flow = channels[-1]\n    for out in reversed(channels):\n        for _ in range(config.layers_per_block + 1):\n"
    without += "            pairs.append((flow, out))\n            flow = out"
    assert_told("06.3", answer("06.3", (UP, without)), "comes off the stack")
