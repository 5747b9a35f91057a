"""Where a classifier's values stop being finite, and in which document."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tegakari.models.architecture import block_output
from tegakari.models.hooks import forward_hooks
from tegakari.schemas.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tegakari.models.classifier import Classifier
    from tegakari.models.tokens import Tokenized


def check_finite(
    classifier: Classifier, logits: Tensor, documents: Sequence[Tokenized], names: Sequence[str] | None = None
) -> None:
    """Refuse logits that are NaN or infinite: a softmax of them has no probabilities, and their maximum is no label.

    Args:
        classifier: that computed them.
        logits: [D, labels]
        documents: in their order.
        names: of the documents; default: their numbers.

    Raises:
        ModelError: names the first such document, and the part of the model in which its values stop being finite.
    """
    rows = (~logits.isfinite().all(-1)).nonzero()
    if len(rows):
        row = int(rows[0])
        name = f"document {names[row]!r}" if names is not None else f"text {row}"
        raise not_finite(classifier, documents[row], name)


def not_finite(classifier: Classifier, document: Tokenized, name: str) -> ModelError:
    """The error of a document whose residuals or logits are not finite.

    Args:
        classifier: the model.
        document: is run again by itself.
        name: of the document, in words.
    """
    place = first_not_finite(classifier, document) or "a batch with other documents"
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


def not_finite_at_load(model: PreTrainedModel) -> ModelError:
    """The error of a model whose logits are not finite for a short text."""
    parameter = _parameter(model)
    return ModelError(
        f"the logits of {type(model).__name__} are NaN or infinite for a short text"
        + (f"; its weights hold NaN or infinity: {parameter}" if parameter else ""),
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
        hooks.after(classifier.model.get_input_embeddings(), embedding)
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
