"""Layouts of a source: one file, a data set written by `save_to_disk`, or a directory of data files."""

from __future__ import annotations

import re
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
_CACHE = re.compile(r"cache-[0-9a-f]+(_\d+_of_\d+)?\.arrow")
"""Names of files in which `datasets` stores results of `map`, `filter` and `sort` beside the data."""


class SelectedFile(NamedTuple):
    """Consecutive rows of a data file."""

    path: Path
    skip: int
    """rows before them."""
    take: int | None
    """number of rows; None: all that follow."""


class Selection(NamedTuple):
    """Rows of a data set that are not all rows of its files in their order."""

    files: tuple[SelectedFile, ...]
    """data files, at least one, whose rows are counted through from 0."""
    indices: tuple[Path, ...]
    """files with the numbers of the selected rows; none: all rows."""


class Part(NamedTuple):
    """One file of a source."""

    path: Path
    name: str
    """relative to the source's directory, with forward slashes."""
    format: Format
    split: str | None
    """split of this file in the data set's layout, as it is named there."""
    selection: Selection | None = None
    """the rows, where they are a selection; `path` is then the first of its files."""

    def files(self) -> list[tuple[str, Path]]:
        """Name and path of all files of the part."""
        if self.selection is None:
            return [(self.name, self.path)]
        paths = [*(file.path for file in self.selection.files), *self.selection.indices]
        root = self.path.parents[self.name.count("/")]
        return [(path.relative_to(root).as_posix(), path) for path in dict.fromkeys(paths)]


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
    skip: int | None = None
    take: int | None = None


class _State(msgspec.Struct):
    """Of `save_to_disk`. Old releases (1.x) store the numbers of selected rows instead of the rows."""

    data_files: list[_DataFile] = msgspec.field(name="_data_files")
    indices_data_files: list[_DataFile] | None = msgspec.field(name="_indices_data_files", default=None)
    indices_files: list[_DataFile] | None = msgspec.field(name="_indices_files", default=None)


_Layout = TypeVar("_Layout", _DatasetDict, _State)


def _saved_to_disk(directory: Path) -> list[Part]:
    """Files of a `Dataset` or `DatasetDict` written by `save_to_disk`; empty for another directory."""
    dictionary = directory / "dataset_dict.json"
    if not dictionary.is_file():
        return _data_files(directory, directory, None) if (directory / "state.json").is_file() else []
    splits = _decode(dictionary, _DatasetDict).splits
    return [part for split in splits for part in _data_files(directory / split, directory, split)]


def _data_files(directory: Path, root: Path, split: str | None) -> list[Part]:
    state = _decode(directory / "state.json", _State)
    indices = tuple(directory / file.filename for file in state.indices_data_files or state.indices_files or ())
    selected = tuple(SelectedFile(directory / file.filename, file.skip or 0, file.take) for file in state.data_files)
    for file in (*(file.path for file in selected), *indices):
        if not file.is_file():
            raise CorpusError(f"{root} lacks {file.relative_to(root)}", field=FIELD, fix="copy the data set again")
    parts = [_part(file.path, root, split) for file in selected]
    if parts and (indices or any(file.skip or file.take is not None for file in selected)):
        return [parts[0]._replace(selection=Selection(selected, indices))]
    return parts


def _decode(file: Path, kind: type[_Layout]) -> _Layout:
    try:
        return decode_json(file.read_bytes(), kind)
    except msgspec.DecodeError as error:
        raise CorpusError(f"{file} is damaged: {error}", field=FIELD, fix="copy the data set again") from None


def _shards(directory: Path, corpus: Path) -> list[Part]:
    """Data files below a directory, by name, without hidden files, caches and the imported corpus.

    Of a directory that `save_to_disk` wrote, those that its state names.
    """
    imported = corpus.resolve()
    parts: list[Part] = []
    for file in sorted(directory.rglob("*")):
        name = file.relative_to(directory)
        if any(component.startswith((".", "_")) for component in name.parts) or not file.is_file():
            continue
        if file.resolve().is_relative_to(imported) or _CACHE.fullmatch(file.name):
            continue
        split = split_in_path(name)
        if file.name == "state.json" and (file.parent / "dataset_info.json").is_file():
            parts += _data_files(file.parent, directory, split)
        elif _format(file) and not (_format(file) == "arrow" and (file.parent / "state.json").is_file()):
            parts.append(_part(file, directory, split))
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
