"""The TF-IDF baseline."""

from __future__ import annotations

import numpy as np

from tegakari.indexer.training.classifier.baseline import predict_with_tfidf


def test_the_baseline_learns_pieces_of_words_and_does_not_depend_on_the_texts_to_classify():
    train = [f"今日は{word}の話です" for word in ("味噌汁", "味噌煮込み", "赤味噌", "軽自動車", "自動車税", "中古車")]
    texts = ["味噌ラーメンを食べた", "新しい車を買った"]
    predictions = predict_with_tfidf(train, np.array([0, 0, 0, 1, 1, 1]), texts, seed=0)
    assert predictions.tolist() == [0, 1]
    with_many_others = predict_with_tfidf(train, np.array([0, 0, 0, 1, 1, 1]), [*texts, *["車" * 100] * 500], seed=0)
    assert with_many_others[:2].tolist() == predictions.tolist()
