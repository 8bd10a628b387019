"""Right answers that look different from the solution are right, and what only looks right is not."""

import itertools
import json
import math
import random
import struct

import numpy as np
import pytest
import torch
from PIL import ImageChops, ImageStat
from safetensors import safe_open
from torch import nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from ldm_tutorial.adapters import LowRank
from ldm_tutorial.blocks import ResnetBlock
from ldm_tutorial.exercises import outcome
from ldm_tutorial.schedulers import EulerDiscreteScheduler
from ldm_tutorial.schedulers.ddpm import posterior
from ldm_tutorial.unet import UNet
from ldm_tutorial.vae import AutoencoderKL
from tests.exercises.answers import ALL, answer


def rescaled_by_lerp(x, uncond, cond, alpha_bar, scale, rescale):
    without, asked = ((x - math.sqrt(1 - alpha_bar) * e) / math.sqrt(alpha_bar) for e in (uncond, cond))
    guided = torch.lerp(without, asked, scale)
    ratio = (asked.flatten(1).std(1) / guided.flatten(1).std(1)).view(-1, 1, 1, 1)
    return (x - math.sqrt(alpha_bar) * guided * (1 + rescale * (ratio - 1))) / math.sqrt(1 - alpha_bar)


def header_by_struct(path):
    data = open(path, "rb").read()  # noqa: SIM115
    found = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
    return {k: (v["dtype"], tuple(v["shape"])) for k, v in found.items() if not k.startswith("__")}


def attention_by_chunks(q, k, v, slices):
    parts = [(part @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1) @ v for part in q.chunk(slices, dim=2)]
    return torch.cat(parts, dim=2)


def steps_by_trying(budget, method, guided):
    n = 0
    while (1 + guided) * (2 * (n + 1) - 1 if method == "heun" else n + 1) <= budget:
        n += 1
    return n


def interval_by_numpy(a, b):
    d = (a - b).numpy()
    means = np.random.default_rng(5).choice(d, (20_000, len(d))).mean(1)
    return tuple(np.percentile(means, [2.5, 97.5]))


def merged_by_columns(weight, a, b, alpha, scale):
    layer = nn.Linear(*reversed(weight.shape), bias=False)
    layer.weight = nn.Parameter(weight)
    update = LowRank(layer, len(a), alpha)
    update.down.weight, update.up.weight = nn.Parameter(a), nn.Parameter(b)
    with torch.no_grad():
        columns = torch.eye(weight.shape[1])  # what a layer makes of each unit vector is a column of its weight
        return (layer(columns) + scale * update(columns)).T


def extracted_by_eigh(before, after, rank):
    change = (after - before).double()
    _, vectors = torch.linalg.eigh(change.T @ change)  # the smallest eigenvalue first
    a = vectors[:, -rank:].T
    return a.float(), (change @ a.T).float()


def ema_of(values, decay):
    average = torch.nn.Parameter(torch.tensor(float(values[0])), requires_grad=False)
    found = []
    for n, value in enumerate(values[1:]):
        average.lerp_(torch.tensor(float(value)), 1 - min(decay, (n + 2) / (n + 11)))
        found.append(float(average))
    return found


def gradients_by_weighted_means(loss_of, parameters, batch, size):
    gradients = [torch.zeros_like(p) for p in parameters]
    for i in range(0, len(batch), size):
        part = batch[i : i + size]
        for p, gradient in zip(parameters, gradients):
            p.grad = None
            (loss_of(part).mean() * (len(part) / len(batch))).backward()
            gradient += p.grad
    return gradients


def sampler_by_posterior(model, x, timesteps, bars, generator):
    for t, a_next in zip(timesteps, [*(float(bars[t]) for t in timesteps[1:]), 1.0]):
        a = float(bars[t])
        mean, variance = posterior((x - (1 - a) ** 0.5 * model(x, t)) / a**0.5, x, a, a_next)
        x = mean + (variance**0.5 * torch.randn(x.shape, generator=generator) if a_next < 1 else 0)
    return x


def sampler_by_ddim(model, x, timesteps, bars, generator):
    for k, t in enumerate(timesteps):
        a, a_next = float(bars[t]), float(bars[timesteps[k + 1]]) if k + 1 < len(timesteps) else 1.0
        eps, variance = model(x, t), (1 - a_next) / (1 - a) * (1 - a / a_next)
        x = (a_next / a) ** 0.5 * (x - (1 - a) ** 0.5 * eps) + (1 - a_next - variance) ** 0.5 * eps
        if k + 1 < len(timesteps):
            x = x + variance**0.5 * torch.randn(x.shape, generator=generator)
    return x


def slerp_by_pairs(a, b, fraction):
    def one(p, q):
        angle = torch.arccos((p * q).sum() / p.norm() / q.norm())
        return (torch.sin(angle * (1 - fraction)) * p + torch.sin(angle * fraction) * q) / torch.sin(angle)

    return torch.stack([one(p, q) for p, q in zip(a, b)])


def slerp_by_unit_vectors(a, b, fraction):
    p, q = a.flatten(1), b.flatten(1)
    cosine = torch.einsum("bd,bd->b", torch.nn.functional.normalize(p, dim=1), torch.nn.functional.normalize(q, dim=1))
    angle = cosine.acos()[:, None]
    return ((angle * (1 - fraction)).sin() / angle.sin() * p + (angle * fraction).sin() / angle.sin() * q).view_as(a)


def inversion_by_sigma(model, x, levels):
    x = x / levels[0] ** 0.5  # in x0 + σ ε, where a step is Euler's
    for a, b in zip(levels, levels[1:]):
        stride = (1 / b - 1) ** 0.5 - (1 / a - 1) ** 0.5
        trial = x + stride * model(a**0.5 * x, a)
        x = x + stride * model(b**0.5 * trial, b)
    return levels[-1] ** 0.5 * x


