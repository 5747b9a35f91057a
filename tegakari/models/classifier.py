"""A fine-tuned Hugging Face sequence classifier, with the residual of every decoder block on tap."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from tegakari.models.tokens import Batch, Tokenized, make_batch, tokenize
from tegakari.schemas.errors import ModelError

ResidualSink = Callable[[int, Tensor], None]
"""Receives (layer, residual [T, d_model]) for the non-special positions of a batch, layer after layer."""

_COMPUTES = {".safetensors", ".json", ".npz", ".pt", ".model"}
_REPORTS = {"report.json", "training.json"}

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Output(NamedTuple):
    """What the classifier says of a batch."""

    logits: Tensor
    """float32 [B, labels]"""
    embeddings: Tensor
    """float32 [B, d_model]; last hidden state (after the final norm) averaged over the non-special positions."""


@dataclass(frozen=True)
class Classifier:
    """A sequence classifier ready to run. Made by `load_classifier`."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    blocks: nn.ModuleList
    labels: tuple[str, ...]
    max_length: int
    device: torch.device
    dtype: torch.dtype

    @property
    def d_model(self) -> int:
        return text_config(self.model).hidden_size

    @property
    def layers(self) -> int:
        return len(self.blocks)

    def tokenize(self, texts: Sequence[str]) -> list[Tokenized]:
        return tokenize(self.tokenizer, texts, self.max_length)

    def batch(self, documents: Sequence[Tokenized]) -> Batch:
        """Pad documents into one batch on the classifier's device."""
        pad_id = self.model.config.pad_token_id
        return make_batch(documents, pad_id).to(self.device)

    @torch.inference_mode()
    def run(self, batch: Batch, on_residual: ResidualSink | None = None, layers: Sequence[int] | None = None) -> Output:
        """One forward pass.

        Args:
            batch: from `batch`.
            on_residual: called with the raw output of each block, non-special positions only, in layer order; the
                tensor may be kept. No other copy of a layer's residual outlives its block.
            layers: the blocks to report; all by default.
        """
        wanted = range(self.layers) if layers is None else layers
        hidden: list[Tensor] = []

        def keep_hidden(_module: nn.Module, _inputs: object, output: object) -> None:
            hidden.append(getattr(output, "last_hidden_state"))  # noqa: B009 - the output class differs by family

        handle = self.model.base_model.register_forward_hook(keep_hidden)
        try:
            with self._taps(batch, on_residual, wanted):
                logits = self.model(
                    input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False
                ).logits
        finally:
            handle.remove()
        return Output(logits.float(), document_means(select(hidden[0], batch).float(), batch.offsets))

    @contextmanager
    def _taps(self, batch: Batch, on_residual: ResidualSink | None, layers: Sequence[int]) -> Iterator[None]:
        handles = []
        try:
            if on_residual is not None:
                for layer in layers:

                    def tap(_module: nn.Module, _inputs: object, output: object, layer: int = layer) -> None:
                        on_residual(layer, select(block_output(output), batch))

                    handles.append(self.blocks[layer].register_forward_hook(tap))
            yield
        finally:
            for handle in handles:
                handle.remove()


def select(hidden: Tensor, batch: Batch) -> Tensor:
    """[B, S, d] -> [T, d]: the non-special positions, document after document."""
    return hidden.reshape(-1, hidden.shape[-1]).index_select(0, batch.positions)


def document_means(values: Tensor, offsets: Tensor) -> Tensor:
    """[T, d] -> [D, d]: the mean over the positions of each document."""
    lengths = offsets.diff()
    document = torch.repeat_interleave(torch.arange(len(lengths), device=values.device), lengths)
    sums = torch.zeros(len(lengths), values.shape[1], dtype=values.dtype, device=values.device)
    return sums.index_add_(0, document, values) / lengths[:, None]


def block_output(output: object) -> Tensor:
    """A block returns its residual alone or, in older families, first in a tuple."""
    return output if isinstance(output, Tensor) else output[0]  # type: ignore[index]


