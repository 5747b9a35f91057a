"""Cache and examples of delphi, in an interpreter that has delphi. Started by `benchmarks.peers`.

delphi's classes in delphi's order: LatentCache over all documents, save_splits, LatentDataset with the constructor and
sampler set to the 20 strongest contexts of every latent and nothing else.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.peer_program import serve

BATCH = 32
Turn = Callable[[str], dict[str, Any]]


class Encode:
    """ReLU SAE in SAELens' layout as a function, which delphi expects."""

    def __init__(self, directory: Path) -> None:
        weights = load_file(directory / "sae_weights.safetensors")
        self.weight, self.bias = weights["W_enc"], weights["b_enc"]

    def __call__(self, residual: Tensor) -> Tensor:
        return torch.relu(residual @ self.weight + self.bias)


def prepare(root: Path, packed: bool, contexts: int, clock: str) -> tuple[str, Turn]:
    from delphi.config import ConstructorConfig, SamplerConfig  # pyright: ignore[reportMissingImports]
    from delphi.latents import LatentCache, LatentDataset  # pyright: ignore[reportMissingImports]
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    documents = load_file(root / "documents.safetensors")
    tokens = documents["packed" if packed else "tokens"]
    model = AutoModelForSequenceClassification.from_pretrained(root / "classifier", attn_implementation="eager").eval()
    tokenizer = AutoTokenizer.from_pretrained(root / "classifier")
    layers = sorted((root / "saes").iterdir())
    encodes = {f"model.layers.{layer}": Encode(directory) for layer, directory in enumerate(layers)}
    raw = root / ("delphi-packed" if packed else "delphi")

    now = getattr(time, clock)

    def turn(_line: str) -> dict[str, Any]:
        shutil.rmtree(raw, ignore_errors=True)
        start = now()
        cache = LatentCache(model, encodes, batch_size=BATCH)
        with torch.no_grad():
            cache.run(tokens.numel(), tokens)
        raw.mkdir()
        cache.save_splits(n_splits=5, save_dir=raw)
        cached = now()
        for hookpoint in encodes:
            (raw / hookpoint / "config.json").write_text(json.dumps({"model_name": str(root)}))
        records = list(
            LatentDataset(
                raw_dir=raw,
                sampler_cfg=SamplerConfig(n_examples_train=contexts, n_examples_test=0, train_type="top"),
                constructor_cfg=ConstructorConfig(min_examples=1, n_non_activating=0, example_ctx_len=32),
                tokenizer=tokenizer,
                modules=list(encodes),
            )
        )
        stop = now()
        figures = {"seconds": stop - start, "cache_seconds": cached - start, "features": len(records)}
        return figures if packed else figures | {"top": strongest(cache, documents["special"])}

    return version("eai-delphi"), turn


def strongest(cache: Any, special: Tensor) -> list[list[list[float]]]:
    """(document, position, activation) of the strongest position in delphi's cache, by layer and latent.

    Special tokens are excluded. An activation of 0: never active.
    """
    by_layer = []
    for locations, activations in zip(
        cache.cache.latent_locations.values(), cache.cache.latent_activations.values(), strict=True
    ):
        counts = ~special[locations[:, 0], locations[:, 1]].bool()
        location, value = locations[counts], activations[counts]
        order = torch.argsort(value, stable=True)
        best = torch.zeros(cache.width, 3, dtype=torch.float64)
        best[location[order, 2]] = torch.stack([location[order, 0], location[order, 1], value[order]], 1).double()
        by_layer.append(best.tolist())
    return by_layer


if __name__ == "__main__":
    serve(lambda: prepare(Path(sys.argv[1]), sys.argv[2] == "packed", int(sys.argv[3]), sys.argv[4]))
