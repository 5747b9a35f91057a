"""Documents as the classifier is trained on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tegakari.models.architecture import text_config
from tegakari.models.tokens import tokenize
from tegakari.schemas.corpus import Document, Drop
from tegakari.schemas.errors import CorpusError, ModelError

MIN_TRAIN = 2
"""Training documents of a label; from fewer nothing that it has in common can be learned."""

_TOKENIZED_TOGETHER = 1024


class Example(NamedTuple):
    """One document with its tokens."""

    document: Document
    input_ids: np.ndarray
    """int32 [tokens]"""
    label: int
    """class index"""


def check_labels(documents: Sequence[Document], labels: Sequence[str]) -> None:
    """Refuse a corpus that no classifier could be trained or scored on.

    Raises:
        CorpusError: fewer than 2 labels, or a label with too few documents in a split.
    """
    if len(labels) < 2:
        raise CorpusError(
            f"the corpus has {len(labels)} label(s); a classifier needs at least 2",
            field="corpus.label_column",
            fix="import a corpus with more labels",
        )
    counts = Counter((document.split, document.label) for document in documents)
    for split, least in (("train", MIN_TRAIN), ("eval", 1)):
        few = [label for label in labels if counts[split, label] < least]
        if few:
            raise CorpusError(
                f"label {few[0]!r} has {counts[split, few[0]]} {split} document(s), fewer than {least}"
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
    advance: Callable[[int], None],
) -> tuple[list[Example], list[Drop]]:
    """Tokenize documents.

    Args:
        tokenizer: from `load_tokenizer`.
        documents: of both splits.
        labels: by class index.
        max_length: tokens; the end of a longer text is cut.
        advance: told how many more documents are done.

    Returns:
        the examples, and what was left out because it has no token but special ones.
    """
    classes = {label: index for index, label in enumerate(labels)}
    examples: list[Example] = []
    empty: list[str] = []
    for start in range(0, len(documents), _TOKENIZED_TOGETHER):
        part = documents[start : start + _TOKENIZED_TOGETHER]
        found = tokenize(tokenizer, [document.text for document in part], max_length)
        for document, tokens in zip(part, found, strict=True):
            if tokens.positions:
                ids = np.array(tokens.input_ids, np.int32)
                examples.append(Example(document, ids, classes[document.label]))
            else:
                empty.append(document.id)
        advance(len(part))
    return examples, [Drop("no token but special ones", len(empty), empty[:5])] if empty else []


def check_fit(model: PreTrainedModel, examples: Sequence[Example], max_length: int) -> None:
    """Refuse tokens and positions that the model has no embedding for.

    Raises:
        ModelError: the tokenizer belongs to another model, or texts may be longer than the model reads.
    """
    largest = max(int(example.input_ids.max()) for example in examples)
    rows = text_config(model).vocab_size
    if largest >= rows:
        raise ModelError(
            f"the tokenizer has token {largest}, but the model embeds only {rows} tokens",
            field="classifier.base",
            fix="give a base with the tokenizer that belongs to it",
        )
    limit = getattr(text_config(model), "max_position_embeddings", max_length)
    if max_length > limit:
        raise ModelError(
            f"{max_length} tokens are more than the {limit} that the model reads",
            field="classifier.max_length",
            fix=f"set it to {limit} or less",
        )


class TrainingSet(Dataset[Example]):
    """The training documents as torch's data loader takes them."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Example:
        return self._examples[index]


def make_batch(examples: Sequence[Example], pad_id: int) -> dict[str, Tensor]:
    """Pad examples on the right to the longest of them; the arguments of a model's forward pass, int64 [B, S]."""
    ids = [torch.from_numpy(example.input_ids).long() for example in examples]
    return {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=pad_id),
        "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True),
        "labels": torch.tensor([example.label for example in examples]),
    }
