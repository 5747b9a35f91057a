"""A fine-tuned Hugging Face sequence classifier that reports the residual of every block during a forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tegakari.models.architecture import block_output, check_rows, text_config
from tegakari.models.hooks import Hooks, forward_hooks
from tegakari.models.tokens import Batch, Head, Tokenized, bucketed, make_batch, tokenize
from tegakari.schemas.progress import OnStep, no_step

ResidualSink = Callable[[int, Tensor], None]
"""Receives (layer, residual [T, d_model]) for the countable positions of a batch, layer after layer."""


def padding_mask(batch: Batch) -> Tensor:
    """The batch's own mask of padding, of which a model makes what its attention reads."""
    return batch.attention_mask


class Output(NamedTuple):
    """What one forward pass over a batch returns."""

    logits: Tensor
    """float32 [B, labels]"""
    embeddings: Tensor
    """float32 [B, d_model]; last hidden state (after the final norm) averaged over the countable positions."""


class _EndOfPassError(Exception):
    """Raised after the last block that a pass needs, and caught around the pass."""


@dataclass(frozen=True)
class Classifier:
    """A sequence classifier ready to run. Made by `tegakari.models.loading.load_classifier`."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    blocks: nn.ModuleList
    labels: tuple[str, ...]
    max_length: int
    """tokens per document; the end of a longer document is cut."""
    device: torch.device
    dtype: torch.dtype
    head: Head
    """positions that the classification head reads"""
    document_arguments: frozenset[tuple[int | str, ...]] = frozenset()
    """paths of the blocks' arguments that hold entries of each document of a batch; `self_test` finds them"""
    last_alone: bool = True
    """whether the last position can pass the blocks alone, with keys and values of the others; `self_test` decides"""

    tail: tuple[str, ...] = ()
    """names of the modules that make logits of the last block's residual; empty: not known; `self_test` finds them"""

    masks: Callable[[Batch], Any] = padding_mask
    """makes of a batch the `attention_mask` that `run` and `run_blocks` give to the model; see `choose_attention`"""

    @property
    def d_model(self) -> int:
        """Width of the residual."""
        return text_config(self.model).hidden_size

    @property
    def layers(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    @property
    def special_tokens(self) -> dict[int, str]:
        """Text of each special token, by id."""
        tokenizer = self.tokenizer
        return dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))

    def ordinary_tokens(self, count: int) -> list[int]:
        """Ids of the first tokens of the vocabulary that are not special; repeated if it has fewer than `count`."""
        special = {*self.tokenizer.all_special_ids, self.model.config.pad_token_id}
        ids = range(min(text_config(self.model).vocab_size, count + len(special)))
        ordinary = [token for token in ids if token not in special]
        return (ordinary * count)[:count]

    def tokenize(self, texts: Sequence[str], on_step: OnStep = no_step) -> list[Tokenized]:
        """Tokenize texts as the classifier reads them, cut to `max_length` tokens.

        Args:
            texts: of the documents.
            on_step: called after each call of the tokenizer; it may raise, to end the work.
        """
        return tokenize(self.tokenizer, texts, self.max_length, self.head, self.model.config.pad_token_id, on_step)

    def batch(self, documents: Sequence[Tokenized]) -> Batch:
        """Pad documents into one batch on the classifier's device."""
        pad_id = self.model.config.pad_token_id
        return make_batch(documents, pad_id).to(self.device)

    def batches(self, documents: Sequence[Tokenized], batch_tokens: int) -> Iterator[tuple[list[int], Batch]]:
        """Batches of documents of similar length.

        Args:
            documents: to batch.
            batch_tokens: tokens per batch, padding included; a longer document is a batch of its own.

        Yields:
            indices into `documents`, longest document first, and the batch whose rows are these documents.
        """
        for indices in bucketed([len(document) for document in documents], batch_tokens, self.device.type):
            yield indices, self.batch([documents[index] for index in indices])

    @torch.inference_mode()
    def run(
        self,
        batch: Batch,
        on_residual: ResidualSink | None = None,
        layers: Sequence[int] | None = None,
        on_step: OnStep = no_step,
    ) -> Output:
        """Run one forward pass.

        Args:
            batch: from `batch`.
            on_residual: called with the raw output of each block, countable positions only, in layer order; the
                tensor may be kept. No other copy of a layer's residual outlives its block.
            layers: the blocks to report; all by default.
            on_step: called after each block; it may raise, to end the pass.

        Raises:
            ModelError: a block does not return one row per token.
        """
        hidden: list[Tensor] = []

        def keep_hidden(_module: nn.Module, _inputs: object, output: object) -> None:
            hidden.append(getattr(output, "last_hidden_state"))  # noqa: B009 - the output class differs by family

        with forward_hooks() as hooks:
            hooks.after(self.model.base_model, keep_hidden)
            if on_residual is not None:
                self.report_residuals(hooks, batch, on_residual, range(self.layers) if layers is None else layers)
            if on_step is not no_step:
                hooks.after_each(self.blocks, on_step)
            logits = self.model(input_ids=batch.input_ids, attention_mask=self.masks(batch), use_cache=False).logits
        return Output(logits.float(), document_means(select(hidden[0], batch).float(), batch.offsets))

    @torch.inference_mode()
    def run_blocks(self, batch: Batch, on_residual: ResidualSink, layers: Sequence[int]) -> None:
        """Run a forward pass that ends behind the highest of `layers`: for residuals without logits.

        Args:
            batch: from `batch`.
            on_residual: as of `run`, with the same residuals.
            layers: the blocks to report; without any, nothing is computed.

        Raises:
            ModelError: a block does not return one row per token.
        """
        if not layers:
            return

        def end(_block: nn.Module, _inputs: object, _output: object) -> None:
            raise _EndOfPassError

        with forward_hooks() as hooks, suppress(_EndOfPassError):
            self.report_residuals(hooks, batch, on_residual, layers)
            hooks.after(self.blocks[max(layers)], end)
            self.model(input_ids=batch.input_ids, attention_mask=self.masks(batch), use_cache=False)

    def report_residuals(self, hooks: Hooks, batch: Batch, on_residual: ResidualSink, layers: Sequence[int]) -> None:
        """Hook `on_residual` behind the blocks of `layers`."""
        for layer in layers:

            def report(block: nn.Module, _inputs: object, output: object, layer: int = layer) -> None:
                residual = block_output(output)
                check_rows(block, residual, batch.input_ids)
                on_residual(layer, select(residual, batch))

            hooks.after(self.blocks[layer], report)


def select(hidden: Tensor, batch: Batch) -> Tensor:
    """Countable positions of hidden states, document after document: [B, S, d] -> [T, d]."""
    return hidden.reshape(-1, hidden.shape[-1]).index_select(0, batch.positions)


def document_means(values: Tensor, offsets: Tensor) -> Tensor:
    """Mean over the positions of each document: [T, d] -> [D, d].

    Args:
        values: [T, d], document after document.
        offsets: int64 [D + 1]; document i owns values[offsets[i]:offsets[i + 1]].
    """
    # Not index_add_, whose order of additions depends on timing on a GPU; unsafe: no check that a GPU would wait for.
    return torch.segment_reduce(values, "mean", lengths=offsets.diff(), axis=0, unsafe=True)
