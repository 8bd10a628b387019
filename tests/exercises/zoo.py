"""All seeded mistakes of the series: the rows of the tests beside this file, and those below.

Each is the solution with one piece changed. Whether the check names the mistake is measured by test_zoo.py.
"""

import importlib
from functools import lru_cache
from pathlib import Path

from tests.exercises.answers import NOTEBOOKS, file_of, told

Row = tuple[str, str, str, str]  # exercise, a piece of its solution, what stands there instead, words of the message

# What two teachers found refused with a general message or accepted, and more of the kind.
FURTHER: list[Row] = [
    ("00.1", "height // f, width // f", "width // f, height // f", "height comes before width"),
    ("00.1", "config.vae.latent_channels, height // f, width // f", "height // f, width // f, 4", "channels come first"),
    ("00.2", "uncond + scale * (cond - uncond)", "uncond + scale * cond", "you add cond itself"),
    ("00.2", "uncond + scale * (cond - uncond)", "uncond + scale * (cond + uncond)", "you add the two"),
    ("00.2", "uncond + scale * (cond - uncond)", "-uncond - scale * (cond - uncond)", "wrong sign"),
    ("01.1", "(1 - alpha_bar).sqrt() * noise", "noise", "not weighted"),
    ("01.1", "alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * noise", "x0 + noise", "nothing is weighted"),
    ("01.1", "+ (1 - alpha_bar).sqrt()", "- (1 - alpha_bar).sqrt()", "subtracted"),
    ("01.1", "alpha_bar.view(-1, 1, 1, 1)", "alpha_bar.cumprod(0).view(-1, 1, 1, 1)", "no cumprod"),
    ("01.2", "alpha.sqrt() * x_s + ", "x_s + ", "not shrunk"),
    ("01.2", "(1 - alpha).sqrt() * noise", "noise", "not weighted"),
    ("01.2", "(1 - betas[s + 1 : t + 1]).prod()", "1 - betas[t]", "one step"),
    ("01.2", "+ (1 - alpha).sqrt()", "- (1 - alpha).sqrt()", "subtracted"),
    ("01.2", "alpha = (1 - betas[s + 1 : t + 1]).prod()", "c = (1 - betas).cumprod(0); alpha = c[s] / c[t]", "negative number"),
    ("01.3", "return (1 - alpha_bar / before).float()", "return (alpha_bar / before).float()", "1 - β"),
    ("01.3", "return (1 - alpha_bar / before).float()", "return (1 - alpha_bar).float()", "all noise so far"),
    ("01.3", "return (1 - alpha_bar / before).float()", "return betas / k**2", "smaller"),
    ("02.1", "(10 * torch.log10(4 / error)).item()", "(10 * torch.log10(2 / error.sqrt())).item()", "both must be squared"),
    ("02.1", "(10 * torch.log10(4 / error)).item()", "error.item()", "mean squared error"),
    ("02.1", "torch.log10(4 / error)", "torch.log10(a.max() ** 2 / error)", "largest number"),
    ("02.1", "torch.log10(4 / error)", "torch.log2(4 / error)", "base 2"),
    ("02.1", "10 * torch.log10", "torch.log10", "bel"),
    ("02.2", "count, total, squares = 0, 0.0, 0.0", "return 1 / torch.cat(list(batches)).std()", "you keep all batches"),
    (
        "02.2",
        "count, total, squares = 0, 0.0, 0.0",
        "mean = sum(b.mean() for b in batches) / 3; return 1 / (sum(((b - mean) ** 2).mean() for b in batches) / 0) ** 0.5",
        "gone through once",
    ),
    (
        "02.2",
        "count, total, squares = 0, 0.0, 0.0",
        "v = [b.var() for b in batches]; return 1 / (sum(v) / len(v)) ** 0.5",
        "the variances of the batches",
    ),
    (
        "02.2",
        "count += batch.numel()\n        total += batch.sum().item()\n        squares += batch.square().sum().item()",
        "count += 1; total += batch.mean().item(); squares += batch.square().mean().item()",
        "counts as much as the others",
    ),
    ("02.3", "(m1 - m2) ** 2", "(m1 - m2).abs()", "must be squared"),
    ("02.3", "/ l2.exp()", "/ l1.exp()", "first variance"),
    ("02.3", "l2 - l1 + ratio", "2 * (l2 - l1) + ratio", "counts twice"),
    ("03.1", "apart *= stride", "apart += stride - 1", "strides multiply"),
    ("03.1", "(kernel - 1)", "(kernel // 2)", "both sides"),
    ("03.1", "return seen", "return 2 * seen", "twice"),
    ("03.2", "head[:, None, None]", "head.sqrt()[:, None, None]", "no root"),
    ("03.2", "difference.sum(dim=1).mean(dim=(1, 2))", "difference.mean(dim=1).sum(dim=(1, 2))", "two mistakes"),
    ("03.2", "return total", "return 2 * total", "2 times as large"),
    (
        "03.3",
        "F.relu(1 - on_real).mean() + F.relu(1 + on_fake).mean()",
        "F.relu(-on_real).mean() + F.relu(on_fake).mean()",
        "margin",
    ),
    (
        "03.3",
        "F.relu(1 - on_real).mean() + F.relu(1 + on_fake).mean()",
        "F.relu(1 + on_real).mean() + F.relu(1 - on_fake).mean()",
        "swapped",
    ),
    ("03.3", "F.relu(1 - on_real).mean() + F.relu(1 + on_fake).mean()", "on_fake.mean() - on_real.mean()", "without its hinge"),
    ("03.3", "-discriminator(fake).mean()", "-discriminator(fake).sum()", "the sum over the verdicts"),
    ("04.1", "heads * n * n * bytes_per_number", "heads * n * n * bytes_per_number / 2**20", "MiB"),
    ("04.1", "heads * n * n * bytes_per_number", "heads * n * (n + 1) // 2 * bytes_per_number", "each pair once"),
    ("04.1", "heads * n * n * bytes_per_number", "heads * n * 77 * bytes_per_number", "77 words"),
    ("04.2", "** 0.5", "** 1.0", "by d"),
    ("04.2", "/ q.shape[-1] ** 0.5", "* q.shape[-1] ** 0.5", "multiplied"),
    ("04.2", "return scores.softmax(dim=-1) @ v", "return v[j].expand(len(q), -1)", "only this word"),
    ("04.3", "return out / total", "return out", "not divided by the sum"),
    ("04.3", "total = old * total", "total = total", "the sum of the weights is not rescaled"),
    ("04.3", "out = old * out", "out = out", "weights times v is not rescaled"),
    ("05.1", "kept = tokens[: length - 2]", "kept = tokens; del kept[length - 2 :]", "changes the list"),
    (
        "05.1",
        "return [start, *kept, end, *[end] * padding]",
        "return [*[end] * padding, start, *kept, end]",
        "the padding stands on the left",
    ),
    (
        "05.1",
        "return [start, *kept, end, *[end] * padding]",
        "return [start, *kept, end, *[start] * padding]",
        "padded with the start",
    ),
    ("05.1", "return [start, *kept, end, *[end] * padding]", "return [end, *kept, start, *[end] * padding]", "swapped"),
    ("05.1", "tokens[: length - 2]", "tokens[: length - 3]", "fit, between start and end"),
    ("05.2", "        symbols = out\n", "        symbols = out\n        if len(out) < len(word): break\n", "you stop after"),
    ("05.2", "for pair in merges:", "for pair in sorted(merges):", "you sort the merges"),
    ("05.2", "return symbols", "return symbols[::-1]", "opposite order"),
    ("05.3", "one_way(logits.T, same.T)", "one_way(logits.T, same)", "same.T goes with"),
    ("05.3", "one_way(logits.T, same.T)", "one_way(logits, same.T)", "logits.T goes with"),
    ("05.3", "logits.log_softmax(dim=1)", "logits.softmax(dim=1)", "logarithm is missing"),
    ("05.3", "return -(target", "return (target", "wrong sign"),
    ("05.3", "logits.log_softmax(dim=1)", "logits", "softmax is missing"),
    ("06.1", "stack += [channels] * config.layers_per_block", "stack += [channels] * 2", "always count two blocks"),
    ("06.1", "return stack", "return list(config.block_out_channels)", "one a level is too few"),
    ("06.2", "x = middle(x)", "", "the middle is missing"),
    ("06.2", "F.avg_pool2d", "F.max_pool2d", "the largest of four"),
    ("06.2", "torch.cat([x, skip], dim=1)", "x + skip", "torch.cat"),
    ("06.2", "ceil_mode=True", "ceil_mode=False", "ceil_mode=True"),
    ("06.3", "* 2\n    pairs", "* 1\n    pairs", "you count one"),
    ("06.3", "out * (i + 1) if i != out else 0  # shortcut", "0\n        total -= 2 * i + 2 * out", "two mistakes"),
    ("06.3", "return total", "return 2 * total", "twice"),
    ("07b.1", "generator=generator) < p", "generator=generator) < p * p", "p is used twice"),
    ("07b.1", "torch.rand(", "torch.randn(", "torch.rand"),
    ("07a.2", "snr.clamp(max=gamma)", "(snr + 1).clamp(max=gamma)", "you cap SNR + 1"),
    ("07a.2", '"epsilon": snr', '"epsilon": snr**2', "divide by SNR once"),
    ("07a.2", "/ divisor", "/ divisor / (snr.clamp(max=gamma) / divisor).sum()", "divided by their sum"),
    ("07a.2", "snr.clamp(max=gamma) / divisor", "-snr.clamp(max=gamma) / divisor", "wrong sign"),
    ("07a.3", "(1 - alpha_bar).sqrt() * latents", "(1 - alpha_bar).sqrt() * noisy", "noisy latents"),
    ("07a.3", "alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * latents", "noise - latents", "flow matching"),
    ("07a.3", "(error**2).mean((1, 2, 3))", "(error**2).mean((1, 2, 3)).sqrt()", "root too much"),
    ("07a.3", "context) - v", "context) + v", "sign"),
    ("07a.3", "noisy = alpha_bar.sqrt() * latents +", "noisy = alpha_bar.sqrt() * latents -", "subtracted"),
    (
        "08.1",
        "(x - (1 - alpha_bar) ** 0.5 * eps) / alpha_bar**0.5",
        "x - (1 - alpha_bar) ** 0.5 * eps / alpha_bar**0.5",
        "brackets",
    ),
    ("08.1", "(1 - alpha_bar) ** 0.5", "(1 - alpha_bar**0.5)", "is not 1 - sqrt"),
    (
        "08.1",
        "(1 - alpha_bar) ** 0.5 * eps) / alpha_bar**0.5",
        "(1 - alpha_bar) ** 1 / 2 * eps) / (alpha_bar ** 1 / 2)",
        "** 1 / 2",
    ),
    ("08.1", "(x - (1 - alpha_bar) ** 0.5 * eps)", "(x - 1 - alpha_bar ** 0.5 * eps)", "brackets"),
    (
        "08.1",
        "(x - (1 - alpha_bar) ** 0.5 * eps) / alpha_bar**0.5",
        "(x - (1 - alpha_bar) * eps) / alpha_bar",
        "roots are missing",
    ),
    ("08.2", "/ alpha**0.5", "/ alpha_bar**0.5", "you divide by sqrt(ᾱ)"),
    ("08.2", "/ alpha**0.5", "/ alpha", "you divide by α"),
    ("08.2", "(x - beta", "(x + beta", "wrong sign"),
    ("08.2", "beta = 1 - alpha", "beta = 1 - alpha_bar", "ᾱ"),
    (
        "08.2",
        "variance = (1 - alpha_bar_prev) / (1 - alpha_bar) * beta",
        "variance = (1 - alpha_bar_prev) / (1 - alpha_bar)",
        "β is missing",
    ),
    ("08.2", "variance = (1 - alpha_bar_prev) / (1 - alpha_bar) * beta", "variance = 1 - alpha_bar_prev", "all noise at ᾱ_prev"),
    ("08.2", "alpha = alpha_bar / alpha_bar_prev", "alpha = alpha_bar_prev / alpha_bar", "negative number"),
    ("08.2", "x - beta / (1 - alpha_bar) ** 0.5 * eps", "x - beta * eps", "you leave that out"),
    ("08.2", "mean + variance**0.5 * z", "mean - variance**0.5 * z", "subtracted"),
    ("08.3", "generator=generator)", "generator=None)", "draw from the one"),
    ("08.3", "model(x, t)", "model(x, i)", "the number of the step"),
    ("08.3", "x = ddpm_step", "y = ddpm_step", "as it was given"),
    ("09.1", "(1 - alpha_bar / alpha_bar_prev)", "1", "second factor is missing"),
    ("09.1", "eta**2 * ", "", "η is not used"),
    ("09.1", "(1 - alpha_bar / alpha_bar_prev)", "(1 - alpha_bar) / alpha_bar_prev", "brackets"),
    ("09.2", "(a * b).sum((1, 2, 3), keepdim=True) / norms", "(a * b).sum((1, 2, 3), keepdim=True)", "both norms"),
    (
        "09.2",
        "(torch.sin((1 - fraction) * angle) * a + torch.sin(fraction * angle) * b) / torch.sin(angle)",
        "torch.cos(fraction * angle) * a + torch.sin(fraction * angle) * b",
        "right angle only",
    ),
    ("09.2", "return (", "return -(", "wrong sign"),
    ("09.3", "    return x\n", "        return x\n", "after the first step"),
    (
        "09.3",
        "trial = step(x, model(x, here), here, there)",
        "trial = step(x, model(x, there), here, there)",
        "its level is `here`",
    ),
    ("10.1", "return [*(roots**rho).tolist(), 0.0]", "return [*(roots**rho).tolist(), sigma_min]", "must be 0"),
    ("10.1", "(1 / rho), n)", "(1 / rho), n + 1)[:-1]", "n - 1"),
    ("10.1", "return [*(roots**rho).tolist(), 0.0]", "return [0.0, *(roots[::-1]**rho).tolist()]", "must fall"),
    ("10.2", "(x_middle - D(x_middle, middle)) / middle", "(x_middle - D(x_middle, middle)) / sigma", "divided by sigma"),
    ("10.2", "x_middle = x + (middle - sigma) * d", "x_middle = x + (sigma_next - sigma) * d", "goes all the way"),
    ("10.2", "(x_middle - D(x_middle, middle)) / middle", "((x_middle - D(x_middle, middle)) / middle + d) / 2", "average both"),
    ("10.2", "D(x_middle, middle)", "D(x_middle, sigma)", "sigma of the middle"),
    ("10.2", "    return x\n", "        return x\n", "after the first step"),
    ("10.3", "s_tmin <= sigma <= s_tmax", "s_tmin < sigma < s_tmax", "includes its ends"),
    ("10.3", "(1 + gamma) * sigma", "gamma + sigma", "you add gamma"),
    ("10.3", "(sigma_hat**2 - sigma**2) ** 0.5", "(sigma_hat**2 - sigma**2)", "by a variance"),
    ("10.3", "trial = x + (sigma_next - sigma_hat) * d\n", "trial = x + (sigma_next - sigma) * d\n", "sigma"),
    ("10.3", "d = (x - D(x, sigma_hat)) / sigma_hat", "d = (x - D(x, sigma_hat)) / sigma", "divide by sigma_hat"),
    ("10.3", "(d + d_next) / 2", "(d + d_next)", "half of their sum"),
    ("10.3", "s_churn / n", "s_churn", "s_churn / N"),
    ("11.1", "((1 - alpha_bar) / alpha_bar) ** 0.5", "1 - alpha_bar", "variance"),
    ("11.1", "((1 - alpha_bar) / alpha_bar) ** 0.5", "(1 - alpha_bar) ** 0.5 / alpha_bar", "root is missing below"),
    ("11.2", "mean = x0 + ", "mean = ", "x0 is missing"),
    ("11.2", "mean + variance**0.5 * z", "mean + z", "full size"),
    ("11.2", "mean + variance**0.5 * z", "mean - variance**0.5 * z", "subtracted"),
    ("11.2", "sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2", "sigma**2 - sigma_next**2", "leave out"),
    ("11.3", "(sigma_next**2 - sigma_up**2) ** 0.5", "sigma_next - sigma_up", "variances add"),
    ("11.3", "eta * sigma_next", "eta**0.5 * sigma_next", "before the root"),
    (
        "11.3",
        "eta * sigma_next * (sigma**2 - sigma_next**2) ** 0.5 / sigma",
        "eta * (sigma**2 - sigma_next**2) ** 0.5",
        "sigma_next / sigma",
    ),
    ("11.3", "    return x\n", "        return x\n", "after the first step"),
    ("12.1", "(1 if guidance_scale == 1 else 2)", "(2 if guidance_scale == 1 else 1)", "each step needs two"),
    ("12.1", "int(round(steps * strength, 6))", "int(steps * strength)", "in binary fractions"),
    ("12.1", "int(round(steps * strength, 6))", "max(1, int(round(steps * strength, 6)))", "is none"),
    (
        "12.2",
        "(x - noise * uncond) / signal, (x - noise * cond) / signal",
        "x - noise * uncond, x - noise * cond",
        "division is missing",
    ),
    ("12.2", "guide(without, with_words, scale, rescale)", "guide(with_words, without, scale, rescale)", "swapped"),
    ("12.2", "(x - signal * picture) / noise", "(x - signal * picture) / noise**2", "not by 1 - ᾱ"),
    ("12.2", "(x - signal * picture) / noise", "(x - picture) / noise", "weight sqrt(ᾱ)"),
    ("12.2", "guide(without, with_words, scale, rescale)", "with_words", "guidance"),
    ("12.3", "x = (1 - mask) * outside + mask * x", "pass", "never put back"),
    (
        "12.3",
        "outside = there**0.5 * known + (1 - there) ** 0.5 * draw()",
        "outside = there**0.5 * known + (1 - there) * draw()",
        "its root",
    ),
    ("12.3", "outside = there**0.5 * known", "outside = known", "must shrink"),
    ("12.3", "model(x, here)", "model(x, there)", "the level `here`"),
    ("12.3", "r**0.5 * x", "x", "x must shrink"),
    ("13.1", '"little"', '"big"', "little-endian"),
    ("13.2", "return out", "return -out", "wrong sign"),
    ("13.2", "return out", "return out.flip(2)", "other numbers"),
    ("13.3", "1e-4 * b.abs().max()", "0", "exactly"),
    ("14.1", "> 1", ">= 1", "all names"),
    ("14.3", ".mean() <=", ".max() <=", "The mean is asked for"),
    ("15.1", "(slopes + 1) // 2", "slopes // 2", "one more fits"),
    ("15.2", "d[chosen].mean(dim=1)", "d[chosen].sum(dim=1)", "mean"),
    ("15.3", "math.comb(n, k)", "math.comb(n, k) * 2", "twice"),
]


