"""A classifier that is wrong in one way is refused for that reason, and what re-runs need to know is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoTokenizer

from tegakari.models.architecture import find_blocks
from tegakari.models.classifier import Classifier
from tegakari.models.loading import load_classifier
from tegakari.models.rerun.prefix import run_prefix
from tegakari.models.rerun.suffix import read_all, read_rows, run_block
from tegakari.models.self_test import self_test
from tegakari.models.tokens import Tokenized
from tegakari.schemas.errors import ModelError
from tests.support.classifier_families import make_classifier
from tools.tiny_families import save_tiny_model, tiny_model


@pytest.fixture
def classifier(tiny_tokenizer: Path, tmp_path: Path) -> Classifier:
    return make_classifier("llama", tmp_path, tiny_tokenizer)


def add_to_output(block: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
    block.register_forward_hook(lambda _block, _inputs, output: output + change(output))


def refusal(classifier: Classifier) -> str:
    with pytest.raises(ModelError) as refused:
        self_test(classifier)
    return refused.value.message


def test_a_pass_that_differs_from_the_one_before(classifier: Classifier):
    add_to_output(classifier.blocks[1], torch.randn_like)
    assert refusal(classifier) == "LlamaForSequenceClassification cannot be used: two passes of one document differ"


def test_a_block_that_reads_padding(classifier: Classifier):
    add_to_output(classifier.blocks[1], lambda residual: residual.mean(1, keepdim=True))
    assert "padding changes a document" in refusal(classifier)


def test_a_head_that_reads_padding(classifier: Classifier):
    classifier.model.score.register_forward_hook(  # type: ignore[union-attr]
        lambda _head, _inputs, logits: logits + logits.mean(1, keepdim=True)
    )
    assert "padding changes a document" in refusal(classifier)


def test_blocks_in_another_order(classifier: Classifier):
    reversed_blocks = replace(classifier, blocks=nn.ModuleList(reversed(classifier.blocks)))
    assert "it calls its 3 blocks in the order" in refusal(reversed_blocks)


def test_blocks_that_are_parts_of_the_real_ones(classifier: Classifier):
    attentions = replace(classifier, blocks=nn.ModuleList(block.self_attn for block in classifier.blocks))
    assert "block 1 reads another residual than block 0 returned" in refusal(attentions)


def test_a_block_that_differs_outside_of_its_model(classifier: Classifier):
    within: list[bool] = []
    base = classifier.model.base_model
    base.register_forward_pre_hook(lambda *_: within.append(True))
    base.register_forward_hook(lambda *_: within.clear())
    add_to_output(classifier.blocks[2], lambda residual: torch.zeros_like(residual) if within else residual)
    assert "block 2 alone gives another residual" in refusal(classifier)


def test_blocks_that_share_more_than_a_residual(classifier: Classifier):
    """LiLT's blocks pass the layout of the page on beside the residual, and both read each other."""
    model = tiny_model("lilt")
    lilt = replace(classifier, model=model, blocks=model.base_model.encoder.layer, head="first")  # type: ignore[union-attr]
    assert "block 1 reads more of block 0 than its residual" in refusal(lilt)


def test_rows_of_another_number_than_tokens_are_refused_in_every_pass(classifier: Classifier):
    classifier.blocks[1].register_forward_hook(lambda _block, _inputs, output: nn.functional.pad(output, (0, 0, 0, 1)))
    batch = classifier.batch(classifier.tokenize(["今日は会議です"]))
    with pytest.raises(ModelError, match="one row per token"):
        classifier.run(batch, lambda _layer, _residual: None)
    with pytest.raises(ModelError, match="one row per token"):
        run_prefix(classifier, batch, [1])


def test_sparse_attention_that_the_first_short_batch_ends(tmp_path: Path):
    save_tiny_model("big_bird", ("a", "b", "c"), tmp_path)
    with pytest.raises(
        ModelError, match="by 'block_sparse' to documents of more than 704 tokens until its first short batch"
    ):
        load_classifier(tmp_path, max_length=705, device="cpu")