def inversion_by_rotation(model, x, levels):
    def step(x, eps, a, b):
        return (b / a) ** 0.5 * x + ((1 - b) ** 0.5 - (b * (1 - a) / a) ** 0.5) * eps

    for k in range(len(levels) - 1):
        a, b = levels[k : k + 2]
        x = step(x, model(step(x, model(x, a), a, b), b), a, b)
    return x


def midpoint_by_slope(D, x, sigmas):
    slope = lambda x, sigma: (x - D(x, sigma)) / sigma  # noqa: E731
    for a, b in zip(sigmas[:-1], sigmas[1:]):
        x = x + (b - a) * slope(x + (b - a) / 2 * slope(x, a), (a + b) / 2)
    return x


def midpoint_by_denoised(D, x, sigmas):
    for a, b in zip(sigmas, sigmas[1:]):
        middle = 0.5 * (a + b)
        half = D(x, a) + middle / a * (x - D(x, a))  # between D and x
        x = torch.add(x, (half - D(half, middle)) * ((b - a) / middle))
    return x


def algorithm_2_by_euler_and_heun(D, x, sigmas, s_churn, s_tmin, s_tmax, generator):
    steps = list(zip(sigmas, sigmas[1:]))
    for a, b in steps:
        gamma = np.clip(s_churn / len(steps), 0, math.sqrt(2) - 1) * (s_tmin <= a <= s_tmax)
        if gamma:
            x = x + a * ((1 + gamma) ** 2 - 1) ** 0.5 * torch.randn(x.shape, generator=generator, dtype=x.dtype)
        a = a * (1 + gamma)
        first = (x - D(x, a)) / a
        end = x + (b - a) * first
        x = end if b == 0 else x + (b - a) * 0.5 * (first + (end - D(end, b)) / b)
    return x


def pair_by_pictures(x0, noise, t):
    rows = [x + u * (e - x) for x, e, u in zip(x0, noise, t.tolist())]
    return torch.stack(rows), noise.clone().sub_(x0)


def velocity_by_solving(output, x, t, prediction):
    n = torch.hypot(1 - t, t)
    c, d = {"epsilon": (0 * t, 0 * t + 1), "sample": (0 * t + 1, 0 * t), "v_prediction": (-t / n, (1 - t) / n)}[prediction]
    rows = torch.stack([torch.cat([1 - t, t], 1), torch.cat([c, d], 1)], 1)  # (b, 2, 2)
    x0, eps = torch.linalg.solve(rows, torch.stack([x, output], 1)).unbind(1)
    return eps - x0


def velocity_by_slopes(output, x, t, prediction):
    """The line goes through x: its slope is that from x to one of its ends."""
    if prediction == "v_prediction":
        square = 1 - 2 * t + 2 * t**2
        output = (1 - t) / square * x - t * square**-0.5 * output  # x0
    return (output - x) / (1 - t) if prediction == "epsilon" else (x - output) / t


def flow_heun_by_index(velocity, x, times):
    for i in range(1, len(times)):
        h = times[i] - times[i - 1]
        k = velocity(x, times[i - 1])
        x = x + h / 2 * k + h / 2 * velocity(x + h * k, times[i])
    return x


def flow_heun_by_correction(velocity, x, times):
    now, *later = times
    for then in later:
        k = velocity(x, now)
        end = torch.add(x, k, alpha=then - now)
        x, now = end + (then - now) * 0.5 * (velocity(end, then) - k), then
    return x


def algorithm_2_by_index(D, x, sigmas, s_churn, s_tmin, s_tmax, generator):
    n = len(sigmas) - 1
    for i in range(n):
        inside = s_tmin <= sigmas[i] and not sigmas[i] > s_tmax
        hat = sigmas[i] * (1 + (min(s_churn / n, 2**0.5 - 1) if inside else 0))
        if hat > sigmas[i]:
            x = torch.randn(x.shape, generator=generator, dtype=x.dtype).mul((hat**2 - sigmas[i] ** 2) ** 0.5).add(x)
        d = x.sub(D(x, hat)).div(hat)
        y = x + d * (sigmas[i + 1] - hat)
        if i < n - 1:
            y = y + (sigmas[i + 1] - hat) / 2 * (y.sub(D(y, sigmas[i + 1])).div(sigmas[i + 1]) - d)
        x = y
    return x


def family_by_denoised(D, x, sigmas, eta, generator):
    for a, b in zip(sigmas, sigmas[1:]):
        x0, up = D(x, a), min(b, eta * b * math.sqrt(1 - (b / a) ** 2))
        x = x0 + math.sqrt(b * b - up * up) / a * (x - x0)  # down / σ of the noise stays
        if up > 0:
            x = torch.randn(x.shape, generator=generator, dtype=x.dtype) * up + x
    return x


def family_by_eps(D, x, sigmas, eta, generator):
    for i in range(1, len(sigmas)):
        here, there = sigmas[i - 1], sigmas[i]
        eps = (x - D(x, here)) / here
        variance = min(there**2, eta**2 * there**2 * (1 - there**2 / here**2))
        x = x - here * eps + (there**2 - variance) ** 0.5 * eps
        x = x + variance**0.5 * torch.randn(x.shape, generator=generator, dtype=x.dtype) if variance else x
    return x


def pieces_by_replace(word, merges):
    text = f" {' '.join([*word[:-1], word[-1] + '</w>'])} "
    for a, b in merges:
        while f" {a} {b} " in text:
            text = text.replace(f" {a} {b} ", f" {a}{b} ", 1)
    return text.split()


