"""Ablated features: the re-run from a layer against a whole pass with a hook, written independently."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from tegakari.kernels import InputNorm
from tegakari.models.architecture import find_blocks
from tegakari.models.classifier import Classifier
from tegakari.models.rerun.ablate_features import rerun
from tegakari.models.rerun.edits import Edit, edited_rows
from tegakari.models.rerun.prefix import run_model, run_prefix
from tegakari.models.sae import Sae
from tegakari.schemas.errors import SaeError
from tests.support.classifier_families import D_SAE, make_sae
from tests.support.hooked_passes import hooked_logits

TEXTS = ["今日は会議です。\nよろしくお願いします", "車", "𠮟られた😀 MTG の 打ち合わせ です", "質問があります"]


CASES = [
    [Edit(1, (0, 5, 7, 30))],
    [Edit(0, tuple(range(20)), positions="head")],
    [Edit(2, (3,), mode="reconstruction")],
    [Edit(1, (), mode="reconstruction", positions="head")],
    [Edit(2, (1, 2, 3)), Edit(0, tuple(range(10)))],
]


@pytest.mark.parametrize("edits", CASES, ids=range(len(CASES)))
@pytest.mark.parametrize("kind", ["relu", "topk"])
@pytest.mark.parametrize("keys_above", [None, 0])
def test_the_rerun_equals_a_whole_pass_with_a_hook(
    classifier: Classifier, kind: str, edits: list[Edit], keys_above: int | None
):
    saes = {layer: make_sae(kind, layer) for layer in range(3)}
    batch = classifier.batch(classifier.tokenize(TEXTS))
    prefix = run_prefix(classifier, batch, [edit.layer for edit in edits], keys_above=keys_above)
    (logits,) = rerun(classifier, saes, prefix, [edits])
    expected = torch.stack([hooked_logits(classifier, text, saes, edits) for text in TEXTS])
    assert (expected - prefix.logits).abs().max() > 1e-3, "an edit reaches the head in every layer"
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    second = run_prefix(classifier, batch, [])
    assert torch.equal(second.logits, prefix.logits)  # the rerun did not change the model


@pytest.mark.parametrize(
    ("norm", "centred"), [("none", True), ("constant_norm", False), ("constant_norm", True), ("layer_norm", False)]
)
@pytest.mark.parametrize("kind", ["relu", "topk", "gated"])
@pytest.mark.parametrize("mode", ["error_preserving", "reconstruction"])
def test_an_edit_has_the_size_of_its_position(
    classifier: Classifier, kind: str, mode: str, norm: InputNorm, centred: bool
):
    """With a norm of each position, an activation counts in units of that position's residual."""
    saes = {1: replace(make_sae(kind, 3), input_norm=norm, centred=centred)}
    edits = [Edit(1, (0, 2, 4, 6, 8, 10, 12), mode=mode)]
    prefix = run_prefix(classifier, classifier.batch(classifier.tokenize(TEXTS)), [1])
    expected = torch.stack([hooked_logits(classifier, text, saes, edits) for text in TEXTS])
    torch.testing.assert_close(rerun(classifier, saes, prefix, [edits])[0], expected, atol=1e-4, rtol=1e-4)
    plain = {1: replace(saes[1], input_norm="none", centred=False)}
    if classifier.model.config.model_type == "bert":
        return  # its blocks end with a norm: all residuals have one length, and the mean 0
    assert (rerun(classifier, plain, prefix, [edits])[0] - expected).abs().max() > 1e-4


