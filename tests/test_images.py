"""Pictures to tensors and back without loss, and files that are whole or not there."""

import errno
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from ldm_tutorial import images
from ldm_tutorial.images import fit, mask_to_tensor, open_image, read_settings, resample, resize, save_image, to_images, to_tensor

SETTINGS = {
    "prompt": "a cat, 猫 $x^2$\nsecond line",
    "negative_prompt": "",
    "seed": 2**63 - 1,
    "scheduler": "euler",
    "scheduler_options": {"use_karras_sigmas": True, "s_tmax": float("inf")},
    "steps": 25,
    "guidance_scale": 7.5,
    "guidance_rescale": 0.7,
    "strength": 0.6,
    "width": 64,
    "height": 72,
    "model": "emoji",
    "dtype": "float32",
    "software": "ldm_tutorial 0.1.0",
}


def random_picture(width=20, height=12, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


# ---- tensors


def test_every_level_survives_the_way_to_a_tensor_and_back():
    levels = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).convert("RGB")
    x = to_tensor(levels)
    assert x.shape == (1, 3, 16, 16)
    assert x.min() == -1
    assert x.max() == 1
    assert np.array_equal(to_images(x)[0], levels)


def test_height_and_width_are_not_swapped():
    picture = random_picture(width=20, height=12)
    assert to_tensor(picture).shape == (1, 3, 12, 20)
    assert to_images(to_tensor(picture))[0].size == (20, 12)


@given(st.floats(-1.5, 1.5, width=32))
def test_levels_are_rounded_and_clamped(value):
    level = np.asarray(to_images(torch.full((1, 3, 1, 1), value))[0])[0, 0, 0]
    exact = min(max((float(np.float32(value)) / 2 + 0.5) * 255, 0), 255)
    assert abs(float(level) - exact) <= 0.5 + 1e-4  # cut off, it would be up to 1 below


def test_to_images_equals_diffusers():
    processor = pytest.importorskip("diffusers.image_processor").VaeImageProcessor()
    x = torch.randn(2, 3, 8, 16, generator=torch.Generator().manual_seed(0))
    for ours, theirs in zip(to_images(x), processor.postprocess(x, output_type="pil")):
        assert np.array_equal(ours, theirs)
    assert torch.allclose(to_tensor(random_picture(16, 8)), processor.preprocess(random_picture(16, 8)), atol=1e-6)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV", "LAB"])
def test_a_picture_of_any_mode_is_read_as_rgb(mode):
    white = (
        Image.new("RGB", (6, 5), "white").convert("L").convert(mode) if mode != "HSV" else Image.new("HSV", (6, 5), (0, 0, 255))
    )
    if mode == "LAB":
        white = Image.new("LAB", (6, 5), (255, 128, 128))
    assert to_tensor(white).shape == (1, 3, 5, 6)
    if mode != "LAB":
        assert (to_tensor(white) == 1).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(mode):
    picture = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    picture.paste((0, 0, 0, 255), (0, 0, 2, 4))  # the left half opaque and black
    x = to_tensor(picture.quantize(4) if mode == "P" else picture.convert(mode))
    assert (x[..., :2] == -1).all()
    assert (x[..., 2:] == 1).all()


def test_half_transparent_is_mixed_with_white():
    x = to_tensor(Image.new("RGBA", (1, 1), (0, 0, 0, 128)))
    assert torch.allclose(x, torch.full((1, 3, 1, 1), 127 / 127.5 - 1), atol=0.01)


def test_a_photograph_is_turned_as_its_camera_says(tmp_path):
    picture, exif = random_picture(width=20, height=12), Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees
    picture.save(tmp_path / "turned.png", exif=exif)
    assert to_tensor(open_image(tmp_path / "turned.png")).shape == (1, 3, 20, 12)


@pytest.mark.parametrize(
    ("picture", "error", "words"),
    [
        (Image.new("I;16", (4, 4)), ValueError, "image has mode 'I;16'"),
        (Image.new("F", (4, 4)), ValueError, "image has mode 'F'"),
        (np.zeros((4, 4, 3), np.uint8), TypeError, r"got ndarray; an array becomes one by PIL\.Image\.fromarray"),
        ("cat.png", TypeError, "image must be a PIL image; got str"),
        (None, TypeError, "got NoneType"),
    ],
)
def test_what_is_no_picture_is_named(picture, error, words):
    with pytest.raises(error, match=words):
        to_tensor(picture)


def test_a_mask_is_1_where_it_is_white():
    mask = Image.fromarray(np.array([[0, 127, 128, 255]], dtype=np.uint8))
    assert mask_to_tensor(mask).tolist() == [[[[0, 0, 1, 1]]]]
    painted = Image.new("RGBA", (2, 1), (255, 255, 255, 0))  # white, but transparent: not painted
    painted.putpixel((1, 0), (255, 255, 255, 255))
    assert mask_to_tensor(painted).tolist() == [[[[0, 1]]]]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_fit_keeps_the_middle(mode):
    picture = Image.new("RGB", (30, 10), "black")
    picture.paste("white", (10, 0, 20, 10))
    fitted = fit(picture.convert(mode), 5, 5)
    assert fitted.size == (5, 5)
    assert (to_tensor(fitted) > 0.8).all()  # the filter sees a little of what lies beside


