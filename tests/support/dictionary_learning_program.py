"""Program for a Python with dictionary_learning: writes SAEs of its classes, and its own activations of the residuals.

Usage: python dictionary_learning_program.py DIRECTORY. DIRECTORY holds residuals.npy; the program adds one directory
per class, with ae.pt, config.json and outputs.npz.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

D_SAE, K = 40, 5
dictionary: Any = importlib.import_module("dictionary_learning.dictionary")
trainers = {
    name: getattr(importlib.import_module(f"dictionary_learning.trainers.{module}"), name)
    for name, module in (
        ("AutoEncoderTopK", "top_k"),
        ("BatchTopKSAE", "batch_top_k"),
        ("MatryoshkaBatchTopKSAE", "matryoshka_batch_top_k"),
    )
}


def saes(d_model: int) -> dict[str, Any]:
    return {
        "AutoEncoder": dictionary.AutoEncoder(d_model, D_SAE),
        "AutoEncoderNew": dictionary.AutoEncoderNew(d_model, D_SAE),
        "GatedAutoEncoder": dictionary.GatedAutoEncoder(d_model, D_SAE),
        "JumpReluAutoEncoder": dictionary.JumpReluAutoEncoder(d_model, D_SAE),
        "AutoEncoderTopK": trainers["AutoEncoderTopK"](d_model, D_SAE, K),
        "BatchTopKSAE": trainers["BatchTopKSAE"](d_model, D_SAE, K),
        "MatryoshkaBatchTopKSAE": trainers["MatryoshkaBatchTopKSAE"](d_model, D_SAE, K, group_sizes=[10, 30]),
    }


def main(root: Path) -> None:
    residuals = torch.from_numpy(np.load(root / "residuals.npy")).float()
    torch.manual_seed(0)
    for name, sae in saes(residuals.shape[1]).items():
        for parameter in sae.parameters():
            parameter.data = parameter.data + 0.4 * torch.randn_like(parameter)
        if hasattr(sae, "threshold") and name != "JumpReluAutoEncoder":
            sae.threshold.fill_(0.3)
        directory = root / name
        directory.mkdir()
        torch.save(sae.state_dict(), directory / "ae.pt")
        trainer = {"dict_class": name, "layer": 3, "lm_name": "model", "k": K, "submodule_name": "resid_post_layer_3"}
        (directory / "config.json").write_text(
            json.dumps({"trainer": trainer, "buffer": {"ctx_len": 128, "io": "out"}})
        )
        loaded = type(sae).from_pretrained(directory / "ae.pt")
        with torch.no_grad():
            activations = loaded.encode(residuals)
            reconstructions = loaded.decode(activations)
        np.savez(directory / "outputs.npz", activations=activations.numpy(), reconstructions=reconstructions.numpy())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
