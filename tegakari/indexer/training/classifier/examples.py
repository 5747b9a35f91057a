"""Training and evaluation examples: tokenized documents with their class, and batches of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tegakari.models.architecture import text_config
from tegakari.models.declared import check_positions, check_vocabulary
from tegakari.models.tokens import tokenize
from tegakari.schemas.corpus import Document, Drop
from tegakari.schemas.errors import CorpusError, ModelError
from tegakari.schemas.progress import Progress

MIN_TRAIN = 2
"""Minimum training documents per label: from one document, nothing that a label has in common can be learned."""

_CHUNK_DOCUMENTS = 1024


class Example(NamedTuple):
    """A document with its tokens and class."""

    document: Document
    input_ids: np.ndarray
    """int32 [tokens]."""
    label: int
    """class index."""


def check_labels(documents: Sequence[Document], labels: Sequence[str]) -> None:
    """Check that every label has documents to train and to score a classifier on.

    Raises:
        CorpusError: the corpus has fewer than 2 labels, or a label has too few documents in a split.
    """
    if len(labels) < 2:
        raise CorpusError(
            f"the corpus has {len(labels)} label(s); a classifier needs at least 2",
            field="corpus.label_column",
            fix="import a corpus with more labels",
        )
    counts = Counter((document.split, document.label) for document in documents)
    for split, minimum in (("train", MIN_TRAIN), ("eval", 1)):
        few = [label for label in labels if counts[split, label] < minimum]
        if few:
            raise CorpusError(
                f"label {few[0]!r} has {counts[split, few[0]]} {split} document(s), fewer than {minimum}"
                + (f"; so have {len(few) - 1} more labels" if len(few) > 1 else ""),
                field="corpus.path",
                fix=f"import more documents, another split, or a source without such labels "
                f"({', '.join(map(repr, few[:10]))}{', ...' if len(few) > 10 else ''})",
            )


def make_examples(
    tokenizer: PreTrainedTokenizerBase,
    documents: Sequence[Document],
    labels: Sequence[str],
    max_length: int,
    progress: Progress,
) -> tuple[list[Example], list[Drop]]:
    """Tokenize documents.

    Args:
        tokenizer: from `load_base_tokenizer`.
        documents: documents of both splits.
        labels: by class index.
        max_length: tokens per document; the end of a longer text is cut.
        progress: receives the stage "tokenizing documents".

    Returns:
        the examples, and the documents that were dropped because all of their tokens are special.
    """
    classes = {label: index for index, label in enumerate(labels)}
    examples: list[Example] = []
    empty: list[str] = []
    progress.stage("tokenizing documents", len(documents))
    for start in range(0, len(documents), _CHUNK_DOCUMENTS):
        chunk = documents[start : start + _CHUNK_DOCUMENTS]
        tokenized = tokenize(tokenizer, [document.text for document in chunk], max_length)
        for document, tokens in zip(chunk, tokenized, strict=True):
            if tokens.positions:
                ids = np.array(tokens.input_ids, np.int32)
                examples.append(Example(document, ids, classes[document.label]))
            else:
                empty.append(document.id)
        progress.advance(len(chunk))
    return examples, [Drop("no token but special ones", len(empty), empty[:5])] if empty else []


def check_fit(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
    """Check that the model has an embedding for every token, and was trained on documents as long as these.

    Raises:
        ModelError: the tokenizer belongs to another model, or `max_length` exceeds the positions of the model.
    """
    check_vocabulary(model, tokenizer, "classifier.base")
    check_positions(model, max_length)
    limit = getattr(text_config(model), "max_position_embeddings", None)
    if isinstance(limit, int) and 0 < limit < max_length:
        raise ModelError(
            f"{max_length} tokens exceed the {limit} positions of the model",
            field="classifier.max_length",
            fix=f"set it to {limit} or less",
        )


class TrainingSet(Dataset[Example]):
    """The training examples as a torch data set."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Example:
        return self._examples[index]


def make_batch(examples: Sequence[Example], pad_id: int) -> dict[str, Tensor]:
    """Arguments of a model's forward pass, int64: token ids and mask [B, S], padded on the right, and classes [B]."""
    ids = [torch.from_numpy(example.input_ids).long() for example in examples]
    return {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=pad_id),
        "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
        "labels": torch.tensor([example.label for example in examples]),
    }
