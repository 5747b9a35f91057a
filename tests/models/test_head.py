"""The positions that a head reads, and the order of countable positions, against what transformers' heads do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, LlamaConfig

from tegakari.models.architecture import block_output
from tegakari.models.classifier import Classifier
from tegakari.models.loading import load_classifier
from tegakari.schemas.errors import ModelError
from tests.support.classifier_families import FAMILIES, HEADS, make_classifier

TEXTS = ["今日は会議です。\nよろしくお願いします", "車", "MTG の 打ち合わせ です"]


@pytest.fixture(scope="module", params=FAMILIES)
def case(request: pytest.FixtureRequest, tiny_tokenizer: Path, tmp_path_factory: pytest.TempPathFactory):
    return request.param, make_classifier(request.param, tmp_path_factory.mktemp(request.param), tiny_tokenizer)


def test_the_head_of_each_family(case: tuple[str, Classifier]):
    family, classifier = case
    assert classifier.head == HEADS.get(family, "last")


def test_the_last_countable_position_is_the_one_that_decides_the_logits(case: tuple[str, Classifier]):
    """Noise in the last block at any other position leaves the logits; at the last countable position it moves them."""
    family, classifier = case
    for document in classifier.tokenize(TEXTS):
        ids = torch.tensor([document.input_ids])

        def logits(noisy: list[int], ids: torch.Tensor = ids) -> torch.Tensor:
            def hook(_module, _inputs, output):
                hidden = block_output(output).clone()
                hidden[0, noisy] += 3 * torch.randn(hidden.shape[-1], generator=torch.Generator().manual_seed(0))
                return hidden if isinstance(output, torch.Tensor) else (hidden, *output[1:])

            handle = classifier.blocks[-1].register_forward_hook(hook)
            with torch.no_grad():
                result = classifier.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
            handle.remove()
            return result

        *others, last = document.positions
        ordinary = [index for index, special in enumerate(document.special) if not special]
        unchanged = logits([])
        if HEADS.get(family) == "all":
            assert [*others, last] == ordinary
            assert all((logits([position]) - unchanged).abs().max() > 1e-4 for position in ordinary)
            continue
        assert sorted({*ordinary, last}) == sorted([*others, last])
        assert others == sorted(others)
        assert (logits([last]) - unchanged).abs().max() > 1e-4
        elsewhere = [position for position in range(len(document)) if position != last]
        torch.testing.assert_close(logits(elsewhere), unchanged, atol=1e-5, rtol=1e-5)


def test_a_document_of_special_tokens_alone_has_no_position(case: tuple[str, Classifier]):
    _, classifier = case
    assert [document.positions for document in classifier.tokenize([""])] == [[]]


def make_llama(path: Path, tokenizer_directory: Path) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "vocab_size": 512}
    config = LlamaConfig(num_hidden_layers=2, pad_token_id=1, eos_token_id=1, **sizes)
    model = AutoModelForSequenceClassification.from_config(config)
    model.save_pretrained(path)
    AutoTokenizer.from_pretrained(tokenizer_directory).save_pretrained(path)


def test_where_padding_is_the_end_token_the_head_reads_the_token_before_it(tiny_tokenizer: Path, tmp_path: Path):
    from tokenizers import processors

    make_llama(tmp_path, tiny_tokenizer)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.pad_token = "<eos>"
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", 1)]
    )
    tokenizer.save_pretrained(tmp_path)
    classifier = load_classifier(tmp_path, max_length=32, device="cpu")
    assert classifier.head == "last"
    for document in classifier.tokenize(TEXTS):
        assert document.input_ids[-1] == 1
        assert document.positions == list(range(len(document) - 1))


def test_a_head_that_reads_nothing_is_refused(tiny_tokenizer: Path, tmp_path: Path):
    make_llama(tmp_path, tiny_tokenizer)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    model.score.weight.data.zero_()
    model.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"reads the positions \[\] of a document"):
        load_classifier(tmp_path, max_length=32, device="cpu")