@pytest.mark.parametrize("side", [5, 12, 40])
def test_pictures_are_resized_as_pillow_does_it(side):
    """Both average all pixels that a smaller one covers; Pillow computes in whole numbers, so the last level may differ."""
    pictures = torch.randint(256, (300, 3, 20, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    resized = resize(pictures, side)
    assert resized.dtype == torch.uint8 and resized.shape == (300, 3, side, side)
    for i in (0, 1, 299):
        by_pillow = Image.fromarray(pictures[i].permute(1, 2, 0).numpy()).resize((side, side), Image.Resampling.BILINEAR)
        expected = torch.from_numpy(np.array(by_pillow)).permute(2, 0, 1)
        assert (resized[i].int() - expected.int()).abs().max() <= 1
    assert torch.equal(resize(resized, side), resized)
    assert (resample(pictures, side) - resized).abs().max() <= 0.5
    latents = torch.randn(2, 4, 20, 12, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(resample(latents + 1000, side), resample(latents, side) + 1000)  # any range


# ---- files


def test_settings_survive_the_file(tmp_path):
    picture = random_picture()
    picture.info.update(SETTINGS, unrelated="not ours")
    save_image(picture, tmp_path / "cat.png")
    assert read_settings(tmp_path / "cat.png") == SETTINGS
    assert np.array_equal(open_image(tmp_path / "cat.png"), picture)


def test_a_setting_of_an_odd_type_does_not_lose_the_picture(tmp_path):
    picture = random_picture()
    picture.info.update(SETTINGS, scheduler_options={"use_karras_sigmas": np.bool_(True)})
    save_image(picture, tmp_path / "cat.png")
    assert read_settings(tmp_path / "cat.png")["scheduler_options"] == {"use_karras_sigmas": "True"}


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_prompt_survives_the_file(tmp_path_factory, prompt):
    path = tmp_path_factory.mktemp("prompt") / "x.png"
    picture = random_picture()
    picture.info.update(SETTINGS, prompt=prompt)
    save_image(picture, path)
    assert read_settings(path)["prompt"] == prompt


def test_a_picture_from_elsewhere_has_no_settings(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_text("prompt", '{"3": {"class_type": "KSampler"}}')  # ComfyUI uses the same key for its graph
    random_picture().save(tmp_path / "other.png", pnginfo=text)
    assert read_settings(tmp_path / "other.png") == {}


def test_damaged_settings_are_named(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_text("software", "ldm_tutorial 0.1.0")
    text.add_text("steps", "many")
    random_picture().save(tmp_path / "damaged.png", pnginfo=text)
    with pytest.raises(ValueError, match=r"the settings in .*damaged\.png are damaged"):
        read_settings(tmp_path / "damaged.png")


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.webp", "a.PNG"])
def test_other_formats_can_be_saved(tmp_path, name):
    picture = random_picture(32, 32)
    picture.info.update(SETTINGS)
    assert open_image(save_image(picture, tmp_path / name)).size == (32, 32)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cat.tga", r"must end in one of \.png, \.jpg, \.jpeg, \.webp"),
        ("cat", "must end in one of"),
        ("missing/cat.png", "there is no folder .*missing"),
        ("folder.png", "exists and is not a file"),
    ],
)
def test_a_place_that_cannot_be_is_refused(tmp_path, name, words):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ValueError, match=words):
        save_image(random_picture(), tmp_path / name)
    assert os.listdir(tmp_path) == ["folder.png"]


def test_a_folder_that_may_not_be_written_to_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(ValueError, match="no right to write into"):
        images.check_output(tmp_path / "cat.png")


def test_a_full_disk_leaves_the_old_picture(tmp_path, monkeypatch):
    path = save_image(random_picture(seed=1), tmp_path / "cat.png")
    before = path.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"could not write .*cat\.png: No space left on device; nothing was changed"):
        save_image(random_picture(seed=2), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["cat.png"]


def test_a_file_that_may_not_grow_leaves_nothing(tmp_path):
    resource = pytest.importorskip("resource")  # not on Windows
    picture, limits = random_picture(200, 200), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))  # the kernel itself refuses the write half-way
    try:
        with pytest.raises(OSError, match=r"could not write .*big\.png: File too large; nothing was changed"):
            save_image(picture, tmp_path / "big.png")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == []


def test_ctrl_c_while_saving_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_image(random_picture(), tmp_path / "cat.png")
    assert os.listdir(tmp_path) == []


def test_a_saved_picture_has_the_rights_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_text("")
    path = save_image(random_picture(), tmp_path / "cat.png")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "cat.png").symlink_to(tmp_path / "target" / "cat.png")
    save_image(random_picture(), tmp_path / "cat.png")
    assert (tmp_path / "cat.png").is_symlink()
    assert (tmp_path / "target" / "cat.png").is_file()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, r"image: there is no file .*x\.png"),
        (b"", "cannot read .*x.png as a picture"),
        (b"not a picture", "cannot read .*x.png as a picture"),
        ("truncated", "cannot read .*x.png as a picture"),
    ],
)
def test_a_file_that_is_no_picture_is_named(tmp_path, content, words):
    path = tmp_path / "x.png"
    if content == "truncated":
        save_image(random_picture(100, 100), path)
        path.write_bytes(path.read_bytes()[:5000])
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=words):
        open_image(path)


def test_a_picture_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    save_image(random_picture(100, 100), tmp_path / "x.png")
    monkeypatch.setattr(images.Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match="cannot read .*x.png as a picture"):
        open_image(tmp_path / "x.png")
