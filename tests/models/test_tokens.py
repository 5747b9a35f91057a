"""Batches of documents of similar length: minimum cost, and little padding on the lengths of posts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tegakari.indexer.shard import DOCUMENTS
from tegakari.models.classifier import Classifier
from tegakari.models.tokens import BATCH_COST, CHARACTERS_PER_TOKEN, bucketed


def padded(lengths: list[int], groups: list[list[int]]) -> int:
    return sum(max(lengths[index] for index in group) * len(group) for group in groups)


def cost(lengths: list[int], groups: list[list[int]], device: str) -> float:
    return padded(lengths, groups) + len(groups) * BATCH_COST[device] * sum(lengths) / len(lengths)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=9), st.integers(1, 120), st.sampled_from(["cpu", "cuda"]))
def test_no_other_cut_is_better(lengths: list[int], budget: int, device: str):
    groups = list(bucketed(lengths, budget, device))
    order = [index for group in groups for index in group]
    assert order == sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    costs = []
    for cuts in itertools.product([False, True], repeat=len(lengths) - 1):
        edges = [0, *(index + 1 for index, cut in enumerate(cuts) if cut), len(lengths)]
        cut = [order[a:b] for a, b in itertools.pairwise(edges)]
        if all(len(group) == 1 or lengths[group[0]] * len(group) <= budget for group in cut):
            costs.append(cost(lengths, cut, device))
    assert cost(lengths, groups, device) == pytest.approx(min(costs))


@pytest.mark.parametrize("documents", [40, 120])
@pytest.mark.parametrize("median", [40, 160])
def test_at_most_a_twentieth_is_padding(documents: int, median: int):
    rng = np.random.default_rng(0)
    shards = [np.clip(rng.lognormal(np.log(median), 0.7, documents), 5, 512).astype(int).tolist() for _ in range(30)]
    shares = [1 - sum(lengths) / padded(lengths, list(bucketed(lengths, 8192))) for lengths in shards]
    assert np.mean(shares) <= 0.05
    assert max(len(list(bucketed(lengths, 8192))) for lengths in shards) <= documents / 3


def test_batches_of_a_gpu_are_large_and_have_little_padding():
    rng = np.random.default_rng(0)
    shards = [np.clip(rng.lognormal(np.log(135), 0.65, DOCUMENTS["cuda"]), 8, 512).astype(int).tolist() for _ in "123"]
    groups = [list(bucketed(lengths, 8192, "cuda")) for lengths in shards]
    tokens = sum(map(sum, shards))
    assert sum(map(padded, shards, groups)) <= 1.03 * tokens
    assert tokens / sum(map(len, groups)) >= 4096


def test_no_documents_give_no_batches():
    assert list(bucketed([], 100)) == []


def test_batches_keep_to_the_budget_and_hold_every_document_once():
    lengths = [5, 100, 7, 7, 300, 1, 64, 64]
    groups = list(bucketed(lengths, 130))
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    for group in groups:
        assert len(group) == 1 or max(lengths[index] for index in group) * len(group) <= 130
    assert groups[0] == [4]


def test_a_long_text_is_cut_before_it_is_tokenized(classifier: Classifier):
    """The tokens are those of the whole text; only a text that begins with nothing but spaces has fewer."""
    limit = CHARACTERS_PER_TOKEN * classifier.max_length
    text = ("今日は会議です。" * (limit // 4))[: 2 * limit]
    (document,) = classifier.tokenize([text])
    whole = classifier.tokenizer(text, truncation=True, max_length=classifier.max_length, split_special_tokens=True)
    assert document.input_ids == whole["input_ids"]
    assert document.truncated
    (spaces,) = classifier.tokenize([" " * limit + text])
    assert spaces.truncated
    assert max(end for _, end in spaces.spans) <= limit
    assert not classifier.tokenize(["今日は"])[0].truncated


def test_the_tokenizer_is_called_for_a_bounded_number_of_characters(classifier: Classifier):
    length = CHARACTERS_PER_TOKEN * classifier.max_length
    texts = ["今" * length] * 40 + ["今日は"] * 300
    steps: list[int] = []
    documents = classifier.tokenize(texts, lambda: steps.append(1))
    assert len(documents) == len(texts)
    assert len(steps) >= 40 * length // 32_768 + 300 // 128
    assert [document.input_ids for document in documents[40:]] == [classifier.tokenize(["今日は"])[0].input_ids] * 300
