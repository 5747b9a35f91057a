"""`tegakari finetune`: a base model and a corpus become a classifier with a report of how well it does."""

from tegakari.indexer.training.classifier.finetune import finetune
from tegakari.indexer.training.classifier.scores import macro_f1_by_prefix

__all__ = ["finetune", "macro_f1_by_prefix"]
