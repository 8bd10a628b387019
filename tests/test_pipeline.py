"""Equal to diffusers with the same weights and noise; every option does what it says; every wrong one is named."""

import inspect
import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from ldm_tutorial.inputs import Options
from ldm_tutorial.pipeline import StableDiffusion, guide
from ldm_tutorial.schedulers import DDIMScheduler, EulerDiscreteScheduler, make_scheduler

SCHEDULERS = ["ddpm", "ddim", "euler", "euler_a"]


def pixels(images):
    return np.stack([np.asarray(image, dtype=np.int16) for image in images])


def final_latents(steps):
    return list(steps)[-1].latents


def picture(width=32, height=32, seed=0):
    """Colored boxes."""
    image, random = Image.new("RGB", (width, height), "white"), np.random.default_rng(seed)
    for _ in range(6):
        (x0, x1), (y0, y1) = sorted(random.integers(0, width, 2)), sorted(random.integers(0, height, 2))
        ImageDraw.Draw(image).rectangle((x0, y0, x1, y1), fill=tuple(random.integers(0, 256, 3).tolist()))
    return image


def left_half(width=32, height=32):
    mask = Image.new("L", (width, height), 0)
    mask.paste(255, (0, 0, width // 2, height))
    return mask


# ---- diffusers


@pytest.fixture(scope="module")
def diffusers_pipe(tiny_pipe):
    """A function: the same networks as a pipeline of diffusers."""
    diffusers, transformers = pytest.importorskip("diffusers"), pytest.importorskip("transformers")

    unet = diffusers.UNet2DConditionModel.from_config(tiny_pipe.unet.config.to_dict())
    unet.load_state_dict(tiny_pipe.unet.state_dict())
    vae = diffusers.AutoencoderKL.from_config(tiny_pipe.vae.config.to_dict())
    vae.load_state_dict(tiny_pipe.vae.state_dict())
    text_encoder = transformers.CLIPTextModel(transformers.CLIPTextConfig(**tiny_pipe.text_encoder.config.to_dict()))
    weights = tiny_pipe.text_encoder.state_dict()
    if not any(key.startswith("text_model.") for key in text_encoder.state_dict()):  # transformers 5, in memory
        weights = {key.removeprefix("text_model."): value for key, value in weights.items()}
    text_encoder.load_state_dict(weights, strict=False)  # older versions have a buffer of positions, too
    assert set(weights) <= set(text_encoder.state_dict())

    def make(kind, scheduler):
        config = scheduler.to_config()
        pipe = getattr(diffusers, kind)(
            vae=vae.eval(),
            text_encoder=text_encoder.eval(),
            tokenizer=tiny_pipe.tokenizer,
            unet=unet.eval(),
            scheduler=getattr(diffusers, config["_class_name"]).from_config(config),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipe.set_progress_bar_config(disable=True)
        return pipe

    return make


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def assert_close(ours, theirs):
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


@pytest.mark.parametrize("name", [*SCHEDULERS, "heun", "dpmpp_2m"])
@pytest.mark.parametrize(
    "options", [{}, {"guidance_rescale": 0.7}, {"guidance_scale": 1.0}], ids=["guided", "rescaled", "unguided"]
)
def test_text_to_image_equals_diffusers(tiny_pipe, diffusers_pipe, name, options):
    prompts, negative = ["a cat with a hat", "an octopus"], "a dog"
    reference = diffusers_pipe("StableDiffusionPipeline", make_scheduler(name))
    theirs = reference(
        prompts,
        negative_prompt=[negative] * 2,
        num_inference_steps=8,
        height=32,
        width=48,
        generator=generators(3, 4),
        output_type="latent",
        **options,
    ).images
    ours = final_latents(
        tiny_pipe.stream(prompts, negative_prompt=negative, scheduler=name, steps=8, height=32, width=48, seed=3, **options)
    )
    assert_close(ours, theirs)


@pytest.mark.parametrize("options", [{"eta": 0.6}, {"timestep_spacing": "trailing"}, {"prediction_type": "v_prediction"}])
def test_ddim_options_equal_diffusers(tiny_pipe, diffusers_pipe, options):
    scheduler = make_scheduler("ddim", **options)
    reference = diffusers_pipe("StableDiffusionPipeline", scheduler)
    theirs = reference(
        "a cat",
        num_inference_steps=10,
        height=32,
        width=32,
        generator=generators(5),
        output_type="latent",
        eta=options.get("eta", 0.0),
    ).images
    assert_close(final_latents(tiny_pipe.stream("a cat", scheduler=scheduler, steps=10, seed=5)), theirs)


def test_karras_levels_equal_diffusers(tiny_pipe, diffusers_pipe):
    scheduler = make_scheduler("euler", use_karras_sigmas=True)
    reference = diffusers_pipe("StableDiffusionPipeline", scheduler)
    theirs = reference("a cat", num_inference_steps=8, height=32, width=32, generator=generators(5), output_type="latent").images
    ours = tiny_pipe.stream("a cat", scheduler="euler", scheduler_options={"use_karras_sigmas": True}, steps=8, seed=5)
    assert_close(final_latents(ours), theirs)


@pytest.mark.parametrize("name", [*SCHEDULERS, "heun", "dpmpp_2m"])
@pytest.mark.parametrize("strength", [0.35, 1.0])
def test_img2img_equals_diffusers(tiny_pipe, diffusers_pipe, name, strength):
    reference = diffusers_pipe("StableDiffusionImg2ImgPipeline", make_scheduler(name))
    theirs = reference(
        "a cat", image=picture(48, 32), strength=strength, num_inference_steps=9, generator=generators(7), output_type="latent"
    ).images
    assert_close(
        final_latents(tiny_pipe.stream("a cat", picture(48, 32), strength=strength, scheduler=name, steps=9, seed=7)), theirs
    )


@pytest.mark.parametrize("name", [*SCHEDULERS, "heun", "dpmpp_2m"])
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_inpainting_equals_diffusers(tiny_pipe, diffusers_pipe, name, strength):
    reference = diffusers_pipe("StableDiffusionInpaintPipeline", make_scheduler(name))
    image, mask = picture(48, 32), left_half(48, 32)
    # diffusers draws from the generator once more, for a masked picture that a U-Net of 4 channels never sees
    theirs = reference(
        "a cat",
        image=image,
        mask_image=mask,
        height=32,
        width=48,
        strength=strength,
        num_inference_steps=8,
        generator=generators(7),
        output_type="latent",
        masked_image_latents=torch.zeros(1, 4, 8, 12),
    ).images
    ours = tiny_pipe.stream("a cat", image, mask, strength=strength, scheduler=name, steps=8, seed=7)
    assert_close(final_latents(ours), theirs)


def test_pictures_equal_those_of_diffusers(tiny_pipe, diffusers_pipe):
    reference = diffusers_pipe("StableDiffusionPipeline", make_scheduler("ddim"))
    theirs = reference(["a cat"], num_inference_steps=8, height=40, width=32, generator=generators(3)).images
    ours = tiny_pipe("a cat", steps=8, height=40, width=32, seed=3)
    assert ours[0].size == (32, 40)
    assert np.abs(pixels(ours) - pixels(theirs)).max() <= 1
    assert pixels(ours).std() > 20  # there is something to see


# ---- the loop


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_stream_ends_with_the_picture(tiny_pipe, name):
    steps = list(tiny_pipe.stream("a cat", scheduler=name, steps=4, seed=1))
    assert [step.index for step in steps] == [0, 1, 2, 3]
    assert steps[0].timestep > steps[1].timestep > steps[2].timestep > steps[3].timestep
    assert steps[0].sigma > steps[1].sigma > steps[2].sigma > steps[3].sigma > 0
    for step in steps:
        for tensor in (step.latents, step.denoised, step.noise_pred):
            assert tensor.shape == (1, 4, 8, 8)
            assert tensor.dtype == torch.float32
    assert np.array_equal(
        pixels(tiny_pipe.decode(steps[-1].latents)), pixels(tiny_pipe("a cat", scheduler=name, steps=4, seed=1))
    )


def test_a_step_is_what_the_scheduler_says_of_it(tiny_pipe):
    steps = list(tiny_pipe.stream("a cat", scheduler="ddim", steps=4, seed=1))
    scheduler = make_scheduler("ddim")
    scheduler.set_timesteps(4)
    before = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    for step, t in zip(steps, scheduler.timesteps):
        latents, denoised = scheduler.step(step.noise_pred, t, before)
        assert step.timestep == t
        assert torch.equal(step.latents, latents)
        assert torch.equal(step.denoised, denoised)
        assert step.sigma == pytest.approx(((1 - scheduler.alphas_cumprod[t]) / scheduler.alphas_cumprod[t]).sqrt().item())
        before = step.latents


def test_a_stream_can_be_left_and_two_can_run_at_once(tiny_pipe):
    scheduler = EulerDiscreteScheduler()
    alone = [final_latents(tiny_pipe.stream("a cat", scheduler=scheduler, steps=n, seed=1)) for n in (3, 5)]
    first, second = (tiny_pipe.stream("a cat", scheduler=scheduler, steps=n, seed=1) for n in (3, 5))
    next(tiny_pipe.stream("a dog", scheduler=scheduler, steps=9)).latents.zero_()
    together = [next(first), next(second), next(first), next(second), next(first), next(second), next(second), next(second)]
    assert torch.equal(together[4].latents, alone[0])
    assert torch.equal(together[7].latents, alone[1])
    assert len(scheduler.timesteps) == 1000  # the user's own scheduler is as it was


def test_the_loop_leaves_gradients_on_for_whoever_uses_its_steps(tiny_pipe):
    for step in tiny_pipe.stream("a cat", steps=2):
        assert torch.is_grad_enabled()
        assert not step.latents.requires_grad
        (torch.ones(1, requires_grad=True) * step.latents.sum()).backward()


def test_nothing_of_the_pipeline_changes(make_tiny_pipe):
    pipe = make_tiny_pipe()
    before = {k: v.clone() for network in (pipe.unet, pipe.vae, pipe.text_encoder) for k, v in network.state_dict().items()}
    pipe.inpaint("a cat", picture(), left_half(), steps=2)
    after = {k: v for network in (pipe.unet, pipe.vae, pipe.text_encoder) for k, v in network.state_dict().items()}
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert len(pipe.scheduler.timesteps) == 1000


# ---- seeds and batches


def test_a_seed_is_a_picture(tiny_pipe):
    first, again, other = (pixels(tiny_pipe("a cat", steps=3, seed=seed)) for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("name", ["ddpm", "ddim"])
def test_a_picture_does_not_depend_on_its_batch(tiny_pipe, name):
    batch = final_latents(tiny_pipe.stream(["a cat", "a dog"], num_images=2, scheduler=name, steps=4, seed=10))
    for i, (prompt, seed) in enumerate([("a cat", 10), ("a cat", 11), ("a dog", 12), ("a dog", 13)]):
        alone = final_latents(tiny_pipe.stream(prompt, scheduler=name, steps=4, seed=seed))
        assert torch.allclose(batch[i], alone[0], atol=1e-4)


def test_one_of_each_pairs_up(tiny_pipe):
    images = tiny_pipe(["a cat", "a dog"], negative_prompt=["a hat", ""], num_images=2, steps=1, seed=[7, 7, 8, 9])
    found = [(i.info["prompt"], i.info["negative_prompt"], i.info["seed"]) for i in images]
    assert found == [("a cat", "a hat", 7), ("a cat", "a hat", 7), ("a dog", "", 8), ("a dog", "", 9)]
    assert np.abs(pixels(images[:1]) - pixels(images[1:2])).max() <= 1


def test_several_seeds_for_one_prompt(tiny_pipe):
    images = tiny_pipe("a cat", steps=1, seed=[4, 2])
    assert [i.info["seed"] for i in images] == [4, 2]
    assert np.abs(pixels(images[1:]) - pixels(tiny_pipe("a cat", steps=1, seed=2))).max() <= 1


def test_one_negative_prompt_for_all_and_several_for_one(tiny_pipe):
    images = tiny_pipe("a cat", negative_prompt=["a hat", "a dog"], steps=1, seed=[1, 1])
    assert [i.info["negative_prompt"] for i in images] == ["a hat", "a dog"]
    assert not np.array_equal(images[0], images[1])


def test_seed_none_is_another_picture_each_time_and_says_which(tiny_pipe):
    first, second = (tiny_pipe("a cat", steps=1, seed=None)[0] for _ in range(2))
    assert first.info["seed"] != second.info["seed"]
    assert np.array_equal(first, tiny_pipe("a cat", steps=1, seed=first.info["seed"])[0])


def test_latents_are_the_noise_to_start_from(tiny_pipe):
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    for name in ("ddim", "euler"):  # of unit variance for both; the scheduler scales it
        given = final_latents(tiny_pipe.stream("a cat", scheduler=name, steps=3, latents=noise))
        assert torch.equal(given, final_latents(tiny_pipe.stream("a cat", scheduler=name, steps=3, seed=5)))
    assert tiny_pipe("a cat", steps=1, latents=torch.zeros(1, 4, 5, 7))[0].size == (28, 20)


# ---- guidance


def count_passes(pipe, monkeypatch):
    sizes, forward = [], pipe.unet.forward
    monkeypatch.setattr(pipe.unet, "forward", lambda x, t, context: sizes.append(len(x)) or forward(x, t, context))
    return sizes


def test_guidance_of_1_asks_once(make_tiny_pipe, monkeypatch):
    pipe = make_tiny_pipe()
    sizes = count_passes(pipe, monkeypatch)
    unguided = final_latents(pipe.stream("a cat", steps=2, guidance_scale=1))
    nearly = final_latents(pipe.stream("a cat", steps=2, guidance_scale=1 + 1e-7))
    assert sizes == [1, 1, 2, 2]
    assert torch.allclose(unguided, nearly, atol=1e-4)


def test_guidance_of_0_draws_the_negative_prompt(tiny_pipe):
    only_negative = final_latents(tiny_pipe.stream("a cat", negative_prompt="a dog", steps=3, guidance_scale=0))
    assert torch.allclose(only_negative, final_latents(tiny_pipe.stream("a dog", steps=3, guidance_scale=1)), atol=1e-4)


def test_guide_by_hand():
    uncond, cond = torch.tensor([0.0, 1.0, 2.0, 3.0]).view(1, 1, 2, 2), torch.tensor([1.0, 1.0, 3.0, 5.0]).view(1, 1, 2, 2)
    assert guide(uncond, cond, 3.0).flatten().tolist() == [3, 1, 5, 9]
    rescaled = guide(uncond, cond, 3.0, 1.0)
    assert rescaled.std() == pytest.approx(cond.std().item())
    assert torch.allclose(guide(uncond, cond, 3.0, 0.25), 0.25 * rescaled + 0.75 * guide(uncond, cond, 3.0))


def test_rescaling_is_done_for_each_picture_by_itself():
    uncond, cond = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8) * torch.tensor([1.0, 9.0]).view(2, 1, 1, 1)
    assert torch.allclose(guide(uncond, cond, 5.0, 0.7)[1:], guide(uncond[1:], cond[1:], 5.0, 0.7))


# ---- schedulers


def test_a_scheduler_by_name_knows_how_the_model_was_trained(make_tiny_pipe):
    pipe = make_tiny_pipe()
    pipe.scheduler = DDIMScheduler(
        prediction_type="v_prediction", beta_end=0.02, set_alpha_to_one=True, timestep_spacing="trailing"
    )
    settings = pipe("a cat", scheduler="euler", steps=1)[0].info["scheduler_options"]
    assert settings == {"prediction_type": "v_prediction", "beta_end": 0.02}  # but samples in its own way: linspace
    for chosen in ("ddim", None, pipe.scheduler):
        settings = pipe("a cat", scheduler=chosen, steps=1)[0].info["scheduler_options"]
        assert settings == {
            "prediction_type": "v_prediction",
            "beta_end": 0.02,
            "set_alpha_to_one": True,
            "timestep_spacing": "trailing",
        }


def test_a_model_that_starts_from_pure_noise_does_so_with_every_scheduler(make_tiny_pipe):
    pipe = make_tiny_pipe()
    pipe.scheduler = DDIMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing")
    for name in (None, *SCHEDULERS):
        assert next(pipe.stream("a cat", scheduler=name, steps=25)).timestep == 999


def test_scheduler_options_are_judged_together_with_what_is_inherited(make_tiny_pipe):
    pipe = make_tiny_pipe()
    pipe.scheduler = DDIMScheduler(prediction_type="v_prediction")
    inputs = pipe.prepare("a cat", Options(scheduler="ddpm", scheduler_options={"rescale_betas_zero_snr": True}))
    assert (inputs.scheduler.prediction_type, inputs.scheduler.rescale_betas_zero_snr) == ("v_prediction", True)
    pipe.scheduler = DDIMScheduler()
    with pytest.raises(ValueError, match="rescale_betas_zero_snr=True needs prediction_type='v_prediction'"):
        pipe.prepare("a cat", Options(scheduler="ddpm", scheduler_options={"rescale_betas_zero_snr": True}))


def test_scheduler_options_reach_the_scheduler(tiny_pipe):
    deterministic, noisy = (final_latents(tiny_pipe.stream("a cat", steps=3, scheduler_options={"eta": eta})) for eta in (0, 1.0))
    assert not torch.allclose(deterministic, noisy)
    as_object = final_latents(tiny_pipe.stream("a cat", steps=3, scheduler=DDIMScheduler(eta=1.0)))
    assert torch.equal(noisy, as_object)
    assert tiny_pipe("a cat", steps=1, scheduler_options={"eta": 1.0})[0].info["scheduler_options"] == {"eta": 1.0}


@pytest.mark.parametrize("name", ["euler a", "Euler_A", "EulerAncestralDiscreteScheduler"])
def test_a_scheduler_has_one_name_in_the_settings(tiny_pipe, name):
    assert tiny_pipe("a cat", scheduler=name, steps=1)[0].info["scheduler"] == "euler_a"


# ---- sizes


@pytest.mark.parametrize(("height", "width"), [(4, 4), (20, 36), (28, 4), (32, 60)])
def test_any_multiple_of_the_factor_can_be_drawn(tiny_pipe, height, width):
    assert tiny_pipe("a cat", height=height, width=width, steps=2)[0].size == (width, height)


# ---- img2img and inpainting


def test_strength_0_returns_what_the_autoencoder_sees(tiny_pipe):
    (redrawn,) = tiny_pipe.img2img("a cat", picture(), strength=0, seed=3)
    latents = tiny_pipe.encode(picture(), torch.Generator().manual_seed(3))
    assert np.array_equal(redrawn, tiny_pipe.decode(latents)[0])


@pytest.mark.parametrize(
    ("strength", "steps", "taken"), [(0.6, 25, 15), (0.1, 10, 1), (1.0, 7, 7), (0.99, 10, 9), (0.7, 90, 63), (0.29, 100, 29)]
)
def test_strength_is_the_share_of_the_steps(tiny_pipe, strength, steps, taken):
    found = list(tiny_pipe.stream("a cat", picture(), strength=strength, steps=steps))
    assert len(found) == taken
    assert found[-1].timestep == 1


def test_the_start_has_the_noise_of_its_level(tiny_pipe, make_tiny_pipe, monkeypatch):
    """Not of one level off, as in CompVis' script."""
    pipe, seen = make_tiny_pipe(), []
    monkeypatch.setattr(pipe.unet, "forward", lambda x, t, context: seen.append((x, t)) or torch.zeros_like(x))
    generator = torch.Generator().manual_seed(0)
    known = tiny_pipe.encode(picture(), generator)
    noise = torch.randn(known.shape, generator=generator)
    next(pipe.stream("a cat", picture(), strength=0.5, steps=10, scheduler="ddim"))
    x, t = seen[0]
    alpha_bar = make_scheduler("ddim").alphas_cumprod[int(t)]
    assert t == 401
    assert torch.allclose(x[:1], alpha_bar.sqrt() * known + (1 - alpha_bar).sqrt() * noise, atol=1e-5)


def test_too_little_strength_for_one_step_is_told(tiny_pipe):
    with pytest.warns(UserWarning, match=r"strength=0.05 of 10 steps is less than one step: the picture stays") as told:
        (redrawn,) = tiny_pipe.img2img("a cat", picture(), strength=0.05, steps=10)
    assert told[0].filename == __file__  # whoever called, not a file of ours
    assert np.array_equal(redrawn, tiny_pipe.img2img("a cat", picture(), strength=0)[0])


def test_inpainting_keeps_what_is_black(tiny_pipe):
    latents = tiny_pipe.encode(picture(), torch.Generator().manual_seed(0))
    found = final_latents(tiny_pipe.stream("a cat", picture(), left_half(), steps=4))
    assert torch.equal(found[..., 4:], latents[..., 4:])
    assert not torch.isclose(found[..., :4], latents[..., :4]).any(dim=1).all()
    (all_kept,) = tiny_pipe.inpaint("a cat", picture(), Image.new("L", (32, 32), 0), steps=2)
    assert np.array_equal(all_kept, picture())  # the very pixels, not the autoencoder's copy of them


def test_inpainting_with_an_all_white_mask_is_drawing_anew(tiny_pipe):
    """But for the autoencoder's sample, which takes the first numbers of the seed."""
    generator = torch.Generator().manual_seed(0)
    tiny_pipe.encode(picture(), generator)
    noise = torch.randn(1, 4, 8, 8, generator=generator)
    inpainted = tiny_pipe.inpaint("a cat", picture(), Image.new("L", (32, 32), 255), steps=3)
    assert np.abs(pixels(inpainted) - pixels(tiny_pipe("a cat", steps=3, latents=noise))).max() <= 1


def bar(left, width):
    mask = Image.new("L", (32, 32), 0)
    mask.paste(255, (left, 0, left + width, 32))
    return mask


def checkerboard():
    return Image.fromarray((np.indices((32, 32)).sum(0) % 2 * 255).astype(np.uint8))


@pytest.mark.parametrize("mask", [bar(left, width) for left in range(12, 17) for width in (1, 3, 5)] + [checkerboard()])
def test_a_latent_is_repainted_if_any_of_its_pixels_is_white_and_black_pixels_stay(tiny_pipe, mask):
    white = np.asarray(mask) >= 128  # (32, 32)
    cells = white.reshape(8, 4, 8, 4).any((1, 3))  # 4 x 4 pixels share one latent
    known = tiny_pipe.encode(picture(), torch.Generator().manual_seed(0))
    found = final_latents(tiny_pipe.stream("a cat", picture(), mask, steps=3))
    changed = (found != known).any(dim=1)[0].numpy()
    assert np.array_equal(changed, cells)
    (painted,) = tiny_pipe.inpaint("a cat", picture(), mask, steps=3)
    before, after = np.asarray(picture()), np.asarray(painted)
    assert np.array_equal(after[~white], before[~white])
    assert (after[white] != before[white]).any()


def test_an_image_is_cut_and_scaled_to_the_size_asked_for(tiny_pipe):
    (image,) = tiny_pipe.img2img("a cat", picture(100, 63), height=32, width=40, steps=2)
    assert image.size == (40, 32)
    (image,) = tiny_pipe.inpaint("a cat", picture(100, 63), left_half(100, 63), height=32, width=40, steps=2)
    assert image.size == (40, 32)


def test_a_photo_that_its_camera_stored_lying_is_redrawn_upright(tiny_pipe):
    lying, upright = picture(48, 32), picture(48, 32).transpose(Image.Transpose.ROTATE_270)
    lying.getexif()[0x0112] = 6  # orientation: turn by 90 degrees
    (drawn,) = tiny_pipe.img2img("a cat", lying, strength=0.5, steps=8)
    assert drawn.size == (32, 48)
    assert np.array_equal(drawn, tiny_pipe.img2img("a cat", upright, strength=0.5, steps=8)[0])
    (painted,) = tiny_pipe.inpaint("a cat", lying, left_half(32, 48), steps=8)
    assert np.array_equal(painted, tiny_pipe.inpaint("a cat", upright, left_half(32, 48), steps=8)[0])


def test_several_images_are_redrawn_at_once(tiny_pipe):
    images = tiny_pipe.img2img("a cat", [picture(seed=1), picture(seed=2)], steps=3, seed=4)
    alone = tiny_pipe.img2img("a cat", picture(seed=2), steps=3, seed=5)
    assert np.abs(pixels(images[1:]) - pixels(alone)).max() <= 1


# ---- the parts


def test_encode_and_decode_are_inverse_but_for_the_autoencoder(tiny_pipe):
    x = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    posterior = tiny_pipe.vae.encode(x)
    assert torch.allclose(tiny_pipe.encode(x), posterior.mean * 0.7)
    latents = tiny_pipe.encode(x, generators(1, 2))
    assert torch.allclose(latents[1:], tiny_pipe.encode(x[1:], generators(2)), atol=1e-5)
    before = latents.clone()
    decoded = tiny_pipe.decode(latents)
    assert torch.equal(latents, before)  # divided out of place
    assert [image.size for image in decoded] == [(48, 32), (48, 32)]


def test_large_pictures_are_decoded_one_by_one_and_small_ones_together(make_tiny_pipe, monkeypatch):
    pipe, batches = make_tiny_pipe(), []

    def decode(z):
        batches.append(len(z))
        return z[:, :3].repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)

    monkeypatch.setattr(pipe.vae, "decode", decode)
    large, small = torch.linspace(-0.5, 0.5, 3).view(3, 1, 1, 1).expand(3, 4, 128, 128), torch.zeros(5, 4, 8, 8)
    assert [image.getpixel((0, 0))[0] for image in pipe.decode(large)] == [36, 128, 219]  # in their order
    assert len(pipe.decode(small)) == 5
    assert batches == [1, 1, 1, 5]


def test_prompts_are_encoded_alone_as_in_company(tiny_pipe):
    both = tiny_pipe.encode_prompt(["a cat", "", "a cat"])
    assert both.shape == (3, 77, 18)
    assert torch.equal(both[0], both[2])
    assert torch.allclose(both[1], tiny_pipe.encode_prompt("")[0], atol=1e-6)


def test_settings_tell_how_the_picture_was_made(tiny_pipe):
    from ldm_tutorial import __version__

    (image,) = tiny_pipe.img2img(
        "a cat", picture(), 0.5, negative_prompt="a dog", scheduler="euler", steps=4, seed=9, guidance_scale=3
    )
    assert image.info == {
        "prompt": "a cat",
        "negative_prompt": "a dog",
        "seed": 9,
        "scheduler": "euler",
        "scheduler_options": {},
        "steps": 4,
        "guidance_scale": 3.0,
        "guidance_rescale": 0.0,
        "strength": 0.5,
        "width": 32,
        "height": 32,
        "model": "tiny",
        "dtype": "float32",
        "software": f"ldm_tutorial {__version__}",
    }
    assert "strength" not in tiny_pipe("a cat", steps=1)[0].info


# ---- precision


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 0.05), ("bfloat16", 0.3)])
def test_half_precision_draws_nearly_the_same(make_tiny_pipe, tiny_pipe, dtype, tolerance):
    pipe = make_tiny_pipe()
    for network in (pipe.unet, pipe.vae, pipe.text_encoder):
        network.to(getattr(torch, str(dtype).removeprefix("torch.")))
    half, full = (list(p.stream("a cat", steps=4, guidance_scale=2))[-1] for p in (pipe, tiny_pipe))
    assert half.latents.dtype == torch.float32  # the scheduler's arithmetic
    assert (half.latents - full.latents).abs().max() < tolerance * full.latents.abs().max()
    assert pipe("a cat", steps=1)[0].info["dtype"] == str(dtype).removeprefix("torch.")


