"""Whatever is asked for: pictures, or one error that names the argument. Hypothesis looks for what is neither."""

import itertools
import math
import random
import warnings

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ldm_tutorial.images import mask_to_tensor, to_tensor
from ldm_tutorial.inputs import MAX_SEED, Options, seeds_of, tokenize
from ldm_tutorial.schedulers import SCHEDULERS, make_scheduler, noise_schedule

SETTINGS = settings(deadline=None, derandomize=True, max_examples=150, suppress_health_check=list(HealthCheck))
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of prompts that are cut, and of few steps


# ---- prompts


def prompts_of_any_kind(count):
    """Letters of all planes of Unicode, what CLIP's rules treat in a special way, and both mixed."""
    rng = random.Random(0)
    special = [
        "'s",
        "'LL",
        "<|endoftext|>",
        "<|startoftext|>",
        "\u200d",
        "\ufe0f",
        "\u0301",
        "İ",
        "ß",
        "ﬁ",
        "\x00",
        "\r\n",
        "   ",
        "１２",
        "½",
    ]
    special += [
        "a cat in the style of noto",
        "can't",
        "A" * 40,
        "日本語",
        "👩‍🚀",
        "𝔘",
        "\u202e",
        "&amp;",
        "Å",
        "ǆ",
        "\u1e9e",
        "...",
        "_",
        "٣",
    ]
    planes = [
        (32, 126),
        (0, 255),
        (0x300, 0x36F),
        (0x370, 0x7FF),
        (0x800, 0xD7FF),
        (0xE000, 0xFFFF),
        (0x10000, 0x1FFFF),
        (0, 0x10FFFF),
    ]

    def letter():
        low, high = rng.choice(planes)
        found = rng.randint(low, high)
        return chr(found) if not 0xD800 <= found <= 0xDFFF else "a"

    def piece():
        return rng.choice(special) if rng.random() < 0.3 else "".join(letter() for _ in range(rng.randint(1, 8)))

    return [rng.choice(["", " "]).join(piece() for _ in range(rng.choice([0, 1, 2, 5, 12, 40]))) for _ in range(count)]


def test_the_tokens_of_ten_thousand_prompts_of_any_unicode_are_those_of_transformers():
    from ldm_tutorial.checkpoints.folder import read_tokenizer
    from ldm_tutorial.weights import EMOJI_FOLDER

    ours, theirs = read_tokenizer(EMOJI_FOLDER / "tokenizer"), read_tokenizer(EMOJI_FOLDER / "tokenizer")
    prompts = sorted(set(prompts_of_any_kind(14_000)))[:10_000]
    assert len(prompts) == 10_000
    expected = theirs(prompts, padding="max_length", max_length=77, truncation=True).input_ids
    assert tokenize(ours, prompts).tolist() == expected
    assert {len(row) for row in expected} == {77}


@given(
    st.one_of(
        st.none(),
        st.integers(),
        st.binary(),
        st.floats(),
        st.lists(st.integers(), min_size=1),
        st.dictionaries(st.text(), st.text()),
    )
)
@SETTINGS
def test_what_is_no_prompt_is_named(tiny_pipe, prompt):
    with pytest.raises((TypeError, ValueError), match="^prompt must be a string or a list of strings"):
        tiny_pipe.prepare(prompt, Options())


# ---- steps


@pytest.mark.parametrize("spacing", noise_schedule.SPACINGS)
@pytest.mark.parametrize("name", SCHEDULERS)
def test_any_number_of_steps_with_every_scheduler_and_spacing(name, spacing):
    """A model that knows that the picture is 0: its noise is x, at the scale of the model. From noise to that picture."""
    scheduler = make_scheduler(name, timestep_spacing=spacing)
    for n in (0, 1001):
        with pytest.raises(ValueError, match=rf"num_inference_steps={n} must be a whole number, 1 \.\.\. 1000"):
            scheduler.set_timesteps(n)
    for n in (1, 2, 999, 1000):
        scheduler.set_timesteps(n)
        generator = torch.Generator().manual_seed(n)
        x = scheduler.init_noise_sigma * torch.randn(1, 1, 2, 2, generator=generator)
        assert len(scheduler.timesteps) == (2 * n - 1 if name == "heun" else n)
        for t in scheduler.timesteps:
            alpha_bar = scheduler.alpha_bar_at(t).item()
            eps = scheduler.scale_model_input(x, t) / (1 - alpha_bar) ** 0.5
            x = scheduler.step(eps, t, x, generator).prev_sample
        assert x.abs().max() < 0.15  # v1.5 stops at ᾱ = 0.99915, with a standard deviation of 0.03


