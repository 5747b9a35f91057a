"""Files of a model directory, checked before anything reads them: what is absent, or is not what its name says."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any, NamedTuple

from tegakari.models.file_sizes import has_holes
from tegakari.schemas.errors import ModelError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_ADAPTER = "adapter_config.json"
_POINTER = b"version https://git-lfs.github.com/spec/"
_POINTER_SIZE = 1024
"""A Git LFS pointer is a text of some 130 bytes, never more than 1,024 (the specification's limit)."""

_TOKENIZER_FILES = ("tokenizer.json", "*.model", "vocab.*", "tekken.json", "*.tiktoken", "*.spm")
"""Any of them is a tokenizer of some class of transformers."""

_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_OTHER_WEIGHTS = {"*.gguf": "GGUF", "*.h5": "TensorFlow", "*.msgpack": "Flax", "*.onnx": "ONNX"}
_MAX_HEADER = 100 * 2**20
"""Bytes of the header of a safetensors file; the library refuses more."""


def check_model_directory(
    directory: Path, *, field: str = "classifier.path", missing: str = "run `tegakari finetune` first"
) -> None:
    """Refuse a directory that holds no model, or one that would have to be unpickled, merged or dequantised.

    Args:
        directory: of the model.
        field: the configuration key that named it.
        missing: fix for a directory without a model.

    Raises:
        ModelError: no config.json, no safetensors or not all of them, files with holes, Git LFS pointers, an adapter,
            quantised weights, or no tokenizer.
    """
    if not (directory / "config.json").is_file():
        if (directory / _ADAPTER).is_file():
            raise _adapter_alone(directory, field)
        raise ModelError(f"no model in {directory}: it has no config.json", field=field, fix=missing)
    _check_pointers(directory, field)
    _check_adapter(directory, field)
    _check_quantisation(directory, field)
    _check_weights_files(directory, field)
    _check_tokenizer_files(directory, field)


def read_config(directory: Path) -> dict[str, Any]:
    """Content of config.json; empty if it is not a JSON object, which transformers' reader says in its own words."""
    try:
        content = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def weights_files(directory: Path) -> list[Path]:
    """Files of weights that transformers reads: the one file, or the shards that the index names."""
    if (directory / WEIGHTS).is_file():
        return [directory / WEIGHTS]
    try:
        names = json.loads((directory / INDEX).read_text(encoding="utf-8"))["weight_map"].values()
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return []
    return [directory / name for name in sorted(set(names))]


class StoredTensor(NamedTuple):
    """A tensor in a file of weights, as the header of the file describes it."""

    dtype: str
    """such as "F32" """
    shape: tuple[int, ...]


def stored_tensors(directory: Path) -> dict[str, StoredTensor]:
    """Each tensor in the files of weights, by name; headers alone are read."""
    tensors: dict[str, StoredTensor] = {}
    for file in weights_files(directory):
        with file.open("rb") as stream:
            (size,) = struct.unpack("<Q", stream.read(8))
            header = json.loads(stream.read(min(size, _MAX_HEADER)))
        for name, entry in header.items():
            if name != "__metadata__":
                tensors[name] = StoredTensor(entry["dtype"], tuple(entry["shape"]))
    return tensors


def _check_pointers(directory: Path, field: str) -> None:
    for file in sorted(directory.iterdir()):
        if not file.is_file() or file.stat().st_size > _POINTER_SIZE:
            continue
        with file.open("rb") as stream:
            if stream.read(len(_POINTER)) == _POINTER:
                raise ModelError(
                    f"{file} is a Git LFS pointer, a text that stands for the file itself",
                    field=field,
                    fix="run `git lfs pull` in the repository, or download the model with `hf download`",
                )


def _check_adapter(directory: Path, field: str) -> None:
    if not (directory / _ADAPTER).is_file():
        return
    if not any(file for file in directory.glob("*.safetensors") if not file.name.startswith("adapter_")):
        raise _adapter_alone(directory, field)
    # transformers would add the adapter to these weights, or not, by whether PEFT is installed.
    raise ModelError(
        f"{directory} holds both a model and an adapter ({_ADAPTER})",
        field=field,
        fix="if the adapter is merged into the weights, remove its files (adapter_*); else merge it first with "
        "PEFT's merge_and_unload() and save the result",
    )


def _adapter_alone(directory: Path, field: str) -> ModelError:
    return ModelError(
        f"{directory} holds an adapter (PEFT, LoRA) without the model that it changes",
        field=field,
        fix="load it with PEFT's AutoPeftModelForSequenceClassification, call merge_and_unload(), and save model and "
        "tokenizer with save_pretrained",
    )


def _check_quantisation(directory: Path, field: str) -> None:
    quantisation = read_config(directory).get("quantization_config")
    if not quantisation:
        return
    method = quantisation.get("quant_method") if isinstance(quantisation, dict) else None
    raise ModelError(
        f"{directory} holds quantised weights ({method or 'quantization_config in config.json'})",
        field=field,
        fix="give the model before its quantisation, or load it with transformers, call dequantize() and save it again",
    )


def _check_weights_files(directory: Path, field: str) -> None:
    if not any(directory.glob("*.safetensors")):
        raise ModelError(
            f"{directory} has no safetensors weights{_other_weights(directory)}",
            field=field,
            fix="if you trust them, load the model with transformers and save it again with save_pretrained, "
            "which writes safetensors; pickled weights are never loaded here",
        )
    files = weights_files(directory)
    if not files and "transformers_weights" not in read_config(directory):
        present = sorted(file.name for file in directory.glob("*.safetensors"))
        raise ModelError(
            f"{directory} has neither {WEIGHTS} nor {INDEX}, only {present[0]}",
            field=field,
            fix="copy the index of the shards as well, or save the model again with save_pretrained",
        )
    if absent := [file.name for file in files if not file.is_file()]:
        raise ModelError(
            f"{directory} lacks {absent[0]}, one of the {len(files)} files that {INDEX} names",
            field=field,
            fix="copy all files of the model",
        )
    for file in directory.glob("*.safetensors"):
        if has_holes(file):
            raise ModelError(f"most of {file} is not on the disk", field=field, fix="copy the model again")


def _other_weights(directory: Path) -> str:
    pickled = sorted(file.name for pattern in _PICKLED for file in directory.glob(pattern))
    if pickled:
        return f", only pickled ones ({pickled[0]})"
    for pattern, library in _OTHER_WEIGHTS.items():
        for file in directory.glob(pattern):
            return f", only those of {library} ({file.name})"
    return ""


def _check_tokenizer_files(directory: Path, field: str) -> None:
    if not any(file for pattern in _TOKENIZER_FILES for file in directory.glob(pattern)):
        # transformers would make an empty tokenizer, which reads every text as nothing.
        raise ModelError(f"{directory} has no tokenizer", field=field, fix="save its tokenizer.json beside the model")
    others = ("tokenizer.json", "*.model", "*.spm", "vocab.txt", "merges.txt", "vocab.bpe", "bpe.codes")
    if (directory / "vocab.json").is_file() and not any(file for name in others for file in directory.glob(name)):
        # transformers would read every character as a token of its own.
        raise ModelError(
            f"{directory} has the vocab.json of a tokenizer without its merges.txt",
            field=field,
            fix="copy merges.txt as well, or save a tokenizer.json beside the model",
        )
