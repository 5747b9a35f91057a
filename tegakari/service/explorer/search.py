"""Page that searches a run: documents by words, features by token, explanations, notes, labels by name."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, Response
from litestar.di import NamedDependency

from tegakari.schemas.api import DocumentMatch, FeatureRow
from tegakari.schemas.errors import NotFoundError
from tegakari.schemas.explanations import Explanation
from tegakari.schemas.notes import Note
from tegakari.service.explorer.language import LANGUAGES, Language, language_of
from tegakari.service.explorer.page import page, render
from tegakari.service.http.etags import open_run
from tegakari.service.http.parameters import optional
from tegakari.store import Run, Store, queries
from tegakari.store.explanations import best_explanations, explanations
from tegakari.store.notes import notes, starred_features

RESULTS_SHOWN = 20
MAX_QUERY = 1000

RunChoice = Annotated[str | None, optional("run that is searched; default: the first", type="string")]
Words = Annotated[str, optional("words", type="string", maxLength=MAX_QUERY)]


@page("/search", changes=True)
def search_page(
    store: NamedDependency[Store], request: Request[Any, Any, Any], run: RunChoice = None, q: Words = ""
) -> Response[str]:
    """What contains the words."""
    names = store.names()
    chosen = open_run(store, run or names[0]) if run or names else None
    words = q.strip()[:MAX_QUERY]
    documents, features, labels = None, list[FeatureRow](), list[str]()
    found, stars = list[Note](), frozenset[tuple[int, int]]()
    explained, best = list[Explanation](), dict[tuple[int, int], Explanation]()
    if chosen is not None and words:
        documents = _documents(chosen, words)
        order = "cohens_d"
        features = queries.features(chosen, token=words, order=order, limit=RESULTS_SHOWN, onset=True).items
        labels = [label for label in chosen.labels if words.casefold() in label.casefold()][:RESULTS_SHOWN]
        found = notes(chosen, q=words, limit=RESULTS_SHOWN).items
        places, language = [(row.layer, row.feature) for row in features], language_of(request.scope)
        stars = starred_features(chosen, places)
        best = best_explanations(chosen, places, language=language)
        explained = _explanations(chosen, words, language)
    return render(
        request,
        "search",
        names=names,
        run=queries.run_summary(chosen) if chosen else None,
        words=words,
        documents=documents,
        features=features,
        labels=labels,
        notes=found,
        explanations=explained,
        best=best,
        stars=stars,
    )


def _explanations(run: Run, words: str, language: Language) -> list[Explanation]:
    """Explanations with the words; of the deterministic ones those in the language of the page."""
    rows = explanations(run, q=words, limit=len(LANGUAGES) * RESULTS_SHOWN).items
    return [row for row in rows if row.method != "terms" or row.language == language][:RESULTS_SHOWN]


def _documents(run: Run, words: str) -> list[DocumentMatch] | None:
    """Documents with the words; None: the run has no index of words."""
    try:
        return queries.search(run, words, limit=RESULTS_SHOWN)
    except NotFoundError:
        return None


HANDLERS = (search_page,)
