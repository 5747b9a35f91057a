"""Training of one sparse autoencoder (SAE) per layer (`tegakari sae train`)."""

from tegakari.indexer.training.saes.train import train_saes

__all__ = ["train_saes"]
