"""The estimated cost of texts and knockouts is no less than what the tokenizer gives, and its error states it."""

from __future__ import annotations

import numpy as np
import pytest

from tegakari.analyses.engine.cost import Cost, cost_of_documents, cost_of_texts
from tegakari.analyses.engine.run_models import RunModels
from tegakari.analyses.knockout import cost_of_knockout, resolve
from tegakari.schemas.errors import NotFoundError, TooCostlyError
from tegakari.schemas.knockout import KnockoutSettings
from tegakari.store import Run

TEXTS = ["a", "軽トラで買い物", "🚗 <eos> \x00 é", " ", "今日は\n" * 30, "z" * 100_000]


def test_texts_have_no_more_tokens_than_estimated(run: Run, models: RunModels):
    for text in TEXTS:
        (tokens,) = models.classifier.tokenize([text])
        assert len(tokens) <= cost_of_texts(run, [text]).tokens <= models.classifier.max_length
    assert cost_of_texts(run, TEXTS).tokens == sum(cost_of_texts(run, [text]).tokens for text in TEXTS)


def test_documents_have_the_tokens_that_were_indexed(run: Run, models: RunModels):
    documents = run.blocks.documents
    numbers = np.array([5, 0, 7])
    tokens = models.classifier.tokenize([documents.text[number].as_py() for number in numbers.tolist()])
    assert cost_of_documents(run, numbers, 3) == Cost(3, sum(map(len, tokens)), 3)


@pytest.mark.parametrize(("mode", "draws", "passes"), [("error_preserving", 5, 12), ("reconstruction", 0, 3)])
def test_a_knockout_costs_its_passes(run: Run, mode: str, draws: int, passes: int):
    label = run.labels[0]
    settings = resolve(run, KnockoutSettings(label=label, layer=0, k=2, draws=draws, mode=mode))  # type: ignore
    cost = cost_of_knockout(run, settings)
    rows = run.rows("SELECT count(*) AS n, sum(tokens) AS tokens FROM documents JOIN labels USING (label_id) "
                    f"WHERE label = '{label}'")  # fmt: skip
    assert (cost.documents, cost.tokens, cost.passes) == (rows[0]["n"], rows[0]["tokens"], passes)
    assert cost.total == cost.tokens * passes
    texts = resolve(run, KnockoutSettings(label=label, layer=0, draws=draws, mode=mode, texts=TEXTS))  # type: ignore
    assert cost_of_knockout(run, texts) == cost_of_texts(run, TEXTS, passes)
    with pytest.raises(NotFoundError):
        cost_of_knockout(run, resolve(run, KnockoutSettings(label=label, layer=0, documents=["none"])))


def test_what_costs_too_much_is_refused_with_estimate_maximum_and_fix():
    cost = Cost(64, 1536, 12)
    cost.check(18_432, field="texts", key="service.max", fix="send fewer")
    with pytest.raises(TooCostlyError) as refused:
        cost.check(18_431, field="texts", key="service.max", fix="send fewer")
    assert str(refused.value) == (
        "texts: 64 documents of 1,536 tokens x 12 passes are up to 18,432 tokens for the models; "
        "the maximum is 18,431\n"
        "  fix: send fewer; whoever runs the server can raise `service.max`"
    )
