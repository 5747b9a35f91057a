"""Program for a Python with SAELens or Llamascopium, which reads SAEs that the layouts of the tests wrote.

Usage: python published_saes_program.py saelens|llamascopium DIRECTORY. DIRECTORY holds residuals.npy and one directory
per SAE. The program writes outputs.npz into each: the library's activations and reconstructions of the residuals.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

Outputs = tuple[torch.Tensor, torch.Tensor]


def llamascopium(directory: Path, h: torch.Tensor) -> Outputs:
    sae = importlib.import_module("llamascopium.models.sparse_dictionary").SparseDictionary.from_pretrained(
        str(directory)
    )
    hook = sae.cfg.hook_point_in
    batch, factors = sae.normalize_activations({hook: h}, return_scale_factor=True)
    a = sae.encode(batch[hook])
    reconstructions = sae.decode(a) / factors[hook]
    return (a * sae.decoder_norm() if sae.cfg.act_fn == "topk" else a), reconstructions


REPOSITORIES = {
    "gemma_3": "google/gemma-scope-2-1b-pt",
    "qwen_scope": "Qwen/SAE-Res-Qwen3-1.7B-Base-W32K-L0_5",
    "goodfire": "Goodfire/Llama-3.1-8B-Instruct-SAE-l19",
    "deepseek_r1": "qresearch/DeepSeek-R1-Distill-Llama-8B-SAE-l19",
    "gemma_2": "google/gemma-scope-2b-pt-res",
}
"""loader of SAELens -> a repository whose files it reads"""


def saelens(directory: Path, h: torch.Tensor) -> Outputs:
    """SAELens' loader of a published format; its name and the path of the SAE are in loader.json."""
    loaders: Any = importlib.import_module("sae_lens.loading.pretrained_sae_loaders")
    setting = json.loads((directory / "loader.json").read_text())

    def local(repo_id: str, filename: str, subfolder: str = "", **_: object) -> str:
        return str(directory / subfolder / filename)

    loaders.hf_hub_download = local
    shapes = {"w_enc": [h.shape[1], setting["d_sae"]], "w_dec": [setting["d_sae"], h.shape[1]]}
    loaders.get_safetensors_tensor_shapes = lambda *_, **__: shapes
    overrides = {"d_in": h.shape[1], "d_sae": setting["d_sae"], "dtype": "float32"}
    load = loaders.NAMED_PRETRAINED_SAE_LOADERS[setting["loader"]]
    config, state, _ = load(REPOSITORIES[setting["loader"]], setting["path"], "cpu", False, overrides)
    sae_class: Any = importlib.import_module("sae_lens").SAE
    sae = sae_class.from_dict(loaders.handle_config_defaulting(config))
    sae.process_state_dict_for_loading(state)
    sae.load_state_dict(state)
    a = sae.encode(h)
    return a, sae.decode(a)


if __name__ == "__main__":
    root = Path(sys.argv[2])
    residuals = torch.from_numpy(np.load(root / "residuals.npy")).float()
    for sae_directory in sorted(path for path in root.iterdir() if path.is_dir()):
        with torch.no_grad():
            a, reconstructions = {"saelens": saelens, "llamascopium": llamascopium}[sys.argv[1]](
                sae_directory, residuals
            )
        np.savez(sae_directory / "outputs.npz", activations=a.numpy(), reconstructions=reconstructions.numpy())
