"""What makes drawing faster changes nothing but the last digits, and is gone with its run."""

import copy
import threading

import pytest
import torch
from torch import nn

from ldm_tutorial.attention import CrossAttention
from ldm_tutorial.engines import as_written, make_engine
from ldm_tutorial.engines import kernels as module
from ldm_tutorial.engines.kernels import OnceARun, distinct_rows, onednn_works, quick

PROMPTS = ["a cat", "a dog", "a cat"]


@pytest.fixture
def pipe(make_tiny_pipe):
    return make_tiny_pipe()


@pytest.fixture
def inputs(pipe):
    generator = torch.Generator().manual_seed(0)
    words = torch.cat([pipe.encode_prompt([""] * 3), pipe.encode_prompt(PROMPTS)])
    return torch.randn(6, 4, 8, 8, generator=generator), torch.tensor(400.0), words


def steps(unet, inputs, count=3):
    with torch.no_grad(), quick(unet, inputs[2]):
        return [unet(*inputs) for _ in range(count)]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.1)])
def test_each_step_is_that_of_the_plain_network(pipe, inputs, dtype, tolerance):
    unet, inputs = pipe.unet.to(dtype), (inputs[0].to(dtype), inputs[1], inputs[2].to(dtype))
    with torch.no_grad():
        expected = unet(*inputs)
    assert expected.abs().max() > 0.5
    for answer in steps(unet, inputs):
        torch.testing.assert_close(answer, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("works", [True, False], ids=["oneDNN", "without oneDNN"])
@pytest.mark.parametrize("options", [{}, {"guidance_scale": 1}, {"height": 40, "width": 24}, {"negative_prompt": "a dog"}])
def test_a_run_is_that_of_the_plain_engine(pipe, monkeypatch, options, works):
    monkeypatch.setattr(module, "onednn_works", lambda dtype: works)
    fast = list(pipe.stream(PROMPTS, steps=4, **options))
    pipe.engine = as_written
    for ours, theirs in zip(fast, pipe.stream(PROMPTS, steps=4, **options), strict=True):
        torch.testing.assert_close(ours.latents, theirs.latents, rtol=0, atol=1e-5 * theirs.latents.abs().max().item())


def test_a_picture_is_the_same_alone_and_in_a_batch(pipe):
    alone = list(pipe.stream("a cat", seed=5, steps=4))[-1].latents
    among = list(pipe.stream(["a dog", "a cat", "a dog"], seed=[1, 5, 2], steps=4))[-1].latents
    torch.testing.assert_close(among[1], alone[0], rtol=0, atol=1e-5)


def test_keys_and_values_are_computed_once_a_run_and_once_a_prompt(pipe, inputs, monkeypatch):
    layers = [layer for a in pipe.unet.modules() if isinstance(a, CrossAttention) for layer in (a.to_k, a.to_v)]
    reading = [layer for layer in layers if layer.in_features == 18]  # the words' width; the others read the picture
    rows = []
    original = module.QuickLinear._compute
    monkeypatch.setattr(
        module.QuickLinear, "_compute", lambda self, x: (rows.append(len(x)) if self in reading else None, original(self, x))[1]
    )
    steps(pipe.unet, inputs)
    assert rows == [3] * len(reading) and len(reading) > 4  # without a prompt, a cat, a dog


def test_rows_are_found_whose_sums_are_equal_but_not_they():
    words = torch.tensor([[[1.0, 2.0]], [[2.0, 1.0]], [[1.0, 2.0]]])
    rows, index = distinct_rows(words)
    assert index.tolist() == [0, 1, 0] and torch.equal(rows[index], words)


def test_by_itself_the_network_is_pytorchs_to_the_last_bit(pipe, inputs):
    with torch.no_grad():
        before = pipe.unet(*inputs)
        steps(pipe.unet, inputs)
        assert torch.equal(pipe.unet(*inputs), before)
    assert "Quick" not in repr(pipe.unet)


@pytest.mark.parametrize("change", ["in place", "past the count of changes", "another tensor", "loaded"])
def test_weights_that_change_between_runs_count(pipe, inputs, change):
    steps(pipe.unet, inputs)
    for layer in [m for m in pipe.unet.modules() if isinstance(m, nn.Linear | nn.Conv2d)]:
        if change == "in place":
            with torch.no_grad():
                layer.weight.mul_(1.1)
        elif change == "past the count of changes":
            layer.weight.data.mul_(1.1)
        elif change == "another tensor":
            layer.weight = nn.Parameter(layer.weight.detach() * 1.1)
        else:
            layer.load_state_dict({k: v * 1.1 for k, v in layer.state_dict().items()})
    inputs = (*inputs[:2], inputs[2].clone())  # another run
    with torch.no_grad():
        expected = pipe.unet(*inputs)
    for answer in steps(pipe.unet, inputs):
        torch.testing.assert_close(answer, expected, rtol=0, atol=3e-5)


def test_words_and_weights_that_change_within_a_run_count(pipe, inputs):
    with torch.no_grad():
        for change in (
            inputs[2],
            pipe.unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_k.weight,
            pipe.unet.conv_in.weight,
        ):
            steps(pipe.unet, inputs)
            change.mul_(-1)
            expected = pipe.unet(*inputs)
            torch.testing.assert_close(steps(pipe.unet, inputs)[-1], expected, rtol=0, atol=1e-5)


def test_nothing_is_left_when_the_run_is(pipe, inputs):
    import gc
    import weakref

    words = inputs[2].clone()
    steps(pipe.unet, (*inputs[:2], words))
    kept = weakref.ref(words.once_a_run)
    assert kept() is not None
    del words
    gc.collect()
    assert kept() is None


def test_a_copy_of_the_network_has_its_own_weights(pipe, inputs):
    steps(pipe.unet, inputs)
    other = copy.deepcopy(pipe.unet)
    with torch.no_grad():
        other.conv_out.weight.mul_(2)
        expected = other(*inputs)
    assert not torch.allclose(expected, steps(pipe.unet, inputs)[-1], atol=0.1)
    torch.testing.assert_close(steps(other, inputs)[-1], expected, rtol=0, atol=1e-5)


def test_gradients_are_pytorchs(pipe, inputs):
    with quick(pipe.unet, inputs[2]):
        pipe.unet(*inputs).sum().backward()
    assert pipe.unet.conv_in.weight.grad is not None
    assert not hasattr(inputs[2], "once_a_run")


def test_another_thread_computes_plainly_meanwhile(pipe, inputs):
    with torch.no_grad():
        expected = pipe.unet(*inputs)
    found = []

    def other():
        with torch.no_grad():
            found.append(pipe.unet(*inputs))

    with torch.no_grad(), quick(pipe.unet, inputs[2]):
        pipe.unet(*inputs)
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    torch.testing.assert_close(found[0], expected, rtol=0, atol=1e-5)
    assert module._now.run is None


def test_weights_in_another_order_take_no_more_memory_than_their_share(pipe, inputs, monkeypatch):
    monkeypatch.setattr(module, "memory_bytes", lambda: 8 * 4096)
    steps(pipe.unet, inputs)
    packed = [layer for layer, (_, weight) in inputs[2].once_a_run.packed.items() if weight is not None]
    assert sum(4 * layer.weight.numel() for layer in packed) <= 4096
    assert OnceARun(inputs[2]).memory_left == 4096
    monkeypatch.setattr(module, "memory_bytes", lambda: None)
    assert OnceARun(inputs[2]).memory_left == 2**30


@pytest.mark.parametrize("error", [AttributeError, RuntimeError, NotImplementedError, TypeError])
def test_the_check_of_onednn_finds_functions_that_are_missing_or_take_other_arguments(monkeypatch, error):
    def fails(conv, x, weight):
        raise error

    onednn_works.cache_clear()
    monkeypatch.setattr(module, "packed_conv", fails)
    assert not onednn_works(torch.float32)
    onednn_works.cache_clear()


def test_the_check_of_onednn_finds_functions_that_compute_something_else(monkeypatch):
    onednn_works.cache_clear()
    monkeypatch.setattr(module, "packed_conv", lambda conv, x, weight: conv(x) + 1)
    assert not onednn_works(torch.float32)
    onednn_works.cache_clear()


def test_a_wrong_engine_is_named(pipe):
    with pytest.raises(ValueError, match="engine='turbo' is not supported; choose one of 'torch', 'plain', 'onnx'"):
        make_engine("turbo", pipe.unet)
