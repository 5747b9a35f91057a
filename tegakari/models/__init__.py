"""The classifier with its forward hooks, sparse autoencoders (SAEs) and their file formats."""
