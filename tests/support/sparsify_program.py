"""Program for a Python with sparsify: writes an SAE, and sparsify's own activations of the residuals.

Usage: python sparsify_program.py DIRECTORY. DIRECTORY holds residuals.npy; the program adds layers.3 with the SAE and
outputs.npz.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

D_SAE, K = 40, 5
sparsify: Any = importlib.import_module("sparsify")


def main(root: Path) -> None:
    residuals = torch.from_numpy(np.load(root / "residuals.npy")).float()
    torch.manual_seed(0)
    sae = sparsify.SparseCoder(residuals.shape[1], sparsify.SparseCoderConfig(num_latents=D_SAE, k=K))
    for parameter in sae.parameters():
        parameter.data = parameter.data + 0.4 * torch.randn_like(parameter)
    sae.save_to_disk(root / "layers.3")
    loaded = sparsify.SparseCoder.load_from_disk(root / "layers.3")
    with torch.no_grad():
        encoded = loaded.encode(residuals)
        activations = torch.zeros(len(residuals), D_SAE).scatter(1, encoded.top_indices, encoded.top_acts)
        reconstructions = loaded.decode(encoded.top_acts, encoded.top_indices)
    np.savez(root / "layers.3" / "outputs.npz", activations=activations, reconstructions=reconstructions)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
