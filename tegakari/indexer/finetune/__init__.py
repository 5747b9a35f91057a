"""`tegakari finetune`: a base model and a corpus become a classifier with a report of how well it does."""

from tegakari.indexer.finetune.run import finetune
from tegakari.indexer.finetune.scores import macro_f1_by_prefix

__all__ = ["finetune", "macro_f1_by_prefix"]
