"""Memory-mapped blocks of a run."""
