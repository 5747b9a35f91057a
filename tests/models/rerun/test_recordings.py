"""Recorded passes: what is replayed with other features equals what is computed, bit for bit."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from tegakari.models.architecture import find_blocks
from tegakari.models.classifier import Classifier
from tegakari.models.rerun import ablate_features, recordings
from tegakari.models.rerun.ablate_features import rerun
from tegakari.models.rerun.edited_pass import EditedPass, edit_groups, edited_logits
from tegakari.models.rerun.edits import Edit
from tegakari.models.rerun.host_access import HostAccess
from tegakari.models.rerun.prefix import Prefix, run_prefix
from tegakari.models.rerun.recordings import Recordings
from tegakari.models.sae import Sae
from tegakari.schemas.progress import OnStep, no_step
from tests.support.classifier_families import D_SAE, make_sae
from tests.support.traced_recording import TracedRecorder

TEXTS = ["今日は会議です。\nよろしくお願いします", "車です", "MTG の 打ち合わせ です"]

Sets = list[list[Edit]]


@pytest.fixture(autouse=True)
def warnings_not_logged_yet() -> Iterator[None]:
    recordings._warn.cache_clear()
    yield
    recordings._warn.cache_clear()


def with_features(sets: Sets, offset: int) -> Sets:
    """Sets of the same shape with other features."""
    return [
        [edit._replace(features=tuple((feature + offset) % D_SAE for feature in edit.features)) for edit in edits]
        for edits in sets
    ]


def in_dtype(classifier: Classifier, dtype: torch.dtype) -> Classifier:
    model = copy.deepcopy(classifier.model).to(dtype)
    return replace(classifier, model=model, blocks=find_blocks(model), dtype=dtype)


def saes_of(kind: str, **changes: Any) -> dict[int, Sae]:
    return {layer: replace(make_sae(kind, layer), **changes) for layer in range(3)}


LAST = [
    [Edit(0, tuple(range(0, 20, 2)), positions="head"), Edit(1, (5, 6), positions="head")],
    [Edit(0, (3, 9, 11), positions="head")],
]
MIXED = [
    [Edit(0, (0, 2, 4, 8)), Edit(1, (5, 6), positions="head")],
    [Edit(0, (1, 3)), Edit(2, (7, 8, 9))],
    [Edit(0, (2,), positions="head"), Edit(1, (4,))],
]
CASES = {
    "all positions": ("gemma2", torch.float32, [[Edit(1, tuple(range(12)))]], saes_of("jumprelu")),
    "last positions": ("gemma2", torch.float32, LAST, saes_of("relu", input_norm="constant_norm", max_norm=math.inf)),
    "bfloat16": ("gemma2", torch.bfloat16, [[Edit(1, (1, 2))], [Edit(1, (3,))]], saes_of("gated", centred=True)),
    "layers": ("llama", torch.float32, MIXED, saes_of("batch_topk", input_norm="layer_norm", max_norm=math.inf)),
}
"""Family, dtype, sets, and SAEs; a `max_norm` of inf stands for one that makes some of the last positions outliers."""


@pytest.mark.parametrize(("classifier", "dtype", "sets", "saes"), CASES.values(), ids=CASES, indirect=["classifier"])
def test_replays_equal_passes(
    classifier: Classifier, dtype: torch.dtype, sets: Sets, saes: dict[int, Sae], caplog: pytest.LogCaptureFixture
):
    """Gemma 2 caps scores, and attends to windows of 4 tokens in every other block."""
    classifier = in_dtype(classifier, dtype)
    recorder = TracedRecorder()
    batch = classifier.batch(classifier.tokenize(TEXTS))
    plain = run_prefix(classifier, batch, [0, 1], keys_above=0)
    for layer, residual in plain.residuals.items():
        if saes[layer].max_norm is not None:
            norms = residual[torch.arange(len(TEXTS)), plain.last].norm(dim=1)
            saes = saes | {layer: replace(saes[layer], max_norm=float(norms.median()))}
    prefix = replace(plain, recordings=Recordings(recorder))
    results = [rerun(classifier, saes, prefix, with_features(sets, 7 * number)) for number in range(3)]
    assert not caplog.messages
    (recording,) = recorder.recordings
    assert recording.replays == 3, "two beside the second pass, to compare; one in place of the third"
    assert not {name for name in recording.operations if name.startswith("lift")}, "values of Python are no inputs"
    expected = [rerun(classifier, saes, plain, with_features(sets, 7 * number)) for number in range(3)]
    assert all(torch.equal(*pair) for pair in zip(results, expected, strict=True))
    assert len({tuple(logits.flatten().tolist()) for logits in expected}) == 3, "the features make a difference"


def on_meta(value: Any) -> Any:
    """Tensors in nested containers, on a device of torch without memory, that is not the host."""
    return tree_map_only(Tensor, lambda tensor: tensor.to("meta"), value)


@pytest.mark.parametrize(("classifier", "dtype", "sets", "saes"), CASES.values(), ids=CASES, indirect=["classifier"])
def test_a_recordable_pass_exchanges_no_value_with_the_host(
    classifier: Classifier, dtype: torch.dtype, sets: Sets, saes: dict[int, Sae]
):
    classifier = in_dtype(classifier, dtype)
    prefix = run_prefix(classifier, classifier.batch(classifier.tokenize(TEXTS)), [0, 1], keys_above=0)
    prefix = replace(prefix, **{name: on_meta(getattr(prefix, name)) for name in Prefix.__dataclass_fields__})
    model = classifier.model.to("meta")  # a copy, see `in_dtype`
    classifier = replace(classifier, model=model, blocks=find_blocks(model), device=torch.device("meta"))
    saes = dict(saes)
    for layer, sae in saes.items():
        saes[layer] = copy.copy(sae)  # a new Sae would look for NaN in its weights
        saes[layer].__dict__.update(on_meta(sae.__dict__))
    groups = edit_groups(sets)
    last_only = all(edit.positions == "head" for edits in sets for edit in edits)
    indices = on_meta(torch.tensor([number for group in groups for number in group.indices]))
    edited = EditedPass(groups[0].layer, last_only, len(sets), groups)
    with torch.inference_mode(), HostAccess() as access:
        logits, _ = edited_logits(classifier, saes, prefix, edited, indices, no_step)
    assert (logits.shape, logits.device.type) == ((len(sets), len(TEXTS), 3), "meta")
    assert not access.operations


@pytest.mark.parametrize(
    ("classifier", "kind", "edit", "positions"),
    [
        ("llama", "topk", Edit(1, (1, 2)), 10_000),
        ("llama", "relu", Edit(1, (1, 2), mode="reconstruction"), 10_000),
        ("llama", "relu", Edit(1, (1, 2)), 10),
        ("bert", "relu", Edit(1, (1, 2)), 10_000),
    ],
    indirect=["classifier"],
)
def test_long_passes_and_those_that_need_the_host_are_not_recorded(
    classifier: Classifier, kind: str, edit: Edit, positions: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ablate_features, "RECORDED_POSITIONS", positions)
    recorder = TracedRecorder()
    batch = classifier.batch(classifier.tokenize(TEXTS))
    prefix = replace(run_prefix(classifier, batch, [1]), recordings=Recordings(recorder))
    for _ in range(3):
        rerun(classifier, saes_of(kind), prefix, [[edit]])
    assert not recorder.recordings


class Doubling:
    """A computation that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, inputs: Tensor, on_step: OnStep) -> tuple[Tensor, ...]:
        self.calls += 1
        on_step()
        return (2 * inputs,)