def test_an_overflow_in_float16_names_the_way_out(make_tiny_pipe):
    pipe = make_tiny_pipe()
    for network in (pipe.unet, pipe.vae, pipe.text_encoder):
        network.half()
    with torch.no_grad():
        pipe.unet.conv_out.weight *= 60000
    with pytest.raises(FloatingPointError, match=r'float16 ends at 65504; use pipe\.to\(dtype="bfloat16"\)'):
        pipe("a cat", steps=2)


def test_damaged_weights_are_told(make_tiny_pipe):
    pipe = make_tiny_pipe()
    with torch.no_grad():
        pipe.unet.conv_out.weight[0, 0, 0, 0] = math.nan
    with pytest.raises(FloatingPointError, match="predicted noise at timestep 801 is not finite: the weights are damaged; load"):
        pipe("a cat", steps=5)


def test_a_guidance_that_overflows_is_told(tiny_pipe):
    for scale in (1e300, 1e30, -1e30):
        for steps in (1, 2, 5):
            with pytest.raises(FloatingPointError, match=r"guidance_scale=-?1e\+\d+ is too large|take a smaller guidance_scale"):
                tiny_pipe("a cat", steps=steps, guidance_scale=scale)


def test_a_number_that_is_not_finite_is_caught_where_it_appears(make_tiny_pipe):
    """Each network's own weights, and a scheduler's step: the message names the place, and says what to try."""
    places = {
        "the text encoder's output": lambda pipe: pipe.text_encoder.text_model["final_layer_norm"].weight,
        "the predicted noise at timestep 999": lambda pipe: pipe.unet.conv_in.weight,
        "the autoencoder's output": lambda pipe: pipe.vae.decoder.conv_out.weight,
    }
    for place, weight in places.items():
        pipe = make_tiny_pipe()
        with torch.no_grad():
            weight(pipe).view(-1)[0] = math.nan
        with pytest.raises(FloatingPointError, match=f"{place} is not finite: the weights are damaged; load the model again"):
            pipe("a cat", steps=1)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_step_that_overflows_is_named(tiny_pipe, index):
    class Overflowing(DDIMScheduler):
        def step(self, model_output, t, x, generator=None):
            step = super().step(model_output, t, x, generator)
            return step._replace(prev_sample=step.prev_sample / (0 if t == self.timesteps[index] else 1))

    words = (
        "the latents at timestep .* are not finite, after the step of Overflowing" if index < 2 else "the autoencoder's output"
    )
    with pytest.raises(FloatingPointError, match=words + ".*(take|more steps)"):
        tiny_pipe("a cat", scheduler=Overflowing(), steps=3)