@given(st.sampled_from(list(SCHEDULERS)), st.integers(-5, 1100))
@SETTINGS
def test_a_call_visits_as_many_noise_levels_as_steps_or_says_why_not(tiny_pipe, name, steps):
    if 1 <= steps <= 1000:
        inputs = tiny_pipe.prepare("a cat", Options(scheduler=name, steps=steps))
        assert len(inputs.timesteps.unique()) == steps
    else:
        with pytest.raises(ValueError, match=f"steps={steps} must be a whole number"):
            tiny_pipe.prepare("a cat", Options(scheduler=name, steps=steps))


# ---- sizes, seeds, lists


@given(st.integers(-100, 20_000), st.integers(-100, 20_000))
@SETTINGS
def test_any_size_is_drawn_or_refused_by_name(tiny_pipe, height, width):
    right = {name: 0 < side <= 16_384 and side % 4 == 0 for name, side in (("height", height), ("width", width))}
    if all(right.values()):
        assert tiny_pipe.prepare("a cat", Options(height=height, width=width)).shape == (1, 4, height // 4, width // 4)
    else:
        first = next(name for name in right if not right[name])
        with pytest.raises(ValueError, match=f"^{first}={height if first == 'height' else width} must be a "):
            tiny_pipe.prepare("a cat", Options(height=height, width=width))


@given(st.one_of(st.integers(), st.integers(-(2**70), 2**70), st.sampled_from([0, MAX_SEED, MAX_SEED + 1, 2**64, -1])))
@SETTINGS
def test_any_seed_is_one_picture_or_refused(seed):
    if 0 <= seed <= MAX_SEED:
        assert seeds_of(seed, 1) == [seed]
        torch.Generator().manual_seed(seed)
    else:
        with pytest.raises(ValueError, match=r"^seed=-?\d+"):
            seeds_of(seed, 1)


COUNTS = st.integers(0, 3)


@given(COUNTS, COUNTS, COUNTS, COUNTS, st.integers(1, 3))
@SETTINGS
def test_lists_of_any_lengths_pair_up_or_are_named(tiny_pipe, prompts, negatives, images, seeds, num_images):
    """0: one value instead of a list."""

    def many(value, count):
        return value if count == 0 else [value] * count

    lengths = {count for count in (prompts, negatives, images) if count > 1}
    expected = max([*lengths, 1]) * num_images
    image = Image.new("RGB", (32, 32))
    options = Options(negative_prompt=many("", negatives), seed=many(7, seeds) if seeds else 7, num_images=num_images)
    if len(lengths) > 1 or (seeds and seeds != expected and expected > 1):
        with pytest.raises(ValueError, match="lists must have one length|seed is a list of"):
            tiny_pipe.prepare(many("a cat", prompts), options, many(image, images))
    else:
        inputs = tiny_pipe.prepare(many("a cat", prompts), options, many(image, images))
        count = seeds if expected == 1 and seeds else expected
        assert inputs.shape[0] == len(inputs.prompts) == len(inputs.negative_prompts) == len(inputs.seeds) == count
        assert len(inputs.pixels) == count


@pytest.mark.parametrize("empty", ["prompt", "negative_prompt", "image", "mask", "seed"])
def test_an_empty_list_is_named(tiny_pipe, empty):
    given = {"prompt": "a cat", "image": Image.new("RGB", (32, 32)), "mask": Image.new("L", (32, 32))}
    options = {empty: []} if empty in ("negative_prompt", "seed") else {}
    given |= {empty: []} if empty in given else {}
    with pytest.raises(ValueError, match=f"^{empty} is an? (empty list|list of 0)"):
        tiny_pipe.prepare(given["prompt"], Options(**options), given["image"], given["mask"])


def test_an_empty_list_is_named_by_what_encodes_one_too(tiny_pipe):
    for encode in (lambda: tiny_pipe.encode_prompt([]), lambda: tiny_pipe.encode_prompt([], long_prompts=True)):
        with pytest.raises(ValueError, match="^prompt is an empty list; give at least one$"):
            encode()
    with pytest.raises(ValueError, match="^image is an empty list; give at least one$"):
        tiny_pipe.encode([])


# ---- numbers that are many numbers

SEVERAL = [torch.tensor([1.0, 2.0]), np.array([1.0, 2.0]), torch.tensor(1 + 2j)]


@pytest.mark.parametrize("value", SEVERAL, ids=["tensor", "array", "complex"])
@pytest.mark.parametrize("name", ["guidance_scale", "guidance_rescale", "steps", "num_images", "clip_skip"])
def test_several_numbers_or_a_complex_one_are_no_number(name, value):
    with pytest.raises((TypeError, ValueError), match=f"^{name}=.* must be"):
        Options(**{name: value})


@pytest.mark.parametrize("value", SEVERAL[:2], ids=["tensor", "array"])
@pytest.mark.parametrize("name", ["prompt_weights", "long_prompts"])
def test_several_values_are_no_yes_or_no(name, value):
    with pytest.raises(ValueError, match=f"^{name}=.* is not supported; choose one of False, True"):
        Options(**{name: value})


# ---- guidance and strength


@pytest.mark.parametrize("scale", [0, 1, 100, -3, -100, 1e-30, 0.5, True, math.nan, math.inf, -math.inf, "7", None])
def test_any_guidance_draws_or_is_refused(tiny_pipe, scale):
    if isinstance(scale, (int, float)) and not isinstance(scale, bool) and math.isfinite(scale):
        steps = list(tiny_pipe.stream("a cat", negative_prompt="a dog", guidance_scale=scale, steps=4))
        assert steps[-1].latents.isfinite().all()
        assert len(tiny_pipe.decode(steps[-1].latents)) == 1
    else:
        with pytest.raises((TypeError, ValueError), match="^guidance_scale=.* must be a finite number"):
            tiny_pipe("a cat", guidance_scale=scale)


@given(st.floats(0, 1), st.integers(1, 60), st.booleans())
@SETTINGS
def test_any_strength_takes_its_share_of_the_steps(tiny_pipe, strength, steps, painted):
    image, mask = Image.new("RGB", (32, 32)), Image.new("L", (32, 32), 255) if painted else None
    inputs = tiny_pipe.prepare("a cat", Options(steps=steps), image, mask, strength)
    assert abs(len(inputs.timesteps) - steps * strength) < 1
    assert len(inputs.timesteps) == (0 if strength == 0 else steps if strength == 1 else len(inputs.timesteps))


# ---- pictures


MODES = ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "LA", "PA", "RGBX", "RGBa", "La"]
TURNED = [lambda a: a, np.fliplr, lambda a: np.rot90(a, 2), np.flipud, lambda a: np.swapaxes(a, 0, 1)]
TURNED += [lambda a: np.rot90(a, 3), lambda a: np.rot90(np.swapaxes(a, 0, 1), 2), np.rot90]


