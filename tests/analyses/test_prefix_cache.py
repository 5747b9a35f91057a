"""Recordings of cached passes: they change no result, and their memory counts as the cache's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tegakari.analyses.engine import prefix_cache
from tegakari.analyses.engine.run_models import RunModels
from tegakari.analyses.knockout.forward import FeatureAblation, Logits, run_feature_ablations
from tegakari.models.rerun.prefix import Prefix, run_prefix
from tegakari.models.rerun.recordings import Recordings
from tegakari.schemas.knockout import LayerFeature
from tegakari.schemas.progress import NoProgress
from tests.support.traced_recording import TracedRecorder, TracedRecording

TEXTS = ["会議の 予定です", "車を 見ました"]


def ablated(models: RunModels, texts: list[str], feature: int) -> Logits:
    ablation = FeatureAblation(
        (LayerFeature(1, feature), LayerFeature(1, feature + 1)), "error_preserving", "all", (1,)
    )
    return run_feature_ablations(models, texts, [ablation], NoProgress())


def test_recordings_of_cached_passes(models: RunModels, monkeypatch: pytest.MonkeyPatch):
    recorder = TracedRecorder()

    def recorded_prefix(*arguments: object, **options: object) -> Prefix:
        return replace(run_prefix(*arguments, **options), recordings=Recordings(recorder))  # type: ignore[arg-type]

    expected = [ablated(RunModels(models.classifier, models.saes), TEXTS, feature) for feature in (0, 2, 4)]
    monkeypatch.setattr(prefix_cache, "run_prefix", recorded_prefix)
    recording = RunModels(models.classifier, models.saes)
    cache = recording.prefix_cache
    ablated(recording, ["別の 文です"], 0)
    results = [ablated(recording, TEXTS, 0)]
    unrecorded = cache.nbytes
    results.append(ablated(recording, TEXTS, 2))
    assert cache.nbytes == unrecorded + TracedRecording.nbytes
    cache.max_bytes = cache.nbytes - 1
    results.append(ablated(recording, TEXTS, 4))
    assert TracedRecording.nbytes < cache.nbytes <= cache.max_bytes, "the other passes made room"
    assert [recording.replays for recording in recorder.recordings] == [3]
    for result, plain in zip(results, expected, strict=True):
        assert np.array_equal(result.after, plain.after)
        assert not np.array_equal(result.after[0], result.before)
