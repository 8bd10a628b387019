"""Notebook 07a: the score from a prediction, a weight for each prediction, and the loss of velocity."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..schedulers import DDPMScheduler
from . import call, cases, exercise, shape_of, unknown

# ---- 1. The score


def score_of_output(output: Tensor, x: Tensor, alpha_bar: Tensor, prediction: str) -> Tensor:
    """Tweedie's formula: the score is -ε / sqrt(1 - ᾱ), with the ε that follows from the prediction."""
    signal, spread = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    eps = {"epsilon": output, "sample": (x - signal * output) / spread, "v_prediction": signal * output + spread * x}[prediction]
    return -eps / spread


@exercise(
    "07a.1",
    nudge="Find ε first: what is it if the output is x0, and what if it is v? Then, which sign has the score next to ε?",
    solution="ε is the output, or (x_t - sqrt(ᾱ) output) / sqrt(1 - ᾱ), or sqrt(ᾱ) output + sqrt(1 - ᾱ) x_t; "
    "the score is -ε / sqrt(1 - ᾱ)",
)
def scored(answer: Callable) -> str | None:
    """07a.1: the score, (b, 2), from each kind of prediction."""
    output, x = torch.randn(2, 4, 2, generator=torch.Generator().manual_seed(0))
    alpha_bar = torch.tensor([[0.97], [0.6], [0.3], [0.05]])  # (4, 1)
    signal, spread = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    for prediction in cases(("epsilon", "sample", "v_prediction")):
        right = score_of_output(output, x, alpha_bar, prediction)
        given = output.clone(), x.clone()
        found = call(answer, *given, alpha_bar.clone(), prediction)
        asked = f"for {prediction}"
        if not isinstance(found, Tensor) or found.shape != right.shape:
            return f"{asked}: return a score for each point, a tensor {tuple(right.shape)}; yours is {shape_of(found)}"
        if not (torch.equal(given[0], output) and torch.equal(given[1], x)):
            return f"{asked}: your function changes its input; make new tensors"
        if each_close(found, right):
            continue
        eps = -right * spread
        for mistake, wrong in {
            "the sign is wrong: the score points from the noisy point towards the data, so it is minus ε / sqrt(1 - ᾱ)": -right,
            "that is ε; the score is -ε / sqrt(1 - ᾱ)": eps,
            "that is -ε; divide it by sqrt(1 - ᾱ)": -eps,
            "you divide by 1 - ᾱ: the score is -ε over its root": -eps / spread**2,
            "you multiply by sqrt(1 - ᾱ) where you should divide": -eps * spread,
            "you divide by sqrt(ᾱ): the score is -ε / sqrt(1 - ᾱ)": -eps / signal,
            "the output is taken for ε; it is another prediction": -output / spread,
            "you return x0: the score is -ε / sqrt(1 - ᾱ)": (x - spread * eps) / signal,
            "ᾱ and 1 - ᾱ are swapped": score_of_output(output, x, 1 - alpha_bar, prediction),
            "ᾱ is a variance: its root multiplies x0, and the root of 1 - ᾱ multiplies ε": score_without_roots(
                output, x, alpha_bar, prediction
            ),
            "sqrt(ᾱ) is missing before x0 in x_t = sqrt(ᾱ) x0 + sqrt(1 - ᾱ) ε": -(x - output) / spread**2,
            "ε = sqrt(ᾱ) v + sqrt(1 - ᾱ) x_t: a sum, not a difference": -(signal * output - spread * x) / spread,
            "the two roots are swapped in ε = sqrt(ᾱ) v + sqrt(1 - ᾱ) x_t": -(spread * output + signal * x) / spread,
            "sqrt(1 - ᾱ) x_t is missing in ε": -signal * output / spread,
        }.items():
            if each_close(found, wrong):
                return f"{asked}: {mistake}"
        said = f"{asked}: the score of the first point should be {rounded(right[0])}, and yours is {rounded(found[0])}"
        return unknown(found, right, said)
    return None


