"""Examples of documents, and batches of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import torch

from tegakari.indexer.training.classifier.base import load_base_tokenizer
from tegakari.indexer.training.classifier.examples import Example, make_batch, make_examples
from tegakari.schemas.corpus import Document
from tegakari.schemas.progress import NoProgress
from tests.support.recorded_progress import RecordedProgress


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
    tokenizer = load_base_tokenizer(tiny_tokenizer)
    examples, skipped = make_examples(tokenizer, documents_of("<eos>今日は<pad>", "<bos>"), ["x"], 64, NoProgress())
    assert skipped == []
    for item in examples:
        assert item.input_ids[0] == tokenizer.bos_token_id
        assert not np.isin(item.input_ids[1:], [0, 1, 2, 3]).any()


def test_long_texts_are_cut_at_the_end(tiny_tokenizer: Path):
    progress = RecordedProgress()
    texts = documents_of("今日は会議です" * 50, "a" * 100)
    whole, _ = make_examples(load_base_tokenizer(tiny_tokenizer), texts, ["x"], 4096, progress)
    cut, _ = make_examples(load_base_tokenizer(tiny_tokenizer), texts, ["x"], 10, progress)
    assert [list(item.input_ids) for item in cut] == [list(item.input_ids[:10]) for item in whole]
    assert progress.steps == [(0, 2), (2, 2)] * 2


def test_documents_without_tokens_are_skipped_and_counted(tiny_tokenizer: Path, tmp_path: Path):
    shutil.copytree(tiny_tokenizer, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    tokenizer["normalizer"] = {"type": "Replace", "pattern": {"String": "☃"}, "content": ""}
    file.write_text(json.dumps(tokenizer))
    examples, skipped = make_examples(
        load_base_tokenizer(tmp_path), documents_of("☃☃", "今日は", "☃"), ["x"], 64, NoProgress()
    )
    assert [item.document.id for item in examples] == ["d1"]
    assert [(drop.count, drop.examples) for drop in skipped] == [(2, ["d0", "d2"])]
