"""Packed batches: gradients of padded ones, for every family of decoders, and a training as good."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from tegakari.indexer.training.classifier.examples import Example, make_batch
from tegakari.indexer.training.classifier.packing import check_packable, make_packed_batch, packed_loss
from tegakari.indexer.training.classifier.trainer import train
from tegakari.schemas.config import ClassifierConfig
from tegakari.schemas.corpus import Document
from tegakari.schemas.errors import ModelError
from tegakari.schemas.progress import NoProgress
from tests.support.classifier_families import FAMILIES, make_classifier
from tests.support.host_waits import HostWaits

DECODERS = [family for family in FAMILIES if family not in ("bert", "modernbert-mean")]
CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(family: str, tiny_tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> PreTrainedModel:
    return make_classifier(family, tmp_path_factory.mktemp(family), tiny_tokenizer).model


def examples_of(count: int) -> list[Example]:
    """Documents of 1 to 20 tokens, some of which end with padding tokens, which no head reads."""
    random = np.random.default_rng(0)
    examples = []
    for number in range(count):
        ids = random.integers(2, 500, 1 + (number * 7) % 20).astype(np.int32)
        if number == 2:
            ids[-1] = 0
        examples.append(Example(Document(str(number), "a", "train", "text"), ids, number % 3))
    return examples


def gradients(model: PreTrainedModel, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


def test_the_gradient_is_that_of_a_padded_batch(family: str, model: PreTrainedModel):
    if family not in DECODERS:
        with pytest.raises(ModelError, match="cannot read several documents") as caught:
            check_packable(model)
        assert caught.value.field == "classifier.packed"
        return
    check_packable(model)
    examples = examples_of(5)
    packed_batch = make_packed_batch(examples, 0)
    assert packed_batch["input_ids"].shape == (1, sum(len(example.input_ids) for example in examples))
    loss = packed_loss(model, packed_batch)
    padded_loss = model(**make_batch(examples, 0)).loss
    torch.testing.assert_close(loss, padded_loss)
    packed, padded = gradients(model, loss), gradients(model, padded_loss)
    assert set(packed) == set(padded)
    for name, value in padded.items():
        torch.testing.assert_close(packed[name], value, atol=1e-5, rtol=1e-3)
    assert max(float(value.abs().max()) for value in padded.values()) > 1e-2


@pytest.mark.parametrize("packed", [False, True])
def test_a_training_learns_and_does_not_wait_at_every_step(packed: bool, tiny_tokenizer: Path, tmp_path: Path):
    """Between two looks at the loss the host waits for nothing, but for transformers' look at a packed row."""
    classifier = make_classifier("gemma2", tmp_path / "base", tiny_tokenizer)
    examples = [
        example._replace(input_ids=np.append(example.input_ids, np.int32(10 + example.label)))
        for example in examples_of(64)
    ]
    settings = ClassifierConfig(epochs=6, batch_size=2, packed=packed, learning_rate=5e-3)

    class Places(NoProgress):
        """Waits of steps 3 to 18 of the 32 of the first epoch: the loss is read at step 20."""

        step = 0
        waits = HostWaits()

        def advance(self, steps: int = 1) -> None:
            self.step += steps
            if self.step == 3:
                self.waits.__enter__()
            if self.step == 18:
                self.waits.__exit__(None, None, None)

    progress = Places()
    train(
        classifier.model,
        examples,
        settings,
        device=CPU,
        bfloat16=False,
        work=tmp_path,
        checkpoint=None,
        progress=progress,
        checkpoints=False,
    )
    assert not list(tmp_path.glob("checkpoint-*"))
    own = [place for place in progress.waits.places if "masking_utils" not in place]
    assert not own, own
    assert packed or not progress.waits.places
    with torch.no_grad():
        logits = classifier.model.eval()(**make_batch(examples, 0)).logits
    assert (logits.argmax(1) == torch.tensor([example.label for example in examples])).float().mean() > 0.9
