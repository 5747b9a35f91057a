"""Forward hooks and replaced forward methods: none is left on a model, whether a pass ends or fails."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from torch import nn

from tegakari.models.architecture import find_blocks
from tegakari.models.classifier import Classifier
from tegakari.models.explained_variance import explained_variance
from tegakari.models.hooks import forward_hooks, replaced_forward
from tegakari.models.rerun.ablate_features import rerun
from tegakari.models.rerun.components import run_components
from tegakari.models.rerun.edits import Edit
from tegakari.models.rerun.patching import Ablation, run_ablations, run_patches
from tegakari.models.rerun.prefix import run_prefix
from tegakari.schemas.errors import ModelError, SaeError
from tegakari.schemas.progress import CancelledWorkError
from tests.support.classifier_families import make_sae

TEXTS = ["今日は会議です", "質問があります"]


def hooked_modules(model: nn.Module) -> list[str]:
    """Modules with a forward hook or a forward method other than their class's."""
    return [
        name
        for name, module in model.named_modules()
        if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    ]


def is_encoder(classifier: Classifier) -> bool:
    return classifier.head != "last"


def test_the_check_sees_hooks_and_replaced_methods():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    with forward_hooks() as hooks:
        hooks.before(model[0], lambda *_: None)
        hooks.after(model[1], lambda *_: None)
        assert hooked_modules(model) == ["0", "1"]
    with replaced_forward({model[1]: torch.sin}):
        assert hooked_modules(model) == ["1"]
        assert torch.equal(model(torch.ones(2)), torch.sin(model[0](torch.ones(2))))
    assert hooked_modules(model) == []


def test_hooks_are_removed_when_the_block_fails():
    model = nn.Sequential(nn.Linear(2, 2))

    def fail(*_: object) -> None:
        raise RuntimeError("failed")

    def hooked_pass() -> None:
        with forward_hooks() as hooks:
            hooks.after(model[0], fail)
            model(torch.ones(2))

    with pytest.raises(RuntimeError, match="failed"):
        hooked_pass()
    with pytest.raises(RuntimeError, match="failed"), replaced_forward({model[0]: fail}):
        model(torch.ones(2))
    assert hooked_modules(model) == []


def test_forward_passes_and_reruns_leave_no_hook(classifier: Classifier):
    saes = {layer: make_sae("relu", layer) for layer in range(3)}
    batch = classifier.batch(classifier.tokenize(TEXTS))
    classifier.run(batch, lambda _layer, _residual: None)
    explained_variance(classifier, saes, TEXTS, batch_tokens=64)
    prefix = run_prefix(classifier, batch, [0, 1, 2], keys_above=-1)
    rerun(classifier, saes, prefix, [[Edit(0, (1, 2))], [Edit(1, (1,), positions="head")], [Edit(2, (3,))]])
    assert hooked_modules(classifier.model) == []


def test_components_patches_and_ablations_leave_no_hook(classifier: Classifier):
    if is_encoder(classifier):
        pytest.skip("an encoder has no components")
    batch = classifier.batch(classifier.tokenize(TEXTS))
    documents = run_components(classifier, batch, keys=True)
    run_patches(classifier, documents, torch.tensor([1]), documents.added[[0]])
    shape = (classifier.layers, 2)
    ablation = Ablation(torch.ones(shape, dtype=torch.bool), torch.zeros(*shape, classifier.d_model))
    run_ablations(classifier, documents, [ablation])
    assert hooked_modules(classifier.model) == []


def test_a_refused_circuit_does_not_disturb_the_next_analysis(classifier: Classifier):
    block = find_blocks(classifier.model)[1]
    component = "post_feedforward_layernorm" if hasattr(block, "post_feedforward_layernorm") else "mlp"
    module = getattr(block, component, None)
    batch = classifier.batch(classifier.tokenize(TEXTS))
    logits = run_prefix(classifier, batch, []).logits
    if not is_encoder(classifier):
        setattr(block, component, None)  # refused at the second block, after the first one was hooked
    try:
        with pytest.raises(ModelError, match=r"has no .* and .*|reads (the first position|several positions)"):
            run_components(classifier, batch, keys=False)
    finally:
        if not is_encoder(classifier):
            setattr(block, component, module)
    assert hooked_modules(classifier.model) == []
    # A hook of the refused pass would select the rows of its own batch in this smaller one, and fail.
    smaller = classifier.batch(classifier.tokenize(TEXTS[:1]))
    torch.testing.assert_close(run_prefix(classifier, smaller, []).logits, logits[:1], atol=1e-4, rtol=1e-4)


