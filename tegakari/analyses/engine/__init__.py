"""What all analyses share: models of a run, batches, cached forward passes, stored results, memory, provenance."""
