"""What all analyses run on: models, batches, cached passes, memory, provenance."""
