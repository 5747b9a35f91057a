"""Which files a path stands for: one file, what `save_to_disk` writes, or a directory of shards."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import msgspec

from tegakari.indexer.corpus.splits import split_in_path
from tegakari.schemas.errors import CorpusError

FIELD = "corpus.source"
Format = Literal["csv", "tsv", "jsonl", "parquet", "arrow"]
_FORMATS: dict[str, Format] = {
    ".csv": "csv",
    ".csv.gz": "csv",
    ".tsv": "tsv",
    ".tsv.gz": "tsv",
    ".jsonl": "jsonl",
    ".jsonl.gz": "jsonl",
    ".ndjson": "jsonl",
    ".ndjson.gz": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
_NAMES_SHOWN = 5


class Part(NamedTuple):
    """One file of a source."""

    path: Path
    name: str
    """relative to the source's directory, with forward slashes."""
    format: Format
    split: str | None
    """what the data set's layout calls the split of this file."""


def parts_of(path: Path, corpus: Path) -> list[Part]:
    """The files to read, at least one, in a fixed order.

    Args:
        path: file or directory.
        corpus: directory of the imported corpus; files below it are never part of a directory.

    Raises:
        CorpusError: it is not there, has another format, or is no data set.
        OSError, ValueError: it cannot be listed.
    """
    if path.is_dir():
        return _saved_to_disk(path) or _shards(path, corpus)
    if path.is_file():
        return [_part(path, path.parent, None)]
    state = "is neither a file nor a directory" if path.exists() else "does not exist"
    raise CorpusError(f"{path} {state}", field=FIELD, fix="set the key to the file or directory of the posts")


def _part(path: Path, root: Path, split: str | None) -> Part:
    kind = _format(path)
    if kind is None:
        raise CorpusError(
            f"{path} has a format that is not read",
            field=FIELD,
            fix=f"use one of {', '.join(_FORMATS)}, or a Hugging Face dataset directory",
        )
    return Part(path, path.relative_to(root).as_posix(), kind, split)


def _format(path: Path) -> Format | None:
    name = path.name.lower()
    return next((kind for ending, kind in _FORMATS.items() if name.endswith(ending)), None)


class _DatasetDict(msgspec.Struct):
    splits: list[str]


class _DataFile(msgspec.Struct):
    filename: str


class _State(msgspec.Struct):
    data_files: list[_DataFile] = msgspec.field(name="_data_files")


_Layout = TypeVar("_Layout", _DatasetDict, _State)


def _saved_to_disk(directory: Path) -> list[Part]:
    """Files of a data set, or of a dictionary of them, written by `save_to_disk`; none if it is something else."""
    dictionary = directory / "dataset_dict.json"
    if not dictionary.is_file():
        return _data_files(directory, directory, None) if (directory / "state.json").is_file() else []
    splits = _decode(dictionary, _DatasetDict).splits
    return [part for split in splits for part in _data_files(directory / split, directory, split)]


def _data_files(directory: Path, root: Path, split: str | None) -> list[Part]:
    files = [directory / file.filename for file in _decode(directory / "state.json", _State).data_files]
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise CorpusError(f"{root} lacks {missing[0].relative_to(root)}", field=FIELD, fix="copy the data set again")
    return [_part(file, root, split) for file in files]


def _decode(file: Path, kind: type[_Layout]) -> _Layout:
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind)
    except msgspec.DecodeError as error:
        raise CorpusError(f"{file} is damaged: {error}", field=FIELD, fix="copy the data set again") from None


def _shards(directory: Path, corpus: Path) -> list[Part]:
    """Data files below a directory, by name, hidden ones and the imported corpus left out."""
    own = corpus.resolve()
    found: list[Part] = []
    for file in sorted(directory.rglob("*")):
        name = file.relative_to(directory)
        hidden = any(part.startswith((".", "_")) for part in name.parts)
        if not hidden and file.is_file() and _format(file) and not file.resolve().is_relative_to(own):
            found.append(_part(file, directory, split_in_path(name)))
    if not found:
        there = sorted(file.name for file in directory.iterdir())
        shown = ", ".join(there[:_NAMES_SHOWN]) + (", ..." if len(there) > _NAMES_SHOWN else "")
        raise CorpusError(
            f"directory {directory} holds no data set, only: {shown or 'nothing'}",
            field=FIELD,
            fix=f"it needs files that end in {', '.join(_FORMATS)}, or what `save_to_disk` writes",
        )
    formats = {part.format: part.name for part in found}
    if len(formats) > 1:
        raise CorpusError(
            f"directory {directory} holds files of several formats: {', '.join(formats.values())}",
            field=FIELD,
            fix="set the key to one file, or to a directory of one format",
        )
    return found