def u_by_recursion(x, levels, middle):
    if not levels:
        return middle(x)
    (down, up), *rest = levels
    skip = down(x)
    inner = u_by_recursion(F.avg_pool2d(skip, 2, ceil_mode=True), rest, middle)
    return up(torch.cat([F.interpolate(inner, skip.shape[-2:], mode="nearest"), skip], 1))


def u_by_index(x, levels, middle):
    kept = {}
    for i, (down, _) in enumerate(levels):
        kept[i] = down(x)
        x = F.avg_pool2d(kept[i], kernel_size=2, stride=2, ceil_mode=True)
    x = middle(x)
    for i in range(len(levels) - 1, -1, -1):
        x = levels[i][1](torch.cat((F.interpolate(x, size=tuple(kept[i].shape[2:])), kept[i]), dim=1))
    return x


def attention_in_two_passes(q, k, v, size):
    scale = q.shape[1] ** -0.5
    logs = torch.stack([(scale * q @ part.T).logsumexp(1) for part in k.split(size)]).logsumexp(0)  # (n,)
    return sum((scale * q @ a.T - logs[:, None]).exp() @ b for a, b in zip(k.split(size), v.split(size)))


def attention_key_by_key(q, k, v, size):
    top, total, out = torch.full((len(q),), -math.inf), torch.zeros(len(q)), torch.zeros(len(q), v.shape[1])
    for key, value in zip(k, v):
        score = q @ key / math.sqrt(q.shape[1])
        new = torch.maximum(top, score)
        total = total * (top - new).exp() + (score - new).exp()
        out = out * (top - new).exp()[:, None] + (score - new).exp()[:, None] * value
        top = new
    return out / total[:, None]


def count_by_name(config):
    with torch.device("meta"):
        return sum(math.prod(p.shape) for name, p in UNet(config).state_dict().items() if ".resnets." in name)


def count_on_meta(config):
    with torch.device("meta"):
        return sum(p.numel() for m in UNet(config).modules() if isinstance(m, ResnetBlock) for p in m.parameters())


def shape_on_meta(config, height, width):
    with torch.device("meta"):
        return AutoencoderKL(config.vae).encode(torch.empty(1, 3, height, width)).mean.shape[1:]


def loop_by_sigmas(pipe, prompt, seed, steps):
    scheduler = EulerDiscreteScheduler()
    scheduler.set_timesteps(steps)
    sigmas = scheduler.sigmas.tolist()
    x = sigmas[0] * torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(seed))
    for t, a, b in zip(scheduler.timesteps, sigmas, sigmas[1:]):
        x = x + (b - a) * pipe.unet(x / math.hypot(a, 1), t[None], pipe.encode_prompt([prompt]))
    return x


def loop_at_unit_scale(pipe, prompt, seed, steps):
    scheduler, context = EulerDiscreteScheduler(), pipe.encode_prompt(prompt)
    scheduler.set_timesteps(steps)
    *bars, last = (1 / (scheduler.sigmas.double() ** 2 + 1)).tolist()
    x = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(seed)) * (1 - bars[0]) ** 0.5
    for i, t in enumerate(scheduler.timesteps):
        a, b = bars[i], [*bars, last][i + 1]
        eps = pipe.unet(x, t, context)
        x = (b / a) ** 0.5 * (x - (1 - a) ** 0.5 * eps) + (1 - b) ** 0.5 * eps
    return x


def jump_step_by_step(x_s, noise, s, t, betas):
    signal, variance = 1.0, 0.0
    for beta in betas[s + 1 : t + 1].tolist():
        signal, variance = signal * math.sqrt(1 - beta), variance * (1 - beta) + beta
    return x_s.mul(signal).add(noise, alpha=math.sqrt(variance))


def betas_by_sigma(betas, k):
    sigma = k * (1 / np.cumprod(1 - betas.double().numpy()) - 1) ** 0.5
    return torch.from_numpy(-np.expm1(np.diff(-np.log1p(sigma**2), prepend=0.0)))


def betas_one_by_one(betas, k):
    bar, before, found = 1.0, 1.0, []
    for beta in betas.tolist():
        bar *= 1 - beta
        now = bar / (bar + k * k * (1 - bar))
        found.append(1 - now / before)
        before = now
    return torch.tensor(found)


def scale_by_merging(batches):
    count, mean, squares = 0, 0.0, 0.0  # squared distances from the mean, updated as by Chan, Golub and LeVeque
    for batch in batches:
        values = batch.double().flatten()
        n, own = len(values), values.mean()
        squares += (values - own).square().sum() + (own - mean) ** 2 * count * n / (count + n)
        mean, count = mean + (own - mean) * n / (count + n), count + n
    return torch.rsqrt(squares / count)


def kl_by_pictures(m1, l1, m2, l2):
    found = torch.zeros(len(m1), dtype=torch.float64)
    for i, (a, b, c, d) in enumerate(zip(*(x.double().flatten(1) for x in (m1, l1, m2, l2)))):
        found[i] = ((d - b) / 2 + torch.expm1(b - d) / 2 + (a - c) @ ((a - c) * torch.exp(-d)) / len(a) / 2).sum()
    return found


def field_from_the_end(layers):
    seen = 1
    for kernel, stride in reversed(layers):
        seen = (seen - 1) * stride + kernel
    return seen


def field_by_gradients(layers):
    x = torch.zeros(1, 1, 400, requires_grad=True)
    y = x
    for kernel, stride in layers:
        y = F.conv1d(y, torch.ones(1, 1, kernel), stride=stride)
    [gradient] = torch.autograd.grad(y[0, 0, 0], x)
    return torch.count_nonzero(gradient)


