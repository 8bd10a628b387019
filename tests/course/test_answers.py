"""Every number in course/questions.yml, computed once more: by the package, or by another way than that of the file.

`ANSWERS[id]` gets the numbers of a question and returns those that must stand in its right option, in their order.
"""

import itertools
import math
import re
from collections import Counter

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import torch
from questions import fill, read
from torch import nn
from torch.distributions import Normal, kl_divergence

from ldm_tutorial.adapters import LowRank, new_lora
from ldm_tutorial.attention import CrossAttention, FeedForward, attention_weights
from ldm_tutorial.blocks import Downsample, ResnetBlock, Upsample, timestep_embedding
from ldm_tutorial.checkpoints.compvis import ldm_name
from ldm_tutorial.clip import CLIPTextModel
from ldm_tutorial.config import SD15, AutoencoderConfig, CLIPTextConfig, UNetConfig
from ldm_tutorial.inputs import seeds_of, timesteps_to_visit
from ldm_tutorial.lessons.toy import GaussianMixture
from ldm_tutorial.pipeline import guide
from ldm_tutorial.schedulers import DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler, make_scheduler, randn
from ldm_tutorial.schedulers.ddpm import posterior
from ldm_tutorial.schedulers.noise_schedule import karras_sigmas, linear_betas, sigmas_from_alphas_cumprod, spaced_timesteps
from ldm_tutorial.schedulers.spaces import convert
from ldm_tutorial.schedulers.switching import rewrite
from ldm_tutorial.training.clip import contrastive_loss
from ldm_tutorial.training.discriminator import hinge_loss
from ldm_tutorial.training.ema import EMA
from ldm_tutorial.training.loop import learning_rate
from ldm_tutorial.training.objective import sample_timesteps
from ldm_tutorial.training.perceptual import PerceptualLoss
from ldm_tutorial.training.recipes import min_snr_weight
from ldm_tutorial.unet import UNet, channel_plan
from ldm_tutorial.vae import AutoencoderKL, DiagonalGaussian, Encoder

QUESTIONS = {question.id: question for question in read()}
VARIED = [question for question in QUESTIONS.values() if question.vary]
NUMBER = re.compile(r"(?<![A-Za-z\d])−?\d[\d,]*(?:\.\d+)?(?:e−?\d+)?")  # not the 1 in "L1"


def written(text):
    """The numbers in a text, and how exactly each is written: half a unit of its last digit."""
    for found in NUMBER.findall(text):
        plain = found.replace(",", "").replace("−", "-")
        digits = len(plain.split("e")[0].partition(".")[2])
        exponent = int(plain.partition("e")[2] or 0)
        yield float(plain), 0.5000001 * 10.0 ** (exponent - digits)


def scalar(x):
    return torch.tensor(float(x), dtype=torch.float64)


# ---- other ways to the same numbers


def two_points():
    return GaussianMixture([[-1.0], [1.0]], [0.0, 0.0])


def shifted(t, s):
    return make_scheduler("flow_euler", shift=float(s)).shifted(np.array(t)).item()


def latents_of_sd15(h, w):
    with torch.device("meta"), torch.no_grad():
        return tuple(AutoencoderKL(SD15.vae).encode(torch.zeros(1, 3, h, w)).mode().shape[1:])


def moments_shape(levels, z, n):
    config = AutoencoderConfig(block_out_channels=(8,) * levels, latent_channels=z, layers_per_block=1, norm_num_groups=4)
    with torch.device("meta"), torch.no_grad():
        return tuple(Encoder(config)(torch.zeros(1, 3, n, n)).shape[1:])


def count(module):
    return sum(p.numel() for p in module.parameters())


def alpha_bar_of(sigma):
    return scipy.optimize.brentq(lambda a: float(sigmas_from_alphas_cumprod(scalar(a))) - sigma, 1e-6, 1 - 1e-6)


def relaxed(x, d, h):
    """dx/dλ = d - x, solved numerically."""
    return scipy.integrate.solve_ivp(lambda lam, x: d - x, (0, h), [x], rtol=1e-9, atol=1e-9).y[0, -1]


