"""Notebook 07: dropping captions, a weight for each thing to guess, and the loss of velocity."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..schedulers import DDPMScheduler
from . import call, cases, exercise, shape_of, unknown

# ---- 1. Captions that are dropped


@exercise(
    "07.1",
    nudge="How many random numbers does a batch of 12 captions need?",
    solution="clone chosen; then write 0 wherever torch.rand(len(chosen), generator=generator) < p",
)
def dropped(answer: Callable) -> str | None:
    """07.1: captions replaced by the empty one, each with probability p; the input stays as it was."""
    p, chosen = 0.2, torch.arange(5, 17)  # (12,): numbers of captions; 0 is the empty one
    counts, drawn = [], []
    for seed in range(200):
        given = chosen.clone()
        found = call(answer, given, p, torch.Generator().manual_seed(seed))
        if not isinstance(found, Tensor) or found.shape != chosen.shape:
            return f"return the numbers of the captions, a tensor {tuple(chosen.shape)}; yours is {shape_of(found)}"
        if found.dtype != torch.int64:
            return f"the numbers of captions are whole numbers, int64, to look states up with; yours are {found.dtype}"
        if not torch.equal(given, chosen):
            return "your function changes its input: chosen[...] = 0 writes into it; clone it first"
        if ((found != chosen) & (found != 0)).any():
            return f"each number must stay or become 0, the empty caption; yours holds {found[found != chosen][0].item()}"
        counts.append(int((found == 0).sum()))
        drawn.append(found)
    again = call(answer, chosen.clone(), p, torch.Generator().manual_seed(0))
    share = sum(counts) / (200 * len(chosen))
    if share == 0:
        return "no caption is ever dropped"
    if set(counts) == {0, len(chosen)}:
        return "all captions of the batch are dropped together or none: draw a number for each, not one for all"
    if abs(share - (1 - p)) < 0.05:
        return f"{share:.0%} of the captions are dropped, and 20 % should be: your comparison is the wrong way round"
    if not torch.equal(again, drawn[0]):
        return "the same generator gives another result: draw from the one you are given, torch.rand(..., generator=generator)"
    if len(set(counts)) == 1:
        return f"each time exactly {counts[0]} are dropped: every caption has its own chance, so the number must vary"
    if abs(share - p) > 0.04:
        for wrong, mistake in ((p**2, "p is used twice"), (p / 2, "half of p"), (0.1, "your p is always 0.1; it is an argument")):
            if abs(share - wrong) < 0.02:
                return f"20 % of the captions should be dropped, and yours are {share:.0%}: {mistake}"
        return (
            f"20 % of the captions should be dropped, and yours are {share:.0%}: compare numbers from 0 to 1 (torch.rand) with p"
        )
    return None


# ---- 2. The weight


def weight(alpha_bar: Tensor, gamma: float, prediction: str) -> Tensor:
    """Hang et al. 2023, section 3.4: min(SNR, γ) for the squared error of x0, rewritten for what is guessed instead."""
    snr = alpha_bar / (1 - alpha_bar)
    return snr.clamp(max=gamma) / {"sample": torch.ones(()), "epsilon": snr, "v_prediction": snr + 1}[prediction]


@exercise(
    "07.2",
    nudge="Ask for each prediction how many times as large as the error of x0 its squared error is. What undoes that?",
    solution="min(SNR, gamma), divided by 1 for sample, by SNR for epsilon, by SNR + 1 for v_prediction",
)
def weighted(answer: Callable) -> str | None:
    """07.2: the weight of min-SNR, (b,), for each kind of prediction."""
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
    "07.3",
    nudge="Check v at both ends: what is it at ᾱ = 1, and at ᾱ = 0?",
    solution="x_t as always; v = sqrt(ᾱ) ε - sqrt(1 - ᾱ) x0, with ᾱ as (b, 1, 1, 1); mean over (1, 2, 3)",
)
def velocity_loss(answer: Callable) -> str | None:
    """07.3: the loss of v-prediction for each picture, (b,)."""
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