def score_without_roots(output: Tensor, x: Tensor, alpha_bar: Tensor, prediction: str) -> Tensor:
    """The same with ᾱ and 1 - ᾱ where their roots belong."""
    eps = {
        "epsilon": output,
        "sample": (x - alpha_bar * output) / (1 - alpha_bar),
        "v_prediction": alpha_bar * output + (1 - alpha_bar) * x,
    }[prediction]
    return -eps / (1 - alpha_bar)


def rounded(point: Tensor) -> list[float]:
    """The numbers of a point, for a message."""
    return [round(value, 3) for value in point.flatten().tolist()]


# ---- 2. The weight


def weight(alpha_bar: Tensor, gamma: float, prediction: str) -> Tensor:
    """Hang et al. 2023, section 3.4: min(SNR, γ) for the squared error of x0, rewritten for what is guessed instead."""
    snr = alpha_bar / (1 - alpha_bar)
    return snr.clamp(max=gamma) / {"sample": torch.ones(()), "epsilon": snr, "v_prediction": snr + 1}[prediction]


@exercise(
    "07a.2",
    nudge="Ask for each prediction how many times as large as the error of x0 its squared error is. What undoes that?",
    solution="min(SNR, gamma), divided by 1 for sample, by SNR for epsilon, by SNR + 1 for v_prediction",
)
def weighted(answer: Callable) -> str | None:
    """07a.2: the weight of min-SNR, (b,), for each kind of prediction."""
    alpha_bar = torch.tensor([0.998, 0.9, 0.8, 0.5, 0.1, 0.005])  # SNR of about 499, 9, 4, 1, 0.1 and 0.005
    snr = alpha_bar / (1 - alpha_bar)
    for prediction, gamma in cases((("sample", 5.0), ("epsilon", 5.0), ("v_prediction", 5.0), ("epsilon", 1.5))):
        right = weight(alpha_bar, gamma, prediction)
        found = call(answer, alpha_bar.clone(), gamma, prediction)
        asked = f"for {prediction} and γ = {gamma:g}"
        if not isinstance(found, Tensor) or found.shape != right.shape:
            return f"{asked} there must be a weight for each ᾱ, a tensor {tuple(right.shape)}; yours is {shape_of(found)}"
        if each_close(found, right):
            continue
        per_x0 = snr.clamp(max=gamma)
        divisor = per_x0 / right
        root = snr.sqrt()
        for mistake, wrong in {
            "you take the larger of the two: weights must be capped, so the smaller": snr.clamp(min=gamma) / divisor,
            "your SNR is upside down: ᾱ is signal, 1 - ᾱ noise": weight(1 - alpha_bar, gamma, prediction),
            "your SNR is a ratio of amplitudes: no root, ᾱ is a variance already": root.clamp(max=gamma)
            / {"sample": torch.ones(()), "epsilon": root, "v_prediction": root + 1}[prediction],
            "that is the weight of an error in x0: ε's error is SNR times as large, v's SNR + 1 times, so divide": per_x0,
            "that is the weight for epsilon": per_x0 / snr,
            "that is the weight for v_prediction": per_x0 / (snr + 1),
            "you cap after dividing: cap the SNR, then divide": (snr / divisor).clamp(max=gamma),
            "you multiply where you should divide": per_x0 * divisor,
            "ᾱ / (1 - ᾱ) is the SNR; you use ᾱ itself": alpha_bar.clamp(max=gamma)
            / {"sample": torch.ones(()), "epsilon": alpha_bar, "v_prediction": alpha_bar + 1}[prediction],
            "nothing is capped: min(SNR, γ)": snr / divisor,
            "your γ is always 5; it is an argument": weight(alpha_bar, 5.0, prediction),
            "you cap SNR + 1: cap the SNR, and add the 1 only where you divide": (snr + 1).clamp(max=gamma) / divisor,
            "the error of ε is SNR times as large: divide by SNR once": per_x0 / snr**2,
            "the SNR of the divisor is capped as well: only the one above is": per_x0 / divided_by(per_x0, prediction),
            "you return the divisor: the weight is min(SNR, γ) over it": divided_by(snr, prediction),
            "the weight is not min(SNR, γ) / (1 - ᾱ): divide by 1, SNR or SNR + 1": per_x0 / (1 - alpha_bar),
            "the weight is that of the amplitude: no root of it": right.sqrt(),
            "min-SNR weighs, it does not normalize: leave out the division by the sum or mean": right / right.mean(),
            "the weights are divided by their sum: leave that out": right / right.sum(),
            "γ is missing: divide the capped SNR, min(SNR, γ), not the SNR divided by γ": snr / gamma / divisor,
            "you subtract the 1: an error of v is SNR + 1 times that of x0": per_x0 / (snr - 1).where(snr != 1, torch.ones(())),
        }.items():
            if each_close(found, wrong):
                return f"{asked}: {mistake}"
        i = int((found - right).abs().argmax())
        said = f"{asked}, where the SNR is {snr[i]:.3g}, the weight should be {right[i]:.3g}, and yours is {found[i]:.3g}"
        return unknown(found, right, said)
    return None


