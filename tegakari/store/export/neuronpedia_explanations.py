"""Explanations in the layout of Neuronpedia's bulk import: `explanations/batch-N.jsonl.gz`, a row per line.

Names and types are those of the table Explanation in Neuronpedia's `schema.prisma`, as its `export-data.py` writes
them. Types and models of explanations are rows of other tables there, which an import does not add: they are null
here, and `notes` says where an explanation comes from.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from tegakari.schemas.decoding import decode_json
from tegakari.schemas.errors import StoreError
from tegakari.schemas.explain import ImportResult
from tegakari.schemas.explanations import MAX_EXPLANATION, MAX_MODEL, Explanation, explanation_id
from tegakari.schemas.notes import MAX_AUTHOR
from tegakari.store.explanations import (
    add_explanations,
    feature_explanations,
    language_of,
    one_line,
)
from tegakari.store.reader import Run

MAX_LINE = 2**20
"""Size of a line of a file in bytes; embeddings of explanations take some kilobytes."""
MAX_ROWS = 2_000_000
"""Lines of a file."""
BATCH = 1000
"""Explanations that are stored at a time."""
UNKNOWN_AUTHOR = "neuronpedia"
"""Author of imported explanations that name neither a model nor an author."""

_SOURCE = re.compile(r"(\d{1,4})(-.*)?", re.DOTALL)
_INDEX = re.compile(r"\d{1,9}")


class ExplanationRow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Row of explanations/batch-N.jsonl.gz."""

    id: str
    model_id: str
    layer: str
    """id of the source"""
    index: str
    author_id: str
    description: str
    type_name: str | None = None
    explanation_model_name: str | None = None
    notes: str | None = None
    score_v1: float = 0.0
    created_at: str


class _ImportedRow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    layer: str
    index: str
    description: str
    author_id: str | None = None
    type_name: str | None = None
    explanation_model_name: str | None = None
    created_at: str | None = None


def explanation_rows(
    run: Run, layer: int, features: Sequence[int], *, model_id: str, source: str, creator: str
) -> Iterator[ExplanationRow]:
    """All explanations of features of a layer.

    Args:
        run: the run.
        layer: of the features.
        features: their numbers.
        model_id: of the model in Neuronpedia.
        source: id of the source in Neuronpedia.
        creator: id of the user in Neuronpedia.
    """
    for feature in features:
        for row in feature_explanations(run, layer, feature):
            yield ExplanationRow(
                id=f"{run.manifest.fingerprint[:12]}-{row.id}",
                model_id=model_id,
                layer=source,
                index=str(feature),
                author_id=creator,
                description=row.text,
                notes=_notes(row),
                created_at=row.created,
            )


def _notes(row: Explanation) -> str:
    parts = [f"tegakari: {row.method}", f"author {row.author}", f"language {row.language}"]
    if row.prompt_version is not None:
        parts.append(f"prompt {row.prompt_version}")
    if row.score is not None:
        parts.append(f"detection {row.score:.3f}")
    return ", ".join(parts)


def import_explanations(run: Run, files: Sequence[Path]) -> ImportResult:
    """Add the explanations of files in Neuronpedia's layout to a run, whose SAEs they must be about.

    The layer is the number at the beginning of `layer`. An explanation with `explanationModelName` is one of a language
    model, with `typeName` as its prompt; others are of their author.

    Args:
        run: the run.
        files: JSON Lines, plain or compressed by gzip.

    Returns:
        numbers of rows, by what became of them.

    Raises:
        StoreError: a file cannot be read, or the explanations cannot be stored.
        QueryError: a feature would have too many explanations.
    """
    widths = dict(zip(run.manifest.saes.layers, run.manifest.saes.widths, strict=True))
    skipped: Counter[str] = Counter()
    new: list[Explanation] = []
    rows = added = 0
    for file in files:
        for line in _lines(file):
            rows += 1
            explanation = _explanation(line, widths)
            if isinstance(explanation, str):
                skipped[explanation] += 1
                continue
            new.append(explanation)
            if len(new) == BATCH:
                added += add_explanations(run, new)
                new = []
    added += add_explanations(run, new)
    return ImportResult(
        run=run.name,
        rows=rows,
        added=added,
        stored_before=rows - added - skipped.total(),
        skipped=dict(sorted(skipped.items())),
    )


def _explanation(line: bytes, widths: dict[int, int]) -> Explanation | str:
    """The explanation of a line, or why it is skipped."""
    try:
        row = decode_json(line, _ImportedRow)
    except msgspec.DecodeError:
        return "no row of explanations"
    source, index = _SOURCE.fullmatch(row.layer), _INDEX.fullmatch(row.index)
    if source is None or index is None:
        return "layer or index is no number"
    layer, feature = int(source[1]), int(index[0])
    if feature >= widths.get(layer, 0):
        return "the run has no such feature"
    text = one_line(row.description)
    if not 0 < len(text) <= MAX_EXPLANATION:
        return f"the text is empty or longer than {MAX_EXPLANATION:,} characters"
    model = one_line(row.explanation_model_name or "")[:MAX_MODEL].strip() or None
    author = model or one_line(row.author_id or "")[:MAX_AUTHOR].strip() or UNKNOWN_AUTHOR
    return Explanation(
        id=explanation_id(layer, feature, "model" if model else "person", author, text),
        layer=layer,
        feature=feature,
        text=text,
        language=language_of(text),
        method="model" if model else "person",
        author=author,
        model=model,
        prompt_version=one_line(row.type_name or "")[:100].strip() or None if model else None,
        created=_time(row.created_at),
    )


def _time(text: str | None) -> str:
    """A time in ISO 8601 and UTC; the current one if there is none."""
    try:
        time = datetime.fromisoformat(text or "")
    except ValueError:
        time = datetime.now(UTC)
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    return time.astimezone(UTC).isoformat(timespec="seconds")


def _lines(file: Path) -> Iterator[bytes]:
    """Lines of a file that is plain or compressed.

    Raises:
        StoreError: it cannot be read, is damaged, or is too large.
    """
    try:
        with file.open("rb") as raw:
            compressed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            with gzip.GzipFile(fileobj=raw) if compressed else raw as stream:
                number = 0
                while line := stream.readline(MAX_LINE + 1):
                    number += 1
                    if len(line) > MAX_LINE or number > MAX_ROWS:
                        limits = f"more than {MAX_ROWS:,} lines, or one of more than {MAX_LINE:,} bytes"
                        raise StoreError(f"{file} has {limits}", field="file", fix="split it")
                    if line.strip():
                        yield line
    except (OSError, EOFError, zlib.error) as error:
        raise StoreError(
            f"{file} cannot be read: {getattr(error, 'strerror', None) or error}",
            field="file",
            fix="give files explanations/batch-N.jsonl.gz of Neuronpedia's layout",
        ) from None
