"""Where a classifier's values stop being finite, and in which document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tegakari.models.architecture import block_output
from tegakari.models.declared import token_embedding
from tegakari.models.hooks import forward_hooks
from tegakari.schemas.errors import ModelError

if TYPE_CHECKING:
    from tegakari.models.classifier import Classifier
    from tegakari.models.tokens import Tokenized


def check_finite(classifier: Classifier, values: Tensor, documents: Sequence[Tokenized], names: Sequence[str]) -> None:
    """Refuse logits that are NaN or infinite: their softmax has no probabilities, and their maximum is no label.

    Args:
        classifier: that computed them.
        values: [D, n], logits or embeddings of documents.
        documents: in their order.
        names: of the documents, in words, such as "text 3".

    Raises:
        ModelError: names the first such document, and the part of the model in which its values stop being finite.
    """
    rows = (~values.isfinite().all(-1)).nonzero()
    if len(rows):
        row = int(rows[0])
        raise not_finite(classifier, documents[row], names[row])


def not_finite(classifier: Classifier, document: Tokenized, name: str) -> ModelError:
    """The error of a document whose residuals or logits are not finite.

    Args:
        classifier: the model.
        document: is run again by itself.
        name: of the document, in words.
    """
    place = first_not_finite(classifier, document) or "in a batch with other documents"
    if parameter := _parameter(classifier.model):
        reason, fix = f"the weights hold NaN or infinity: {parameter}", "train or copy the model again"
    elif classifier.dtype != torch.float32:
        reason, fix = (
            f"values overflow in {str(classifier.dtype).removeprefix('torch.')}",
            'set index.dtype = "float32"',
        )
    else:
        reason, fix = "values overflow in float32", "use a classifier whose training did not diverge"
    return ModelError(f"{place}: values of {name} are NaN or infinite; {reason}", field="classifier.path", fix=fix)


@contextmanager
def finite_outputs(model: PreTrainedModel) -> Iterator[None]:
    """Refuse a model in which a module with weights gives NaN or infinity during the passes of the `with` block.

    The logits do not show all of them: on a CPU, attention over scores that are NaN gives zeros
    (`scaled_dot_product_attention`), and a tanh of infinity is 1.

    Raises:
        ModelError: at the end of the block, with the first such module.
    """
    places: list[str] = []
    with forward_hooks() as hooks:
        for name, module in model.named_modules():
            if next(module.parameters(recurse=False), None) is not None:

                def check(_module: nn.Module, _inputs: object, output: object, name: str = name) -> None:
                    if isinstance(output, Tensor) and not bool(output.isfinite().all()):
                        places.append(name)

                hooks.after(module, check)
        yield
    if places:
        parameter = _parameter(model)
        raise ModelError(
            f"{places[0]} of {type(model).__name__} gives NaN or infinity for a short text"
            + (f"; the weights hold NaN or infinity: {parameter}" if parameter else ""),
            field="classifier.path",
            fix="train or copy the model again" if parameter else 'set index.dtype = "float32": values overflow',
        )


@torch.inference_mode()
def first_not_finite(classifier: Classifier, document: Tokenized) -> str | None:
    """The first part of the model whose output is not finite: embedding, layer N, final norm or head; None: none is.

    Args:
        classifier: the model.
        document: is run by itself.
    """
    places: list[str] = []

    def record(place: str, value: object) -> None:
        if isinstance(value, Tensor) and value.is_floating_point() and not bool(value.isfinite().all()):
            places.append(place)

    def embedding(_module: nn.Module, _inputs: object, output: object) -> None:
        record("embedding", output)

    def last_hidden(_module: nn.Module, _inputs: object, output: object) -> None:
        record("final norm", getattr(output, "last_hidden_state", None))

    batch = classifier.batch([document])
    with forward_hooks() as hooks:
        if (table := token_embedding(classifier.model)) is not None:
            hooks.after(table, embedding)
        for layer, block in enumerate(classifier.blocks):

            def residual(_module: nn.Module, _inputs: object, output: object, layer: int = layer) -> None:
                record(f"layer {layer}", block_output(output))

            hooks.after(block, residual)
        hooks.after(classifier.model.base_model, last_hidden)
        logits = classifier.model(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False
        ).logits
    record("head", logits)
    return places[0] if places else None


def _parameter(model: PreTrainedModel) -> str | None:
    """Name of the first parameter that is not finite."""
    return next((name for name, value in model.named_parameters() if not bool(value.isfinite().all())), None)
