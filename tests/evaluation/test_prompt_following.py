"""The metric of a model gives one number for each picture, and only such numbers as its mean is meant to be."""

import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel

from ldm_tutorial import load_pipeline
from ldm_tutorial.data import EmojiDataset, canonical_caption
from ldm_tutorial.evaluation import prompt_following
from ldm_tutorial.evaluation.prompt_following import classifier, find_metric, openai_clip
from ldm_tutorial.images import to_images


@pytest.fixture(scope="module")
def pipe():
    return load_pipeline("emoji")


def test_the_classifier_knows_real_pictures_and_is_not_fooled_by_another_prompt(pipe):
    data = EmojiDataset("all")
    chosen = list(range(0, len(data.entries), 500))
    prompts = [canonical_caption(data.entries[i].label, data.entries[i].style) for i in chosen]
    pictures = to_images(data.pictures[chosen].float() / 127.5 - 1)
    metric = find_metric(pipe)
    assert metric.what == "right subject"
    assert metric.score(pictures, prompts).tolist() == [1] * len(chosen)
    assert metric.score(pictures, prompts[1:] + prompts[:1]).tolist() == [0] * len(chosen)


def test_a_prompt_without_a_subject_is_an_error(small_judge):
    with pytest.raises(ValueError, match="knows no subject for the prompt 'a cat that flies'"):
        classifier(small_judge).score([Image.new("RGB", (64, 64))], ["a cat that flies"])


@pytest.fixture(scope="module")
def tiny_clip():
    part = {"hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision, text = {"image_size": 28, "patch_size": 7}, {"vocab_size": 3000, "max_position_embeddings": 77, "eos_token_id": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CLIPModel(CLIPConfig(text_config=part | text, vision_config=part | vision, projection_dim=24)).eval()


def test_openai_clip_sees_what_its_own_processor_shows_it(tiny_clip, pipe):
    from transformers import CLIPImageProcessor

    pictures = [Image.effect_noise((40, 28), sigma).convert("RGB") for sigma in (20, 150)]  # wider than high
    prompts = ["a cat", "an octopus"]
    found = openai_clip(tiny_clip, pipe).score(pictures, prompts)
    processor = CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    pixels = processor(pictures, return_tensors="pt").pixel_values
    ids = pipe.tokenizer(prompts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    with torch.no_grad():
        output = tiny_clip(input_ids=ids, pixel_values=pixels)
    expected = (output.image_embeds * output.text_embeds).sum(1)
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=0)
    assert found.shape == (2,) and found[0] != found[1]


def test_without_its_clip_a_large_model_has_no_metric(pipe, monkeypatch, tmp_path):
    monkeypatch.setattr(prompt_following, "OPENAI_CLIP", str(tmp_path / "nothing"))
    monkeypatch.setattr(pipe, "name", "sd15")
    assert find_metric(pipe) is None


def test_where_its_clip_is_a_large_model_has_a_metric(pipe, monkeypatch, tmp_path, tiny_clip):
    tiny_clip.save_pretrained(tmp_path)
    monkeypatch.setattr(prompt_following, "OPENAI_CLIP", str(tmp_path))
    monkeypatch.setattr(pipe, "name", "sd15")
    metric = find_metric(pipe)
    assert metric.what == "CLIP score"
    assert -1 <= metric.score([Image.new("RGB", (28, 28), "red")], ["a cat"]).item() <= 1
