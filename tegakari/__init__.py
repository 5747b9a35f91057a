"""tegakari: a feature store for sparse autoencoders over text classifiers."""

__version__ = "0.1.0"