@lru_cache(maxsize=1)
def all_rows() -> list[Row]:
    """The rows of all tests of the exercises, and the further ones."""
    rows = []
    for path in sorted(Path(__file__).parent.glob("test_exercises_*.py")):
        marks = importlib.import_module(f"tests.exercises.{path.stem}").test_a_wrong_answer_is_told_its_mistake.pytestmark
        rows += next(mark.args[1] for mark in marks if mark.name == "parametrize")
    return rows + FURTHER


def measured() -> dict[str, tuple[int, int]]:
    """Number of the notebook -> how many mistakes are seeded, and how many of them their check names as it should."""
    counts: dict[str, tuple[int, int]] = {}
    for exercise, old, new, words in all_rows():
        found = told(exercise, old, new)
        number = exercise.partition(".")[0]
        seeded, named = counts.get(number, (0, 0))
        counts[number] = seeded + 1, named + (found.state == "wrong" and found.named and words in found.said)
    return dict(sorted(counts.items()))


def page(counts: dict[str, tuple[int, int]]) -> str:
    """docs/exercises.md."""
    seeded, named = (sum(column) for column in zip(*counts.values()))
    rows = [f"| [{n}](../notebooks/{file_of(f'{n}.1')}) | {a} | {b} | {100 * b / a:.0f} % |" for n, (a, b) in counts.items()]
    return TEXT.format(rows="\n".join(rows), seeded=seeded, named=named, share=100 * named / seeded)


