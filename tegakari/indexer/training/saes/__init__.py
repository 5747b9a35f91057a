"""Train one SAE per layer from one stream of forward passes."""

from tegakari.indexer.training.saes.train import train_saes

__all__ = ["train_saes"]