def middle_of_line(a, b, c, o, p):
    """The line in λ through (-log a, o) and (-log b, p), half-way from b to c."""
    slope, intercept = np.polyfit([-math.log(a), -math.log(b)], [o, p], 1)
    return slope * -math.log(math.sqrt(b * c)) + intercept


def halvings(n, m):
    return 0 if n == m else 1 + halvings(n // 2, m)


def keep_of_steps(betas):
    x = 1.0
    for beta in betas:
        x *= (1 - beta) ** 0.5
    return x


def l1_of_a_line(k):
    truths = np.eye(k)
    return np.abs(truths - truths[0]).sum(1).mean()


class Itself(nn.Module):
    def features(self, x):
        return [x]


def lpips(h1, h2):
    x, y = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1), torch.tensor([0.0, 5.0]).view(1, 2, 1, 1)
    return PerceptualLoss(Itself(), [torch.tensor([h1, h2])])(x, y).item()


def share_of_noise(v, w):
    """The smallest autoencoder, trained."""

    def loss(parameters):
        m, a, log_variance = parameters
        noise = math.exp(log_variance)
        return v * (1 - a * m) ** 2 + a * a * noise + w * 0.5 * (m * m * v + noise - 1 - log_variance)

    m, _, log_variance = scipy.optimize.minimize(
        loss, (0.3, 1.0, -1.0), method="Nelder-Mead", options={"maxiter": 20000, "xatol": 1e-9, "fatol": 1e-13}
    ).x
    return math.exp(log_variance) / (m * m * v + math.exp(log_variance))


