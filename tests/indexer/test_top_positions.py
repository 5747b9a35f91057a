"""Tokens at positions, from shards whose documents are not in the order of the corpus."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tegakari.indexer.corpus_documents import corpus_documents
from tegakari.indexer.layer_tables import shown_texts
from tegakari.indexer.partial import DocumentPartial, open_partial, write_partial
from tegakari.indexer.shard import IndexedDocument, plan_shards
from tegakari.indexer.top_positions import top_tokens
from tegakari.models.tokens import Tokenized
from tegakari.store.blocks.files import TopPositions

SPECIAL = 2


def document(number: int, rng: np.random.Generator) -> IndexedDocument:
    """A document of a special token and words of one to three letters; labels alternate from document to document."""
    words = ["".join(rng.choice(list("あaé語"), rng.integers(1, 4))) for _ in range(rng.integers(1, 9))]
    ends = np.cumsum([len(word) for word in words]).tolist()
    spans = [(0, 0), *zip([0, *ends[:-1]], ends, strict=True)]
    tokens = Tokenized([SPECIAL, *rng.integers(3, 99, len(words))], spans, [True] + [False] * len(words), False)
    return IndexedDocument(number, f"{number:02d}", number % 3, "eval", "".join(words), tokens)


def test_tokens_are_those_of_the_documents(tmp_path: Path):
    rng = np.random.default_rng(0)
    documents = [document(number, rng) for number in range(20)]
    # Documents of a shard are in the order of labels, those of its predictions in that of numbers.
    shards = plan_shards(documents, 9, "recipe")
    for shard in shards:
        numbers = np.array(sorted(document.number for document in shard.documents), np.int32)  # as a worker has them
        floats = np.zeros(len(numbers), np.float32)
        predictions = DocumentPartial(numbers, numbers, floats, floats, np.zeros((len(numbers), 2), np.float32))
        write_partial(tmp_path, shard, 0, {}, predictions, {SPECIAL: "<s>"})
    partials = [open_partial(tmp_path, shard.key) for shard in shards]
    corpus = corpus_documents(partials)
    assert np.diff(corpus.offsets).tolist() == [len(document.tokens) for document in documents]
    of_positions = rng.integers(-1, len(documents), (11, 6))
    at = np.array([[rng.integers(0, len(documents[number].tokens)) for number in row] for row in of_positions])
    positions = TopPositions(np.ones(at.shape, np.float32), of_positions.astype(np.int32), at.astype(np.int32))
    tokens = top_tokens(partials, corpus, positions)
    expected_shown = []
    for feature, row in enumerate(of_positions):
        texts = []
        for rank, number in enumerate(row):
            if number < 0:
                assert tokens.text[feature, rank] == -1
                continue
            token_ids, spans = documents[number].tokens.arrays
            place = at[feature, rank]
            start, end = spans[place].tolist()
            found = (column[feature, rank] for column in (tokens.token_id, tokens.char_start, tokens.char_end))
            assert list(found) == [token_ids[place], start, end]
            texts.append("<s>" if start == end else documents[number].text[start:end])
            assert tokens.texts[tokens.text[feature, rank]] == texts[-1]
        expected_shown.append(list(dict.fromkeys(texts))[:5])
    assert shown_texts(tokens).to_pylist() == expected_shown
