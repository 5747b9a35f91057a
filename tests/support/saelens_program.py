"""Program for a Python with SAELens: `read` SAEs that tegakari wrote, or `write` SAEs for tegakari to read.

Usage: python saelens_program.py read|write DIRECTORY. DIRECTORY holds residuals.npy, and one directory per SAE. The
program writes outputs.npz beside each SAE: SAELens' activations and reconstructions of the residuals.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

SAE: Any = importlib.import_module("sae_lens").SAE
saes: Any = importlib.import_module("sae_lens.saes")
Metadata: Any = importlib.import_module("sae_lens.saes.sae").SAEMetadata

D_SAE = 40


def write_outputs(sae: Any, directory: Path, residuals: torch.Tensor) -> None:
    with torch.no_grad():
        a = sae.encode(residuals)
        np.savez(directory / "outputs.npz", activations=a.numpy(), reconstructions=sae.decode(a).numpy())


def read(root: Path, residuals: torch.Tensor) -> None:
    for config in root.glob("*/cfg.json"):
        sae = SAE.load_from_disk(config.parent, device="cpu")
        sys.stdout.write(f"{config.parent.name} {sae.cfg.metadata.hook_name}\n")
        write_outputs(sae, config.parent, residuals)


def write(root: Path, residuals: torch.Tensor) -> None:
    torch.manual_seed(0)
    base = {"d_in": residuals.shape[1], "d_sae": D_SAE}
    metadata = Metadata(hook_name="blocks.3.hook_resid_post", model_name="model")
    trained = {
        "standard": saes.StandardSAE(saes.StandardSAEConfig(**base, metadata=metadata)),
        "standard-raw": saes.StandardSAE(saes.StandardSAEConfig(**base, metadata=metadata, apply_b_dec_to_input=False)),
        "jumprelu": saes.JumpReLUSAE(saes.JumpReLUSAEConfig(**base, metadata=metadata)),
        "topk": saes.TopKSAE(saes.TopKSAEConfig(**base, metadata=metadata, k=5)),
        "topk-rescaled": saes.TopKSAE(
            saes.TopKSAEConfig(**base, metadata=metadata, k=5, rescale_acts_by_decoder_norm=True)
        ),
        "gated": saes.GatedSAE(saes.GatedSAEConfig(**base, metadata=metadata)),
    }
    for name, sae in trained.items():
        randomize(sae)
        sae.save_model(root / name)
        write_outputs(sae, root / name, residuals)
    training = saes.BatchTopKTrainingSAE(saes.BatchTopKTrainingSAEConfig(**base, metadata=metadata, k=5))
    randomize(training)
    training.topk_threshold = torch.tensor(0.7, dtype=torch.float64)
    training.save_model(root / "batchtopk-training")
    training.save_inference_model(root / "batchtopk-inference")
    inference = SAE.load_from_disk(root / "batchtopk-inference")
    write_outputs(inference, root / "batchtopk-training", residuals)
    write_outputs(inference, root / "batchtopk-inference", residuals)


def randomize(sae: torch.nn.Module) -> None:
    """Randomize all parameters, so that a fair share of features is active."""
    for name, parameter in sae.named_parameters():
        noise = torch.rand_like(parameter) if name == "threshold" else 0.5 * torch.randn_like(parameter)
        parameter.data = parameter.data + noise


if __name__ == "__main__":
    directory = Path(sys.argv[2])
    h = torch.from_numpy(np.load(directory / "residuals.npy")).float()
    {"read": read, "write": write}[sys.argv[1]](directory, h)
