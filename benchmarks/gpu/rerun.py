"""Knockouts and patching on a GPU against whole passes of the model with a hook.

A knockout removes 20 features of the last layer but one from 32 documents of 30 to 300 tokens; patching replaces each
of the 52 components in a pair of documents of 512 tokens.

    naive_over_warm        pass with a hook / knockout with the residuals of an earlier pass, replayed as a CUDA graph
    naive_over_warm_last   the same at the position that the head reads
    draws_over_one         a knockout with its 10 control draws / without
    knockout_eager_ms      a knockout without a graph, each operation issued from Python
    knockout_graph_bytes   memory that the graphs of the knockouts hold
    naive_over_ours        2 passes and one per component, each with a hook / both documents in one pass and the patches
    naive_over_ours_many   the same for 8 pairs, which share passes
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from benchmarks.case import Shape
from benchmarks.gpu.clock import seconds, waits
from benchmarks.gpu.parts import figures_of
from benchmarks.gpu.random_model import SMOKE, device_of, random_classifier, random_documents, random_sae
from tegakari.models.architecture import block_output
from tegakari.models.classifier import Classifier
from tegakari.models.precision import float32_copy, float32_products
from tegakari.models.rerun.ablate_features import rerun
from tegakari.models.rerun.components import component_modules, run_components
from tegakari.models.rerun.edits import Edit, edited_rows
from tegakari.models.rerun.patching import run_patches
from tegakari.models.rerun.prefix import Prefix, run_model, run_prefix
from tegakari.models.rerun.recordings import Recordings
from tegakari.models.sae import Sae
from tegakari.models.tokens import Batch, Tokenized

FEATURES = 20
DRAWS = 10
PAIRS = 8

UNTIMED = 3
"""Knockouts before timed ones: the first is computed, the second recorded, the third replayed."""


def measure(smoke: bool, classifier: Classifier | None = None) -> dict[str, float]:
    """Figures of knockouts and patching.

    Args:
        smoke: tiny shapes on a CPU.
        classifier: a Gemma 2 whose documents need no tokenizer; default: one with random weights of gemma-2-2b's
            shapes, in bfloat16.
    """
    shape = SMOKE if smoke else Shape()
    device = device_of(smoke)
    if classifier is None:
        classifier = random_classifier(shape, device, torch.float32 if smoke else torch.bfloat16)
    return figures_of(
        {
            "knockouts": lambda: _knockouts(classifier, shape, smoke),
            "patching": lambda: _patching(classifier, shape, smoke),
            "patching_float32": lambda: _patching_float32(classifier, shape, smoke),
        },
        strict=smoke,
    )


def _knockouts(classifier: Classifier, shape: Shape, smoke: bool) -> dict[str, float]:
    count, lengths, repeats = (4, range(5, 20), 1) if smoke else (32, range(30, 300), 7)
    layer = classifier.layers - 2
    sae = random_sae(shape, layer, classifier.device)
    batch = classifier.batch(random_documents(count, lengths, shape.vocabulary))
    generator = torch.Generator().manual_seed(0)
    sets = [tuple(torch.randperm(shape.d_sae, generator=generator)[:FEATURES].tolist()) for _ in range(1 + DRAWS)]
    edits, at_head = [Edit(layer, features) for features in sets], Edit(layer, sets[0], positions="head")
    prefix = run_prefix(classifier, batch, [layer], keys_above=layer)
    unrecorded = replace(prefix, recordings=Recordings())

    def warm(*sets_of_edits: Edit, prefix: Prefix = prefix) -> Tensor:
        return rerun(classifier, {layer: sae}, prefix, [[edit] for edit in sets_of_edits])

    def timed(work: Callable[[], object], times: int = repeats) -> float:
        return seconds(work, classifier.device, times, UNTIMED)

    hooked = timed(lambda: _hooked(classifier, sae, batch, edits[0]), min(repeats, 3))
    hooked_last = timed(lambda: _hooked(classifier, sae, batch, at_head), min(repeats, 3))
    eager = timed(lambda: warm(edits[0], prefix=unrecorded))
    one, last, draws = timed(lambda: warm(edits[0])), timed(lambda: warm(at_head)), timed(lambda: warm(*edits))
    difference = warm(edits[0])[0] - _hooked(classifier, sae, batch, edits[0])
    others = [edit._replace(positions=positions) for edit in edits[1:] for positions in ("all", "head")]
    replay_differences = [warm(edit) - warm(edit, prefix=unrecorded) for edit in others]
    return {
        "naive_over_warm": hooked / one,
        "naive_over_warm_last": hooked_last / last,
        "draws_over_one": draws / one,
        "knockout_hooked_ms": 1e3 * hooked,
        "knockout_warm_ms": 1e3 * one,
        "knockout_warm_last_ms": 1e3 * last,
        "knockout_eager_ms": 1e3 * eager,
        "knockout_graph_bytes": prefix.recordings.nbytes,
        "knockout_replay_difference": float(torch.stack(replay_differences).abs().max()),
        "knockout_with_draws_ms": 1e3 * draws,
        "knockout_waits": waits(lambda: warm(*edits), classifier.device),
        "knockout_max_logit_difference": float(difference.abs().max()),
        "knockout_max_logit_change": float((warm(edits[0])[0] - prefix.logits).abs().max()),
    }


def warm_knockout(shape: Shape, device: torch.device, *, smoke: bool) -> Callable[[], Tensor]:
    """A knockout with the residuals of an earlier pass, at all positions."""
    classifier = random_classifier(shape, device, torch.float32 if smoke else torch.bfloat16)
    layer = classifier.layers - 2
    count, lengths = (4, range(5, 20)) if smoke else (32, range(30, 300))
    batch = classifier.batch(random_documents(count, lengths, shape.vocabulary))
    prefix = run_prefix(classifier, batch, [layer], keys_above=layer)
    saes = {layer: random_sae(shape, layer, device)}
    edit = Edit(layer, tuple(range(FEATURES)))
    return lambda: rerun(classifier, saes, prefix, [[edit]])


def _hooked(classifier: Classifier, sae: Sae, batch: Batch, edit: Edit) -> Tensor:
    """Logits of a whole pass with a hook that makes the edit, float32 [B, labels]."""
    rows = batch.positions if edit.positions == "all" else batch.positions[batch.offsets[1:] - 1]

    def hook(_module: nn.Module, _inputs: object, output: object) -> Tensor:
        hidden = block_output(output).clone()
        flat = hidden.view(-1, hidden.shape[-1])
        flat[rows] = edited_rows(flat[rows], sae, edit, classifier.dtype).rows
        return hidden

    handle = classifier.blocks[edit.layer].register_forward_hook(hook)
    try:
        with torch.inference_mode():
            return run_model(classifier, batch.input_ids, batch.attention_mask)
    finally:
        handle.remove()


def _pairs(shape: Shape, smoke: bool) -> tuple[list[Tokenized], list[Tokenized]]:
    """Clean and corrupted documents."""
    tokens, pairs = (24, 2) if smoke else (512, PAIRS)
    documents = random_documents(2 * pairs, range(tokens, tokens + 1), shape.vocabulary, seed=1)
    return documents[:pairs], documents[pairs:]


def _patching(classifier: Classifier, shape: Shape, smoke: bool) -> dict[str, float]:
    repeats = 1 if smoke else 3
    many = _pairs(shape, smoke)
    one = many[0][:1], many[1][:1]
    pairs = len(many[0])
    naive = seconds(lambda: _naive_effects(classifier, *one), classifier.device, repeats)
    ours = seconds(lambda: _effects(classifier, *one), classifier.device, repeats)
    ours_many = seconds(lambda: _effects(classifier, *many), classifier.device, repeats)
    batch = classifier.batch([*one[0], *one[1]])
    base = seconds(lambda: run_components(classifier, batch, keys=True), classifier.device, repeats)
    return {
        "naive_over_ours": naive / ours,
        "naive_over_ours_many": pairs * naive / ours_many,
        "patching_naive_ms": 1e3 * naive,
        "patching_pair_ms": 1e3 * ours,
        "patching_pair_base_ms": 1e3 * base,
        "patching_pair_of_many_ms": 1e3 * ours_many / pairs,
        "patching_max_change_difference": _largest_difference(classifier, *one),
    }


@float32_products(tf32=False)
def _patching_float32(classifier: Classifier, shape: Shape, smoke: bool) -> dict[str, float]:
    """As circuits are computed."""
    exact = float32_copy(classifier)
    many = _pairs(shape, smoke)
    ours = seconds(lambda: _effects(exact, *many), exact.device, 1 if smoke else 3)
    return {
        "patching_pair_of_many_float32_ms": 1e3 * ours / len(many[0]),
        "patching_max_change_difference_float32": _largest_difference(exact, many[0][:1], many[1][:1]),
    }


def _effects(classifier: Classifier, clean: Sequence[Tokenized], corrupted: Sequence[Tokenized]) -> Tensor:
    """Logits of the corrupted documents with each component patched, [pairs, layers, 2, labels]."""
    pairs = len(clean)
    documents = run_components(classifier, classifier.batch([*clean, *corrupted]), keys=True)
    owner = torch.arange(pairs, 2 * pairs, device=classifier.device)
    return run_patches(classifier, documents, owner, documents.added[:pairs])


@torch.inference_mode()
def _naive_effects(classifier: Classifier, clean: Sequence[Tokenized], corrupted: Sequence[Tokenized]) -> Tensor:
    """The same for one pair by a whole pass per component."""
    batches = [classifier.batch(documents) for documents in (clean, corrupted)]
    outputs = _component_outputs(classifier, batches[0])
    run_model(classifier, batches[1].input_ids, batches[1].attention_mask)
    patched = []
    for layer in range(classifier.layers):
        for number, module in enumerate(component_modules(classifier.blocks[layer])):

            def patch(
                _module: nn.Module, _inputs: object, output: Tensor, key: tuple[int, int] = (layer, number)
            ) -> Tensor:
                output = output.clone()
                output[:, -1] = outputs[key]
                return output

            handle = module.register_forward_hook(patch)
            patched.append(run_model(classifier, batches[1].input_ids, batches[1].attention_mask))
            handle.remove()
    return torch.stack(patched, 1).view(1, classifier.layers, 2, -1)


def _component_outputs(classifier: Classifier, batch: Batch) -> dict[tuple[int, int], Tensor]:
    """Output of each component at the last position, by layer and component."""
    outputs: dict[tuple[int, int], Tensor] = {}
    handles = []
    for layer in range(classifier.layers):
        for number, module in enumerate(component_modules(classifier.blocks[layer])):

            def record(
                _module: nn.Module, _inputs: object, output: Tensor, key: tuple[int, int] = (layer, number)
            ) -> None:
                outputs[key] = output[:, -1]

            handles.append(module.register_forward_hook(record))
    run_model(classifier, batch.input_ids, batch.attention_mask)
    for handle in handles:
        handle.remove()
    return outputs


def _largest_difference(classifier: Classifier, clean: Sequence[Tokenized], corrupted: Sequence[Tokenized]) -> float:
    """Largest difference of a patched logit between the two ways, as a share of the largest change by a patch."""
    ours, naive = _effects(classifier, clean, corrupted), _naive_effects(classifier, clean, corrupted)
    batch = classifier.batch(corrupted)
    with torch.inference_mode():
        plain = run_model(classifier, batch.input_ids, batch.attention_mask)
    return float((ours - naive).abs().max() / (naive - plain).abs().max())