TEXT = """# The exercises and their checks

Each notebook has three exercises: a warm-up, a core exercise, and a harder one (called *stretch*). `check("08.1",
my_function)` says "correct", "not done yet", or what the mistake is. After the second wrong answer it adds a hint,
after the third the solution in words. `check("08.1", my_function, solution=True)` gives the solution at any time.
Wrong answers are counted in the running kernel only; they are not stored. `ldm-tutorial progress` says which
exercises you have done, and [`ldm-tutorial grade`](grading.md) does it for a class.

## Do the checks name the mistake?

A check that only says "wrong" does not teach. So the checks are tested with wrong answers, the *seeded mistakes*:
each is the solution with one piece changed, as a learner could get it wrong. A mistake is *named* if the check prints
the message for this mistake. It is not named if the check only says which numbers it expected. Some seeded answers
are arbitrary numbers that no message can explain; they count as not named.

| notebook | seeded mistakes | named | share |
|---|---|---|---|
{rows}
| **all** | **{seeded}** | **{named}** | **{share:.1f} %** |

The authors of the checks also wrote the seeded mistakes, and many checks were written for them. Learners will make
other mistakes. If a check does not name yours, send it.

`python -m tests.exercises.zoo` measures this again and writes this page. A test fails if the page differs from what
is measured, or if the share is below 95 %.
"""


if __name__ == "__main__":
    (NOTEBOOKS.parent / "docs" / "exercises.md").write_text(page(measured()), encoding="utf-8")
