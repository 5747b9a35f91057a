"""Re-runs of many sets, patches of many pairs: as one at a time, and without waits for a GPU between the passes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tegakari.models.classifier import Classifier
from tegakari.models.rerun import ablate_features
from tegakari.models.rerun.ablate_features import positions_per_pass, rerun
from tegakari.models.rerun.components import run_components
from tegakari.models.rerun.edits import Edit
from tegakari.models.rerun.patching import run_patches
from tegakari.models.rerun.prefix import run_prefix
from tegakari.models.sae import Sae
from tegakari.schemas.errors import KernelError
from tests.support.classifier_families import make_sae
from tests.support.host_waits import HostWaits

TEXTS = ["今日は会議です。\nよろしくお願いします", "車です", "MTG の 打ち合わせ です", "質問があります"]
SETS = [
    [Edit(0, (0, 5, 7))],
    [Edit(0, (1,)), Edit(1, (3, 4, 9), positions="head")],
    [],
    [Edit(0, tuple(range(20)), positions="head")],
    [Edit(0, (2, 3), mode="reconstruction"), Edit(2, (8,))],
    [Edit(1, ())],
    [Edit(1, (4, 5, 6))],
    [Edit(0, (9, 11))],
]


@pytest.mark.parametrize("kind", ["relu", "gated", "topk"])
@pytest.mark.parametrize("keys_above", [None, 0])
@pytest.mark.parametrize("positions", [1, 10_000])
def test_many_sets_at_once_equal_one_at_a_time(
    classifier: Classifier, kind: str, keys_above: int | None, positions: int, monkeypatch: pytest.MonkeyPatch
):
    """Sets of different sizes, modes, positions and layers in one pass, and in passes of one set."""
    saes = {layer: make_sae(kind, layer) for layer in range(3)}
    batch = classifier.batch(classifier.tokenize(TEXTS))
    prefix = run_prefix(classifier, batch, [0, 1, 2], keys_above=keys_above)
    expected = torch.stack([rerun(classifier, saes, prefix, [edits])[0] for edits in SETS])
    monkeypatch.setattr(ablate_features, "POSITIONS_PER_PASS", positions)
    together = rerun(classifier, saes, prefix, SETS)
    torch.testing.assert_close(together, expected, atol=1e-5, rtol=1e-5)
    assert len({tuple(logits.flatten().tolist()) for logits in expected}) == len(SETS) - 1  # the empty ones agree


@pytest.mark.parametrize("positions", ["all", "head"])
def test_a_knockout_and_its_draws_wait_once(classifier: Classifier, positions: str):
    saes = {1: replace(make_sae("relu", 1), max_norm=1e6)}
    batch = classifier.batch(classifier.tokenize(TEXTS))
    prefix = run_prefix(classifier, batch, [1], keys_above=1)
    sets = [[Edit(1, tuple(range(start, start + 5)), positions=positions)] for start in range(11)]
    with HostWaits() as waits:
        rerun(classifier, saes, prefix, sets)
    of_transformers = [place for place in waits.places if "masking_utils" in place]
    assert len(waits.places) - len(of_transformers) == 1, waits.places
    assert not of_transformers or classifier.head != "last"  # heads of encoders are given a mask, which is looked at


def test_activations_that_overflow_are_refused(classifier: Classifier):
    sae = make_sae("relu", 1)
    huge = Sae(sae.W_enc * 1e38, sae.W_dec, sae.b_enc, sae.b_dec)
    prefix = run_prefix(classifier, classifier.batch(classifier.tokenize(TEXTS)), [1])
    with pytest.raises(KernelError, match="not finite"):
        rerun(classifier, {1: huge}, prefix, [[Edit(1, (0, 1))]])


def test_a_gpu_takes_more_positions_per_pass_as_far_as_memory_allows(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
):
    assert positions_per_pass(classifier, 100) == 4096
    on_gpu = replace(classifier, device=torch.device("cuda"))
    needed = ablate_features.position_bytes(on_gpu, 100)
    for free, expected in [(2**50, 65_536), (2 * 10_000 * needed, 10_000), (0, 4096)]:
        monkeypatch.setattr(ablate_features, "free_bytes", lambda device, free=free: free)
        assert positions_per_pass(on_gpu, 100) == expected


def test_patches_of_pairs_in_one_pass_equal_those_of_one_pair(classifier: Classifier):
    if classifier.head != "last":
        pytest.skip("patches need a decoder")
    batch = classifier.batch(classifier.tokenize(TEXTS))
    documents = run_components(classifier, batch, keys=True)
    clean, owner = documents.added[[0, 0, 3, 1]], torch.tensor([1, 2, 2, 0])
    with HostWaits() as waits:
        together = run_patches(classifier, documents, owner, clean)
    assert not waits.counts, waits.places
    for row in range(4):
        alone = run_patches(classifier, documents, owner[row : row + 1], clean[row : row + 1])
        torch.testing.assert_close(together[row], alone[0], atol=1e-5, rtol=1e-5)


def test_components_wait_a_bounded_number_of_times(classifier: Classifier):
    """For the position that the head reads, and for the sums of all blocks; beside what transformers does."""
    if classifier.head != "last":
        pytest.skip("patches need a decoder")
    batch = classifier.batch(classifier.tokenize(TEXTS))
    with HostWaits() as waits:
        run_components(classifier, batch, keys=True)
    assert len([place for place in waits.places if "masking_utils" not in place]) <= 3, waits.places
