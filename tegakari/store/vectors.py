"""LanceDB: decoder directions and document embeddings of a run."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from tegakari.store.layout import VECTORS

# Lance warns of every table that it is asked to create.
os.environ.setdefault("LANCEDB_LOG", "error")

DIRECTIONS = "directions"
EMBEDDINGS = "embeddings"


def available() -> bool:
    """A run can be indexed where LanceDB is not installed; the run then has none."""
    return importlib.util.find_spec("lancedb") is not None


def write_directions(run: Path, layers: dict[int, np.ndarray]) -> None:
    """Write decoder directions.

    Args:
        run: the run's (staging) directory.
        layers: layer -> float32 [d_sae, d_model].
    """
    import lancedb

    width = next(iter(layers.values())).shape[1]
    schema = pa.schema([("layer", pa.int32()), ("feature", pa.int32()), ("vector", pa.list_(pa.float32(), width))])

    def batches() -> Iterator[pa.RecordBatch]:
        for layer, vectors in sorted(layers.items()):
            yield pa.record_batch(
                [
                    pa.array(np.full(len(vectors), layer, np.int32)),
                    pa.array(np.arange(len(vectors), dtype=np.int32)),
                    pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), width),
                ],
                schema=schema,
            )

    lancedb.connect(run / VECTORS).create_table(
        DIRECTIONS, pa.RecordBatchReader.from_batches(schema, batches()), schema=schema, mode="overwrite"
    )


def write_embeddings(run: Path, vectors: np.ndarray) -> None:
    """Write document embeddings, float32 [documents, d_model], in document order."""
    import lancedb

    width = vectors.shape[1]
    table = pa.table(
        {
            "document": pa.array(np.arange(len(vectors), dtype=np.int32)),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), width),
        }
    )
    lancedb.connect(run / VECTORS).create_table(EMBEDDINGS, table, mode="overwrite")
