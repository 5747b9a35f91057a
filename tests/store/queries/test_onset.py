"""Onset tokens and tokens by lift are those of a count over the tables, document by document."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tegakari.schemas.api import FeatureOnset, TokenLift
from tegakari.store import Run, Store, queries
from tegakari.store.queries.onset import MIN_DOCUMENTS, MIN_SHARE, TOKENS
from tests.support.factories import LABELS, make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    store: Path = tmp_path_factory.mktemp("onset")
    make_run(store, "drawn", documents_per_label=12)
    return Store(store).run("drawn")


def counted(run: Run, layer: int, feature: int) -> FeatureOnset:
    """The same from the tables, by plain loops."""
    documents = run.rows("SELECT document, text, token_ids, token_starts, token_ends FROM documents ORDER BY document")
    sql = (
        "SELECT document, min(position) AS onset FROM top_tokens WHERE layer = $layer AND feature = $feature GROUP BY 1"
    )
    onsets = run.rows(sql, {"layer": layer, "feature": feature})
    in_corpus = Counter(token for row in documents for token in set(row["token_ids"]))
    spellings = {
        token: row["text"][start:end].strip()
        for row in documents
        for token, start, end in zip(row["token_ids"], row["token_starts"], row["token_ends"], strict=True)
    }
    at_onset = Counter(documents[row["document"]]["token_ids"][row["onset"]] for row in onsets)
    up_to_onset = Counter(
        token for row in onsets for token in set(documents[row["document"]]["token_ids"][: row["onset"] + 1])
    )

    def rows(counts: Counter[int]) -> list[TokenLift]:
        return [
            TokenLift(
                token=spellings[token],
                documents=count,
                share=count / len(onsets),
                lift=(count / len(onsets)) / (in_corpus[token] / len(documents)),
            )
            for token, count in counts.items()
            if spellings[token]
        ]

    frequent = [row for row in rows(up_to_onset) if row.documents >= max(MIN_DOCUMENTS, MIN_SHARE * len(onsets))]
    return FeatureOnset(
        documents=len(onsets),
        onset_tokens=sorted(rows(at_onset), key=lambda row: (-row.documents, -row.lift)),
        lift_tokens=sorted(frequent, key=lambda row: (-row.lift, -row.documents)),
    )


def test_onset_and_lift_are_those_of_a_count(run: Run):
    compared = 0
    for layer in run.manifest.saes.layers:
        for feature in range(run.manifest.saes.widths[layer]):
            onset = queries.feature(run, layer, feature, tokens=0, onset=True).onset
            assert onset
            expected = counted(run, layer, feature)
            assert onset.documents == expected.documents
            for tokens, all_tokens in (
                (onset.onset_tokens, expected.onset_tokens),
                (onset.lift_tokens, expected.lift_tokens),
            ):
                assert len(tokens) == min(TOKENS, len(all_tokens))
                by_token = {row.token: row for row in all_tokens}
                for row, in_order in zip(tokens, all_tokens, strict=False):
                    assert row.documents == by_token[row.token].documents
                    assert row.share == pytest.approx(by_token[row.token].share)
                    assert row.lift == pytest.approx(by_token[row.token].lift)
                    assert (row.documents, row.lift) == (in_order.documents, pytest.approx(in_order.lift))
                    compared += 1
    assert compared > 500


def test_a_feature_that_is_never_active_has_no_onset(run: Run):
    last = run.manifest.saes.widths[0] - 1
    assert queries.feature(run, 0, last, onset=True).onset == FeatureOnset(documents=0, onset_tokens=[], lift_tokens=[])


def test_lists_have_the_tokens_of_the_details_where_they_are_requested(run: Run):
    lists = (
        lambda **options: queries.label_features(run, LABELS[0], limit=15, **options).items,
        lambda **options: queries.features(run, layer=1, limit=15, **options).items,
    )
    for rows in lists:
        assert all(row.onset_tokens is None and row.lift_tokens is None for row in rows())
        for row in rows(onset=True):
            onset = queries.feature(run, row.layer, row.feature, tokens=0, onset=True).onset
            assert onset
            assert row.onset_tokens == [token.token for token in onset.onset_tokens]
            assert row.lift_tokens == [token.token for token in onset.lift_tokens]
