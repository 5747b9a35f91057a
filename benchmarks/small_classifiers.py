"""Small classifiers of invented documents, trained in seconds: one per seed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import Gemma2Config, Gemma2ForSequenceClassification, PreTrainedTokenizerFast

from tegakari.models.architecture import find_blocks
from tegakari.models.classifier import Classifier
from tegakari.models.self_test import self_test

LABELS = 6
WORDS = 120
CLUES = 4
"""Words that each label has; the others are neutral."""

DOCUMENT_WORDS = 10
DOCUMENTS_PER_LABEL = 30
TRAINING_STEPS = 60
SPECIAL = ("<pad>", "<bos>", "<unk>")


class InventedDocuments(NamedTuple):
    """Documents with labels."""

    text: pa.Array
    label_id: np.ndarray
    """int64"""


def invented_documents(generator: np.random.Generator, per_label: int) -> InventedDocuments:
    """Documents of neutral words, one or two clues of their label, and at times a clue of another label."""
    label = np.arange(per_label * LABELS) % LABELS
    texts = []
    for number in label.tolist():
        words = generator.integers(LABELS * CLUES, WORDS, DOCUMENT_WORDS)
        words[0] = number * CLUES + generator.integers(CLUES)
        if generator.random() < 0.6:
            words[1] = number * CLUES + generator.integers(CLUES)
        if generator.random() < 0.4:
            words[2] = generator.integers(LABELS * CLUES)
        texts.append(" ".join(f"w{word}" for word in generator.permutation(words)))
    return InventedDocuments(pa.array(texts), label)


def trained_classifier(seed: int) -> Classifier:
    """A Gemma 2 of six layers, trained on invented documents until it is right about most and sure about few."""
    torch.manual_seed(seed)
    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *(f"w{word}" for word in range(WORDS))))}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", bos_token="<bos>", unk_token="<unk>")
    config = Gemma2Config(
        vocab_size=len(vocabulary),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=6,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=24,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=None,
    )
    config.num_labels = LABELS
    config._attn_implementation = "eager"  # exact with Gemma 2's soft-capping
    model = Gemma2ForSequenceClassification(config)
    labels = tuple(f"label {number}" for number in range(LABELS))
    untested = Classifier(
        model.eval(),
        tokenizer,
        find_blocks(model),
        labels,
        max_length=DOCUMENT_WORDS,
        head="last",
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
    classifier = self_test(untested)
    documents = invented_documents(np.random.default_rng((seed, 1)), 80)
    tokens = classifier.tokenize(documents.text.to_pylist())
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    order = torch.randperm(len(tokens)).repeat(1 + TRAINING_STEPS * 32 // len(tokens))
    for step in range(TRAINING_STEPS):
        rows = order[step * 32 : (step + 1) * 32].tolist()
        batch = classifier.batch([tokens[row] for row in rows])
        logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.float(), torch.from_numpy(documents.label_id[rows]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return classifier