def resolve_device(device: str) -> torch.device:
    """`auto` is the first GPU if there is one."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError:
        raise ModelError(f"{device!r} is no device", field="index.device", fix="use auto, cpu or cuda") from None
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"{device!r} asked for but no GPU is usable", field="index.device", fix="use auto or cpu")
    return resolved


def resolve_dtype(dtype: Literal["auto", "float32", "bfloat16"], device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 on a GPU and float32 elsewhere."""
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return DTYPES[dtype]


def load_classifier(
    path: str | Path,
    *,
    max_length: int = 512,
    device: str = "auto",
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
) -> Classifier:
    """Load a fine-tuned classifier from a directory, safetensors only, running no code that comes with it.

    Raises:
        ModelError: no such directory, no safetensors, no tokenizer, no block list, or the device is not there.
    """
    directory = Path(path)
    check_model_directory(directory)
    disable_progress_bar()  # a bar of its own in the middle of ours
    on = resolve_device(device)
    kind = resolve_dtype(dtype, on)
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
        model = AutoModelForSequenceClassification.from_pretrained(
            directory, trust_remote_code=False, use_safetensors=True, dtype=kind, **attention_of(directory)
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"{directory} is not a sequence classifier: {error}", field="classifier.path", fix="fine-tune one"
        ) from None
    tokenizer.padding_side = "right"
    model = model.to(on).eval()
    model.config.pad_token_id = pad_id_of(tokenizer)
    text_config(model).pad_token_id = model.config.pad_token_id  # where a model of text and images looks
    labels = tuple(model.config.id2label[index] for index in range(model.config.num_labels))
    return Classifier(model, tokenizer, find_blocks(model), labels, max_length, on, kind)


def check_model_directory(
    directory: Path, *, field: str = "classifier.path", missing: str = "run `tegakari finetune` first"
) -> None:
    """Refuse what is missing or would need unpickling.

    Args:
        directory: of the model.
        field: the configuration key that named it.
        missing: what to do where there is no model.

    Raises:
        ModelError: with the path and what to do.
    """
    if not (directory / "config.json").is_file():
        raise ModelError(f"no model in {directory}", field=field, fix=missing)
    if not any(directory.glob("*.safetensors")):
        raise ModelError(
            f"{directory} has no safetensors weights",
            field=field,
            fix="save the model with save_pretrained(..., safe_serialization=True); pickled weights are not loaded",
        )
    if not any((directory / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.txt")):
        # transformers would make an empty tokenizer, which reads every text as nothing.
        raise ModelError(f"{directory} has no tokenizer", field=field, fix="save a tokenizer.json beside the model")


def attention_of(path: str | Path) -> dict[str, str]:
    """Gemma 2's soft-capped attention has no fused implementation; eager is the one that is exact."""
    from transformers import AutoConfig

    kind = AutoConfig.from_pretrained(path, trust_remote_code=False).model_type
    return {"attn_implementation": "eager"} if kind == "gemma2" else {}


def pad_id_of(tokenizer: PreTrainedTokenizerBase) -> int:
    """The padding token; a tokenizer without one pads with its end token."""
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if isinstance(token, int):
            return token
    raise ModelError(
        "the tokenizer has neither a padding nor an end token",
        field="classifier.base",
        fix="add a padding token to the tokenizer and save it again",
    )


def text_config(model: PreTrainedModel):  # noqa: ANN201 - transformers' configuration classes share no typed base
    return model.config.get_text_config()


def find_blocks(model: PreTrainedModel) -> nn.ModuleList:
    """The list of decoder (or encoder) blocks: the outermost module list of the configured length.

    Raises:
        ModelError: the model has no such list.
    """
    depth = text_config(model).num_hidden_layers
    found = [
        (name.count("."), name, module)
        for name, module in model.base_model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == depth
    ]
    if not found:
        raise ModelError(f"{type(model).__name__} has no list of {depth} blocks", field="classifier.base")
    return min(found, key=lambda item: item[:2])[2]
