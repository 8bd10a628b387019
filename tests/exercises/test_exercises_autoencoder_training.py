"""The checks of notebook 03 name the mistake in every wrong answer."""

import pytest

from tests.exercises.answers import answer, assert_named, assert_told

WIDEN, STRIDE = "seen += (kernel - 1) * apart", "apart *= stride"
FORWARD = f"{WIDEN}\n        {STRIDE}"
LENGTH, EACH = "F.normalize(fx, dim=1), F.normalize(fy, dim=1)", "(fx - fy) ** 2 * head[:, None, None]"
SUM = "total = total + difference.sum(dim=1).mean(dim=(1, 2))"
FOOL, ZERO = "fooling = -discriminator(fake).mean()", "discriminator.zero_grad()"
HINGE = "(F.relu(1 - on_real).mean() + F.relu(1 + on_fake).mean()) / 2"


@pytest.mark.parametrize(
    ("exercise", "old", "new", "mistake"),
    [
        ("03.1", "seen, apart = 1, 1", "seen, apart = 0, 1", "you start from 0"),
        ("03.1", STRIDE, "pass", "you leave out the strides"),
        ("03.1", FORWARD, f"{STRIDE}\n        {WIDEN}", "a layer's own stride"),
        ("03.1", "in layers", "in layers[::-1]", "through the layers backward"),
        ("03.1", "(kernel - 1)", "kernel", "reaches *two* further"),
        ("03.1", "return seen", "return sum(kernel for kernel, _ in layers)", "the sum of the kernels"),
        ("03.1", "return seen", "return seen + 7", "it should be 3; yours is 10"),
        ("03.2", LENGTH, "fx, fy", "not brought to length 1"),
        ("03.2", LENGTH, "F.normalize(fx, dim=(1, 2, 3)), F.normalize(fy, dim=(1, 2, 3))", "the whole map at once"),
        ("03.2", LENGTH, "F.normalize(fx, dim=(2, 3)), F.normalize(fy, dim=(2, 3))", "you normalize over the positions"),
        ("03.2", EACH, "(fx - fy) ** 2", "the heads are not used"),
        ("03.2", EACH, "((fx - fy) * head[:, None, None]) ** 2", "in before the square"),
        ("03.2", EACH, "(fx - fy).abs() * head[:, None, None]", "not squared"),
        ("03.2", ".mean(dim=(1, 2))", ".sum(dim=(1, 2))", "sum over the positions"),
        ("03.2", ".sum(dim=1)", ".mean(dim=1)", "average over the channels"),
        ("03.2", "return total", "return total / len(heads)", "average over the levels"),
        ("03.2", "total = total +", "total =", "that is level 1 alone"),
        ("03.2", "return total", "return total**0.5", "no root"),
        ("03.2", "return total", "return total.mean()", "for the whole batch"),
        ("03.2", "return total", "return total[:, None]", "must have one number for each picture"),
        ("03.2", "return total", "return total + 1", "other numbers"),
        ("03.3", FOOL, "fooling = discriminator(fake).mean()", "the generator's sign is wrong"),
        ("03.3", "fake.detach()", "fake", "detach the fakes"),
        ("03.3", ZERO, "pass", "leaves gradients in the discriminator: zero"),
        (
            "03.3",
            FOOL,
            "fooling = -(F.relu(1 - discriminator(real)).mean() + F.relu(1 + discriminator(fake)).mean()) / 2",
            "no margin, no real pictures",
        ),
        (
            "03.3",
            FOOL,
            "fooling = (F.relu(1 - discriminator(real)).mean() + F.relu(1 + discriminator(fake)).mean()) / 2",
            "it would help to be caught",
        ),
        ("03.3", FOOL, "fooling = 0 * discriminator(fake).mean()", "all zero"),
        ("03.3", FOOL, "fooling = -discriminator(fake).square().mean()", "not those of -discriminator"),
        ("03.3", "fake = generator(noise)", "fake = generator(noise).detach()", "the generator has no gradients"),
        ("03.3", HINGE, "F.relu(1 - on_real).mean() + F.relu(1 + on_fake).mean()", "half of their sum"),
        ("03.3", HINGE, "-(F.relu(1 - on_real).mean() + F.relu(1 + on_fake).mean()) / 2", "the discriminator's sign is wrong"),
        ("03.3", HINGE, "F.relu(1 - on_real).mean() / 2", "not learned from the fake ones"),
        ("03.3", HINGE, "F.relu(1 + on_fake).mean() / 2", "not learned from the real ones"),
        ("03.3", HINGE, "(F.relu(1 - on_real).mean() - F.relu(1 - on_fake).mean()) / 2", "relu(1 + verdict)"),
        ("03.3", HINGE, "(F.softplus(-on_real).mean() + F.softplus(on_fake).mean()) / 2", "that is the cross-entropy"),
        ("03.3", HINGE, "-on_fake.mean()", "the discriminator has the gradients of the generator's loss"),
        ("03.3", "hinge.backward()", "pass", "the discriminator has no gradients"),
        (
            "03.3",
            "return fooling, hinge",
            "torch.optim.SGD(generator.parameters(), 0.1).step(); return fooling, hinge",
            "make no step",
        ),
        ("03.3", "return fooling, hinge", "pass", "the gradients are right: return both losses"),
        ("03.3", "return fooling, hinge", "return fooling", "the gradients are right: return both losses"),
    ],
)
def test_a_wrong_answer_is_told_its_mistake(exercise, old, new, mistake):
    assert_named(exercise, old, new, mistake)


def test_a_leak_that_pytorch_lets_pass_is_told():
    kept = ("fooling.backward()", "fooling.backward(retain_graph=True)")
    leaky = answer("03.3", ("fake.detach()", "fake"), kept)
    assert_told("03.3", leaky, "leaves gradients in the generator: fake.detach() is missing")


def test_an_error_of_the_learners_own_is_told_as_such():
    assert_told("03.3", answer("03.3", ("generator(noise)", "generator(noise[0, 0])")), "your code raised RuntimeError")


def test_zeroing_before_the_generators_step_as_well_is_right():
    from ldm_tutorial.exercises import verdict

    tidy = answer("03.3", (FOOL, f"generator.zero_grad(); discriminator.zero_grad(); {FOOL}"))
    assert verdict("03.3", tidy) == "[03.3] correct"


def test_other_losses_than_those_of_the_gradients_are_told():
    assert_told(
        "03.3", answer("03.3", ("return fooling, hinge", "return fooling, 2 * hinge")), "the two losses that you return are"
    )
