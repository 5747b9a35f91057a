"""Offline: corpus, fine-tuning, SAE training, indexing."""