def test_the_first_pass_of_a_shape_is_computed_the_second_recorded_the_third_replayed():
    recorder, compute, steps = TracedRecorder(), Doubling(), []
    of_prefix = Recordings(recorder)
    model = object()

    def run(value: float, shape: str = "a", model: object = model) -> float:
        (result,) = of_prefix.run(
            compute, torch.tensor([value]), shape=shape, models=(model,), on_step=lambda: steps.append(shape)
        )
        return float(result)

    assert (run(1), compute.calls, len(recorder.recordings), of_prefix.nbytes) == (2, 1, 0, 0)
    assert (run(2), compute.calls, len(recorder.recordings), of_prefix.nbytes) == (4, 3, 1, 2**20)
    assert (run(3), compute.calls, recorder.recordings[0].replays) == (6, 3, 3)
    assert steps == ["a"] * 3, "a step of each pass, none of the recording"
    assert [run(value, shape="b") for value in (4, 5, 6)] == [8, 10, 12]
    other = object()
    assert [run(value, model=other) for value in (4, 5, 6)] == [8, 10, 12]
    assert len(recorder.recordings) == 3
    assert run(7) == 14
    assert recorder.recordings[0].replays == 4


def test_shapes_least_recently_used_are_forgotten(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recordings, "RECORDINGS_PER_PREFIX", 2)
    recorder, compute = TracedRecorder(), Doubling()
    of_prefix = Recordings(recorder)

    def run(shapes: str) -> None:
        for shape in shapes:
            of_prefix.run(compute, torch.ones(1), shape=shape, models=(), on_step=no_step)

    run("aabba")
    assert (len(recorder.recordings), of_prefix.nbytes) == (2, 2 * 2**20)
    run("cca")  # forgets b
    assert (len(recorder.recordings), of_prefix.nbytes) == (3, 2 * 2**20)
    assert recorder.recordings[0].replays == 4
    run("bb")
    assert len(recorder.recordings) == 4


