"""Shards: their documents, labels and keys."""

from __future__ import annotations

from tegakari.indexer.shard import IndexedDocument, plan_shards
from tegakari.models.tokens import Tokenized


def documents_of(label_ids: list[int], text: str = "text") -> list[IndexedDocument]:
    tokens = Tokenized([1], [(0, 4)], [False], False)
    return [
        IndexedDocument(number, f"{number}", label_id, "eval", text, tokens)
        for number, label_id in enumerate(label_ids)
    ]


def test_shards_are_full_and_spread_a_label_over_as_few_as_possible():
    shards = plan_shards(documents_of([4, 0, 2, 0, 4, 2, 2]), 3, "recipe")
    numbers = [[document.number for document in shard.documents] for shard in shards]
    assert numbers == [[1, 3, 2], [5, 6, 0], [4]]
    assert [list(shard.labels.items()) for shard in shards] == [[(0, 2), (2, 1)], [(2, 2), (4, 1)], [(4, 1)]]


def test_the_key_depends_on_recipe_labels_and_documents():
    def keys(label_ids: list[int], recipe: str = "recipe", text: str = "text") -> list[str]:
        return [shard.key for shard in plan_shards(documents_of(label_ids, text), 2, recipe)]

    assert keys([0, 1, 1]) == keys([0, 1, 1])
    assert len(set(keys([0, 0, 0, 0]))) == 2
    others = [keys([0, 1, 1], "other"), keys([0, 0, 1]), keys([0, 2, 2]), keys([0, 1, 1], text="other")]
    assert keys([0, 1, 1])[0] not in {first for first, *_ in others}