def pixels_in_a_row(k):
    layers = [nn.Conv1d(1, 1, k, stride=stride, bias=False).double() for stride in (2, 2, 1)]
    x = torch.ones(1, 1, 120, dtype=torch.float64, requires_grad=True)
    for layer in layers:
        nn.init.ones_(layer.weight)
    y = nn.Sequential(*layers)(x)
    y[0, 0, y.shape[-1] // 2].backward()
    return int((x.grad != 0).sum())


def attention_by_hand(a, b, x):
    q = torch.tensor([[1.0, 0, 0, 0]])  # the division by √4 is undone in the keys
    k = torch.zeros(3, 4)
    k[:, 0] = 2 * torch.tensor([0.0, math.log(a), math.log(b)])
    return (attention_weights(q, k) @ torch.tensor([[0.0], [x], [16.0]])).item()


def causal_weight(i):
    scores = torch.zeros(77, 77).masked_fill(torch.ones(77, 77, dtype=torch.bool).triu(1), -torch.inf)
    return scores.softmax(-1)[i, i].item()


def bytes_of_weights(h, s):
    return torch.empty(h, s * s, s * s, dtype=torch.float16, device="meta").nbytes / 2**20


def pairs(k):
    def number(side, others):
        return side * side * others(side)

    self_, cross = (number(8 * k, f) // number(8, f) for f in (lambda s: s * s, lambda s: 77))
    return self_, cross


def table_shape(s):
    layer = CrossAttention(dim=8, context_dim=6, heads=1)
    return tuple(layer.maps(torch.zeros(1, s * s, 8), torch.zeros(1, 77, 6)).shape[2:])


def first_pair(a, b, c):
    words = {("h", "u", "g</w>"): a, ("p", "u", "g</w>"): b, ("h", "u", "g", "s</w>"): c}
    pairs = Counter()
    for symbols, times in words.items():
        for pair in zip(symbols, symbols[1:]):
            pairs[pair] += times
    [(pair, times)] = pairs.most_common(1)
    assert pair == ("u", "g</w>")
    return times


def places_that_change(j):
    config = CLIPTextConfig(
        vocab_size=50, hidden_size=12, intermediate_size=20, num_hidden_layers=2, num_attention_heads=2, projection_dim=4
    )
    torch.manual_seed(0)
    encoder, ids = CLIPTextModel(config), torch.randint(48, (1, 77))
    other = ids.clone()
    other[0, j] = (ids[0, j] + 1) % 48
    with torch.no_grad():
        changed = (encoder(ids) - encoder(other)).abs().amax(-1)[0] > 1e-6
    places = changed.nonzero().flatten().tolist()
    assert places == list(range(places[0], 77))
    return places[0], places[-1]


def embedding(t):
    """The arguments of cosines and sines that give Stable Diffusion's embedding."""
    arguments = (t, t / 100, t, t / 100)
    by_hand = [math.cos(arguments[0]), math.cos(arguments[1]), math.sin(arguments[2]), math.sin(arguments[3])]
    assert np.allclose(timestep_embedding(torch.tensor([t]), 4)[0], by_hand, atol=1e-3)
    return arguments


def added_by_time(c):
    block = ResnetBlock(32, c, norm_groups=32, norm_eps=1e-5, time_channels=16)
    return tuple(block.time_emb_proj(torch.zeros(2, 16))[:, :, None, None].shape)


def first_inputs_up(a, b, c):
    config = UNetConfig(block_out_channels=(a, b, c), attention_levels=(False,) * 3, layers_per_block=1, norm_num_groups=8)
    return channel_plan(config)[1][0]


def maps_on_the_stack(n):
    config = UNetConfig(block_out_channels=(32,) * 4, attention_levels=(False,) * 4, layers_per_block=n)
    return sum(len(inputs) for inputs in channel_plan(config)[1])  # each block on the way up takes one


def rows_again(n):
    with torch.no_grad():
        return Upsample(1)(Downsample(1)(torch.zeros(1, 1, n, n))).shape[2]


def ratio_of_weights(k):
    small, large = (nn.Conv2d(4 * f, 4 * f, 3, padding=1, bias=False) for f in (1, k))
    side = 16
    work = [layer.weight.numel() * s * s for layer, s in ((small, side), (large, side // k))]
    assert work[0] == work[1]
    return large.weight.numel() // small.weight.numel()


def error_in_x0(a):
    eps = 1.0
    wrong = eps + 0.1**0.5
    x = a**0.5 * 0.3 + (1 - a) ** 0.5 * eps
    return ((x - (1 - a) ** 0.5 * wrong) / a**0.5 - 0.3) ** 2


def ema_after_one_update(w):
    layer = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(layer.weight)
    average = EMA(layer)
    nn.init.constant_(layer.weight, w)
    average.update(layer)
    return average.model.weight.item()


def slice_of(b, i):
    drawn = torch.stack([sample_timesteps(b, 1000, torch.Generator().manual_seed(seed)) for seed in range(2000)])[:, i]
    return drawn.min().item(), drawn.max().item()


def posterior_variance(a, b):
    return posterior(scalar(0), scalar(0), a, b)[1]


def variance_after_step(a, b):
    """x_t ~ N(0, 1) and the exact mean √(a / b) x_t: exact for this x_t, so one sample of each sign is enough."""
    return (scalar(a / b).sqrt() * torch.tensor([1.0, -1.0])).square().mean().item() + posterior_variance(a, b)


def best_variance(v, s, d):
    def bound(variance):
        return 0.5 * (math.log(variance / v) + v / variance - 1 + s * s * d / variance)

    return scipy.optimize.minimize_scalar(bound, bounds=(v / 2, 4), method="bounded", options={"xatol": 1e-9}).x


def ddim(x, eps, eta=0.0, levels=(0.36, 0.64)):
    scheduler = DDIMScheduler(eta=eta)
    scheduler.set_timesteps(1)
    scheduler.alpha_bars = torch.tensor(levels, dtype=torch.float64)
    return scheduler.step(scalar(eps).view(1), scheduler.timesteps[0], scalar(x).view(1)).prev_sample.item()


def ddim_variance(a, b, h):
    """With x and ε of 0 a step returns its new noise alone."""
    scheduler = DDIMScheduler(eta=h)
    scheduler.set_timesteps(1)
    scheduler.alpha_bars = torch.tensor([a, b], dtype=torch.float64)
    at_zero = torch.zeros(1, dtype=torch.float64)
    moved = scheduler.step(at_zero, scheduler.timesteps[0], at_zero, torch.Generator().manual_seed(0)).prev_sample
    return (moved / randn((1,), torch.Generator().manual_seed(0), dtype=torch.float64)).item() ** 2


def euler_step(s, n):
    x = 10.0
    d = (x - x / (1 + s * s)) / s
    return x + (n - s) * d


def up_and_down(s, n):
    """From DDPM's posterior: its mean and variance in σ-space, with x_0 = 0."""
    a, b = 1 / (1 + s * s), 1 / (1 + n * n)
    mean, variance = posterior(scalar(0), scalar(a**0.5), a, b)  # x = 1 in σ-space
    return s * mean.item() / b**0.5, (variance / b) ** 0.5


def paper_weight(w):
    cond, uncond = torch.full((1, 1, 1, 1), 0.7), torch.full((1, 1, 1, 1), 0.3)
    return ((guide(uncond, cond, w) - cond) / (cond - uncond)).item()


def without_parentheses(c, w):
    without, with_words = 0.6, c
    right = guide(torch.full((1, 1, 1, 1), without), torch.full((1, 1, 1, 1), with_words), w).item()
    return without + w * with_words - without, right


def sharpened(v, w):
    """From the second derivative of the log density."""

    def log_density(x):
        return w * (-x * x / (2 * v)) + (1 - w) * (-x * x / 2)

    h = 1e-3
    return -1 / ((log_density(h) - 2 * log_density(0) + log_density(-h)) / h**2)


def shapes_in_a_step(b):
    latents, states = torch.empty(b, 4, 64, 64), torch.empty(b, 77, SD15.text_encoder.hidden_size)
    return *torch.cat([latents, latents]).shape, *torch.cat([states, states]).shape


def output_block(i, j):
    name = ldm_name("unet", f"up_blocks.{i}.resnets.{j}.conv1.weight", SD15.unet)
    return int(re.search(r"output_blocks\.(\d+)\.", name)[1])


def previews(n, k):
    return sum(1 for step in range(1, n + 1) if step % k == 0) + 1


def heun_evaluations(n):
    sigmas, evaluations = [*karras_sigmas(14.6, 0.03, n), 0.0], 0
    for sigma_next in sigmas[1:]:
        evaluations += 2 if sigma_next > 0 else 1
    return evaluations


def heun_steps_for(budget):
    return max(n for n in range(1, budget) if 2 * heun_evaluations(n) <= budget)


def scale_without_alpha(r, a):
    update = LowRank(nn.Linear(5, 7), r, a)
    nn.init.normal_(update.up.weight)
    meant, update.alpha = update.delta().norm(), float(r)
    return (meant / update.delta().norm()).item()


@torch.no_grad()
def merged_and_loaded(s, t):
    """How often ΔW x is in the output, after it was merged at scale s and attached at scale t."""
    networks, x = {"unet": nn.Sequential(nn.Linear(5, 7))}, torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    lora = new_lora(networks, rank=2, layers={"unet": ["0"]})
    nn.init.normal_(lora.updates[0].up.weight)
    before, change = networks["unet"](x), lora.updates[0](x)
    lora.scale = s
    lora.merge(networks)
    lora.scale = t
    lora.attach(networks)
    return ((networks["unet"](x) - before) * change).sum().item() / change.square().sum().item()


def share_held(r):
    """In percent: the squared length of the nearest matrix of rank r, of that of a matrix with singular values 4, 2, 2, 1."""
    turned = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    matrix = turned @ torch.diag(torch.tensor([2.0, 1.0, 4.0, 2.0], dtype=torch.float64))
    u, s, v = torch.linalg.svd(matrix)
    return 100 * ((u[:, :r] * s[:r] @ v[:r]).square().sum() / matrix.square().sum()).item()


def throws(name, n):
    """How often a run draws noise, the start included."""
    scheduler, dice, other = make_scheduler(name), *(torch.Generator().manual_seed(0) for _ in range(2))
    scheduler.set_timesteps(n)
    x, drawn = randn((1, 4, 2, 3), dice), 0
    for t in scheduler.timesteps:
        x = scheduler.step(torch.zeros_like(x), t, x, generator=dice).prev_sample
    while not torch.equal(other.get_state(), dice.get_state()):
        randn((1, 4, 2, 3), other)
        drawn += 1
    return drawn


ANSWERS = {
    "00-02": lambda h, w: latents_of_sd15(h, w),
    "00-03": lambda u, c, s: [guide(torch.full((1, 1, 1, 1), u), torch.full((1, 1, 1, 1), c), s).item()],
    "00-08": lambda n: [sum(len(["with words", "without"]) for _ in range(n))],
    "01-01": lambda a: (math.cos(math.acos(a**0.5)), math.sin(math.acos(a**0.5))),
    "01-02": lambda b1, b2, b3: [keep_of_steps([b1, b2, b3])],
    "01-04": lambda s: [alpha_bar_of(s)],
    "01-11": lambda n: [(n * (1 / n) ** 2) ** 0.5],
    "01-13": lambda s, t: [math.exp(0.5 * (math.log(t) - math.log(s)))],
    "02-04": lambda levels, z, n: moments_shape(levels, z, n),
    "02-05": lambda m, v: [DiagonalGaussian(scalar(m).view(1, 1, 1, 1), scalar(v).log().view(1, 1, 1, 1)).kl().item()],
    "02-07": lambda l: [DiagonalGaussian(scalar(0), -scalar(l)).std.item()],
    "02-08": lambda m, q: [1 / np.std([m - (q - m * m) ** 0.5, m + (q - m * m) ** 0.5])],
    "02-12": lambda i, o: [count(ResnetBlock(i, o, norm_groups=16, norm_eps=1e-6))],
    "03-01": lambda k: [l1_of_a_line(k)],
    "03-02": lambda p: (
        min((0.0, p, 1.0), key=lambda y: (1 - p) * abs(y) + p * abs(1 - y)),
        scipy.optimize.minimize_scalar(lambda y: (1 - p) * y * y + p * (1 - y) ** 2).x,
    ),
    "03-03": lambda h1, h2: [lpips(h1, h2)],
    "03-05": lambda v, w: [share_of_noise(v, w)],
    "03-07": lambda k: [pixels_in_a_row(k)],
    "03-08": lambda r, f: [hinge_loss(torch.tensor([float(r)]), torch.tensor([f])).item()],
    "04-01": lambda a, b, x: [attention_by_hand(a, b, x)],
    "04-02": lambda d: [math.hypot(*[1.0] * d)],
    "04-04": lambda i: [causal_weight(i)],
    "04-06": lambda h, s: [bytes_of_weights(h, s)],
    "04-07": lambda k: pairs(k),
    "04-08": lambda d: [sum(p.numel() for p in FeedForward(d).parameters() if p.ndim == 2)],
    "04-09": lambda s: table_shape(s),
    "05-02": lambda a, b, c: [first_pair(a, b, c)],
    "05-03": lambda m: [len([*range(256)] + [*range(256)] + [*range(m)] + ["start", "end"])],
    "05-04": lambda j: places_that_change(j),
    "05-08": lambda b: [contrastive_loss(torch.zeros(b, b)).item()],
    "05-09": lambda p, q: [contrastive_loss(torch.tensor([[p, 1.0], [q, q]]).log()).item()],
    "05-10": lambda b: [torch.eye(b).softmax(1)[0, 0].item()],
    "05-11": lambda n: [n - len(range(n)[: SD15.text_encoder.max_position_embeddings - 2])],
    "06-01": lambda t: embedding(t),
    "06-04": lambda c, s: added_by_time(c),
    "06-06": lambda a, b, c: first_inputs_up(a, b, c),
    "06-07": lambda n: [maps_on_the_stack(n)],
    "06-08": lambda n: [rows_again(n)],
    "06-11": lambda k: [ratio_of_weights(k)],
    "07a-04": lambda v, d: [kl_divergence(Normal(0.0, v**0.5), Normal(d, v**0.5)).item()],
    "07a-07": lambda s, x: [DDPMScheduler().predict(scalar(-0.8 * s), scalar(x), 0.36)[0].item()],
    "07a-06": lambda a: [error_in_x0(a)],
    "07a-09": lambda s: [min_snr_weight(torch.tensor([s / (1 + s)], dtype=torch.float64), torch.tensor([0])).item()],
    "07b-03": lambda w: [ema_after_one_update(w)],
    "07b-04": lambda p: [learning_rate(round(p * 1000), 1000, peak=1.0, warmup=0.05, decay=0.5)],
    "07b-05": lambda b, i: slice_of(b, i),
    "07b-06": lambda m: [sum([4, 4, 4 + 4, 4]) * m * 1e6 / 1e9],
    "08-01": lambda a, b: [posterior_variance(a, b)],
    "08-03": lambda x, e: [DDPMScheduler().predict(scalar(e), scalar(x), 0.36)[0].item()],
    "08-04": lambda a, b: [(b - a) / b],
    "08-05": lambda n: [spaced_timesteps("leading", n, 1000, 1)[0]],
    "08-08": lambda a, b: [variance_after_step(a, b)],
    "08-09": lambda v, s, d: [best_variance(v, s, d)],
    "09-02": lambda x, e: [ddim(x, e)],
    "09-04": lambda a, b, h: [ddim_variance(a, b, h)],
    "09-08": lambda f: [math.hypot(1 - f, f)],
    "09-11": lambda n, e: [e * (1 / (2 * n)) / (1 / n)],
    "10-01": lambda x, d, s: [-s * (d - x) / s**2],  # -σ times the score
    "10-03": lambda x, s: [x / math.hypot(s, 1)],
    "10-05": lambda k, e: [e * math.exp(-2 * math.log(k))],
    "10-06": lambda s, n: [euler_step(s, n)],
    "10-09": lambda a, b: [karras_sigmas(a, b, 3, rho=2)[1]],
    "10-12": lambda s: [math.sqrt((1.25 * s - s) * (1.25 * s + s))],
    "11-01": lambda k, r: up_and_down(5 * k, r * k),
    "11-03": lambda x, k, r: [x * up_and_down(5 * k, r * k)[0] / (5 * k)],
    "11-08": lambda a, x: (x / a**0.5, float(sigmas_from_alphas_cumprod(scalar(a)))),
    "11-10": lambda l: [(l * torch.tensor([1.0, -1.0])).square().mean().sqrt().item()],
    "12-01": lambda w: [paper_weight(w)],
    "12-02": lambda c, w: without_parentheses(c, w),
    "12-04": lambda v, w: [sharpened(v, w)],
    "12-10": lambda n, s: [len(timesteps_to_visit(DDIMScheduler(), n, s))],
    "12-13": lambda b: shapes_in_a_step(b),
    "12-14": lambda n: [],
    "13-01": lambda n, a: [len(bytes(8) + bytes(n) + bytes(a))],
    "13-03": lambda o: [torch.empty(o, 4, 3, 3).nbytes],
    "13-04": lambda i, j: [output_block(i, j)],
    "13-07": lambda e: [float(np.spacing(np.float16(2**e + 100)))],
    "13-10": lambda p: [p * 1e6 * torch.empty(1, dtype=torch.float16).nbytes / 1e9],
    "14-11": lambda n, k: [previews(n, k)],
    "14-14": lambda sigma, x: [rewrite(scalar(x), sigma, make_scheduler("euler"), make_scheduler("ddim")).item()],
    "15-01": lambda p: [sum(2 * steps for _, _, steps in itertools.product(range(p), range(4), (25, 50, 75)))],
    "15-02": lambda n: [2 * heun_evaluations(n)],
    "15-03": lambda b: [heun_steps_for(b)],
    "15-04": lambda n: [spaced_timesteps("leading", n, 1000, 1)[0]],
    "15-05": lambda n: [throws("euler_a", n)],
    "15-08": lambda k: [np.std([1.0, -1.0]) / k**0.5],
    "16-01": lambda n: [2 * heun_evaluations(n)],
    "16-03": lambda a, b: [scipy.integrate.quad(lambda sigma: 1 / sigma, b, a)[0]],
    "16-04": lambda x, d, a, b: [relaxed(x, d, math.log(a / b))],
    "16-06": lambda a, b, c, o, p: [middle_of_line(a, b, c, o, p)],
    "16-11": lambda n, m: [halvings(n, m)],
    "17-01": lambda o, r: [sum(p.numel() for p in LowRank(nn.Linear(320, o), r).parameters())],
    "17-03": lambda r, a: [scale_without_alpha(r, a)],
    "17-07": lambda s, t: [merged_and_loaded(s, t)],
    "17-12": lambda r: [share_held(r)],
    "18-01": lambda x, e, t: [torch.lerp(scalar(x), scalar(e), t).item(), e - x],
    "18-03": lambda t: [two_points().as_model(make_scheduler("flow_euler"))(torch.zeros(1, 1).double(), 1000 * t).item()],
    "18-04": lambda u, x, t: [convert(scalar(u), scalar(x), "velocity", "sample", 1 - t, t).item()],
    "18-05": lambda d, s: [abs(convert(scalar(d), scalar(0), "epsilon", "sample", 1.0, s).item())],
    "18-09": lambda t, s: [make_scheduler("flow_euler").sigma_at(1000 * u).item() for u in (t, shifted(t, s))],
}


def test_every_question_with_numbers_is_computed_once_more():
    assert set(ANSWERS) == {question.id for question in VARIED}


@pytest.mark.parametrize("question", VARIED, ids=lambda question: question.id)
def test_the_right_option_holds_the_right_numbers(question):
    [right] = [option for option in question.options if option.right]
    for numbers in question.combinations():
        expected = expected_numbers(question, numbers)
        found = list(written(fill(right.text, numbers)))
        assert len(found) == len(expected), (numbers, right.text, expected)
        assert all(abs(x - y) <= unit for (x, unit), y in zip(found, expected)), (numbers, right.text, expected)


@pytest.mark.parametrize("question", VARIED, ids=lambda question: question.id)
def test_a_wrong_option_has_other_numbers_or_other_words(question):
    [right] = [option for option in question.options if option.right]
    for numbers in question.combinations():
        shown = fill(right.text, numbers)
        units, expected = [unit for _, unit in written(shown)], expected_numbers(question, numbers)
        for option in question.options:
            text = fill(option.text, numbers)
            found = [x for x, _ in written(text)]
            same = len(found) == len(expected) and all(abs(x - y) <= u for x, y, u in zip(found, expected, units))
            assert option.right or not same or NUMBER.sub("", text) != NUMBER.sub("", shown), (numbers, text, expected)


def expected_numbers(question, numbers):
    return list(ANSWERS[question.id](**{name: numbers[name] for name in question.vary}))


# ---- facts that questions state in words


def test_sigma_at_the_last_timestep_tells_the_two_schedules_apart():  # 01-06
    right, wrong = (sigmas_from_alphas_cumprod(a)[-1].item() for a in (DDPMScheduler().alphas_cumprod, equal_steps().cumprod(0)))
    assert right == pytest.approx(14.61, abs=0.005) and 24 < wrong < 26


def equal_steps():
    return 1 - linear_betas(1000, 0.00085, 0.012)


def test_the_picture_has_a_weight_of_0_068_in_the_noisiest_latents():  # 01-11
    a = DDPMScheduler().alphas_cumprod[-1].item()
    assert a**0.5 == pytest.approx(0.068, abs=0.0005) and a == pytest.approx(0.0047, abs=0.0001)


def test_where_the_clean_picture_is_not_shrunk_the_variance_grows_from_1_to_2():  # 01-03
    a = DDPMScheduler().alphas_cumprod
    assert [round(2 - a[t].item(), 1) for t in (0, 400, 999)] == [1.0, 1.6, 2.0]


def test_v1_5_ends_ddim_at_the_lowest_level_of_training():  # 09-13, 11-07, 13-09, 10-07
    assert DDIMScheduler().final_alpha_bar == pytest.approx(0.99915, abs=5e-6)
    assert sigmas_from_alphas_cumprod(DDPMScheduler().alphas_cumprod)[0].item() == pytest.approx(0.029, abs=0.0005)
    scheduler = EulerDiscreteScheduler()
    scheduler.set_timesteps(25)
    assert (scheduler.timesteps[0], scheduler.timesteps[-1], scheduler.sigmas[-1]) == (999, 0, 0)
    assert scheduler.init_noise_sigma == pytest.approx(14.61, abs=0.005)


def test_noise_on_top_of_the_next_level_makes_1_12_of_it():  # 11-02
    assert math.hypot(1, 0.5) == pytest.approx(1.12, abs=0.005)


def test_gelu_and_quick_gelu_differ_by_at_most_0_02():  # 05-13
    x = torch.linspace(-6, 6, 12001, dtype=torch.float64)
    assert (nn.functional.gelu(x) - x * torch.sigmoid(1.702 * x)).abs().max() == pytest.approx(0.02, abs=0.001)


def test_the_bottom_of_the_unet_holds_a_third_of_the_parameters_and_little_work():  # 06-10
    with torch.device("meta"):
        unet = UNet(SD15.unet)
    bottom = sum(count(part) for part in (unet.down_blocks[3], unet.mid_block, unet.up_blocks[0]))
    assert 1 / 3 < bottom / count(unet) < 0.4
    assert SD15.unet.sample_size**2 == 4096 and (SD15.unet.sample_size // 8) ** 2 == 64  # where its weights are used


def test_float16_and_bfloat16_round_as_it_is_said():  # 13-07, 13-08, 13-09, 13-15
    assert torch.tensor([996.0, 997, 998, 999]).bfloat16().tolist() == [996, 996, 1000, 1000]
    assert torch.tensor(0.99915).bfloat16() == 1 and 1 - torch.finfo(torch.bfloat16).eps / 2 == 1 - 2**-8
    assert torch.finfo(torch.float16).max == 65504


def test_one_level_of_the_decoder_fits_into_another():  # 13-06
    with torch.device("meta"):
        vae = AutoencoderKL(SD15.vae)
    shapes = [{name: p.shape for name, p in vae.decoder.up_blocks[i].named_parameters()} for i in (0, 1)]
    assert len(shapes[0]) == 26 and shapes[0] == shapes[1]


def test_v1_5_has_as_many_tensors_as_it_is_said():  # 13-06
    with torch.device("meta"):
        parts = UNet(SD15.unet), AutoencoderKL(SD15.vae), CLIPTextModel(SD15.text_encoder)
    assert sum(len(part.state_dict()) for part in parts) == 1130


def test_the_text_summary_is_as_wide_as_the_hidden_states_in_v1_5():  # 05-12
    assert SD15.text_encoder.projection_dim == SD15.text_encoder.hidden_size == 768


def test_the_upsamplers_have_other_layer_numbers_at_the_lowest_level():  # 13-05
    names = [ldm_name("unet", f"up_blocks.{i}.upsamplers.0.conv.weight", SD15.unet) for i in (0, 1)]
    assert [name.split("diffusion_model.")[1][:15] for name in names] == ["output_blocks.2", "output_blocks.5"]
    assert [name.split(".")[4] for name in names] == ["1", "2"]


def test_the_best_of_several_normal_scores():  # 15-12
    def best_of(k):
        def density(x):
            cdf = 0.5 * (1 + math.erf(x / 2**0.5))
            return x * k * cdf ** (k - 1) * math.exp(-x * x / 2) / (2 * math.pi) ** 0.5

        return scipy.integrate.quad(density, -9, 9)[0]

    assert (best_of(4), best_of(16)) == (pytest.approx(1.03, abs=0.005), pytest.approx(1.77, abs=0.005))
    assert best_of(16) - best_of(4) == pytest.approx(0.7, abs=0.05)


def test_ddpm_and_euler_draw_as_often_as_it_is_said():  # 15-05, 09-06
    assert (throws("euler", 25), throws("ddim", 25), throws("ddpm", 25)) == (1, 1, 25)


def test_a_list_of_seeds_gives_each_prompt_its_own():  # 15-15
    assert seeds_of([0] * 6, 6) == [0] * 6 and seeds_of(0, 6) == [0, 1, 2, 3, 4, 5]


def test_the_latent_scale_and_twice_as_large_latents_change_the_snr_fourfold():  # 02-09
    a = scalar(0.36)
    assert (2 * a.sqrt()) ** 2 / (1 - a) == 4 * (a / (1 - a))