@pytest.mark.parametrize("family", ["mpt", "ctrl", "bloom", "xmod", "llama"])
def test_copies_of_a_batch_as_large_as_its_other_sizes(family: str, tmp_path: Path):
    """As many documents as tokens and as heads: arguments of MPT begin with heads, of CTRL with tokens."""
    save_tiny_model(family, ("a", "b", "c"), tmp_path)
    classifier = load_classifier(tmp_path, max_length=16, device="cpu")
    batch = classifier.batch(classifier.tokenize(["abc", "abd", "ab", "a"]))
    assert batch.input_ids.shape == (4, 4)
    with torch.inference_mode():
        prefix = run_prefix(classifier, batch, range(classifier.layers))
        for layer in range(1, classifier.layers):
            copies = run_block(classifier, prefix, layer, prefix.residuals[layer - 1].repeat(3, 1, 1))
            torch.testing.assert_close(copies, prefix.residuals[layer].repeat(3, 1, 1), atol=1e-5, rtol=1e-5)
        logits = read_all(classifier, prefix, prefix.residuals[classifier.layers - 1].repeat(3, 1, 1))
    torch.testing.assert_close(logits, prefix.logits.repeat(3, 1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["llama", "mixtral", "bert", "bloom", "gemma2", "qwen3_next", "deberta-v2"])
def test_rounding_to_bfloat16_is_no_refusal(family: str, tmp_path: Path):
    save_tiny_model(family, ("a", "b", "c"), tmp_path)
    assert load_classifier(tmp_path, device="cpu", dtype="bfloat16", max_length=16).dtype == torch.bfloat16


def test_the_last_position_passes_alone_where_layers_are_attention(tmp_path: Path):
    found = {}
    for family in ("llama", "gemma2", "deepseek_v2", "qwen3_next", "gpt2", "bert"):
        save_tiny_model(family, ("a", "b", "c"), tmp_path / family)
        found[family] = load_classifier(tmp_path / family, device="cpu", max_length=16).last_alone
    expected = dict.fromkeys(found, False) | dict.fromkeys(("llama", "gemma2", "deepseek_v2"), True)
    assert found == expected


def test_a_tokenizer_that_pads_on_the_left_pads_on_the_right(tmp_path: Path):
    save_tiny_model("llama", ("a", "b", "c"), tmp_path)
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.padding_side = "left"
    tokenizer.save_pretrained(tmp_path)
    classifier = load_classifier(tmp_path, device="cpu", max_length=16)
    long, short = classifier.tokenize(["a longer text", "short"])
    beside = classifier.run(classifier.batch([long, short])).logits[1]
    torch.testing.assert_close(beside, classifier.run(classifier.batch([short])).logits[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        ("t5", "encoder-decoder: its decoder reads the text shifted by one token"),
        ("bart", "encoder-decoder"),
        ("layoutlm", "reads more than text: the place of each token on a page"),
        ("albert", "has no list of blocks with one block per layer"),
        ("perceiver", "no number of layers"),
    ],
)
def test_models_without_blocks_to_read_are_refused_before_any_pass(family: str, reason: str):
    model = tiny_model(family)
    with pytest.raises(ModelError, match=reason) as refused:
        find_blocks(model)
    assert refused.value.fix


def rows_read(classifier: Classifier) -> tuple[Tensor, Tensor]:
    """Logits of random residuals by the tail and by the whole model with replaced blocks."""
    batch = classifier.batch([Tokenized([2, 7, 9, 11], [(0, 0)] * 4, [False] * 4, False, 3)] * 2)
    prefix = run_prefix(classifier, batch, [])
    rows = torch.randn(2, 3, classifier.d_model, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return read_rows(classifier, prefix, rows), read_rows(replace(classifier, tail=()), prefix, rows)


def test_the_tail_of_a_decoder_gives_the_logits_of_the_whole_model(classifier: Classifier):
    assert classifier.tail == ("model.norm", "score")
    by_tail, whole = rows_read(classifier)
    assert torch.equal(by_tail, whole)
    assert whole.std() > 0.1


def test_a_head_of_several_modules(classifier: Classifier):
    head = nn.Sequential(nn.Linear(classifier.d_model, 8), nn.Dropout(), nn.GELU(), nn.Linear(8, 3)).eval()
    classifier.model.score = head
    assert self_test(classifier).tail == ("model.norm", "score.0", "score.2", "score.3")
    assert torch.equal(*rows_read(self_test(classifier)))


def test_a_model_that_computes_behind_its_head_has_no_tail(classifier: Classifier):
    def halve(_model: nn.Module, _inputs: object, output: Any) -> Any:
        output.logits = output.logits / 2
        return output

    classifier.model.register_forward_hook(halve)
    tested = self_test(classifier)
    assert tested.last_alone
    assert tested.tail == ()
    assert torch.equal(*rows_read(tested))