def test_an_autoencoder_that_was_given_too_large_numbers_says_so(tiny_pipe):
    for latents in (torch.full((1, 4, 8, 8), 1e38), torch.full((1, 4, 8, 8), math.inf), torch.full((1, 4, 8, 8), math.nan)):
        with pytest.raises(
            FloatingPointError, match=r"autoencoder's output is not finite: what it was given goes up to (1.43e\+38|inf|nan)"
        ):
            tiny_pipe.decode(latents)


def test_an_autoencoder_that_overflows_in_float16_is_asked_again_in_float32(make_tiny_pipe, tiny_pipe):
    pipe, latents = make_tiny_pipe(), torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():  # a large number on the way, and back: harmless in float32
        conv_in = pipe.vae.decoder.conv_in
        conv_in.weight *= 1e5 / conv_in(torch.ones(1, 4, 8, 8)).abs().max()
    expected = pixels(pipe.decode(latents))
    for network in (pipe.unet, pipe.vae, pipe.text_encoder):
        network.half()
    assert not pipe.vae.decode(latents.half() / 0.7).isfinite().all()
    assert np.abs(pixels(pipe.decode(latents)) - expected).max() <= 16
    assert next(pipe.vae.parameters()).dtype == torch.float16  # the pipeline is as it was
    with torch.no_grad():  # trained further, or loaded anew: the same module with other weights
        pipe.vae.decoder.conv_out.weight.neg_()
        pipe.vae.decoder.conv_out.bias.neg_()
    assert np.abs(255 - pixels(pipe.decode(latents)) - expected).max() <= 16


