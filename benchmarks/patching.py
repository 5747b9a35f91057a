"""Activation patching at the last position against re-running the whole model for each component.

    python -m benchmarks.patching [--layers 26] [--d-model 2304] [--tokens 512] [--pairs 2] [--passes 0]

gemma-2-2b's shapes with random weights (all widths follow --d-model). For a pair of documents the naive way runs the
clean and the corrupted one, then the corrupted one again for attention and MLP of each layer with a hook that inserts
the clean output: 54 passes with 26 layers. tegakari runs each document once and then single positions. --passes limits
the timed naive patched passes, spread over the layers; the others are assumed to cost as much; 0 = all. Both ways run
in turn for each pair; figures are medians of ratios over pairs. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.case import Shape, classifier_of, make_case, scaled, texts
from benchmarks.environments import WORK
from benchmarks.machine import machine, rounded
from tegakari.analyses.circuit.effects import patch_changes
from tegakari.models.classifier import Classifier
from tegakari.models.rerun.components import run_components
from tegakari.models.rerun.patching import run_patches
from tegakari.models.rerun.prefix import run_model
from tegakari.models.tokens import Batch

console = Console(width=120)


class Pair(NamedTuple):
    """Seconds of one pair, and the effects of its components, [layers, 2]."""

    naive_base: float
    naive_patched: float
    """for all components"""
    base: float
    patched: float
    difference: float
    """largest difference of the effects of a component that was run both ways"""


def components(classifier: Classifier, layer: int) -> tuple[nn.Module, nn.Module]:
    """Modules whose outputs a Gemma 2 block adds to the residual."""
    block = classifier.blocks[layer]
    return block.post_attention_layernorm, block.post_feedforward_layernorm  # type: ignore[return-value]


@torch.inference_mode()
def naive_base(classifier: Classifier, batch: Batch) -> tuple[Tensor, dict[tuple[int, int], Tensor]]:
    """Logits, and the output of each component at the last position."""
    outputs: dict[tuple[int, int], Tensor] = {}
    handles = []
    for layer in range(classifier.layers):
        for number, module in enumerate(components(classifier, layer)):

            def hook(
                _module: nn.Module, _inputs: object, output: Tensor, key: tuple[int, int] = (layer, number)
            ) -> None:
                outputs[key] = output[:, -1]

            handles.append(module.register_forward_hook(hook))
    logits = run_model(classifier, batch.input_ids, batch.attention_mask)
    for handle in handles:
        handle.remove()
    return logits, outputs


@torch.inference_mode()
def naive_patch(classifier: Classifier, batch: Batch, component: tuple[int, int], value: Tensor) -> Tensor:
    """Logits with one component's output replaced at the last position."""

    def hook(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        output = output.clone()
        output[:, -1] = value
        return output

    handle = components(classifier, component[0])[component[1]].register_forward_hook(hook)
    try:
        return run_model(classifier, batch.input_ids, batch.attention_mask)
    finally:
        handle.remove()


def run_pair(classifier: Classifier, clean: str, corrupted: str, passes: int) -> Pair:
    batches = [classifier.batch(classifier.tokenize([text])) for text in (clean, corrupted)]
    clock = time.perf_counter

    start = clock()
    clean_logits, outputs = naive_base(classifier, batches[0])
    corrupted_logits, _ = naive_base(classifier, batches[1])
    base_done = clock()
    keys = [(layer, number) for layer in range(classifier.layers) for number in range(2)]
    timed = keys if not passes else [keys[round(index)] for index in np.linspace(0, len(keys) - 1, passes)]
    patched = {key: naive_patch(classifier, batches[1], key, outputs[key]) for key in timed}
    naive_done = clock()

    clean_components = run_components(classifier, batches[0], keys=False)
    corrupted_components = run_components(classifier, batches[1], keys=True)
    components_done = clock()
    logits = run_patches(classifier, corrupted_components, torch.zeros(1, dtype=torch.int64), clean_components.added)
    patches_done = clock()

    label = torch.tensor([int(clean_logits.argmax())])
    changes, gains = patch_changes(clean_components.prefix.logits, corrupted_components.prefix.logits, logits, label)
    differences = []
    for (layer, number), naive_logits in patched.items():
        shaped = naive_logits.expand(1, 1, 1, -1)
        change, gain = patch_changes(clean_logits, corrupted_logits, shaped, label)
        differences.append(abs(float(change[0, 0, 0] / gain[0] - changes[0, layer, number] / gains[0])))
    return Pair(
        naive_base=base_done - start,
        naive_patched=(naive_done - base_done) * len(keys) / len(timed),
        base=components_done - naive_done,
        patched=patches_done - components_done,
        difference=max(differences),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Activation patching against a whole pass for each component.")
    parser.add_argument("--layers", type=int, default=Shape().layers)
    parser.add_argument("--d-model", type=int, default=Shape().d_model, help="all widths follow")
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--passes", type=int, default=0, help="timed naive patched passes; 0 = all")
    parser.add_argument("--keep", action="store_true", help="keep the models for the next run")
    parser.add_argument("--work", type=Path, default=WORK, help="directory for the models")
    options = parser.parse_args(arguments)
    root = options.work.resolve() / f"patching-{options.layers}x{options.d_model}"
    config = make_case(root, scaled(options.layers, options.d_model), 40, labels=2, layers=[])
    classifier = classifier_of(config)
    corpus_texts = texts(config)
    half = len(corpus_texts) // 2
    documents = [_cut(classifier, corpus_texts[start:] + corpus_texts[:start], options.tokens) for start in (0, half)]
    rng = np.random.default_rng(0)
    for _ in range(options.pairs - 1):
        shuffled = [corpus_texts[number] for number in rng.permutation(len(corpus_texts))]
        documents += [_cut(classifier, shuffled[start:] + shuffled[:start], options.tokens) for start in (0, half)]
    pairs = [
        run_pair(classifier, clean, corrupted, options.passes)
        for clean, corrupted in zip(documents[::2], documents[1::2], strict=True)
    ]
    figures = {
        "naive_over_ours": statistics.median(
            (pair.naive_base + pair.naive_patched) / (pair.base + pair.patched) for pair in pairs
        ),
        "naive_over_ours_patched": statistics.median(pair.naive_patched / pair.patched for pair in pairs),
        "max_effect_difference": max(pair.difference for pair in pairs),
    }
    table = Table("figure", "value", title=f"Patching {2 * options.layers} components, {options.tokens} tokens")
    for name, value in figures.items():
        table.add_row(name, f"{value:.3g}")
    for name in ("naive_base", "naive_patched", "base", "patched"):
        table.add_row(f"{name}, s", f"{statistics.median(getattr(pair, name) for pair in pairs):.3f}")
    console.print(table)
    if not options.keep:
        shutil.rmtree(root)
    details = {
        "layers": options.layers,
        "d_model": options.d_model,
        "tokens": options.tokens,
        "pairs": options.pairs,
        "naive_passes_timed": options.passes or 2 * options.layers,
        "dtype": str(classifier.dtype).removeprefix("torch."),
    }
    figures = {**rounded(figures), "max_effect_difference": figures["max_effect_difference"]}
    print(json.dumps({**figures, **details, **machine()}))


def _cut(classifier: Classifier, texts: list[str], tokens: int) -> str:
    """Document of a number of tokens, special ones included; the tokenizer cuts at the classifier's max_length."""
    text = "\n".join(texts)
    (document,) = classifier.tokenize([text])
    if len(document) < tokens:
        return text
    return text[: document.spans[tokens - 1][1]]


if __name__ == "__main__":
    sys.exit(main())
