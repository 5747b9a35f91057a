"""A Gemma 2 classifier with the kernel of attention beside the same classifier in eager attention."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.gpu.random_model import SMOKE, random_classifier, random_documents
from tegakari.kernels import dispatch
from tegakari.kernels.gpu import attention as kernel
from tegakari.models import attention
from tegakari.models.attention import choose_attention, sample_of, with_kernel
from tegakari.models.classifier import Classifier
from tegakari.models.hooks import forward_hooks
from tegakari.models.precision import float32_copy
from tegakari.models.rerun.prefix import run_prefix
from tests.support.kernel_cases import DEVICE, needs_triton

VOCABULARY = SMOKE.vocabulary
DOCUMENTS = random_documents(4, range(2, 40), VOCABULARY)
WINDOW = 9
"""Tokens that every second layer sees; most documents have more."""


@pytest.fixture(autouse=True)
def _triton_kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    needs_triton()
    monkeypatch.setenv("TEGAKARI_KERNELS", "triton")
    dispatch._path_for.cache_clear()
    yield
    dispatch._path_for.cache_clear()


def classifier_in(dtype: torch.dtype) -> Classifier:
    """A random classifier, whose scores are large enough for their cap and whose windows matter."""
    classifier = random_classifier(SMOKE._replace(layers=2, heads=2, kv_heads=1, head_dim=16), DEVICE, dtype)
    for part in attentions(classifier):
        part.q_proj.weight.data *= 60
        part.k_proj.weight.data *= 60
    set_window(classifier, WINDOW)
    return classifier


def attentions(classifier: Classifier) -> list[Any]:
    blocks: Any = classifier.blocks
    return [block.self_attn for block in blocks]


def set_window(classifier: Classifier, window: int) -> None:
    """Set the window of the layers that have one, and of their mask."""
    (sliding,) = (part for part in attentions(classifier) if part.sliding_window)
    sliding.sliding_window = classifier.model.config.sliding_window = window


def values(classifier: Classifier) -> tuple[Tensor, Tensor]:
    """Residuals of all layers, and logits; nothing of padding is NaN."""
    residuals: list[Tensor] = []
    outputs: list[Tensor] = []
    with forward_hooks() as hooks:
        for block in classifier.blocks:
            hooks.after(block, lambda _module, _inputs, output: outputs.append(output))
        output = classifier.run(classifier.batch(DOCUMENTS), lambda _, residual: residuals.append(residual))
    assert all(bool(output.isfinite().all()) for output in outputs)
    return torch.stack(residuals), output.logits


def reason(caplog: pytest.LogCaptureFixture, classifier: Classifier) -> str:
    """Why eager attention stays, as logged."""
    with caplog.at_level(logging.INFO):
        chosen = choose_attention(classifier, DOCUMENTS)
    assert chosen is classifier
    return caplog.messages[-1].removeprefix("attention: eager, since ")


def test_residuals_and_logits_are_those_of_eager_attention() -> None:
    eager = classifier_in(torch.float32)
    expected = values(eager)
    actual = values(with_kernel(eager))
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))
    set_window(eager, 1000)
    unlimited = values(eager)
    assert (unlimited[1] - expected[1]).abs().max() > 0.01 * expected[1].abs().max()


def test_other_passes_through_the_model_run_eager_attention_to_the_last_bit() -> None:
    eager = classifier_in(torch.float32)
    batch = eager.batch(DOCUMENTS)
    expected = run_prefix(eager, batch, range(eager.layers), keys_above=-1)
    actual = run_prefix(with_kernel(eager), batch, range(eager.layers), keys_above=-1)
    assert actual.follows_last
    assert torch.equal(actual.logits, expected.logits)
    assert all(torch.equal(actual.residuals[layer], expected.residuals[layer]) for layer in range(eager.layers))
    assert torch.equal(actual.keys[1].keys, expected.keys[1].keys)


def test_the_kernel_is_chosen_where_it_is_within_the_noise(caplog: pytest.LogCaptureFixture) -> None:
    eager = classifier_in(torch.bfloat16)
    expected = values(eager)
    with caplog.at_level(logging.INFO):
        chosen = choose_attention(eager, DOCUMENTS)
    assert caplog.messages[-1] == "attention: one kernel"
    actual = values(chosen)
    assert not torch.equal(actual[0], expected[0])
    assert (actual[1] - expected[1]).norm() < 0.3 * expected[1].norm()
    copy = float32_copy(chosen)  # its passes are eager: the kernel is for bfloat16
    assert torch.equal(values(copy)[1], values(float32_copy(eager))[1])


@pytest.mark.filterwarnings("ignore:overflow encountered in exp2")  # numpy's, in the interpreter; infinity is right
@pytest.mark.parametrize("change", [{"window": None}, {"cap": 5.0}, {"scale": 0.2}])
def test_a_kernel_that_computes_something_else_is_not_used(
    change: dict[str, Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = kernel.soft_capped_attention

    def wrong(*operands: Tensor, **settings: Any) -> Tensor:
        return right(*operands, **settings | change)

    monkeypatch.setattr(kernel, "soft_capped_attention", wrong)
    assert "differ from those of exact attention by" in reason(caplog, classifier_in(torch.bfloat16))


def test_a_kernel_that_fails_is_not_used(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    eager = classifier_in(torch.bfloat16)
    expected = values(eager)

    def fail(*_operands: Tensor, **_settings: Any) -> Tensor:
        raise RuntimeError("no registers left")

    monkeypatch.setattr(kernel, "soft_capped_attention", fail)
    assert reason(caplog, eager) == "RuntimeError: no registers left"
    assert eager.model.config._attn_implementation == "eager"
    assert torch.equal(values(eager)[1], expected[1])


def test_not_a_number_is_not_used(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    def empty(query: Tensor, *_operands: Tensor, **_settings: Any) -> Tensor:
        return torch.full_like(query.transpose(1, 2), torch.nan).contiguous()

    monkeypatch.setattr(kernel, "soft_capped_attention", empty)
    assert "by nan" in reason(caplog, classifier_in(torch.bfloat16))


@pytest.mark.parametrize(
    ("dtype", "settings", "expected"),
    [
        (torch.float32, {}, "the kernel is for bfloat16, and the classifier is in float32"),
        (torch.bfloat16, {"attn_logit_softcapping": None}, "capped at 60 or less, not at None"),
        (torch.bfloat16, {"attn_logit_softcapping": 80.0}, "capped at 60 or less, not at 80.0"),
        (torch.bfloat16, {"head_dim": 24}, "no tile for heads of 24"),
        (torch.bfloat16, {"use_bidirectional_attention": True}, "the kernel is for causal attention"),
    ],
)
def test_what_the_kernel_cannot_compute(
    dtype: torch.dtype, settings: dict[str, Any], expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    classifier = classifier_in(dtype)
    for name, value in settings.items():
        setattr(classifier.model.config, name, value)
    assert expected in reason(caplog, classifier)


def test_other_families_and_devices_without_the_kernels_are_left_alone(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = classifier_in(torch.bfloat16)
    monkeypatch.setattr(classifier.model.config, "model_type", "llama")
    assert choose_attention(classifier, DOCUMENTS) is classifier
    monkeypatch.setattr(attention, "tallies_on_gpu", lambda _device: False)
    eager = classifier_in(torch.bfloat16)
    assert choose_attention(eager, DOCUMENTS) is eager
    assert caplog.messages == []


def test_the_sample_has_documents_of_all_lengths() -> None:
    documents = [
        random_documents(1, range(length, length + 1), VOCABULARY)[0]
        for length in (900, 3, 50, 2000, 7, *range(100, 120))
    ]
    sample = sample_of(documents)
    assert [len(document) for document in sample][:: len(sample) - 1] == [3, 900]
    assert len(sample) == 8
    assert sample_of(sample) == sample
    assert sample_of(documents[3:4]) == documents[3:4]