def test_a_dtype_that_does_not_exist_is_named(tiny_pipe):
    with pytest.raises(ValueError, match=r"dtype='float8' is not supported; choose one of float32, bfloat16, float16"):
        tiny_pipe.to(dtype="float8")


# ---- errors, before anything is computed


@pytest.fixture
def idle_pipe(make_tiny_pipe, monkeypatch):
    """A pipeline that must not be asked to compute."""
    pipe = make_tiny_pipe()
    for network in (pipe.unet, pipe.vae, pipe.text_encoder):
        monkeypatch.setattr(network, "forward", lambda *_: pytest.fail("something was computed"))
    return pipe


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"scheduler": "pndm"}, ValueError, r"scheduler='pndm' is unknown; choose one of 'ddpm', 'ddim', 'euler', 'euler_a'"),
        ({"scheduler": 5}, TypeError, r"scheduler=5 must be one of 'ddpm'"),
        ({"scheduler_options": {"etta": 1}}, ValueError, "has no setting 'etta'; it has .*eta"),
        ({"scheduler_options": {"config": {"eta": 1}}}, ValueError, "has no setting 'config'; it has .*eta"),
        ({"scheduler_options": {"name": "ddpm"}}, ValueError, "has no setting 'name'; it has .*eta"),
        ({"scheduler": DDIMScheduler(), "scheduler_options": {"eta": 1}}, ValueError, "scheduler_options need a scheduler"),
        ({"steps": 0}, ValueError, r"steps=0 must be a whole number, 1 or more"),
        ({"steps": 1001}, ValueError, r"steps=1001 must be a whole number, 1 \.\.\. 1000"),
        ({"steps": 2.5}, TypeError, r"steps=2.5 must be a whole number"),
        ({"steps": "25"}, TypeError, r"steps='25' must be a whole number"),
        ({"steps": True}, ValueError, r"steps=True must be a whole number"),
        ({"height": 63}, ValueError, r"height=63 must be a multiple of 4; the nearest are 60 and 64"),
        ({"width": 3}, ValueError, r"width=3 must be a multiple of 4; the nearest is 4"),
        ({"width": 0}, ValueError, r"width=0 must be a whole number, 1 \.\.\. 16384"),
        ({"height": -8}, ValueError, r"height=-8 must be a whole number, 1 \.\.\. 16384"),
        ({"guidance_scale": math.nan}, ValueError, "guidance_scale=nan must be a finite number"),
        ({"guidance_scale": math.inf}, ValueError, "guidance_scale=inf must be a finite number"),
        ({"guidance_scale": 10**400}, ValueError, "guidance_scale=1000.* must be a finite number"),
        ({"guidance_scale": "7.5"}, TypeError, "guidance_scale='7.5' must be a finite number"),
        ({"guidance_rescale": 1.5}, ValueError, r"guidance_rescale=1.5 must be a number, 0 \.\.\. 1"),
        ({"num_images": 0}, ValueError, r"num_images=0 must be a whole number, 1 \.\.\. 10000"),
        ({"seed": -1}, ValueError, r"seed=-1 must be a whole number, 0 \.\.\."),
        ({"seed": 2**64}, ValueError, r"seed=\d+ must be a whole number"),
        ({"seed": 1.0}, TypeError, r"seed=1.0 must be a whole number"),
        ({"seed": [1, 2], "num_images": 3}, ValueError, "seed is a list of 2 for 3 pictures"),
        ({"seed": [], "num_images": 2}, ValueError, "seed is a list of 0 for 2 pictures"),
        ({"seed": []}, ValueError, "seed is a list of 0 for 1 picture"),
        ({"negative_prompt": None}, TypeError, "negative_prompt must be a string or a list of strings; got NoneType"),
        ({"latents": torch.zeros(2, 4, 8, 8)}, ValueError, r"shape \(2, 4, 8, 8\); the other arguments need \(1, 4, 8, 8\)"),
        ({"latents": torch.zeros(4, 8, 8)}, ValueError, r"latents must be a tensor \(b, 4, h, w\)"),
        ({"latents": torch.full((1, 4, 8, 8), math.nan)}, ValueError, "latents must be finite real numbers"),
        ({"latents": torch.full((1, 4, 8, 8), math.inf)}, ValueError, "latents must be finite real numbers"),
        ({"latents": torch.zeros(1, 4, 8, 8, dtype=torch.complex64)}, ValueError, "latents must be finite real numbers"),
        ({"height": 2**20, "width": 2**20}, ValueError, r"height=1048576 must be a whole number, 1 \.\.\. 16384"),
        ({"width": 2**62}, ValueError, r"width=\d+ must be a whole number, 1 \.\.\. 16384"),
        ({"num_images": 10**12}, ValueError, r"num_images=\d+ must be a whole number, 1 \.\.\. 10000"),
        ({"scheduler_options": 3}, TypeError, "scheduler_options=3 must be a dict of settings by their names"),
        ({"scheduler_options": {3: 4}}, TypeError, r"scheduler_options=\{3: 4\} must be a dict"),
        ({"scheduler_options": "eta=1"}, TypeError, "scheduler_options='eta=1' must be a dict"),
        ({"step": 25}, TypeError, r"step=25 is no argument; did you mean steps\?"),
    ],
)
def test_a_wrong_option_is_named(idle_pipe, options, error, words):
    for draw in (idle_pipe, idle_pipe.stream):
        with pytest.raises(error, match=words):
            draw("a cat", **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"guidance": 3}, r"guidance=3 is no argument; did you mean guidance_scale or guidance_rescale\?"),
        ({"guidence_scale": 3}, r"did you mean guidance_scale or guidance_rescale\?"),
        ({"num_inference_steps": 5}, r"did you mean steps\?"),
        ({"sampler": "ddim"}, r"did you mean scheduler\?"),
        ({"seeds": 3}, r"did you mean seed\?"),
        ({"colour": "red"}, "colour='red' is no argument; there are prompt, .*latents"),
    ],
)
@pytest.mark.parametrize("way", ["__call__", "img2img", "inpaint", "stream"])
def test_an_argument_of_another_name_is_told_the_right_one(idle_pipe, way, options, words):
    with pytest.raises(TypeError, match=words):
        getattr(idle_pipe, way)("a cat", **options)