@pytest.mark.parametrize("kind", ["jumprelu", "batch_topk", "gated"])
@pytest.mark.parametrize("mode", ["error_preserving", "reconstruction"])
def test_every_kind_of_sae(classifier: Classifier, kind: str, mode: str):
    saes = {1: make_sae(kind, 3)}
    edits = [Edit(1, (0, 2, 4, 6, 8, 10, 12), mode=mode)]
    prefix = run_prefix(classifier, classifier.batch(classifier.tokenize(TEXTS)), [1])
    expected = torch.stack([hooked_logits(classifier, text, saes, edits) for text in TEXTS])
    torch.testing.assert_close(rerun(classifier, saes, prefix, [edits])[0], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("mode", ["error_preserving", "reconstruction"])
@pytest.mark.parametrize("positions", ["all", "head"])
def test_norm_outliers_are_not_edited(classifier: Classifier, positions: str, mode: str):
    if classifier.model.config.model_type == "bert":
        pytest.skip("its blocks end with a norm: all residuals have one length")
    batch = classifier.batch(classifier.tokenize(TEXTS))
    prefix = run_prefix(classifier, batch, [1])
    norms = prefix.residuals[1].flatten(0, 1)[batch.positions].norm(dim=1)
    heads = norms[batch.offsets[1:] - 1]
    limit = float(heads.sort().values[1:3].mean())  # two of the four heads are outliers
    assert 0 < int((norms > limit).sum()) < len(norms)
    saes = {1: replace(make_sae("relu", 3), max_norm=limit)}
    edits = [Edit(1, tuple(range(12)), mode=mode, positions=positions)]
    expected = torch.stack([hooked_logits(classifier, text, saes, edits) for text in TEXTS])
    (logits,) = rerun(classifier, saes, prefix, [edits])
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    if positions == "head" and classifier.head != "all":
        assert torch.equal(logits[heads > limit], prefix.logits[heads > limit])


def test_features_that_are_not_active_change_nothing(classifier: Classifier):
    sae = make_sae("relu", 0)
    silent = Sae(sae.W_enc, sae.W_dec, sae.b_enc - 1000 * (torch.arange(D_SAE) < 5), sae.b_dec, scale=0.5)
    saes = dict.fromkeys(range(3), silent)
    prefix = run_prefix(classifier, classifier.batch(classifier.tokenize(TEXTS)), [0, 1, 2])
    for edits in ([], [Edit(1, ())], [Edit(1, (0, 1, 2, 3, 4))], [Edit(0, (1,)), Edit(2, (2,))]):
        assert torch.equal(rerun(classifier, saes, prefix, [edits])[0], prefix.logits)


def test_an_edit_does_not_reach_other_documents_or_special_positions(classifier: Classifier):
    saes = {1: make_sae("relu", 1)}
    batch = classifier.batch(classifier.tokenize(TEXTS))
    alone = classifier.batch(classifier.tokenize(TEXTS[:1]))
    edit = [Edit(1, tuple(range(15)))]
    in_batch = rerun(classifier, saes, run_prefix(classifier, batch, [1]), [edit])[0]
    single = rerun(classifier, saes, run_prefix(classifier, alone, [1]), [edit])[0]
    torch.testing.assert_close(in_batch[0], single[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("edits", "message"),
    [([Edit(2, (0,))], "no SAE"), ([Edit(1, (40,))], "0 to 39"), ([Edit(1, (0,)), Edit(1, (1,))], "two edits")],
)
def test_wrong_edits_are_refused(classifier: Classifier, edits: list[Edit], message: str):
    prefix = run_prefix(classifier, classifier.batch(classifier.tokenize(TEXTS)), [1])
    with pytest.raises(SaeError, match=message):
        rerun(classifier, {1: make_sae("relu", 1)}, prefix, [edits])


@pytest.mark.parametrize("positions", ["all", "head"])
@pytest.mark.parametrize("mode", ["error_preserving", "reconstruction"])
def test_bfloat16_differs_by_its_rounding_alone(classifier: Classifier, mode: str, positions: str):
    half = replace(classifier, model=copy.deepcopy(classifier.model).bfloat16(), dtype=torch.bfloat16)
    half = replace(half, blocks=find_blocks(half.model))
    saes = {1: make_sae("relu", 1)}
    edits = [Edit(1, (3, 7, 11), mode, positions)]
    batch = half.batch(half.tokenize(TEXTS))
    prefix = run_prefix(half, batch, [1], keys_above=1 if positions == "head" else None)
    assert prefix.residuals[1].dtype == torch.bfloat16
    logits = rerun(half, saes, prefix, [edits])[0]
    edits_all = positions == "all" or classifier.head == "all"
    rows = batch.positions if edits_all else batch.positions[batch.offsets[1:] - 1]

    def hook(_module, _inputs, output):
        hidden = (output if isinstance(output, torch.Tensor) else output[0]).clone()
        flat = hidden.view(-1, hidden.shape[-1])
        flat[rows] = edited_rows(flat[rows], saes[1], edits[0], torch.bfloat16).rows
        return hidden if isinstance(output, torch.Tensor) else (hidden, *output[1:])

    handle = half.blocks[1].register_forward_hook(hook)
    expected = run_model(half, batch.input_ids, batch.attention_mask)
    handle.remove()
    assert logits.dtype == torch.float32
    assert float((expected - prefix.logits).abs().max()) > 0.1
    assert float((logits - expected).abs().max()) < 0.03 * max(1.0, float(expected.abs().max()))
    unchanged = rerun(half, saes, prefix, [[Edit(1, (), "error_preserving", positions)]])[0]
    assert torch.equal(unchanged, prefix.logits)
