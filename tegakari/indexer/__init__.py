"""Offline work: import of a corpus, fine-tuning, SAE training, indexing."""
