"""Words, positions and scripts that the contexts of a feature have in common: its deterministic explanation."""
