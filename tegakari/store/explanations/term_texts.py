"""Sentences of all deterministic explanations of a layer: for searches by words, and for SQL."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tegakari.store.disk.contents import check_contents
from tegakari.store.disk.layout import explanation_file
from tegakari.store.explanations.term_files import SCHEMA, explanations_of_run
from tegakari.store.folding import folded
from tegakari.store.reader import Run
from tegakari.store.weak_cache import weakly_cached


def layer_texts(run: Run, layer: int) -> pa.Table:
    """Feature, sentences and terms of all features of a layer: columns feature, en, ja and terms.

    Args:
        run: with deterministic explanations.
        layer: of the run.

    Raises:
        NotFoundError: the run was deleted meanwhile.
        StoreError: the file is damaged.
    """
    width = run.manifest.saes.widths[run.manifest.saes.layers.index(layer)]
    with run.opening_files():
        directory = explanations_of_run(run)
        if directory is None:
            raise FileNotFoundError("its explanations are gone")
        if directory != run.directory:
            check_contents(directory)
        with pq.ParquetFile(explanation_file(directory, layer), page_checksum_verification=True) as parquet:
            if not parquet.schema_arrow.remove_metadata().equals(SCHEMA):
                raise ValueError(f"the explanations of layer {layer} have other columns")
            rows = parquet.read(columns=["feature", "en", "ja", "terms"])
        rows.validate(full=True)
        if any(column.null_count for column in rows.columns):
            raise ValueError(f"the explanations of layer {layer} have no value in a column")
        if not np.array_equal(rows["feature"].to_numpy(), np.arange(width)):
            raise ValueError(f"the explanations of layer {layer} are not in the order of their features")
        return rows


def features_with(run: Run, layer: int, words: Collection[str]) -> np.ndarray:
    """Features of a layer of which a sentence contains all words, int64.

    Args:
        run: with deterministic explanations.
        layer: of the run.
        words: folded.
    """
    texts = _folded_texts(run, layer)
    contain = np.zeros(len(texts[0]), bool)
    for language in texts:
        all_words = np.ones(len(language), bool)
        for word in words:
            matches = pc.call_function("match_substring", [language], pc.MatchSubstringOptions(word))
            all_words &= matches.to_numpy(zero_copy_only=False)
        contain |= all_words
    return np.flatnonzero(contain)


@weakly_cached(maxsize=128)
def _folded_texts(run: Run, layer: int) -> tuple[pa.Array, ...]:
    rows = layer_texts(run, layer)
    return tuple(pa.array([folded(text) for text in rows[name].to_pylist()], pa.string()) for name in ("en", "ja"))
