"""Layouts of a source: one file, a data set written by `save_to_disk`, or a directory of data files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import msgspec

from tegakari.indexer.corpus.splits import split_in_path
from tegakari.schemas.decoding import decode_json
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
_MAX_NAMES = 5


class Part(NamedTuple):
    """One file of a source."""

    path: Path
    name: str
    """relative to the source's directory, with forward slashes."""
    format: Format
    split: str | None
    """split of this file in the data set's layout, as it is named there."""


def parts_of(path: Path, corpus: Path) -> list[Part]:
    """The files of a source, at least one, in a fixed order.

    Args:
        path: file or directory.
        corpus: directory of the imported corpus; files below it are never part of a directory.

    Raises:
        CorpusError: `path` does not exist, has another format, or is not a data set.
        OSError, ValueError: `path` cannot be listed.
    """
    if path.is_dir():
        return _saved_to_disk(path) or _shards(path, corpus)
    if path.is_file():
        return [_part(path, path.parent, None)]
    state = "is neither a file nor a directory" if path.exists() else "does not exist"
    raise CorpusError(f"{path} {state}", field=FIELD, fix="set the key to the file or directory of the posts")


def _part(path: Path, root: Path, split: str | None) -> Part:
    format_ = _format(path)
    if format_ is None:
        raise CorpusError(
            f"{path} has an unsupported format",
            field=FIELD,
            fix=f"use one of {', '.join(_FORMATS)}, or a Hugging Face dataset directory",
        )
    return Part(path, path.relative_to(root).as_posix(), format_, split)


def _format(path: Path) -> Format | None:
    name = path.name.lower()
    return next((format_ for ending, format_ in _FORMATS.items() if name.endswith(ending)), None)


class _DatasetDict(msgspec.Struct):
    splits: list[str]


class _DataFile(msgspec.Struct):
    filename: str


class _State(msgspec.Struct):
    data_files: list[_DataFile] = msgspec.field(name="_data_files")


_Layout = TypeVar("_Layout", _DatasetDict, _State)


def _saved_to_disk(directory: Path) -> list[Part]:
    """Files of a `Dataset` or `DatasetDict` written by `save_to_disk`; empty for another directory."""
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
        return decode_json(file.read_bytes(), kind)
    except msgspec.DecodeError as error:
        raise CorpusError(f"{file} is damaged: {error}", field=FIELD, fix="copy the data set again") from None


def _shards(directory: Path, corpus: Path) -> list[Part]:
    """Data files below a directory, by name, without hidden files and the imported corpus."""
    imported = corpus.resolve()
    parts: list[Part] = []
    for file in sorted(directory.rglob("*")):
        name = file.relative_to(directory)
        hidden = any(component.startswith((".", "_")) for component in name.parts)
        if not hidden and file.is_file() and _format(file) and not file.resolve().is_relative_to(imported):
            parts.append(_part(file, directory, split_in_path(name)))
    if not parts:
        names = sorted(file.name for file in directory.iterdir())
        listed = ", ".join(names[:_MAX_NAMES]) + (", ..." if len(names) > _MAX_NAMES else "")
        raise CorpusError(
            f"directory {directory} holds no data set, only: {listed or 'nothing'}",
            field=FIELD,
            fix=f"use a directory with files that end in {', '.join(_FORMATS)}, or one written by `save_to_disk`",
        )
    formats = {part.format: part.name for part in parts}
    if len(formats) > 1:
        raise CorpusError(
            f"directory {directory} holds files of several formats: {', '.join(formats.values())}",
            field=FIELD,
            fix="set the key to one file, or to a directory of one format",
        )
    return parts
