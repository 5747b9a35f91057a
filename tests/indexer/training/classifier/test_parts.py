"""Parts of fine-tuning: order, batches, tokens, baseline, scores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_recall_fscore_support

from tegakari.indexer.training.classifier import macro_f1_by_prefix
from tegakari.indexer.training.classifier.base import load_tokenizer
from tegakari.indexer.training.classifier.baseline import predict_with_tfidf
from tegakari.indexer.training.classifier.examples import Example, make_batch, make_examples
from tegakari.indexer.training.classifier.failures import translate_failures
from tegakari.indexer.training.classifier.order import LengthGroupedOrder
from tegakari.indexer.training.classifier.scores import score
from tegakari.schemas.classifier import LabelScore
from tegakari.schemas.corpus import Document
from tegakari.schemas.errors import ModelError
from tegakari.schemas.progress import NoProgress
from tests.support.recorded_progress import RecordedProgress


def order_of(lengths: list[int], batch_size: int, *, seed: int = 0, epoch: int = 0) -> list[int]:
    order = LengthGroupedOrder(lengths, batch_size, seed)
    order.set_epoch(epoch)
    assert len(order) == len(lengths)
    return list(order)


@given(st.lists(st.integers(1, 512), min_size=1, max_size=300), st.integers(1, 9), st.integers(0, 5))
def test_every_document_is_read_once_per_epoch(lengths: list[int], batch_size: int, epoch: int):
    assert sorted(order_of(lengths, batch_size, epoch=epoch)) == list(range(len(lengths)))


def test_the_order_depends_on_seed_and_epoch_alone():
    lengths = np.random.default_rng(0).integers(1, 512, 700).tolist()
    orders = {(seed, epoch): tuple(order_of(lengths, 4, seed=seed, epoch=epoch)) for seed in (0, 1) for epoch in (0, 1)}
    assert len(set(orders.values())) == 4
    used = LengthGroupedOrder(lengths, 4, 1)
    list(used)
    used.set_epoch(1)
    assert tuple(used) == orders[1, 1]


def test_batches_hold_documents_of_similar_length_and_are_not_sorted_by_length():
    lengths = np.random.default_rng(0).integers(1, 512, 2001).tolist()
    read = [lengths[index] for index in order_of(lengths, 4)]
    batches = [read[start : start + 4] for start in range(0, 2001, 4)]
    assert len(batches[-1]) == 1  # the short batch is last and does not shift the others
    padding = 1 - sum(lengths) / sum(len(batch) * max(batch) for batch in batches)
    assert padding < 0.03  # in a plain shuffle it is about 0.37
    longest = [max(batch) for batch in batches]
    assert abs(np.corrcoef(np.arange(len(longest)), longest)[0, 1]) < 0.1


def example(ids: list[int], label: int = 0) -> Example:
    return Example(Document("id", "label", "train", "text"), np.array(ids, np.int32), label)


def test_a_batch_is_padded_on_the_right():
    batch = make_batch([example([2, 7, 8], 1), example([2, 9], 0)], pad_id=5)
    assert batch["input_ids"].tolist() == [[2, 7, 8], [2, 9, 5]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["labels"].tolist() == [1, 0]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def documents_of(*texts: str) -> list[Document]:
    return [Document(f"d{number}", "x", "train", text) for number, text in enumerate(texts)]


def test_text_that_spells_special_tokens_is_read_as_characters(tiny_tokenizer: Path):
    tokenizer = load_tokenizer(tiny_tokenizer)
    examples, skipped = make_examples(tokenizer, documents_of("<eos>今日は<pad>", "<bos>"), ["x"], 64, NoProgress())
    assert skipped == []
    for item in examples:
        assert item.input_ids[0] == tokenizer.bos_token_id
        assert not np.isin(item.input_ids[1:], [0, 1, 2, 3]).any()


def test_long_texts_are_cut_at_the_end(tiny_tokenizer: Path):
    progress = RecordedProgress()
    texts = documents_of("今日は会議です" * 50, "a" * 100)
    whole, _ = make_examples(load_tokenizer(tiny_tokenizer), texts, ["x"], 4096, progress)
    cut, _ = make_examples(load_tokenizer(tiny_tokenizer), texts, ["x"], 10, progress)
    assert [list(item.input_ids) for item in cut] == [list(item.input_ids[:10]) for item in whole]
    assert progress.steps == [(0, 2), (2, 2)] * 2


def test_documents_without_tokens_are_skipped_and_counted(tiny_tokenizer: Path, tmp_path: Path):
    shutil.copytree(tiny_tokenizer, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    tokenizer["normalizer"] = {"type": "Replace", "pattern": {"String": "☃"}, "content": ""}
    file.write_text(json.dumps(tokenizer))
    examples, skipped = make_examples(
        load_tokenizer(tmp_path), documents_of("☃☃", "今日は", "☃"), ["x"], 64, NoProgress()
    )
    assert [item.document.id for item in examples] == ["d1"]
    assert [(drop.count, drop.examples) for drop in skipped] == [(2, ["d0", "d2"])]


def test_the_baseline_learns_pieces_of_words_and_does_not_depend_on_the_texts_to_classify():
    train = [f"今日は{word}の話です" for word in ("味噌汁", "味噌煮込み", "赤味噌", "軽自動車", "自動車税", "中古車")]
    texts = ["味噌ラーメンを食べた", "新しい車を買った"]
    predictions = predict_with_tfidf(train, np.array([0, 0, 0, 1, 1, 1]), texts, seed=0)
    assert predictions.tolist() == [0, 1]
    with_many_others = predict_with_tfidf(train, np.array([0, 0, 0, 1, 1, 1]), [*texts, *["車" * 100] * 500], seed=0)
    assert with_many_others[:2].tolist() == predictions.tolist()


def test_a_lack_of_memory_is_reported():
    with pytest.raises(ModelError, match="does not fit into memory") as caught, translate_failures(Path("classifier")):
        torch.empty(2**52, dtype=torch.float64)
    assert caught.value.field == "classifier.batch_size"
    assert "gradient_checkpointing" in (caught.value.fix or "")
    with pytest.raises(RuntimeError, match="shapes"), translate_failures(Path("classifier")):
        torch.mm(torch.ones(2, 3), torch.ones(2, 3))  # a fault of the program is not translated


def test_scores_computed_by_hand():
    scores = score(["a-x", "a-y", "b"], np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 1, 0]))
    assert scores.accuracy == pytest.approx(3 / 5)
    # F1: a-x has precision and recall 1/2; a-y precision 2/3 and recall 1; b has no correct prediction.
    assert [row.f1 for row in scores.labels] == pytest.approx([0.5, 0.8, 0.0])
    assert [row.precision for row in scores.labels] == pytest.approx([0.5, 2 / 3, 0.0])
    assert [row.recall for row in scores.labels] == pytest.approx([0.5, 1.0, 0.0])
    assert [row.support for row in scores.labels] == [2, 2, 1]
    assert scores.macro_f1 == pytest.approx(1.3 / 3)
    assert scores.macro_f1_by_prefix == {"a": pytest.approx(0.65)}
    assert [(c.label, c.predicted, c.documents) for c in scores.confusion] == [
        ("a-x", "a-x", 1),
        ("a-x", "a-y", 1),
        ("a-y", "a-y", 2),
        ("b", "a-x", 1),
    ]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=60))
def test_scores_are_scikit_learns(pairs: list[tuple[int, int]]):
    true, predicted = map(np.array, zip(*[*pairs, *((label, label) for label in range(5))], strict=True))
    scores = score([f"label {label}" for label in range(5)], true, predicted)
    assert scores.macro_f1 == pytest.approx(f1_score(true, predicted, average="macro"))
    assert [row.f1 for row in scores.labels] == pytest.approx(precision_recall_fscore_support(true, predicted)[2])
    assert sum(count.documents for count in scores.confusion) == len(true)
    assert all(count.documents > 0 for count in scores.confusion)


def test_a_prefix_is_shared_by_at_least_two_labels():
    rows = [
        LabelScore(label=label, precision=0, recall=0, f1=f1, support=1)
        for label, f1 in (("a-x-1", 1.0), ("a-y", 0.5), ("b", 0.1), ("b-z", 0.2), ("-", 0.3), ("-q", 0.5))
    ]
    assert macro_f1_by_prefix(rows) == {"": 0.4, "a": 0.75}
    assert macro_f1_by_prefix(rows, separator="-x") == {}
