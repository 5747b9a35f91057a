"""Write the memory-mapped blocks of a run: its layers in ascending order, then its labels, then its documents.

Files are written row after row. Mapped ones would need their whole space in advance, because a full disk during a write
to a mapping kills the process, and their pages would count as memory of the process.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike

from tegakari.schemas.config import POOLINGS, Pooling
from tegakari.store.blocks.activations import Strongest
from tegakari.store.blocks.files import (
    DOCUMENTS_ACTIVE,
    DOCUMENTS_FILE,
    FEATURES_FILE,
    LAYER_ORDER_FILE,
    ORDER_FILE,
    SHOWN_TOKENS,
    SHOWN_TOKENS_FILE,
    STATISTICS,
    TOKEN_TEXTS_FILE,
    TOP_DOCUMENTS,
    TOP_FEATURES,
    Places,
    TopPositions,
    descending_order,
    label_column,
    top_file,
)
from tegakari.store.blocks.npy_file import NpyFile
from tegakari.store.disk.layout import BLOCKS


class BlocksWriter:
    """Writes the blocks of one run; a context manager."""

    def __init__(self, run: Path, places: Places, labels: int, documents: int, top_tokens: int) -> None:
        """Create the files.

        Args:
            run: the run's (staging) directory.
            places: numbering of its features.
            labels: number of labels.
            documents: number of documents.
            top_tokens: strongest positions stored per feature.
        """
        self._directory = run / BLOCKS
        self._directory.mkdir(parents=True)
        self._open = ExitStack()
        n_places, n_layers = places.starts[-1], len(places.layers)
        counts = np.min_scalar_type(documents)
        self._statistics = {
            label_column(name, pooling): self._file(
                f"{label_column(name, pooling)}.npy", np.float32 if name in STATISTICS else counts, labels, n_places
            )
            for pooling in POOLINGS
            for name in (*STATISTICS, DOCUMENTS_ACTIVE)
        }
        self._top = {
            f"{subject}.{column}": self._file(top_file(subject, column), kind, *shape)
            for subject, types, shape in (
                ("token", TopPositions.types(), (n_places, top_tokens)),
                ("document", Strongest.types(), (n_places, TOP_DOCUMENTS)),
                ("feature", Strongest.types(), (n_layers, documents, TOP_FEATURES)),
            )
            for column, kind in types.items()
        }
        self._shown_tokens = self._file(SHOWN_TOKENS_FILE, np.int32, n_places, SHOWN_TOKENS)
        self._order = self._file(ORDER_FILE, np.int32, labels, n_places)
        self._layer_order = self._file(LAYER_ORDER_FILE, np.int32, labels, n_places)
        self._features = self._open.enter_context(_BatchFile(self._directory / FEATURES_FILE))
        self._token_numbers: dict[str, int] = {}
        layers = np.arange(n_layers, dtype=np.min_scalar_type(n_layers))
        self._layer_number = np.repeat(layers, places.widths)

    def _file(self, name: str, kind: DTypeLike, *shape: int) -> NpyFile:
        return self._open.enter_context(NpyFile(self._directory / name, kind, *shape))

    def __enter__(self) -> BlocksWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.__exit__(*error)  # type: ignore[arg-type]

    def append_top(self, subject: str, column: str, rows: np.ndarray) -> None:
        """Append rows of the strongest positions ("token") or documents of features, or of features of documents.

        Args:
            subject: token, document or feature.
            column: field of TopPositions or Strongest.
            rows: [n, members], of the next features of a layer, or of the next documents in the layer.
        """
        self._top[f"{subject}.{column}"].append(rows)

    def append_features(self, features: pa.Table) -> None:
        """Append the features of a layer; layers come in ascending order.

        Args:
            features: rows of the features table.
        """
        shown = features["top_tokens"].combine_chunks()
        distinct = shown.flatten().dictionary_encode()
        numbers = [self._token_number(text) for text in distinct.dictionary.to_pylist()]
        matrix = np.full((len(features), SHOWN_TOKENS), -1, np.int32)
        filled = np.arange(SHOWN_TOKENS) < shown.value_lengths().to_numpy()[:, None]
        matrix[filled] = np.array(numbers, np.int32)[distinct.indices.to_numpy()]
        self._shown_tokens.append(matrix)
        self._features.write(_one_batch(features.drop_columns(["top_tokens"])))

    def _token_number(self, text: str) -> int:
        """Number of a text: texts are numbered as they come."""
        return self._token_numbers.setdefault(text, len(self._token_numbers))

    def orders(self, statistics: Mapping[str, np.ndarray], pooling: Pooling) -> tuple[np.ndarray, np.ndarray]:
        """Places in the order of a label's d, over all layers and within each; on any thread.

        Args:
            statistics: of the label, as of `append_label`.
            pooling: the run's pooling.
        """
        ranked = (statistics[label_column(name, pooling)] for name in ("d", DOCUMENTS_ACTIVE, "mean"))
        order = descending_order(*ranked)
        return order, order[np.argsort(self._layer_number[order], kind="stable")]

    def append_label(self, statistics: Mapping[str, np.ndarray], orders: tuple[np.ndarray, np.ndarray]) -> None:
        """Append a label; labels come in ascending order.

        Args:
            statistics: `mean_head`, `documents_active_head`, ... -> [places].
            orders: from `orders`.
        """
        for name, values in statistics.items():
            self._statistics[name].append(values)
        for file, order in zip((self._order, self._layer_order), orders, strict=True):
            file.append(order)

    def finish(self, documents: pa.Table) -> None:
        """Write documents and token texts; the last call.

        Args:
            documents: id, label_id, predicted_id, text, token_ids, token_starts, token_ends, in document order.
        """
        texts = pa.table({"text": pa.array(list(self._token_numbers), pa.string())})
        for name, table in ((DOCUMENTS_FILE, documents), (TOKEN_TEXTS_FILE, texts)):
            with _BatchFile(self._directory / name) as file:
                file.write(_one_batch(table))


class _BatchFile:
    """An Arrow IPC file whose schema is that of its first batch; a context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: pa.ipc.RecordBatchFileWriter | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        if self._writer is None:
            self._writer = pa.ipc.new_file(str(self._path), batch.schema)
        self._writer.write_batch(batch)

    def __enter__(self) -> _BatchFile:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)