class _Wrong:
    nbytes = 0

    def __init__(self, *_: object) -> None:
        pass

    def replay(self, inputs: Tensor) -> tuple[Tensor, ...]:
        return (2 * inputs + 1e-6,)


class _Fixed:
    """A recording whose inputs are those that it was made with."""

    nbytes = 0

    def __init__(self, compute: Any, inputs: Tensor) -> None:
        self.results = compute(inputs)

    def replay(self, inputs: Tensor) -> tuple[Tensor, ...]:
        return self.results


def _fails(*_: object) -> Any:
    raise RuntimeError("operation not permitted when stream is capturing")


@pytest.mark.parametrize(
    ("record", "compute", "reason"),
    [
        (_Wrong, lambda inputs, on_step: (2 * inputs,), "a replay has other results"),
        (_Fixed, lambda inputs, on_step: (2 * inputs,), "a replay has other results"),
        (_fails, lambda inputs, on_step: (2 * inputs,), "RuntimeError: operation not permitted"),
        (_fails, lambda inputs, on_step: (2 * inputs if inputs.sum() > 0 else inputs,), "_local_scalar_dense needs"),
    ],
)
def test_a_recording_that_cannot_be_trusted_is_not_used(
    record: Any, compute: Any, reason: str, caplog: pytest.LogCaptureFixture
):
    for _ in range(2):  # of two prefixes
        of_prefix = Recordings(record)
        for value in (1.0, 2.0, 3.0, 4.0):
            (result,) = of_prefix.run(compute, torch.tensor([value]), shape="a", models=(), on_step=no_step)
            assert float(result) == 2 * value
        assert not of_prefix.active
    (message,) = caplog.messages
    assert message.startswith(f"re-runs are not recorded: {reason}")


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        (lambda x: x.sum().item(), "_local_scalar_dense"),
        (lambda x: x[x > 0], "index"),
        (lambda x: x.nonzero(), "nonzero"),
        (lambda x: x + torch.tensor([1.0, 2.0]), "lift_fresh"),
        (lambda x: x[[1, 0]], "lift_fresh"),
        (lambda x: x.to("meta"), "_to_copy"),
        (lambda x: torch.zeros(2, device="meta").copy_(x.sum()), "copy_"),
        (lambda x: torch.where(x > 1, x, 0.0) * torch.tensor(2.0) + torch.zeros(2).masked_fill(x > 1, 1), None),
        (lambda x: torch.zeros(2, device="meta") * torch.tensor(2.0), None),
        (lambda x: x[torch.arange(1)].index_copy_(0, torch.arange(1), x[:1]), None),
    ],
)
def test_access_of_the_host(operation: Any, name: str | None):
    values = torch.tensor([1.0, 2.0])
    with HostAccess() as access:
        operation(values)
    assert access.operations[:1] == ([] if name is None else [name])
