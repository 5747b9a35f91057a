"""Facts that the configuration of a classifier declares: labels, task, padding, positions, size of the vocabulary."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tegakari.models.architecture import text_config
from tegakari.schemas.errors import ModelError

_TASKS = {
    "regression": "predicts a number, not a label",
    "multi_label_classification": "gives every label a probability of its own (a sigmoid), so that a document can have "
    "several labels or none",
}
"""Tasks of a sequence classifier of transformers other than one label per document, and what they do."""

_POSITION_TABLE = re.compile(r"(wpe|pos(ition)?s?_?(emb|enc)\w*|embed_pos\w*)$")
"""Name of a module that has one row per position."""

_NO_POSITION_TABLE = re.compile(r"relative|rel_|vision|visual|image|(^|\.)[xyhw]_")
"""Names of modules that have one row per distance, or per place on a page or in an image."""


def check_task(config: Mapping[str, Any], directory: Path, field: str) -> None:
    """Refuse a sequence classifier that does not give each document one label.

    Args:
        config: content of config.json.
        directory: of the model.
        field: the configuration key that named it.

    Raises:
        ModelError: regression, several labels per document, or a single logit.
    """
    task, labels = config.get("problem_type"), config.get("id2label")
    count = len(labels) if isinstance(labels, dict) else config.get("num_labels")
    if task is None and count == 1:  # as transformers' loss takes it
        task = "regression"
    if task in _TASKS:
        raise ModelError(
            f"{directory} {_TASKS[task]} (problem_type {task!r}): tegakari needs one label per document",
            field=field,
            fix="give a classifier of single labels, or train one with `tegakari finetune`",
        )


def declared_labels(config: Mapping[str, Any], directory: Path, field: str) -> tuple[str, ...] | None:
    """Labels in the order of the logits; None: config.json has none, and transformers names two itself.

    Args:
        config: content of config.json.
        directory: of the model.
        field: the configuration key that named it.

    Raises:
        ModelError: the ids of the labels are not 0, 1, 2, ..., two labels have one name, or `id2label`, `label2id` and
            `num_labels` contradict each other.
    """
    id2label, count = config.get("id2label"), config.get("num_labels")
    if not isinstance(id2label, dict) or not id2label:
        return None

    def refusal(reason: str) -> ModelError:
        return ModelError(
            f"config.json of {directory}: {reason}",
            field=field,
            fix="correct `id2label` in config.json: one name per logit, by the numbers 0, 1, 2, ...",
        )

    if not all(str(key).isdecimal() for key in id2label):
        raise refusal(f"`id2label` has the id {next(key for key in id2label if not str(key).isdecimal())!r}")
    names = {int(key): name for key, name in id2label.items()}
    ids = sorted(names)
    if ids != list(range(len(ids))):
        first = next(number for number, label in enumerate(ids) if number != label)
        raise refusal(f"`id2label` names {len(ids)} labels, but not label {first}; its largest id is {ids[-1]}")
    if isinstance(count, int) and count != len(ids):
        raise refusal(f"`num_labels` is {count}, but `id2label` names {len(ids)} labels")
    labels = tuple(str(names[number]) for number in ids if isinstance(names[number], str | int) and str(names[number]))
    if len(labels) < len(ids):
        unnamed = next(number for number in ids if not isinstance(names[number], str | int) or names[number] == "")
        raise refusal(f"label {unnamed} of `id2label` has no name")
    repeated = [name for name, times in Counter(labels).items() if times > 1]
    if repeated:
        raise refusal(f"`id2label` names {Counter(labels)[repeated[0]]} labels {repeated[0]!r}")
    reverse = config.get("label2id")
    if isinstance(reverse, dict) and set(map(str, reverse)) == set(labels):
        for number, label in enumerate(labels):
            if str(reverse[label]) != str(number):
                raise refusal(f"label {number} is {label!r} in `id2label`, but {reverse[label]} in `label2id`")
    return labels


def padding_id(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, field: str) -> int:
    """Token that pads batches, of which the head of a decoder reads the last other one.

    The one of the configuration. Where it declares none, or one that has no embedding (-1), transformers reads the
    last token of every document, whichever it is: then a token that ends no document.

    Args:
        model: the classifier.
        tokenizer: of the model.
        field: the configuration key that named it.

    Raises:
        ModelError: no token can be used.
    """
    rows = embedding_rows(model)
    declared = getattr(text_config(model), "pad_token_id", None)
    if declared is None:
        declared = getattr(model.config, "pad_token_id", None)
    if isinstance(declared, int) and declared >= 0 and (rows is None or declared < rows):
        return declared
    # No text has a special token, but those that the tokenizer itself adds.
    added = tokenizer("", add_special_tokens=True)["input_ids"]
    around = tokenizer("1", add_special_tokens=True)["input_ids"]
    last = around[-1] if added else None
    special = [number for number in tokenizer.all_special_ids if number != tokenizer.unk_token_id]
    beyond_vocabulary = range(max(tokenizer.get_vocab().values(), default=-1) + 1, rows or 0)
    candidates = [tokenizer.pad_token_id, *(number for number in special if number not in added), *special]
    for number in [*candidates, *beyond_vocabulary[:1]]:
        if isinstance(number, int) and number != last and (rows is None or number < rows):
            return number
    raise ModelError(
        "neither the configuration nor the tokenizer has a token that can pad documents",
        field=field,
        fix="set `pad_token_id` in config.json",
    )


def token_embedding(model: PreTrainedModel) -> nn.Module | None:
    """Embedding of tokens; None: the model has no table of them, such as CANINE, which hashes characters."""
    try:
        return model.get_input_embeddings()
    except NotImplementedError:
        return None


def embedding_rows(model: PreTrainedModel) -> int | None:
    """Number of tokens that have an embedding; None: all have."""
    rows = getattr(token_embedding(model), "num_embeddings", None)
    return rows if isinstance(rows, int) else getattr(text_config(model), "vocab_size", None)


def check_vocabulary(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, field: str) -> None:
    """Refuse a tokenizer that can give a token without an embedding.

    A special token that the tokenizer does not add by itself is in no document, so it needs none: the tokenizer of
    Gemma 3 has one of images, which its models of text do not embed.

    Raises:
        ModelError: names the token.
    """
    rows = embedding_rows(model)
    vocabulary = tokenizer.get_vocab()
    if rows is None or max(vocabulary.values(), default=-1) < rows:
        return
    absent = set(tokenizer.all_special_ids) - set(tokenizer("", add_special_tokens=True)["input_ids"])
    beyond = {number: token for token, number in vocabulary.items() if number >= rows and number not in absent}
    if beyond:
        number = min(beyond)
        raise ModelError(
            f"the tokenizer has token {number} ({beyond[number]!r}), but the model embeds only {rows} tokens",
            field=field,
            fix="give a model with its own tokenizer; after add_tokens, call resize_token_embeddings and train",
        )


def position_limit(model: PreTrainedModel) -> tuple[int, str] | None:
    """Most tokens of a document that the model reads, and the reason; None: no limit.

    A table of positions has a row per position; the one of RoBERTa and its kin begins behind the padding token, so that
    514 rows hold 512 positions. Rotary and relative positions and ALiBi have no end: the model computes beyond the
    positions that it was trained on. But two kinds of rotary scaling change with the longest document of a batch, so
    that the logits of a document would depend on the others.
    """
    limits = [(limit, "positions of the model") for limit in _tables(model) if limit > 0]
    config = text_config(model)
    if getattr(config, "model_type", None) == "mpt":
        limits.append((config.max_seq_len, "positions of the model (max_seq_len)"))
    limits.extend(_rotary_limits(config))
    return min(limits) if limits else None


def check_positions(model: PreTrainedModel, max_length: int) -> None:
    """Refuse documents longer than the model can read.

    Raises:
        ModelError: `max_length` exceeds `position_limit`.
    """
    limit = position_limit(model)
    if limit is not None and max_length > limit[0]:
        raise ModelError(
            f"{max_length} tokens exceed the {limit[0]} {limit[1]}",
            field="classifier.max_length",
            fix=f"set it to {limit[0]} or less",
        )


def _tables(model: PreTrainedModel) -> Iterator[int]:
    declared = getattr(text_config(model), "max_position_embeddings", None)
    declared = declared if isinstance(declared, int) and declared > 0 else None
    for name, module in model.named_modules():
        for attribute in ("embed_positions", "pos_encoding"):  # of GPT-J, CodeGen and CTRL: no modules
            table = module.__dict__.get(attribute, module._buffers.get(attribute))
            if isinstance(table, Tensor):
                yield len(table)
        if not _POSITION_TABLE.search(name) or _NO_POSITION_TABLE.search(name):
            continue
        weight = getattr(module, "weight", None)
        if not isinstance(weight, Tensor) or weight.ndim != 2 or isinstance(module, nn.Linear | nn.LayerNorm):
            continue
        padding, offset = getattr(module, "padding_idx", None), getattr(module, "offset", 0)
        rows = len(weight) - (offset if isinstance(offset, int) else 0)
        rows = rows if declared is None else min(rows, declared)
        yield rows - padding - 1 if isinstance(padding, int) and not offset else rows


def _rotary_limits(config: Any) -> Iterator[tuple[int, str]]:
    parameters = getattr(config, "rope_parameters", None) or {}
    nested = [value for value in parameters.values() if isinstance(value, dict)]
    for settings in nested or [parameters]:
        kind = settings.get("rope_type", settings.get("type"))
        limit = settings.get("original_max_position_embeddings") or getattr(config, "max_position_embeddings", None)
        if kind in ("dynamic", "longrope") and isinstance(limit, int):
            yield limit, f"positions up to which rotary scaling of type {kind!r} is the same for all documents"