def test_errors_within_a_pass_leave_no_hook(classifier: Classifier):
    batch = classifier.batch(classifier.tokenize(TEXTS))

    def fail(layer: int, _residual: torch.Tensor) -> None:
        raise RuntimeError(f"layer {layer}")

    with pytest.raises(RuntimeError, match="layer 1"):
        classifier.run(batch, fail, [1])
    with pytest.raises(IndexError):
        classifier.run(batch, fail, [0, 99])
    with pytest.raises(SaeError, match="no SAE"):
        rerun(classifier, {}, run_prefix(classifier, batch, [1]), [[Edit(1, (0,))]])
    assert hooked_modules(classifier.model) == []


def test_a_pass_that_ends_at_a_block_has_the_residuals_of_a_whole_pass(classifier: Classifier):
    batch = classifier.batch(classifier.tokenize(TEXTS))
    whole: dict[int, torch.Tensor] = {}
    logits = classifier.run(batch, whole.__setitem__).logits
    blocks: list[int] = []
    with forward_hooks() as hooks:
        for number, block in enumerate(classifier.blocks):
            hooks.after(block, lambda *_, number=number: blocks.append(number))
        for layers in ([0], [1, 0], [2], []):
            blocks.clear()
            residuals: dict[int, torch.Tensor] = {}
            classifier.run_blocks(batch, residuals.__setitem__, layers)
            assert list(residuals) == sorted(layers)
            assert all(torch.equal(residual, whole[layer]) for layer, residual in residuals.items())
            assert blocks == list(range(max(layers, default=-1) + 1))
    with pytest.raises(IndexError):
        classifier.run_blocks(batch, residuals.__setitem__, [0, 99])
    assert hooked_modules(classifier.model) == []
    assert torch.equal(classifier.run(batch).logits, logits)


def test_a_pass_between_two_blocks_of_another_changes_neither(classifier: Classifier):
    """As the service interleaves requests: another thread runs whole passes between two blocks of a recorded one."""
    batch = classifier.batch(classifier.tokenize(TEXTS))
    other = classifier.batch(classifier.tokenize(TEXTS[:1]))
    layers = list(range(classifier.layers))
    expected = run_prefix(classifier, batch, layers)
    edits = [[Edit(0, (1, 2))], [Edit(0, (3,))]]
    saes = {0: make_sae("relu", 0)}
    expected_after = rerun(classifier, saes, expected, edits)
    residuals: list[tuple[int, int]] = []
    passes: list[torch.Tensor] = []

    def interleave() -> None:
        def run_other() -> None:
            passes.append(classifier.run(other).logits)
            passes.append(rerun(classifier, saes, run_prefix(classifier, other, [0]), edits[:1])[0])

        thread = threading.Thread(target=run_other)
        thread.start()
        thread.join()

    prefix = run_prefix(classifier, batch, layers, on_step=interleave)
    after = rerun(classifier, saes, prefix, edits, on_step=interleave)
    output = classifier.run(batch, lambda layer, h: residuals.append((layer, len(h))), on_step=interleave)
    assert torch.equal(prefix.logits, expected.logits)
    assert all(torch.equal(prefix.residuals[layer], expected.residuals[layer]) for layer in layers)
    assert torch.equal(after, expected_after)
    assert torch.equal(output.logits, expected.logits)
    assert residuals == [(layer, len(batch.positions)) for layer in layers]  # none of the other passes
    assert len(passes) > 2 * classifier.layers
    assert all(torch.equal(logits, passes[number % 2]) for number, logits in enumerate(passes))
    assert hooked_modules(classifier.model) == []


def test_a_step_can_end_a_pass(classifier: Classifier):
    batch = classifier.batch(classifier.tokenize(TEXTS))
    prefix = run_prefix(classifier, batch, [0])
    saes = {0: make_sae("relu", 0)}

    def end_at(number: int) -> Callable[[], None]:
        steps = iter(range(number))

        def on_step() -> None:
            if next(steps, None) is None:
                raise CancelledWorkError

        return on_step

    for stop in range(2):
        with pytest.raises(CancelledWorkError):
            classifier.run(batch, on_step=end_at(stop))
        with pytest.raises(CancelledWorkError):
            run_prefix(classifier, batch, [0], on_step=end_at(stop))
        with pytest.raises(CancelledWorkError):
            rerun(classifier, saes, prefix, [[Edit(0, (1,))]], on_step=end_at(stop))
        assert hooked_modules(classifier.model) == []
