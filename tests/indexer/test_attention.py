"""Which passes of an index run the attention that was chosen for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from torch import Tensor

from tegakari.indexer import pipeline
from tegakari.indexer.executors import WorkerSettings, executor
from tegakari.indexer.pipeline import index_part
from tegakari.models.classifier import Classifier
from tegakari.models.tokens import Batch, Tokenized
from tests.support.small_case import SmallCase, with_index


def test_shards_and_limits_of_norms_run_the_chosen_attention(
    small_case: SmallCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples: list[list[Tokenized]] = []
    batches: list[int] = []

    def masks(batch: Batch) -> Tensor:
        batches.append(len(batch.input_ids))
        return batch.attention_mask

    def choose(classifier: Classifier, documents: Sequence[Tokenized]) -> Classifier:
        samples.append(list(documents))
        return replace(classifier, masks=masks)

    monkeypatch.setattr(pipeline, "choose_attention", choose)
    monkeypatch.setattr(executor, "choose_attention", choose)
    config = with_index(small_case, tmp_path / "store", split="eval")
    index_part(config)
    (documents,) = map(len, samples)
    # The third pass is that of the gradients of label effects, which measures explained variance beside them.
    assert sum(batches) == 2 * documents > 0
    settings = WorkerSettings(config, samples[0][:3], dict.fromkeys(range(3)), False, tmp_path, None)
    assert settings.load()[1].masks is masks
    assert len(samples[-1]) == 3
