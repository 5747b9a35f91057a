"""Sentences and evidence of planted features, as they are stored and read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tegakari.analyses.add_explanations import add_explanations
from tegakari.schemas.errors import NotFoundError, RunExistsError, StoreError
from tegakari.schemas.explanations import Explanation
from tegakari.schemas.progress import NoProgress
from tegakari.store import Run, Store
from tegakari.store.disk.layout import context_file
from tegakari.store.disk.publish import damaged_files
from tegakari.store.explanations.term_files import explanations_of_run
from tegakari.store.explanations.terms import layer_explanations, term_explanations, terms_explanation
from tegakari.terms.explain import explain_run
from tests.support.factories import make_run
from tests.support.planted_features import (
    AFTER_CLUE,
    ALWAYS,
    CLUE,
    D_SAE,
    DIGITS,
    EMOJI,
    ENGLISH_CLUE,
    LABEL_WIDE,
    LAST,
    NEVER,
    NOISE,
    ONCE,
    PER_LABEL,
    planted_run,
)


@pytest.fixture(scope="module")
def explained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    store = tmp_path_factory.mktemp("explained")
    run = planted_run(store)
    with pytest.raises(NotFoundError, match="has no explanations"):
        terms_explanation(run, 0, 0)
    assert term_explanations(run, 0, [0]) == []
    add_explanations(run)
    with pytest.raises(RunExistsError, match="has explanations"):
        add_explanations(run)
    assert damaged_files(store, "planted") == []
    return run


def sentence(explained: Run, feature: int) -> str:
    return terms_explanation(explained, 0, feature).text


def traits(explained: Run, feature: int) -> list[str]:
    explanation = terms_explanation(explained, 0, feature)
    assert explanation.evidence is not None
    return list(explanation.evidence.traits)


def test_a_feature_of_a_clue_is_explained_by_its_word(explained: Run):
    explanation = terms_explanation(explained, 0, CLUE)
    assert [term.word for term in explanation.terms] == ["軽トラ"]
    assert explanation.terms[0].contexts == explanation.terms[0].on > 0
    assert explanation.text.startswith("Active on the token “軽トラ” alone")
    assert "自動車 (d =" in explanation.text
    assert traits(explained, CLUE) == ["single-token"]
    japanese = terms_explanation(explained, 0, CLUE, language="ja")
    assert japanese.text.startswith("トークン「軽トラ」だけで活性する、ラベル「自動車」")
    assert japanese.terms == explanation.terms
    assert japanese.id != explanation.id


def test_a_clue_before_the_strongest_token_is_found(explained: Run):
    explanation = terms_explanation(explained, 0, AFTER_CLUE)
    assert [term.word for term in explanation.terms] == ["軽トラ"]
    assert explanation.terms[0].before == explanation.terms[0].contexts
    assert explanation.text.startswith("Active after “軽トラ” (100% of its contexts)")


def test_words_of_other_languages_are_terms(explained: Run):
    assert [term.word for term in terms_explanation(explained, 0, ENGLISH_CLUE).terms] == ["compost"]


def test_traits_places_and_scripts_are_named(explained: Run):
    assert traits(explained, NEVER) == ["never"]
    assert sentence(explained, NEVER) == "Never active in this run."
    assert "always" in traits(explained, ALWAYS)
    assert sentence(explained, ALWAYS).startswith("Active at nearly every token")
    assert traits(explained, LAST) == ["positional"]
    assert "the token that the classifier reads" in sentence(explained, LAST)
    assert "label-wide" in traits(explained, LABEL_WIDE)
    assert "in 100% of the documents of 料理" in sentence(explained, LABEL_WIDE)
    digits, emoji = terms_explanation(explained, 0, DIGITS), terms_explanation(explained, 0, EMOJI)
    assert {term.word for term in digits.terms} <= {"12", "34"}
    assert {term.word for term in emoji.terms} <= {"😀", "🎉"}
    assert digits.evidence is not None
    assert emoji.evidence is not None
    assert (digits.evidence.script, emoji.evidence.script) == ("digits", "symbols")


def test_a_feature_that_is_active_once_and_one_of_noise_claim_nothing(explained: Run):
    once = terms_explanation(explained, 0, ONCE)
    assert once.evidence is not None
    assert once.evidence.contexts == 1
    assert once.evidence.traits == []
    noise = terms_explanation(explained, 0, NOISE)
    assert traits(explained, NOISE) == []
    assert noise.text.startswith("Active on no common word") or len(noise.terms) <= 1


def test_explanations_of_a_layer_are_those_of_its_features(explained: Run):
    layer = list(layer_explanations(explained, 0, language="ja"))
    assert [explanation.feature for explanation in layer] == list(range(D_SAE))
    assert layer[CLUE] == terms_explanation(explained, 0, CLUE, language="ja")
    pair = term_explanations(explained, 0, [EMOJI])
    assert [explanation.language for explanation in pair] == ["en", "ja"]
    assert all(isinstance(explanation, Explanation) for explanation in pair)


def test_explanations_do_not_depend_on_what_is_computed_beside_them(explained: Run, tmp_path: Path):
    again = planted_run(tmp_path)
    add_explanations(again)
    files = [next(explanations_of_run(run).rglob("*.parquet")) for run in (explained, again)]  # type: ignore[union-attr]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert PER_LABEL == 60


def test_every_feature_of_drawn_runs_has_a_sentence(tmp_path: Path):
    make_run(tmp_path, "drawn", documents_per_label=(6, 5, 1, 7, 2, 0))
    run = Store(tmp_path).run("drawn")
    add_explanations(run)
    for layer in (0, 1, 2):
        texts = [explanation.text for explanation in layer_explanations(run, layer)]
        assert len(texts) == 40
        assert all(text.endswith(".") for text in texts)
        assert texts[-1] == "Never active in this run."


class Layers(NoProgress):
    """Counts the layers that are done."""

    def __init__(self) -> None:
        self.done = 0

    def advance(self, steps: int = 1) -> None:
        self.done += steps


def test_files_do_not_depend_on_threads_and_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tegakari.store.context_writer.ROW_GROUP", 64)
    make_run(tmp_path, "drawn", documents_per_label=(6, 5, 1, 7, 2, 0))
    run = Store(tmp_path).run("drawn")
    contents = []
    for threads, groups in ((1, 8), (3, 8), (2, 1)):
        monkeypatch.setattr("tegakari.store.contexts._GROUPS_AT_ONCE", groups)
        layers = Layers()
        explain_run(run, tmp_path / f"{threads}-{groups}", layers, threads=threads)
        assert layers.done == 3
        contents.append([file.read_bytes() for file in sorted((tmp_path / f"{threads}-{groups}").rglob("*.parquet"))])
    assert len(contents[0]) == 3
    assert contents[0] == contents[1] == contents[2]


def test_a_damaged_layer_ends_the_work_and_nothing_is_published(tmp_path: Path):
    make_run(tmp_path, "drawn")
    run = Store(tmp_path).run("drawn")
    file = context_file(run.directory, 1)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(StoreError):
        add_explanations(run)
    assert explanations_of_run(run) is None
    assert not list((tmp_path / "work").rglob("*.parquet"))