@pytest.mark.parametrize(
    ("prompt", "error", "words"),
    [
        (5, TypeError, "prompt must be a string or a list of strings; got int: 5"),
        (None, TypeError, "prompt must be a string or a list of strings; got NoneType"),
        (b"a cat", TypeError, "got bytes"),
        (["a cat", 5], TypeError, "got int: 5"),
        ([], ValueError, "prompt is an empty list"),
        ("a \ud800 cat", ValueError, r"prompt holds '\\ud800' at position 2, which is no character"),
    ],
)
def test_a_wrong_prompt_is_named(idle_pipe, prompt, error, words):
    with pytest.raises(error, match=words):
        idle_pipe(prompt)


def test_lists_of_different_lengths_are_named(idle_pipe):
    with pytest.raises(ValueError, match=r"lists must have one length, or be one value; got prompt 2, negative_prompt 3"):
        idle_pipe(["a", "b"], negative_prompt=["c", "d", "e"])


@pytest.mark.parametrize(
    ("image", "mask", "strength", "error", "words"),
    [
        (picture(), None, 1.5, ValueError, r"strength=1.5 must be a number, 0 \.\.\. 1"),
        (picture(), None, -0.1, ValueError, r"strength=-0.1 must be a number"),
        (picture(), None, math.nan, ValueError, r"strength=nan must be a number"),
        (picture(), None, "0.5", TypeError, r"strength='0.5' must be a number"),
        (
            picture(33, 32),
            None,
            0.5,
            ValueError,
            r"width=33 must be a multiple of 4; .* 32 and 36 \(the image is 33x32: give height",
        ),
        ([picture(), picture(36, 32)], None, 0.5, ValueError, r"image has 36x32 pixels, but must have 32x32"),
        (picture(), left_half(16, 16), 1.0, ValueError, r"mask is 16x16, but image is 32x32"),
        (picture(), "mask.png", 1.0, TypeError, "mask must be a PIL image; got str"),
        ("cat.png", None, 1.0, TypeError, "image must be a PIL image; got str"),
        ([None], None, 0.5, TypeError, "image must be a PIL image; got NoneType"),
        (Image.new("F", (32, 32)), None, 1.0, ValueError, "image has mode 'F'"),
        (Image.new("RGB", (0, 32)), None, 1.0, ValueError, "image is 0x32: it has no pixels"),
        (picture(), Image.new("L", (32, 0)), 1.0, ValueError, "mask is 32x0: it has no pixels"),
        (None, left_half(), 1.0, ValueError, "mask needs an image"),
        (None, None, 0.5, ValueError, "strength=0.5 needs an image"),
    ],
)
def test_a_wrong_picture_is_named(idle_pipe, image, mask, strength, error, words):
    with pytest.raises(error, match=words):
        idle_pipe.stream("a cat", image, mask, strength)


