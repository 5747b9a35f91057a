"""Activation patching at the last position against re-running the whole model for each component.

    python -m benchmarks.patching [--layers 26] [--d-model 2304] [--tokens 512] [--pairs 2] [--passes 0]

gemma-2-2b's shapes with random weights (all widths follow --d-model). For a pair of documents the naive way runs the
clean and the corrupted one, then the corrupted one again for attention and MLP of each layer with a hook that puts the
clean output in place: 54 passes with 26 layers. Ours runs each document once and then single positions. --passes times
only so many of the naive patched passes, spread over the layers, and takes the others to cost as much; 0 = all.
Both in turn for each pair, medians of ratios over pairs. The last line is one JSON object.
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
from tegakari.analyses.circuit.effects import effects
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
    """of all components"""
    base: float
    patched: float
    difference: float
    """largest, of the effects of the components that were run both ways"""


def naive_parts(classifier: Classifier, layer: int) -> tuple[nn.Module, nn.Module]:
    block = classifier.blocks[layer]
    return block.post_attention_layernorm, block.post_feedforward_layernorm  # type: ignore[return-value]


@torch.inference_mode()
def naive_base(classifier: Classifier, batch: Batch) -> tuple[Tensor, dict[tuple[int, int], Tensor]]:
    """Logits, and what each component gives at the last position."""
    given: dict[tuple[int, int], Tensor] = {}
    handles = []
    for layer in range(classifier.layers):
        for number, module in enumerate(naive_parts(classifier, layer)):

            def hook(
                _module: nn.Module, _inputs: object, output: Tensor, at: tuple[int, int] = (layer, number)
            ) -> None:
                given[at] = output[:, -1]

            handles.append(module.register_forward_hook(hook))
    logits = run_model(classifier, batch.input_ids, batch.attention_mask)
    for handle in handles:
        handle.remove()
    return logits, given


@torch.inference_mode()
def naive_patch(classifier: Classifier, batch: Batch, at: tuple[int, int], value: Tensor) -> Tensor:
    def hook(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        output = output.clone()
        output[:, -1] = value
        return output

    handle = naive_parts(classifier, at[0])[at[1]].register_forward_hook(hook)
    try:
        return run_model(classifier, batch.input_ids, batch.attention_mask)
    finally:
        handle.remove()


def run_pair(classifier: Classifier, clean: str, corrupted: str, passes: int) -> Pair:
    batches = [classifier.batch(classifier.tokenize([text])) for text in (clean, corrupted)]
    clock = time.perf_counter

    start = clock()
    clean_logits, given = naive_base(classifier, batches[0])
    corrupted_logits, _ = naive_base(classifier, batches[1])
    base_done = clock()
    places = [(layer, number) for layer in range(classifier.layers) for number in range(2)]
    chosen = places if not passes else [places[round(at)] for at in np.linspace(0, len(places) - 1, passes)]
    patched = {at: naive_patch(classifier, batches[1], at, given[at]) for at in chosen}
    naive_done = clock()

    ours_clean = run_components(classifier, batches[0], keys=False)
    ours_corrupted = run_components(classifier, batches[1], keys=True)
    ours_base = clock()
    found = run_patches(classifier, ours_corrupted, torch.zeros(1, dtype=torch.int64), ours_clean.added)
    done = clock()

    label = torch.tensor([int(clean_logits.argmax())])
    ours = effects(ours_clean.prefix.logits, ours_corrupted.prefix.logits, found, label).values[0]
    differences = []
    for (layer, number), logits in patched.items():
        shaped = logits.expand(1, 1, 1, -1)
        effect = effects(clean_logits, corrupted_logits, shaped, label).values[0, 0, 0]
        differences.append(abs(float(effect - ours[layer, number])))
    return Pair(
        naive_base=base_done - start,
        naive_patched=(naive_done - base_done) * len(places) / len(chosen),
        base=ours_base - naive_done,
        patched=done - ours_base,
        difference=max(differences),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Activation patching against a whole pass for each component.")
    parser.add_argument("--layers", type=int, default=Shape().layers)
    parser.add_argument("--d-model", type=int, default=Shape().d_model, help="all widths follow")
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--passes", type=int, default=0, help="naive patched passes that are timed; 0 = all")
    parser.add_argument("--keep", action="store_true", help="keep the models for another time")
    parser.add_argument("--work", type=Path, default=WORK, help="directory for the models")
    options = parser.parse_args(arguments)
    root = options.work.resolve() / f"patching-{options.layers}x{options.d_model}"
    config = make_case(root, scaled(options.layers, options.d_model), 40, labels=2, layers=[])
    classifier = classifier_of(config)
    found = texts(config)
    half = len(found) // 2
    documents = [_cut(classifier, found[start:] + found[:start], options.tokens) for start in (0, half)]
    rng = np.random.default_rng(0)
    for _ in range(options.pairs - 1):
        shuffled = [found[number] for number in rng.permutation(len(found))]
        documents += [_cut(classifier, shuffled[start:] + shuffled[:start], options.tokens) for start in (0, half)]
    pairs = [
        run_pair(classifier, clean, corrupted, options.passes)
        for clean, corrupted in zip(documents[::2], documents[1::2], strict=True)
    ]
    figures = {
        "naive_over_ours": statistics.median(
            (one.naive_base + one.naive_patched) / (one.base + one.patched) for one in pairs
        ),
        "naive_over_ours_patched": statistics.median(one.naive_patched / one.patched for one in pairs),
        "max_effect_difference": max(one.difference for one in pairs),
    }
    table = Table("figure", "value", title=f"Patching {2 * options.layers} components, {options.tokens} tokens")
    for name, value in figures.items():
        table.add_row(name, f"{value:.3g}")
    for name in ("naive_base", "naive_patched", "base", "patched"):
        table.add_row(f"{name}, s", f"{statistics.median(getattr(one, name) for one in pairs):.3f}")
    console.print(table)
    if not options.keep:
        shutil.rmtree(root)
    about = {
        "layers": options.layers,
        "d_model": options.d_model,
        "tokens": options.tokens,
        "pairs": options.pairs,
        "naive_passes_timed": options.passes or 2 * options.layers,
        "dtype": str(classifier.dtype).removeprefix("torch."),
    }
    figures = {**rounded(figures), "max_effect_difference": figures["max_effect_difference"]}
    print(json.dumps({**figures, **about, **machine()}))


def _cut(classifier: Classifier, found: list[str], tokens: int) -> str:
    """A document of so many tokens, special ones included; the tokenizer cuts at the classifier's max_length."""
    text = "\n".join(found)
    (document,) = classifier.tokenize([text])
    if len(document) < tokens:
        return text
    return text[: document.spans[tokens - 1][1]]


if __name__ == "__main__":
    sys.exit(main())
