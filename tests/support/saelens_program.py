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
Scaler: Any = importlib.import_module("sae_lens.training.activation_scaler").ActivationScaler
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
    for normalization in ("layer_norm", "constant_norm_rescale"):
        settings = {**base, "metadata": metadata, "normalize_activations": normalization}
        trained |= {
            f"standard-{normalization}": saes.StandardSAE(saes.StandardSAEConfig(**settings)),
            f"jumprelu-{normalization}": saes.JumpReLUSAE(saes.JumpReLUSAEConfig(**settings)),
            f"topk-{normalization}": saes.TopKSAE(saes.TopKSAEConfig(**settings, k=5)),
            f"gated-{normalization}": saes.GatedSAE(saes.GatedSAEConfig(**settings)),
            f"raw-{normalization}": saes.JumpReLUSAE(saes.JumpReLUSAEConfig(**settings, apply_b_dec_to_input=False)),
        }
    for name, sae in trained.items():
        randomize(sae)
        sae.save_model(root / name)
        write_outputs(sae, root / name, residuals)
    write_scaled(root, base, metadata, residuals)
    training = saes.BatchTopKTrainingSAE(saes.BatchTopKTrainingSAEConfig(**base, metadata=metadata, k=5))
    randomize(training)
    training.topk_threshold = torch.tensor(0.7, dtype=torch.float64)
    training.save_model(root / "batchtopk-training")
    training.save_inference_model(root / "batchtopk-inference")
    inference = SAE.load_from_disk(root / "batchtopk-inference")
    write_outputs(inference, root / "batchtopk-training", residuals)
    write_outputs(inference, root / "batchtopk-inference", residuals)
    widths = [D_SAE // 4, D_SAE]
    matryoshka = saes.MatryoshkaBatchTopKTrainingSAE(
        saes.MatryoshkaBatchTopKTrainingSAEConfig(**base, metadata=metadata, k=5, matryoshka_widths=widths)
    )
    randomize(matryoshka)
    matryoshka.topk_threshold = torch.tensor(0.6, dtype=torch.float64)
    matryoshka.save_model(root / "matryoshka-training")
    matryoshka.save_inference_model(root / "matryoshka-inference")
    inference = SAE.load_from_disk(root / "matryoshka-inference")
    write_outputs(inference, root / "matryoshka-training", residuals)
    write_outputs(inference, root / "matryoshka-inference", residuals)


def write_scaled(root: Path, base: dict[str, int], metadata: Any, residuals: torch.Tensor) -> None:
    """Checkpoints whose input scale or whitening is in a file of its own, and what they are once it is folded."""
    for normalization in ("expected_average_only_in", "covariance_whitening"):
        for raw in (False, True):
            directory = root / f"{normalization}-{raw}"
            settings = {**base, "metadata": metadata, "normalize_activations": normalization}
            sae = saes.StandardSAE(saes.StandardSAEConfig(**settings, apply_b_dec_to_input=not raw))
            randomize(sae)
            scaler = Scaler()
            if normalization == "covariance_whitening":
                scaler.estimate_whitening(base["d_in"], iter(lambda: residuals, None), 1)
            else:
                scaler.estimate_scaling_factor(base["d_in"], iter(lambda: residuals, None), 1)
            sae.save_model(directory)
            scaler.save(str(directory / "activation_scaler.json"))
            if scaler.whitening is None:
                sae.fold_activation_norm_scaling_factor(scaler.scaling_factor)
            else:
                whitening = scaler.whitening
                sae.fold_activation_whitening(whitening.mean, whitening.matrix, whitening.inverse_matrix)
            write_outputs(sae, directory, residuals)


def randomize(sae: torch.nn.Module) -> None:
    """Randomize all parameters, so that a fair share of features is active."""
    for name, parameter in sae.named_parameters():
        noise = torch.rand_like(parameter) if name == "threshold" else 0.5 * torch.randn_like(parameter)
        parameter.data = parameter.data + noise


if __name__ == "__main__":
    directory = Path(sys.argv[2])
    h = torch.from_numpy(np.load(directory / "residuals.npy")).float()
    {"read": read, "write": write}[sys.argv[1]](directory, h)