def divided_by(snr: Tensor, prediction: str) -> Tensor:
    """How many times as large as that of x0 the squared error of a prediction is, (b,)."""
    return {"sample": torch.ones_like(snr), "epsilon": snr, "v_prediction": snr + 1}[prediction]


# ---- 3. The loss of velocity


def noisy_and_target(
    x0: Tensor, noise: Tensor, alpha_bar: Tensor, target: str = "v", forward: str = "right"
) -> tuple[Tensor, Tensor]:
    """What the network gets, and what it should answer; the names of mistakes choose the others."""
    signal, spread = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    noisy = {
        "right": signal * x0 + spread * noise,
        "no root": signal * x0 + (1 - alpha_bar) * noise,
        "no roots": alpha_bar * x0 + (1 - alpha_bar) * noise,
        "swapped": signal * noise + spread * x0,
        "clean": x0,
        "unweighted": x0 + noise,
        "whole noise": signal * x0 + noise,
        "minus": signal * x0 - spread * noise,
        "pure noise": noise,
    }[forward]
    wanted = {
        "v": signal * noise - spread * x0,
        "epsilon": noise,
        "x0": x0,
        "sign": spread * x0 - signal * noise,
        "plus": signal * noise + spread * x0,
        "swapped": spread * noise - signal * x0,
        "no roots": alpha_bar * noise - (1 - alpha_bar) * x0,
        "noisy": signal * noise - spread * noisy,
        "one root": signal * noise - (1 - alpha_bar) * x0,
        "unweighted": noise - x0,
        "the input": noisy,
    }[target]
    return noisy, wanted


FORWARD = {
    "clean": "the network gets the clean latents: noise must be mixed in",
    "no root": "the noise in x_t has lost its root: sqrt(1 - ᾱ), for variances add",
    "no roots": "ᾱ and 1 - ᾱ are variances: x_t takes their roots",
    "swapped": "signal and noise are swapped in x_t: sqrt(ᾱ) belongs to the latents",
    "unweighted": "what the network gets is not weighted: sqrt(ᾱ) for the latents, sqrt(1 - ᾱ) for the noise",
    "whole noise": "the noise in x_t is not weighted: sqrt(1 - ᾱ)",
    "minus": "the noise is subtracted in x_t: add it",
    "pure noise": "the network gets the noise alone: x_t holds the latents, too",
}
TARGET = {
    "epsilon": "the target is still ε; v = sqrt(ᾱ) ε - sqrt(1 - ᾱ) x0",
    "x0": "the target is the clean picture; v = sqrt(ᾱ) ε - sqrt(1 - ᾱ) x0",
    "sign": "v has the wrong sign: sqrt(ᾱ) ε comes first, and x0 is subtracted",
    "plus": "v is a difference: with a plus it would be x_t itself where ᾱ = 1/2, and nothing to guess",
    "swapped": "the two roots are swapped in v: sqrt(ᾱ) stands before ε",
    "no roots": "v takes the roots of ᾱ and 1 - ᾱ",
    "noisy": "you subtract the noisy latents: v takes the clean ones, x0",
    "one root": "the root of 1 - ᾱ is missing in v",
    "unweighted": "ε - x0 is the velocity of flow matching; here v = sqrt(ᾱ) ε - sqrt(1 - ᾱ) x0",
    "the input": "the target is the network's own input, x_t; v = sqrt(ᾱ) ε - sqrt(1 - ᾱ) x0",
}