def distance_by_einsum(xs, ys, heads):
    found = 0
    for fx, fy, head in zip(xs, ys, heads):
        apart = fx / fx.square().sum(1, keepdim=True).sqrt() - fy / torch.linalg.vector_norm(fy, dim=1, keepdim=True)
        found = found + torch.einsum("bchw,bchw,c->b", apart, apart, head) / (apart.shape[2] * apart.shape[3])
    return found


def distance_by_convolution(xs, ys, heads):
    apart = [(F.normalize(fx) - F.normalize(fy)).pow(2) for fx, fy in zip(xs, ys)]
    return sum(F.conv2d(d, head[None, :, None, None]).mean((1, 2, 3)) for d, head in zip(apart, heads))


def two_gradients_by_grad(generator, discriminator, noise, real):
    fake = generator(noise)
    hinge = 0.5 * (1 - discriminator(real)).clamp(min=0).mean() + 0.5 * (1 + discriminator(fake)).clamp(min=0).mean()
    losses = [discriminator(fake).mean().neg(), hinge]
    for network, loss in zip((generator, discriminator), losses):
        parameters = list(network.parameters())
        for p, gradient in zip(parameters, torch.autograd.grad(loss, parameters, retain_graph=True)):
            p.grad = gradient
    return losses


def two_gradients_frozen(generator, discriminator, noise, real):
    discriminator.requires_grad_(False)
    fake = generator(noise)
    fooling = (-discriminator(fake)).mean()
    fooling.backward()
    discriminator.requires_grad_(True)
    with torch.no_grad():
        again = generator(noise)
    verdicts = discriminator(torch.cat([real, again]))  # (2 b, ...)
    sign = torch.cat([-torch.ones(len(real)), torch.ones(len(again))]).view(-1, 1, 1, 1)
    hinge = F.relu(1 + sign * verdicts).mean()  # as many real ones as fakes: the mean of all is half of the sum
    hinge.backward()
    return hinge.item(), fooling.item()


def rescaled_picture_by_picture(x, uncond, cond, alpha_bar, scale, rescale):
    found = []
    for noisy, u, c in zip(*(t.double().numpy() for t in (x, uncond, cond))):
        asked = (noisy - np.sqrt(1 - alpha_bar) * c) / np.sqrt(alpha_bar)
        guided = (noisy - np.sqrt(1 - alpha_bar) * (u + scale * (c - u))) / np.sqrt(alpha_bar)
        mixed = rescale * guided * asked.std() / guided.std() + (1 - rescale) * guided
        found.append((noisy - np.sqrt(alpha_bar) * mixed) / np.sqrt(1 - alpha_bar))
    return torch.from_numpy(np.stack(found))