def half_white(mode):
    """8 x 4, white in the left upper quarter."""
    image = Image.new("RGB", (8, 4), "black")
    image.paste("white", (0, 0, 4, 2))
    if mode in ("RGBa", "La"):
        return image.convert("RGBA" if mode == "RGBa" else "LA").convert(mode)
    if mode == "PA":
        return image.convert("P").convert("PA")
    if mode == "LAB":
        pixels = np.zeros((4, 8, 3), np.uint8) + [0, 128, 128]
        pixels[:2, :4] = [255, 128, 128]
        return Image.frombytes("LAB", (8, 4), pixels.astype(np.uint8).tobytes())
    return image.convert(mode)


@pytest.mark.parametrize("mode", MODES)
def test_pictures_and_masks_in_every_mode_turned_as_their_camera_says(mode):
    white = np.zeros((4, 8), bool)
    white[:2, :4] = True
    for orientation, turn in enumerate(TURNED, 1):
        image = half_white(mode)
        image.getexif()[274] = orientation
        expected = torch.from_numpy(turn(white).copy())
        assert torch.equal(mask_to_tensor(image)[0, 0] == 1, expected), orientation
        x = to_tensor(image)[0]
        assert x.shape == (3, *expected.shape)
        if mode not in ("LAB", "YCbCr"):  # whose middle gray is rounded
            assert torch.equal(x[0] > 0, expected) and x.min() == -1 and x.max() == 1


@pytest.mark.parametrize("mode", ["I", "F", "I;16", "I;16B"])
def test_modes_of_unknown_range_are_named(mode):
    for convert, name in ((to_tensor, "image"), (mask_to_tensor, "mask")):
        with pytest.raises(ValueError, match=f"^{name} has mode '{mode}', of unknown range"):
            convert(Image.new(mode, (4, 4)))


@pytest.mark.parametrize("alpha", [0, 127, 128, 255])
def test_what_is_transparent_is_white_in_a_picture_and_kept_in_a_mask(alpha):
    image = Image.new("RGBA", (4, 4), (255, 255, 255, alpha))
    assert to_tensor(image).min() == 1
    assert mask_to_tensor(image).max() == (alpha >= 128)
    black = Image.new("RGBA", (4, 4), (0, 0, 0, alpha))
    assert to_tensor(black).max() == pytest.approx(1 - alpha / 127.5, abs=0.01)
    assert mask_to_tensor(black).max() == 0


def test_every_mode_of_picture_is_redrawn_with_every_mode_of_mask(tiny_pipe):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for image, mask in itertools.product(MODES, MODES):
            pictures = [half_white(mode).resize((32, 16), Image.Resampling.NEAREST) for mode in (image, mask)]
            inputs = tiny_pipe.prepare("a cat", Options(), *pictures)
            assert inputs.pixels.shape == (1, 3, 16, 32) and inputs.mask.sum() == 16 * 8
