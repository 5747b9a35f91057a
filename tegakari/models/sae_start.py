"""Initial decoder directions of an SAE training, which its seed gives again at any time.

SAEs that begin with the same directions have features that resemble each other for that reason alone, whatever the
classifiers are. The seed is therefore derived from the classifier: only SAEs of one classifier can begin alike. Needs
numpy alone.
"""

from __future__ import annotations

import hashlib

import numpy as np

_SEED_BYTES = 6
"""Seeds are below 2^48, so that every reader of JSON keeps them exactly."""


def start_seed(seed: int, classifier_sha256: str, layer: int) -> int:
    """Seed of the initial directions of one layer.

    Args:
        seed: of the training (saes.seed).
        classifier_sha256: fingerprint of the classifier.
        layer: of the classifier.
    """
    digest = hashlib.sha256(f"{seed} {classifier_sha256} {layer}".encode()).digest()
    return int.from_bytes(digest[:_SEED_BYTES], "big")


def start_directions(seed: int, d_sae: int, d_model: int) -> np.ndarray:
    """Directions of norm 1, uniform on the sphere, float32 [d_sae, d_model].

    Args:
        seed: from `start_seed`.
        d_sae: features.
        d_model: width of the residual.
    """
    directions = np.random.default_rng(seed).standard_normal((d_sae, d_model), dtype=np.float32)
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)