def test_an_image_and_a_mask_of_different_sizes_are_not_cut_to_fit(idle_pipe):
    with pytest.raises(ValueError, match=r"mask is 16x32, but image is 32x32"):
        idle_pipe.inpaint("a cat", picture(), left_half(16, 32), height=32, width=32)


def test_latents_of_a_wrong_shape_cannot_be_decoded(tiny_pipe):
    with pytest.raises(ValueError, match=r"latents have shape \(1, 3, 8, 8\), but must have \(b, 4, h, w\)"):
        tiny_pipe.decode(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match="height=30 must be a multiple of 4"):
        tiny_pipe.encode(torch.zeros(1, 3, 30, 32))


def test_parts_that_do_not_belong_together_are_named(tiny_pipe, tiny_config):
    from dataclasses import replace

    from ldm_tutorial.clip import CLIPTextModel
    from ldm_tutorial.unet import UNet

    p = tiny_pipe
    with pytest.raises(ValueError, match="the U-Net takes 9 channels, the latents have 4; 9 are those of a U-Net for inpainting"):
        StableDiffusion(UNet(replace(tiny_config.unet, in_channels=9)), p.vae, p.text_encoder, p.tokenizer)
    narrow = CLIPTextModel(replace(tiny_config.text_encoder, hidden_size=12))
    with pytest.raises(ValueError, match="the U-Net reads words of width 18, the text encoder writes 12"):
        StableDiffusion(p.unet, p.vae, narrow, p.tokenizer)
    other = CLIPTextModel(replace(tiny_config.text_encoder, eos_token_id=552))
    with pytest.raises(ValueError, match="the tokenizer ends a prompt with token 553, the text encoder expects 552"):
        StableDiffusion(p.unet, p.vae, other, p.tokenizer)


