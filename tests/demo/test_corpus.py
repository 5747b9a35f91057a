"""The generated corpus: its clues are those of PLANTED, and only they distinguish its labels."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from itertools import combinations

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import f1_score
from sklearn.svm import LinearSVC

from tegakari.demo.communities import PLANTED
from tegakari.demo.corpus import Post, generate, write_posts
from tegakari.demo.languages import language_mix, unlabelled_posts
from tegakari.indexer.corpus import import_corpus, read_documents
from tegakari.schemas.config import CorpusConfig

STUDY = {"メーカー", "就活", "食品", "自動車", "研究開発", "ホビー", "不動産"}
PER_LABEL = 300


def text_of(post: Post) -> str:
    return f"{post.title}\n{post.body}"


@pytest.fixture(scope="module")
def posts() -> list[Post]:
    return generate(0, PER_LABEL)


def owners(kind: str) -> dict[str, set[str]]:
    """Written form -> the labels whose posts contain it, by PLANTED."""
    labels: defaultdict[str, set[str]] = defaultdict(set)
    for label, planted in PLANTED.items():
        for form in getattr(planted, kind):
            labels[form].add(label)
    return labels


def test_equal_seeds_give_equal_posts(posts):
    assert generate(0, PER_LABEL) == posts
    assert not {text_of(post) for post in generate(1, 50)} & {text_of(post) for post in posts}


def test_every_label_has_the_requested_number_of_posts(posts):
    assert Counter(post.label for post in posts) == dict.fromkeys(PLANTED, PER_LABEL)
    assert len({post.id for post in posts}) == len(posts)
    assert set(PLANTED) >= STUDY
    assert len(PLANTED) >= 14


def test_labels_are_shuffled(posts):
    assert len({post.label for post in posts[:50]}) > 10


def test_planted_truth_is_well_formed():
    unique, shared = owners("unique"), owners("shared")
    assert all(len(labels) == 1 for labels in unique.values())
    assert all(2 <= len(labels) <= 3 for labels in shared.values())
    assert not unique.keys() & shared.keys()
    for planted in PLANTED.values():
        for forms in planted.variants:
            assert len(forms) > 1
            assert set(forms) <= {*planted.unique, *planted.shared}


def test_clues_appear_where_they_are_planted_and_nowhere_else(posts):
    labels: defaultdict[str, set[str]] = defaultdict(set)
    clues = owners("unique") | owners("shared")
    for post in posts:
        text = text_of(post)
        for form in clues:
            if form in text:
                labels[form].add(post.label)
    assert labels == clues


def test_every_slot_is_filled(posts):
    assert not [post for post in posts if re.search(r"[{}]", text_of(post))]


def test_dependence_of_labels(posts):
    """Number of different unique clues per post, by label: a knockout can remove some of them."""
    counts: defaultdict[str, list[int]] = defaultdict(list)
    for post in posts:
        counts[post.label].append(sum(form in text_of(post) for form in PLANTED[post.label].unique))
    kinds = Counter(planted.dependence for planted in PLANTED.values())
    assert kinds["single"] >= 1
    assert kinds["redundant"] >= 3
    for label, planted in PLANTED.items():
        if planted.dependence == "single":
            assert len(planted.unique) == 1
            assert max(counts[label]) == 1
        elif planted.dependence == "redundant":
            assert np.median(counts[label]) >= 3
        else:
            assert 1 <= np.median(counts[label]) < 3
        without = counts[label].count(0) / PER_LABEL
        assert 0.01 < without < 0.15, f"{label}: {without:.0%} of the posts lack a unique clue"


def macro_f1(texts: list[str], labels: list[str]) -> float:
    """Macro F1 of TF-IDF over characters and a linear classifier, on the second half of the posts."""
    half = len(texts) // 2
    vectorizer = TfidfVectorizer(analyzer="char", ngram_range=(1, 2), sublinear_tf=True)
    classifier = LinearSVC(random_state=0).fit(vectorizer.fit_transform(texts[:half]), labels[:half])
    return float(f1_score(labels[half:], classifier.predict(vectorizer.transform(texts[half:])), average="macro"))


def test_only_clues_distinguish_the_labels(posts):
    labels = [post.label for post in posts]
    texts = [text_of(post) for post in posts]
    forms = sorted(owners("unique") | owners("shared"), key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, forms)))
    assert 0.85 < macro_f1(texts, labels) < 0.985
    assert macro_f1([pattern.sub("□", text) for text in texts], labels) < 0.15  # chance is 1/16


def test_lengths_and_variants_are_those_of_real_posts(posts):
    lengths = np.array([len(text_of(post)) for post in posts])
    assert np.mean((lengths >= 20) & (lengths <= 120)) > 0.85
    assert (lengths > 160).sum() > 10
    texts = [text_of(post) for post in posts]
    assert len(set(texts)) > 0.995 * len(texts)
    bodies = "".join(post.body for post in posts)
    for mark in ("です。", "笑", "いたします。", "😊", "\n", "!"):
        assert bodies.count(mark) > 20
    for first, second in combinations(("スマホ", "スマートフォン", "スマフォ"), 2):
        assert bodies.count(first) > 10 < bodies.count(second)


def test_written_posts_import_as_a_corpus(tmp_path):
    posts = generate(3, 12)
    write_posts(tmp_path / "posts.jsonl", posts)
    config = CorpusConfig(
        source=str(tmp_path / "posts.jsonl"), path=str(tmp_path / "corpus"), train_per_label=8, eval_per_label=4
    )
    manifest = import_corpus(config)
    assert (manifest.rows, manifest.documents, manifest.dropped) == (len(posts), len(posts), [])
    documents = {
        (document.id, document.label, document.text) for document in read_documents(tmp_path / "corpus", "all")
    }
    assert documents == {(post.id, post.label, text_of(post)) for post in posts}


def test_unlabelled_posts_contain_no_labelled_post(posts):
    labelled = {text_of(post) for post in posts}
    unlabelled = unlabelled_posts(0, 2000)
    assert len(unlabelled) == 2000
    assert not labelled & set(unlabelled)


def test_the_mix_has_the_requested_share_of_japanese():
    mix = language_mix(0, 1000, japanese=0.03)
    japanese = [text for text in mix if re.search(r"[ぁ-ん]", text)]
    assert (len(mix), len(japanese)) == (1000, 30)
    assert not re.search(r"[{}]", "".join(mix))
    assert mix == language_mix(0, 1000, japanese=0.03)
    assert len(set(mix)) > 900
