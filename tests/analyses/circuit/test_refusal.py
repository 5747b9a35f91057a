"""A refused circuit leaves the model as it was: the study goes on without it, and its other tables are right."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tegakari.analyses.circuit import forward
from tegakari.analyses.engine.run_models import RunModels
from tegakari.analyses.knockout import sweeps
from tegakari.analyses.study import study
from tegakari.models.rerun import components
from tegakari.schemas.circuit import CircuitSettings
from tegakari.schemas.errors import MemoryShortError, ModelError
from tegakari.schemas.knockout import KnockoutSettings
from tegakari.schemas.study import StudySettings
from tegakari.store import Run


def hooked_modules(model: nn.Module) -> list[str]:
    return [
        name
        for name, module in model.named_modules()
        if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    ]


@pytest.mark.parametrize("refusal", ["while hooks are registered", "after the pass", "for want of memory"])
def test_a_refused_circuit_leaves_no_hook_and_the_study_goes_on(
    store: Path, run: Run, models: RunModels, monkeypatch: pytest.MonkeyPatch, refusal: str
):
    seed = {"while hooks are registered": 1, "after the pass": 2, "for want of memory": 3}[refusal]
    component_modules, calls = components.component_modules, []

    def refused_in_the_last_block(block: nn.Module) -> tuple[nn.Module, nn.Module]:
        calls.append(block)
        if len(calls) == models.classifier.layers:
            raise ModelError("the last block has no MLP", field="classifier", fix="use another one")
        return component_modules(block)

    def refused_for_memory(required: float, device: torch.device, fix: str) -> None:
        raise MemoryShortError(f"no block of {required} bytes is free on {device}", fix=fix)

    if refusal == "after the pass":
        monkeypatch.setattr(components, "TOLERANCE", {models.classifier.dtype: -1.0})
    elif refusal == "for want of memory":
        monkeypatch.setattr(forward, "refuse_beyond_memory", refused_for_memory)
    else:
        monkeypatch.setattr(components, "component_modules", refused_in_the_last_block)
    circuit = CircuitSettings(pairs=10, min_cosine=-1.0, seed=seed)
    settings = StudySettings(layer=1, holdout=False, k=4, draws=2, ks=[4], circuit=circuit, seed=seed)
    (run_study,) = study(store, [run], lambda _run: lambda: models, settings).runs
    assert run_study.circuit is None
    assert run_study.no_circuit
    assert "block" in run_study.no_circuit
    assert hooked_modules(models.classifier.model) == []
    monkeypatch.undo()
    knockout = KnockoutSettings(layer=1, k=4, draws=2, seed=seed + 10)  # not stored: computed anew by the same models
    again = sweeps.over_labels(store, run, lambda: models, run.labels, knockout).results
    assert [row.delta for row in again] == [row.delta for row in run_study.knockouts]
    assert [row.recall_before for row in again] == [row.recall_before for row in run_study.knockouts]