# ---- what users see


@pytest.mark.parametrize("method", ["__call__", "img2img", "inpaint", "stream"])
def test_help_shows_the_options(method):
    shown = inspect.signature(getattr(StableDiffusion, method)).parameters
    for name, parameter in inspect.signature(Options).parameters.items():
        assert shown[name].default == parameter.default
    assert ("progress" in shown) == (method != "stream")


def test_the_contract_of_the_design(tiny_pipe):
    defaults = {name: p.default for name, p in inspect.signature(tiny_pipe).parameters.items()}
    contract = {
        "negative_prompt": "",
        "steps": 25,
        "guidance_scale": 7.5,
        "seed": 0,
        "num_images": 1,
        "height": None,
        "width": None,
    }
    assert {name: defaults[name] for name in contract} == contract
    assert inspect.signature(tiny_pipe.img2img).parameters["strength"].default == 0.6


def test_a_bar_is_shown_unless_told_otherwise(tiny_pipe, monkeypatch, capsys):
    tiny_pipe("a cat", steps=3)
    assert capsys.readouterr().err == ""  # LDM_QUIET=1 here
    monkeypatch.setenv("LDM_QUIET", "")
    tiny_pipe("a cat", steps=3)
    out, err = capsys.readouterr()
    assert out == ""
    assert "3/3" in err
    tiny_pipe("a cat", steps=3, progress=False)
    assert capsys.readouterr().err == ""


