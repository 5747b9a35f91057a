"""Query of the contexts of a feature."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from tegakari.schemas.api import FeatureContext, Page
from tegakari.store.blocks.files import DOCUMENTS_FILE
from tegakari.store.contexts import TENTHS, FeatureContexts
from tegakari.store.contexts import feature_contexts as stored_contexts
from tegakari.store.queries.cursor import list_name, page_of
from tegakari.store.queries.parameters import check_range, feature_place
from tegakari.store.reader import Run


def feature_contexts(
    run: Run,
    layer: int,
    feature: int,
    *,
    quantile: int | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[FeatureContext]:
    """Contexts of a feature by quantile and rank: its strongest positions, then the sample from weak to strong.

    Args:
        run: the run.
        layer: layer of the feature.
        feature: the feature.
        quantile: 0: only the strongest positions; 1 to 10: only this tenth of the sample.
        limit: rows per page.
        cursor: `next` of the page before.

    Raises:
        NotFoundError: no such layer or feature, or the run has no contexts.
        QueryError: the quantile or the limit is out of range.
        CursorError: the cursor does not come from a page of this list.
    """
    place = feature_place(run, layer, feature)
    if quantile is not None:
        check_range("quantile", quantile, 0, TENTHS, fix="0 is the strongest positions, 1 to 10 are tenths")
    contexts = stored_contexts(run, layer, feature)
    if quantile is not None:
        contexts = FeatureContexts(*(column[contexts.quantile == quantile] for column in contexts))
    list_ = list_name(run, "feature_contexts", place, quantile)
    return page_of(_rows(run, contexts), list_, limit, cursor)


def _rows(run: Run, contexts: FeatureContexts) -> list[FeatureContext]:
    documents = run.blocks.documents
    numbers = zip(*(column.tolist() for column in contexts), strict=True)
    rows = []
    for quantile, rank, number, position, activation, start, length, activations in numbers:
        rows.append(
            FeatureContext(
                quantile=quantile,
                rank=rank,
                activation=activation,
                document=documents.id[number].as_py(),
                label=run.labels[int(documents.label_id[number])],
                position=position,
                start=start,
                tokens=window_texts(run, number, start, length),
                activations=activations[:length],
            )
        )
    return rows


def window_texts(run: Run, document: int, start: int, length: int) -> list[str]:
    """The text of consecutive tokens, cut into tokens: joined, the parts are the text from the first to the last.

    What stands between two tokens belongs to the second. Of tokens that are pieces of one character, the first has it.
    """
    documents = run.blocks.documents
    first = int(documents.first_token[document]) + start
    window = slice(first, first + length)
    starts, ends = documents.token_starts[window], documents.token_ends[window]
    for numbers in (starts, ends):
        run.blocks.check_numbers(DOCUMENTS_FILE, numbers, 2**31)
    real = ends > starts  # special tokens cover no characters
    if not real.any():
        return [""] * length
    text = documents.text[document].as_py()
    begin = int(starts[real][0])
    cuts = np.maximum.accumulate(np.concatenate([[begin], np.where(real, ends, 0)]))
    return [text[a:b] for a, b in pairwise(cuts.tolist())]
