"""Fine-tuning (`tegakari finetune`): trains a classifier from a base model and a corpus, and scores it."""

from tegakari.indexer.training.classifier.finetune import finetune
from tegakari.indexer.training.classifier.scores import macro_f1_by_prefix

__all__ = ["finetune", "macro_f1_by_prefix"]