def repaint_by_where(model, known, mask, levels, turns, draw):
    x = draw()
    for i in range((len(levels) - 1) * turns):
        a, b = levels[i // turns], levels[i // turns + 1]
        eps = model(x, a)
        x = math.sqrt(b / a) * x + (math.sqrt(1 - b) - math.sqrt(b / a - b)) * eps
        x = torch.where(mask > 0, x, known.mul(b**0.5).add(draw(), alpha=(1 - b) ** 0.5))
        x = x if i % turns == turns - 1 else torch.lerp(torch.zeros_like(x), x, (a / b) ** 0.5) + (1 - a / b) ** 0.5 * draw()
    return x


def repaint_by_sigma(model, known, mask, levels, turns, draw):
    x = draw() / levels[0] ** 0.5  # in x0 + σ ε
    sigmas = [(1 / a - 1) ** 0.5 for a in levels]
    for k, (high, low) in enumerate(zip(sigmas, sigmas[1:])):
        for turn in range(turns, 0, -1):
            x = x + (low - high) * model(x * levels[k] ** 0.5, levels[k])
            x = known + mask * (x - known) + (1 - mask) * low * draw()
            if turn > 1:
                x = x + (high**2 - low**2) ** 0.5 * draw()
    return levels[-1] ** 0.5 * x


def header_by_library(path):
    with safe_open(path, framework="pt") as file:
        return {k: [(part := file.get_slice(k)).get_dtype(), part.get_shape()] for k in file.keys()}  # noqa: SIM118


def attention_row_by_row(q, k, v, slices):
    out = q.new_empty(*q.shape[:3], v.shape[-1])
    for i in range(q.shape[2]):
        scores = torch.einsum("bhd,bhmd->bhm", q[:, :, i], k).mul_(q.shape[-1] ** -0.5)
        out[:, :, i] = torch.einsum("bhm,bhmd->bhd", scores.exp_().div_(scores.sum(-1, keepdim=True)), v)
    return out


def first_layer_by_global_hook(ours, theirs, x):
    records = []
    for network in (ours, theirs):
        names, made = {module: name for name, module in network.named_modules()}, []
        handle = nn.modules.module.register_module_forward_hook(
            lambda module, inputs, output, names=names, made=made: made.append((names[module], output))
        )
        with torch.no_grad():
            network(x)
        handle.remove()
        records.append(made)
    different = (
        name for (name, a), (_, b) in zip(*records) if not torch.allclose(a, b, rtol=0, atol=1e-4 * b.abs().max().item())
    )
    return next(different, None)


def first_layer_by_wrapping(ours, theirs, x):
    def outputs(network):
        made = []
        for name, module in network.named_modules():

            def wrapped(*inputs, name=name, forward=module.forward):
                made.append([name, result := forward(*inputs)])
                return result

            module.forward = wrapped
        network(x)
        for module in network.modules():
            del module.forward
        return made

    for (name, a), (_, b) in zip(outputs(ours), outputs(theirs)):
        if torch.dist(a, b).item() > 1e-4 * b.norm().item():
            return name
    return None


def previews_one_behind(pipe, prompt, every, **options):
    before = None
    for step in pipe.stream(prompt, **options):
        if before is not None and before.index % every == every - 1:
            [picture] = pipe.decode(before.denoised)
            yield picture
        before = step
    yield from pipe.decode(before.latents)


def previews_by_itertools(pipe, prompt, every, **options):
    steps = list(pipe.stream(prompt, **options))
    shown = itertools.islice((step.denoised for step in steps[:-1]), every - 1, None, every)
    return (pipe.decode(latents)[0] for latents in itertools.chain(shown, [steps[-1].latents]))


def enough_by_image_chops(pipe, prompt, scheduler, seed, tolerance):
    draw = lambda steps: pipe(prompt=prompt, steps=steps, scheduler=scheduler, seed=seed).pop()  # noqa: E731
    goal = draw(64)
    near = lambda n: sum(ImageStat.Stat(ImageChops.difference(draw(n), goal)).mean) / 3 <= tolerance  # noqa: E731
    return next(filter(near, (2, 4, 8, 16, 32)), 64)


def enough_from_above(pipe, prompt, scheduler, seed, tolerance):
    pictures = {n: np.array(pipe(prompt, seed=seed, steps=n, scheduler=scheduler)[0], dtype=int) for n in (64, 32, 16, 8, 4, 2)}
    return np.min([n for n, p in pictures.items() if abs(p - pictures[64]).sum() <= tolerance * p.size])


def interval_by_choices(a, b):
    rng, d = random.Random(3), (a - b).tolist()
    means = sorted(math.fsum(rng.choices(d, k=len(d))) / len(d) for _ in range(10_000))
    return [means[250], means[9749]]


def mean_of_line_by_sum(x0, before, sigma_before, sigma, sigma_next):
    here, end = -math.log(sigma), -math.log(sigma_next)
    lam = here + (np.arange(20_000) + 0.5) / 20_000 * (end - here)
    mean = np.average(lam - here, weights=np.exp(lam))
    return torch.lerp(before, x0, 1 + mean / math.log(sigma_before / sigma))


def singlestep_at_unit_scale(D, x, sigmas):
    a = [1 / math.sqrt(1 + s * s) for s in sigmas]
    b = [s * k for s, k in zip(sigmas, a)]
    x = a[0] * x
    for i in range(len(a) - 1):
        D_i = D(x / a[i], sigmas[i])
        if i + 2 < len(a):
            m = math.sqrt(sigmas[i] * sigmas[i + 1])
            k = 1 / math.sqrt(1 + m * m)
            u = m * k / b[i] * x - k * (m / sigmas[i] - 1) * D_i
            D_i = D(u / k, m)
        x = b[i + 1] / b[i] * x - a[i + 1] * (sigmas[i + 1] / sigmas[i] - 1) * D_i
    return x


def singlestep_by_slopes(D, x, sigmas):
    *levels, last = sigmas
    for s, n in itertools.pairwise(levels):
        middle = math.exp((math.log(s) + math.log(n)) / 2)
        u = x + (middle - s) * (x - D(x, s)) / s
        x = x + (n - s) * (x - D(u, middle)) / s
    return D(x, levels[-1]) if last == 0 else x


def sde_by_precision(D, x, sigmas, z):
    seen = []
    for s, n, noise in zip(sigmas, sigmas[1:], z):
        seen.append(D(x, s))
        if n == 0:
            return seen[-1]
        mean = seen[-1]
        if len(seen) > 1:
            i = len(seen) - 1
            mean = mean + (seen[-1] - seen[-2]) / math.log(sigmas[i - 1] / s) * math.log(s / n) / 2
        p, q = 1 / s**2, 1 / n**2
        x = (p * x + (q - p) * mean + math.sqrt(q - p) * noise) / q
    return x


def sde_by_down_and_up(D, x, sigmas, z):
    lam = [-math.log(s) if s else math.inf for s in sigmas]
    old = None
    for i in range(len(z)):
        s, n = sigmas[i : i + 2]
        new = D(x, s)
        r = (lam[i] - lam[i - 1]) / (lam[i + 1] - lam[i]) if i else None
        mean = (1 + 0.5 / r) * new - 0.5 / r * old if r else new
        down = n * n / s
        x = x + (down - s) * (x - mean) / s + math.sqrt(n * n - down * down) * z[i]
        old = new
    return x


RIGHT = {
    "00.1 as a list of NumPy's numbers": (
        "00.1",
        lambda c, h, w: list(np.array([c.vae.latent_channels, h, w]) // [1, c.vae.downsampling, c.vae.downsampling]),
    ),
    "00.1 by encoding on the meta device": ("00.1", shape_on_meta),
    "00.3 by σ": ("00.3", loop_by_sigmas),
    "00.3 at unit scale": ("00.3", loop_at_unit_scale),
    "01.2 step by step": ("01.2", jump_step_by_step),
    "01.3 by σ": ("01.3", betas_by_sigma),
    "01.3 one by one": ("01.3", betas_one_by_one),
    "02.2 by merging": ("02.2", scale_by_merging),
    "02.3 by torch.distributions": (
        "02.3",
        lambda m1, l1, m2, l2: kl_divergence(Normal(m1, (l1 / 2).exp()), Normal(m2, l2.exp().sqrt())).flatten(1).sum(1),
    ),
    "02.3 picture by picture": ("02.3", kl_by_pictures),
    "03.1 from the end": ("03.1", field_from_the_end),
    "03.1 by gradients": ("03.1", field_by_gradients),
    "03.2 by einsum": ("03.2", distance_by_einsum),
    "03.2 by a convolution": ("03.2", distance_by_convolution),
    "03.3 by autograd.grad": ("03.3", two_gradients_by_grad),
    "03.3 with a frozen discriminator": ("03.3", two_gradients_frozen),
    "06.3 by name": ("06.3", count_by_name),
    "12.2 picture by picture": ("12.2", rescaled_picture_by_picture),
    "12.3 by torch.where": ("12.3", repaint_by_where),
    "12.3 by σ": ("12.3", repaint_by_sigma),
    "13.1 by safetensors": ("13.1", header_by_library),
    "13.2 row by row": ("13.2", attention_row_by_row),
    "13.3 by a global hook": ("13.3", first_layer_by_global_hook),
    "13.3 by wrapping forward": ("13.3", first_layer_by_wrapping),
    "14.2 one behind": ("14.2", previews_one_behind),
    "14.2 by itertools": ("14.2", previews_by_itertools),
    "14.3 by Pillow": ("14.3", enough_by_image_chops),
    "14.3 from above": ("14.3", enough_from_above),
    "15.2 by random.choices": ("15.2", interval_by_choices),
    "04.1 by a product": ("04.1", lambda h, w, heads, size: math.prod([h * w, h * w, heads, size])),
    "04.1 by a tensor": ("04.1", lambda h, w, heads, size: torch.empty(heads, h * w, h * w, device="meta").numel() * size),
    "04.2 without the rows": (
        "04.2",
        lambda q, k, v, j: F.scaled_dot_product_attention(
            q[None], torch.cat([k[:j], k[j + 1 :]])[None], torch.cat([v[:j], v[j + 1 :]])[None]
        )[0],
    ),
    "04.2 by dividing again": (
        "04.2",
        lambda q, k, v, j: (
            (
                (w := (q @ k.T / q.shape[1] ** 0.5).softmax(1))
                * (keep := (torch.arange(len(k)) != j))
                / (w * keep).sum(1, keepdim=True)
            )
            @ v
        ),
    ),
    "05.2 by str.join": ("05.2", pieces_by_replace),
    "05.2 as a tuple": ("05.2", lambda word, merges: tuple(pieces_by_replace(word, merges))),
    "05.3 by cross_entropy": (
        "05.3",
        lambda logits, same: (
            (F.cross_entropy(logits, same / same.sum(1, keepdim=True)) + F.cross_entropy(logits.T, (same / same.sum(0)).T)) / 2
        ),
    ),
    "05.3 by logsumexp": (
        "05.3",
        lambda logits, same: (
            (
                (logits.logsumexp(1) - (logits * same).sum(1) / same.sum(1)).mean()
                + (logits.logsumexp(0) - (logits * same).sum(0) / same.sum(0)).mean()
            )
            / 2
        ),
    ),
    "06.1 as a tuple": (
        "06.1",
        lambda c: (
            c.block_out_channels[0],
            *[
                x
                for i, x in enumerate(c.block_out_channels)
                for _ in range(c.layers_per_block + (i < len(c.block_out_channels) - 1))
            ],
        ),
    ),
    "06.1 by removing the last": (
        "06.1",
        lambda c: [c.block_out_channels[0], *[x for x in c.block_out_channels for _ in range(c.layers_per_block + 1)]][:-1],
    ),
    "06.2 by recursion": ("06.2", u_by_recursion),
    "07a.3 by mse_loss": (
        "07a.3",
        lambda net, z, n, t, c, a: (
            F.mse_loss(
                net((s := a[t].sqrt()[:, None, None, None]) * z + (o := (1 - a[t]).sqrt()[:, None, None, None]) * n, t, c),
                s * n - o * z,
                reduction="none",
            )
            .flatten(1)
            .mean(1)
        ),
    ),
    "07a.3 by einsum": (
        "07a.3",
        lambda net, z, n, t, c, a: (
            (
                net(torch.einsum("b,bchw->bchw", a[t] ** 0.5, z) + torch.einsum("b,bchw->bchw", (1 - a[t]) ** 0.5, n), t, c)
                - torch.einsum("b,bchw->bchw", a[t] ** 0.5, n)
                + torch.einsum("b,bchw->bchw", (1 - a[t]) ** 0.5, z)
            )
            .square()
            .mean((1, 2, 3))
        ),
    ),
    "07b.1 by where": ("07b.1", lambda chosen, p, g: torch.where(torch.rand(chosen.shape, generator=g) < p, 0, chosen)),
    "07b.1 by bernoulli": (
        "07b.1",
        lambda chosen, p, g: chosen * torch.bernoulli(torch.full(chosen.shape, 1 - p), generator=g).long(),
    ),
    "04.3 in two passes": ("04.3", attention_in_two_passes),
    "04.3 key by key": ("04.3", attention_key_by_key),
    "06.2 by index": ("06.2", u_by_index),
    "06.3 on the meta device": ("06.3", count_on_meta),
    "00.2 as a weighted sum": ("00.2", lambda u, c, s: (1 - s) * u + s * c),
    "00.2 by torch.lerp": ("00.2", lambda u, c, s: torch.lerp(u, c, s)),
    "01.1 by einsum": (
        "01.1",
        lambda x, n, a: torch.einsum("b,bchw->bchw", a.sqrt(), x) + torch.einsum("b,bchw->bchw", (1 - a).sqrt(), n),
    ),
    "01.1 picture by picture": (
        "01.1",
        lambda xs, ns, a: torch.stack([t**0.5 * x + (1 - t) ** 0.5 * n for x, n, t in zip(xs, ns, a.tolist())]),
    ),
    "01.2 by a ratio": (
        "01.2",
        lambda x, n, s, t, b: (r := (1 - b).cumprod(0)[t] / (1 - b).cumprod(0)[s]).sqrt() * x + (1 - r).sqrt() * n,
    ),
    "02.1 by a logarithm of the root": ("02.1", lambda a, b: -20 * math.log10(float((a - b).square().mean().sqrt() / 2))),
    "02.1 as a tensor": ("02.1", lambda a, b: 10 * torch.log10(4 / torch.nn.functional.mse_loss(a, b))),
    "02.2 with Bessel's correction": (
        "02.2",
        lambda batches: (
            (s := np.sum([[b.numel(), b.double().sum(), b.double().square().sum()] for b in batches], axis=0)),
            ((s[0] - 1) / (s[2] - s[1] ** 2 / s[0])) ** 0.5,
        )[1],
    ),
    "05.1 by padding and cutting": ("05.1", lambda t, s, e, n: ([s] + t[: n - 2] + [e] * n)[:n]),
    "05.1 as a tuple": ("05.1", lambda t, s, e, n: (s, *t[: n - 2], *[e] * (n - 1 - len(t[: n - 2])))),
    "07a.2 by torch.where": (
        "07a.2",
        lambda a, g, p: (
            torch.where(a / (1 - a) < g, a / (1 - a), torch.tensor(g))
            / {"sample": 1, "epsilon": a / (1 - a), "v_prediction": 1 / (1 - a)}[p]
        ),
    ),
    "07a.2 by torch.minimum": (
        "07a.2",
        lambda a, g, p: (
            torch.minimum(s := a / (1 - a), torch.full_like(a, g)) / (s + 1 if p[0] == "v" else s if p[0] == "e" else 1)
        ),
    ),
    "07a.1 by x0": (
        "07a.1",
        lambda o, x, a, p: (
            (
                a.sqrt()
                * {
                    "sample": o,
                    "epsilon": (x - (1 - a).sqrt() * o) / a.sqrt(),
                    "v_prediction": a.sqrt() * x - (1 - a).sqrt() * o,
                }[p]
                - x
            )
            / (1 - a)
        ),
    ),
    "07a.1 by cases": (
        "07a.1",
        lambda o, x, a, p: (
            (a.sqrt() * o - x).div(1 - a)
            if p == "sample"
            else -o / (1 - a).sqrt()
            if p[0] == "e"
            else -o * (a / (1 - a)).sqrt() - x
        ),
    ),
    "07b.2 by lerp": ("07b.2", lambda v, d: ema_of(v, d)),
    "07b.2 as a tensor": ("07b.2", lambda v, d: torch.tensor(ema_of(v, d))),
    "07b.3 by autograd.grad": (
        "07b.3",
        lambda loss_of, parameters, batch, size: list(
            torch.autograd.grad(sum(loss_of(part).sum() for part in batch.split(size)) / len(batch), parameters)
        ),
    ),
    "07b.3 by weighted means": ("07b.3", gradients_by_weighted_means),
    "08.1 by the signal-to-noise ratio": ("08.1", lambda x, e, a: x * a**-0.5 - ((1 - a) / a) ** 0.5 * e),
    "08.1 by math.sqrt": ("08.1", lambda x, e, a: x.sub(e, alpha=math.sqrt(1 - a)).div(math.sqrt(a))),
    "08.2 by the posterior": (
        "08.2",
        lambda x, e, a, b, z: (
            (m := posterior((x - (1 - a) ** 0.5 * e) / a**0.5, x, a, b)),
            m[0] + m[1] ** 0.5 * z,
        )[1],
    ),
    "08.2 by DDIM's equation 12 with η = 1": (
        "08.2",
        lambda x, e, a, b, z: (
            (v := (1 - b) / (1 - a) * (1 - a / b)),
            b**0.5 * (x - (1 - a) ** 0.5 * e) / a**0.5 + (1 - b - v) ** 0.5 * e + v**0.5 * z,
        )[1],
    ),
    "08.3 by the posterior": ("08.3", sampler_by_posterior),
    "08.3 by DDIM's equation 12": ("08.3", sampler_by_ddim),
    "09.1 by two roots": (
        "09.1",
        lambda a, b, eta: min(eta * math.sqrt((1 - b) / (1 - a)) * math.sqrt(1 - a / b), math.sqrt(1 - b)),
    ),
    "09.1 as a tensor": (
        "09.1",
        lambda a, b, eta: torch.tensor(eta**2 * (1 - b) / (1 - a) * (1 - a / b)).clamp(max=1 - b).sqrt(),
    ),
    "09.2 pair by pair": ("09.2", slerp_by_pairs),
    "09.2 by unit vectors": ("09.2", slerp_by_unit_vectors),
    "09.3 as Euler's method": ("09.3", inversion_by_sigma),
    "09.3 by factors of x and ε": ("09.3", inversion_by_rotation),
    "10.1 as an array": (
        "10.1",
        lambda h, l, n, r: np.append((h ** (1 / r) + np.arange(n) / (n - 1) * (l ** (1 / r) - h ** (1 / r))) ** r, 0),
    ),
    "10.1 as a tensor": (
        "10.1",
        lambda h, l, n, r: torch.cat([torch.linspace(h ** (1 / r), l ** (1 / r), n, dtype=torch.float64) ** r, torch.zeros(1)]),
    ),
    "10.2 by a function for the slope": ("10.2", midpoint_by_slope),
    "10.2 by the denoised point": ("10.2", midpoint_by_denoised),
    "10.3 in two parts": ("10.3", algorithm_2_by_euler_and_heun),
    "10.3 by the number of the step": ("10.3", algorithm_2_by_index),
    "11.1 by a power": ("11.1", lambda x, a: (x * a**-0.5, (1 / a - 1) ** 0.5)),
    "11.1 as a list": ("11.1", lambda x, a: [x.div(math.sqrt(a)), math.sqrt(1 - a) / math.sqrt(a)]),
    "11.2 by lerp": ("11.2", lambda x, x0, s, n, z: torch.lerp(x0, x, n**2 / s**2) + n * (1 - n**2 / s**2) ** 0.5 * z),
    "11.2 by σ_down": ("11.2", lambda x, x0, s, n, z: x + (n**2 / s - s) * (x - x0) / s + (n**2 - n**4 / s**2) ** 0.5 * z),
    "11.3 by the denoised point": ("11.3", family_by_denoised),
    "11.3 by ε": ("11.3", family_by_eps),
    "12.1 by np.floor": ("12.1", lambda n, s, w: np.floor(round(n * s, 6)) * (2 - (w == 1))),
    "12.1 by //": ("12.1", lambda n, s, w: round(n * s, 6) // 1 * (1 if w == 1 else 2)),
    "12.1 as np.int64": ("12.1", lambda n, s, w: np.int64(round(n * s, 6)) * (1 if w == 1 else 2)),
    "12.2 by lerp": ("12.2", rescaled_by_lerp),
    "13.1 by struct": ("13.1", header_by_struct),
    "13.2 by chunks": ("13.2", attention_by_chunks),
    "14.1 by comparing with the first": ("14.1", lambda c: {k for k, v in c[0].items() if any(d[k] != v for d in c[1:])}),
    "14.1 by counting": ("14.1", lambda c: {name for name in c[0] if [d[name] for d in c].count(c[0][name]) < len(c)}),
    "17.1 on the meta device": (
        "17.1",
        lambda shapes, rank: sum(
            p.numel() for o, i in shapes for p in LowRank(nn.Linear(i, o, device="meta"), rank).parameters()
        ),
    ),
    "17.1 by NumPy": ("17.1", lambda shapes, rank: rank * np.array(shapes).sum()),
    "17.2 by torch.addmm": ("17.2", lambda w, a, b, alpha, s: torch.addmm(w, b, a, alpha=s * alpha / a.shape[0])),
    "17.2 by unit vectors": ("17.2", merged_by_columns),
    "17.3 by roots in both": (
        "17.3",
        lambda before, after, rank: (
            (parts := torch.linalg.svd(after - before, full_matrices=False)),
            [parts[1][:rank].sqrt()[:, None] * parts[2][:rank], parts[0][:, :rank] * parts[1][:rank].sqrt()],
        )[1],
    ),
    "17.3 by eigenvectors": ("17.3", extracted_by_eigh),
    "15.1 by trying": ("15.1", steps_by_trying),
    "15.1 in one line": ("15.1", lambda b, m, g: (b // (1 + g) + (m == "heun")) // (1 + (m == "heun"))),
    "15.2 by NumPy": ("15.2", interval_by_numpy),
    "15.3 by weights": (
        "15.3",
        lambda scores, k: sum(
            s * math.comb(i, k) / math.comb(len(scores), k) - s * math.comb(i - 1, k) / math.comb(len(scores), k)
            for i, s in enumerate(sorted(scores), 1)
        ),
    ),
    "15.3 by all choices": (
        "15.3",
        lambda scores, k: np.mean([max(c) for c in itertools.combinations(scores, k)]),
    ),
    "16.1 by expm1": (
        "16.1",
        lambda x0, old, a, b, c: x0 - (1 + math.log(b / c) / math.expm1(math.log(c / b))) / math.log(a / b) * (x0 - old),
    ),
    "16.1 by a sum": ("16.1", mean_of_line_by_sum),
    "16.2 at unit scale": ("16.2", singlestep_at_unit_scale),
    "16.2 by slopes": ("16.2", singlestep_by_slopes),
    "16.3 by the precision": ("16.3", sde_by_precision),
    "16.3 down and up": ("16.3", sde_by_down_and_up),
    "18.1 by lerp": ("18.1", lambda x, e, t: [torch.lerp(x, e, t[:, None, None, None]), -(x - e)]),
    "18.1 picture by picture": ("18.1", pair_by_pictures),
    "18.2 by solving two equations": ("18.2", velocity_by_solving),
    "18.2 by slopes": ("18.2", velocity_by_slopes),
    "18.3 by the number of the step": ("18.3", flow_heun_by_index),
    "18.3 by a correction": ("18.3", flow_heun_by_correction),
}


def test_each_check_meets_two_unusual_right_answers():
    met = [exercise for exercise, _ in RIGHT.values()]
    assert {exercise: met.count(exercise) for exercise in ALL if met.count(exercise) < 2} == {}


@pytest.mark.parametrize("name", RIGHT)
def test_an_unusual_right_answer_is_correct(name):
    exercise, function = RIGHT[name]
    found = outcome(exercise, function)
    assert (found.state, found.said) == ("correct", "correct")


def test_all_batches_kept_are_found_out():
    def keeping(batches):
        return 1 / torch.cat(list(batches)).double().std(correction=0).item()

    assert "you keep all batches" in outcome("02.2", keeping).said


def test_two_passes_over_an_iterator_are_found_out():
    def twice(batches):
        count = sum(b.numel() for b in batches)
        return 1 / (sum(b.square().sum().item() for b in batches) / count) ** 0.5

    assert "gone through once" in outcome("02.2", twice).said


def test_two_mistakes_at_once_are_both_named():
    both = answer("10.3", ("s_churn / n", "s_churn"), ("(1 + gamma) * sigma", "gamma + sigma"))
    said = outcome("10.3", both).said
    assert said.startswith("two mistakes: ") and "you add gamma" in said