def test_importing_costs_no_more_than_importing_torch():
    code = """
import sys, ldm_tutorial
assert "torch" not in sys.modules
ldm_tutorial.load_pipeline, ldm_tutorial.StableDiffusion, ldm_tutorial.DenoisingStep, ldm_tutorial.__version__
assert set(ldm_tutorial.__all__) <= set(dir(ldm_tutorial))
heavy = {"transformers", "diffusers", "matplotlib", "ipywidgets", "accelerate", "huggingface_hub"} & set(sys.modules)
assert not heavy, heavy
try:
    ldm_tutorial.nothing
except AttributeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    assert done.stdout == "module 'ldm_tutorial' has no attribute 'nothing'\n"


def test_no_warning_of_ours_in_an_ordinary_call(tiny_pipe):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny_pipe.inpaint("a cat", picture(), left_half(), steps=3)


# ---- loading


@pytest.mark.parametrize("place", ["my-model", "my-model.safetensors"])
def test_a_saved_pipeline_comes_back(tiny_pipe, tmp_path, place):
    from ldm_tutorial import load_pipeline
    from ldm_tutorial.checkpoints import save_checkpoint

    save_checkpoint(tiny_pipe, tmp_path / place)
    pipe = load_pipeline(tmp_path / place, device="cpu")
    assert pipe.config == tiny_pipe.config
    assert pipe.dtype == torch.float32
    (image,) = pipe("a cat", steps=2, seed=3)
    assert np.array_equal(image, tiny_pipe("a cat", steps=2, seed=3)[0])
    assert image.info["model"] == place  # the name, not the path, which is private
    assert load_pipeline(str(tmp_path / place), dtype="bfloat16").dtype == torch.bfloat16


def test_a_file_without_a_tokenizer_takes_the_one_beside_it(tiny_pipe, tmp_path):
    from ldm_tutorial import load_pipeline
    from ldm_tutorial.checkpoints import Components, save_checkpoint

    bare = Components(tiny_pipe.unet, tiny_pipe.vae, tiny_pipe.text_encoder)
    save_checkpoint(bare, tmp_path / "bare.safetensors")
    tiny_pipe.tokenizer.save_pretrained(tmp_path / "tokenizer")
    pipe = load_pipeline(tmp_path / "bare.safetensors", device="cpu")
    assert torch.equal(pipe.encode_prompt("a cat"), tiny_pipe.encode_prompt("a cat"))


def test_a_pipeline_moves_as_a_whole(make_tiny_pipe):
    pipe = make_tiny_pipe()
    assert pipe.to("cpu", "bfloat16") is pipe
    assert {p.dtype for network in (pipe.unet, pipe.vae, pipe.text_encoder) for p in network.parameters()} == {torch.bfloat16}
    assert "'tiny'" in repr(pipe)
    assert "bfloat16 on cpu" in repr(pipe)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "gpu"}, "device='gpu' is not available; this machine has"),
        ({"dtype": "int8"}, "dtype='int8' is not supported; choose one of float32, bfloat16, float16"),
        ({"name_or_path": "emojis"}, "did you mean 'emoji'"),
    ],
)
def test_a_wrong_model_device_or_dtype_is_named(options, words):
    from ldm_tutorial import load_pipeline

    with pytest.raises(ValueError, match=words):
        load_pipeline(**options)


def test_an_old_torch_that_cannot_compute_in_float16_says_so(make_tiny_pipe, monkeypatch):
    def convolution(*_):
        raise RuntimeError("\"slow_conv2d_cpu\" not implemented for 'Half'")

    monkeypatch.setattr(torch.nn.functional, "conv2d", convolution)
    pipe = make_tiny_pipe()
    with pytest.raises(ValueError, match=r"dtype=float16 does not work on cpu with torch .*; use float32"):
        pipe.to(dtype="float16")
    assert pipe.dtype == torch.float32


@pytest.mark.parametrize("method", ["__call__", "img2img", "inpaint", "stream"])
def test_signatures_are_written_out_for_completion_and_type_checkers(method):
    function = getattr(StableDiffusion, method)
    assert not hasattr(inspect.unwrap(function), "__signature__")  # the decorator passes its types on (ParamSpec)
    assert all(p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in inspect.signature(function).parameters.values())


def test_a_scheduler_of_ones_own_needs_no_name(make_tiny_pipe):
    class Mine(DDIMScheduler):
        """A sampler that no list knows."""

    pipe = make_tiny_pipe()
    pipe.scheduler = Mine(beta_end=0.02)
    settings = pipe("a cat", steps=1)[0].info
    assert (settings["scheduler"], settings["scheduler_options"]) == ("Mine", {"beta_end": 0.02})
    assert pipe.prepare("a cat", Options(scheduler="heun")).scheduler.beta_end == 0.02
