"""A classifier is tested on two short documents before it is believed: order of its blocks, padding, and re-runs.

Two passes, one of both documents and one of the shorter alone, and one block of each kind again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from tegakari.models.architecture import block_output, other_outputs, text_config
from tegakari.models.classifier import Classifier
from tegakari.models.hooks import forward_hooks
from tegakari.models.rerun.prefix import BlockCall, Prefix, run_prefix, tensors_of
from tegakari.models.rerun.suffix import Alternatives, read_all, read_rows, run_block, run_last_block
from tegakari.models.rerun.tail import tail_of
from tegakari.models.tokens import Tokenized, head_index
from tegakari.schemas.errors import ModelError

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2}
"""Maximum difference of residuals of a position, relative to their length, and of logits, relative to the largest.

In bfloat16, whose rounding can send a token to another expert, the median over positions counts, not the maximum.
"""

TOKENS = (11, 4)
"""Tokens of the documents. An odd number is neither twice the other nor a multiple of an attention window."""

_Path = tuple[int | str, ...]


@torch.inference_mode()
def self_test(classifier: Classifier) -> Classifier:
    """Test a classifier, and find what re-runs need to know about it.

    Args:
        classifier: as loaded, with its head.

    Returns:
        the classifier with `document_arguments`, `last_alone` and `tail`.

    Raises:
        ModelError: the blocks are not called once each and in order; a block reads another residual than the block
            below it returned; padding changes a document, or two passes differ; or a re-run differs from the pass.
    """
    classifier = replace(classifier, tail=())  # the heads of the re-runs below are the whole model's
    pair = [_document(classifier, tokens) for tokens in TOKENS]
    chain = _Chain()
    with _watched(classifier, chain):
        padded, last_alone = _recorded_pass(classifier, pair)
    chain.check(classifier)
    _check_sparse_attention(classifier)
    alone = run_prefix(replace(classifier, last_alone=False), classifier.batch(pair[1:]), range(classifier.layers))
    _check_padding(classifier, pair, padded, alone)
    arguments = frozenset(
        path
        for layer in range(classifier.layers)
        for path in _document_arguments(padded.calls[layer], alone.calls[layer])
    )
    tested = replace(classifier, document_arguments=arguments, last_alone=last_alone)
    layers = _layers_of_each_kind(tested, padded)
    if last_alone and not _last_alone_equals(tested, padded, layers):
        tested, padded = replace(tested, last_alone=False), replace(padded, follows_last=False)
    _check_rerun(tested, padded, layers)
    return replace(tested, tail=_tail(tested, padded)) if tested.last_alone else tested


def _document(classifier: Classifier, tokens: int) -> Tokenized:
    """A document of ordinary tokens, of `max_length` at most."""
    ids = classifier.ordinary_tokens(min(tokens, classifier.max_length))
    head = head_index(ids, classifier.head, classifier.model.config.pad_token_id)
    return Tokenized(ids, [(0, 0)] * len(ids), [False] * len(ids), False, head)


def _recorded_pass(classifier: Classifier, documents: Sequence[Tokenized]) -> tuple[Prefix, bool]:
    """A pass with keys and values if the blocks give them to a cache as attention does, and whether they do."""
    batch, layers = classifier.batch(documents), range(classifier.layers)
    try:
        prefix = run_prefix(classifier, batch, layers, keys_above=-1)
        return prefix, prefix.follows_last and len(prefix.keys) == classifier.layers
    except AttributeError:  # layers without attention, or with more than keys and values, ask a cache for other things
        return run_prefix(replace(classifier, last_alone=False), batch, layers), False


class _Chain:
    """Residuals that enter and leave the blocks, in the order of the calls, and what else passes between blocks."""

    def __init__(self) -> None:
        self.layers: list[int] = []
        self.entering: dict[int, Tensor] = {}
        self.leaving: dict[int, Tensor] = {}
        self.coupled: list[int] = []
        self._others: set[int] = set()

    def enter(self, layer: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if layer == 0:
            self.__init__()
        self.layers.append(layer)
        self.entering[layer] = args[0] if args else kwargs["hidden_states"]
        arguments = {id(tensor) for tensor in tensors_of([*args[1:], kwargs])}
        if arguments & self._others:
            self.coupled.append(layer)

    def leave(self, layer: int, output: object) -> None:
        self.leaving[layer] = block_output(output)
        self._others = {id(tensor) for tensor in tensors_of(other_outputs(output))}

    def check(self, classifier: Classifier) -> None:
        """Refuse blocks that are not a chain of residuals."""
        if self.layers != list(range(classifier.layers)):
            _refuse(classifier, f"it calls its {classifier.layers} blocks in the order {self.layers}")
        for layer in range(1, classifier.layers):
            if not torch.equal(self.entering[layer], self.leaving[layer - 1]):
                _refuse(classifier, f"block {layer} reads another residual than block {layer - 1} returned")
        for layer in self.coupled:
            _refuse(classifier, f"block {layer} reads more of block {layer - 1} than its residual")


@contextmanager
def _watched(classifier: Classifier, chain: _Chain) -> Iterator[None]:
    with forward_hooks() as hooks:
        for layer, block in enumerate(classifier.blocks):

            def enter(_block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], layer: int = layer) -> None:
                chain.enter(layer, args, kwargs)

            def leave(_block: nn.Module, _inputs: object, output: object, layer: int = layer) -> None:
                chain.leave(layer, output)

            hooks.before(block, enter)
            hooks.after(block, leave)
        yield


def _check_sparse_attention(classifier: Classifier) -> None:
    """Refuse a classifier whose short documents change the attention of its long ones.

    BigBird runs short batches in full attention, and from the first one on long batches as well.
    """
    config, base = text_config(classifier.model), classifier.model.base_model
    declared = getattr(config, "attention_type", None)
    if declared in (None, getattr(base, "attention_type", declared)):
        return
    longest = (5 + 2 * config.num_random_blocks) * config.block_size
    if classifier.max_length > longest:
        raise ModelError(
            f"{type(classifier.model).__name__} attends by {declared!r} to documents of more than {longest} tokens "
            f"until its first short batch, and by {base.attention_type!r} after it",
            field="classifier.max_length",
            fix=f"set it to {longest} or less, or save the model with `attention_type` = {base.attention_type!r}",
        )


def _check_padding(classifier: Classifier, documents: Sequence[Tokenized], padded: Prefix, alone: Prefix) -> None:
    """Refuse a classifier that reads padding, or that reads one document differently each time."""
    if _differences(classifier, padded, alone, len(documents[1])) <= TOLERANCE[classifier.dtype]:
        return
    again = run_prefix(replace(classifier, last_alone=False), alone.batch, range(classifier.layers))
    if _differences(classifier, again, alone, len(documents[1])) > TOLERANCE[classifier.dtype]:
        _refuse(classifier, "two passes of one document differ")
    _refuse(
        classifier,
        "padding changes a document: its residuals or logits in a batch with a longer document are not those of a pass "
        "of the document alone",
    )


def _differences(classifier: Classifier, padded: Prefix, alone: Prefix, tokens: int) -> float:
    """Largest relative difference of the last document of `padded` from the only one of `alone`."""
    layers = range(classifier.layers)
    residuals = torch.stack([padded.residuals[layer][-1, :tokens] for layer in layers])
    difference = _relative(residuals, torch.stack([alone.residuals[layer][0] for layer in layers]))
    of_layers = difference.amax(1) if classifier.dtype == torch.float32 else difference.median(1).values
    logits = (padded.logits[-1] - alone.logits[0]).abs().max() / alone.logits.abs().max().clamp_min(1e-6)
    return float(torch.maximum(of_layers.max(), logits))


def _relative(a: Tensor, b: Tensor) -> Tensor:
    """Length of the difference of rows, relative to that of `b`: [..., d_model] -> float32 [...]."""
    return (a.float() - b.float()).norm(dim=-1) / b.float().norm(dim=-1).clamp_min(1e-6)


def _document_arguments(two: BlockCall, one: BlockCall) -> Iterator[_Path]:
    """Arguments of a block whose entries are twice as many for two documents as for one."""
    lengths = {path: len(tensor) for path, tensor in _tensors(tuple(one), ()) if tensor.ndim}
    for path, tensor in _tensors(tuple(two), ()):
        if tensor.ndim and len(tensor) == 2 * lengths.get(path, 1):  # a mask is absent without padding
            yield path


def _tensors(value: Any, path: _Path) -> Iterator[tuple[_Path, Tensor]]:
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, dict | list | tuple):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _tensors(item, (*path, key))


def _layers_of_each_kind(classifier: Classifier, prefix: Prefix) -> list[int]:
    """The lowest layer above the first of each class of blocks and set of argument tensors, and the last layer."""
    kinds: dict[Any, int] = {}
    for layer in range(1, classifier.layers):
        call = prefix.calls[layer]
        kinds.setdefault((type(classifier.blocks[layer]), *map(id, tensors_of([*call.args, call.kwargs]))), layer)
    return sorted({*kinds.values(), classifier.layers - 1} - {0})


def _check_rerun(classifier: Classifier, prefix: Prefix, layers: Sequence[int]) -> None:
    """Refuse a classifier whose blocks or head, run again on two copies of the batch, give other results."""
    for layer in layers:
        again = run_block(classifier, prefix, layer, prefix.residuals[layer - 1].repeat(2, 1, 1))
        if not _close(classifier, again, prefix.residuals[layer].repeat(2, 1, 1)):
            _refuse(classifier, f"block {layer} alone gives another residual than in a whole pass")
    logits = read_all(classifier, prefix, prefix.residuals[classifier.layers - 1].repeat(2, 1, 1))
    if not _close(classifier, logits, prefix.logits.repeat(2, 1)):
        _refuse(classifier, "the head alone gives other logits than in a whole pass")


def _last_alone_equals(classifier: Classifier, prefix: Prefix, layers: Sequence[int]) -> bool:
    """Whether the last positions, twice beside each other, pass the blocks and the head as in the whole pass.

    The documents are taken in reverse, as the pairs of a circuit take them in any order.
    """
    documents = torch.arange(len(prefix.last), device=prefix.last.device)
    rows = {layer: prefix.residuals[layer][documents, prefix.last][:, None] for layer in range(classifier.layers)}
    top = classifier.layers - 1
    owner = documents.flip(0)
    try:
        alternatives = Alternatives(classifier, prefix, owner)
        pairs = [(read_rows(classifier, prefix, rows[top])[:, 0], prefix.logits)]
        for layer in layers:
            entering, leaving = rows[layer - 1][owner].repeat(1, 2, 1), rows[layer][owner].repeat(1, 2, 1)
            pairs.append((alternatives.run_block(layer, entering), leaving))
        if top:
            below = prefix.residuals[top - 1].repeat(2, 1, 1)
            pairs.append((run_last_block(classifier, prefix, below), rows[top].repeat(2, 1, 1)))
        return all(_close(classifier, values, expected) for values, expected in pairs)
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):  # arguments of other forms
        return False


def _tail(classifier: Classifier, prefix: Prefix) -> tuple[str, ...]:
    """`Classifier.tail`, compared with the whole model on the last position of each document."""
    documents = torch.arange(len(prefix.last), device=prefix.last.device)
    rows = prefix.residuals[classifier.layers - 1][documents, prefix.last][:, None]
    return tail_of(classifier, prefix.batch, rows, read_rows(classifier, prefix, rows)[:, 0])


def _close(classifier: Classifier, values: Tensor, expected: Tensor) -> bool:
    difference = _relative(values, expected)
    largest = difference.amax() if classifier.dtype == torch.float32 else difference.median()
    return bool(largest <= TOLERANCE[classifier.dtype])


def _refuse(classifier: Classifier, reason: str) -> NoReturn:
    raise ModelError(
        f"{type(classifier.model).__name__} cannot be used: {reason}",
        field="classifier.path",
        fix="use another family; docs/compatibility.md lists those that pass",
    )
