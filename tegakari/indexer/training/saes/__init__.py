"""Training of one sparse autoencoder (SAE) per layer (`tegakari sae train`)."""

from tegakari.indexer.training.saes.processes import train_saes_on_devices
from tegakari.indexer.training.saes.ranks import ranks_of_environment
from tegakari.indexer.training.saes.train import train_saes

__all__ = ["ranks_of_environment", "train_saes", "train_saes_on_devices"]