@exercise(
    "07a.3",
    nudge="Check v at both ends: what is it at ᾱ = 1, and at ᾱ = 0?",
    solution="x_t as always; v = sqrt(ᾱ) ε - sqrt(1 - ᾱ) x0, with ᾱ as (b, 1, 1, 1); mean over (1, 2, 3)",
)
def velocity_loss(answer: Callable) -> str | None:
    """07a.3: the loss of v-prediction for each picture, (b,)."""
    generator = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 3, 4, 5, 6, generator=generator)  # (3, 4, 5, 6) each
    context = torch.randn(3, 7, 2, generator=generator)
    timesteps, alphas_cumprod = torch.tensor([120, 480, 930]), DDPMScheduler().alphas_cumprod
    alpha_bar = alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    asked: list[tuple[Tensor, Tensor, Tensor]] = []
    guess = 0.3 * torch.randn(3, 4, 5, 6, generator=generator)

    def unet(x: Tensor, t: Tensor, words: Tensor) -> Tensor:
        asked.append((x, torch.as_tensor(t), words))
        return guess

    found = call(answer, unet, latents.clone(), noise.clone(), timesteps, context, alphas_cumprod)
    if not asked:
        return "the network was never called: unet(noisy, timesteps, context)"
    x, t, words = asked[0]
    right, target = noisy_and_target(latents, noise, alpha_bar)
    if not torch.equal(t.flatten(), timesteps):
        return "give the network the timesteps as they are"
    if words is not context and not torch.equal(words, context):
        return "give the network the context as it is"
    if not each_close(x, right):
        for name, mistake in FORWARD.items():
            if each_close(x, noisy_and_target(latents, noise, alpha_bar, forward=name)[0]):
                return mistake
        return unknown(x, right, "what the network gets is not sqrt(ᾱ) x0 + sqrt(1 - ᾱ) ε")
    if not isinstance(found, Tensor):
        return f"the loss must be a tensor (3,), one number for each latent; yours is {type(found).__name__}"
    error = (guess - target) ** 2
    if found.shape != (3,):
        if found.ndim == 0:
            return "the loss must be one number for each latent, (3,): the weights come after it; yours is one for the batch"
        return f"the loss must be one number for each latent, (3,); yours is {tuple(found.shape)}"
    if each_close(found, error.mean((1, 2, 3))):
        return None
    if each_close(found, error.sum((1, 2, 3))):
        return "that is the sum: take the mean, so that it does not grow with the picture"
    if each_close(found, (guess - target).abs().mean((1, 2, 3))):
        return "that is the mean *absolute* error; square it"
    for name, mistake in TARGET.items():
        wrong = noisy_and_target(latents, noise, alpha_bar, target=name)[1]
        if each_close(found, ((guess - wrong) ** 2).mean((1, 2, 3))):
            return mistake
    if each_close(found, ((guess - target) ** 2).sum((1, 2, 3)).sqrt()) or each_close(found, error.mean((1, 2, 3)).sqrt()):
        return "there is a root too much: the loss is the mean of the squares"
    if each_close(found, ((guess + target) ** 2).mean((1, 2, 3))):
        return "the error is the difference of prediction and target, and you add them"
    if each_close(found, alpha_bar.flatten() / (1 - alpha_bar.flatten()) * error.mean((1, 2, 3))):
        return "you weigh by the SNR: the weight comes later; here it is the plain squared error"
    said = f"the loss of the first latent should be {error.mean((1, 2, 3))[0]:.3f}, and yours is {float(found[0]):.3f}"
    return unknown(found, error.mean((1, 2, 3)), said)


def each_close(a: Tensor, b: Tensor, tolerance: float = 1e-4) -> bool:
    """Equal to rounding, number by number: the weights span five orders of magnitude."""
    return a.shape == b.shape and bool(((a - b).abs() <= tolerance * (b.abs() + 1e-3)).all())
