"""The model that fine-tuning starts from: found, checked, and given a head for the corpus's labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import GatedRepoError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)

from tegakari.models.architecture import find_blocks, text_config
from tegakari.models.loading import attention_of
from tegakari.schemas.errors import DiskFullError, ModelError
from tegakari.store.disk.durable import translate_disk_full

_FIELD = "classifier.base"
_GIVE_A_DIRECTORY = "give a directory with the model's config.json, safetensors weights and tokenizer.json"
_TOKENIZER_FILES = ("tokenizer.json", "*.model", "vocab.*")
_CANNOT_LOAD = (OSError, ValueError, KeyError, TypeError, ImportError, RuntimeError, SafetensorError)
"""What transformers raises for a directory that is not what it should be."""


def find_base(base: str) -> Path:
    """Return the directory of a base model; a hub id is downloaded, or taken from the hub's cache.

    Raises:
        ModelError: neither a directory nor a model that can be fetched, or one without safetensors weights.
        DiskFullError: no space for the download.
    """
    directory = Path(base).expanduser()
    if not directory.is_dir():
        directory = _downloaded(base)
    _check_files(directory)
    return directory


def _downloaded(base: str) -> Path:
    try:
        with translate_disk_full(Path(constants.HF_HUB_CACHE), field=_FIELD):
            # Only what stands in the repository's root: below it lie exports for other programs.
            files = ["*.json", "*.safetensors", "*.model", "*.txt"]
            return Path(snapshot_download(base, allow_patterns=files, ignore_patterns=["*/*", "consolidated*"]))
    except GatedRepoError:
        raise ModelError(
            f"the hub gives {base!r} only to those who have accepted its licence",
            field=_FIELD,
            fix=f"accept it on the model's page and log in with `hf auth login`, or {_GIVE_A_DIRECTORY}",
        ) from None
    except DiskFullError:
        raise
    except Exception as error:  # noqa: BLE001 - the client lets through what its HTTP and transfer libraries raise
        raise ModelError(
            f"{base!r} is no directory, and no model of that name can be fetched from the hub ({_first_line(error)})",
            field=_FIELD,
            fix=_GIVE_A_DIRECTORY,
        ) from None


def _check_files(directory: Path) -> None:
    if not (directory / "config.json").is_file():
        raise ModelError(f"{directory} has no config.json", field=_FIELD, fix=_GIVE_A_DIRECTORY)
    try:
        AutoConfig.from_pretrained(directory, trust_remote_code=False)
    except _CANNOT_LOAD as error:
        raise ModelError(
            f"{directory} is no model that transformers knows: {_first_line(error)}",
            field=_FIELD,
            fix="give one of a family that transformers itself has; code that comes with a model is never run",
        ) from None
    if not any(directory.glob("*.safetensors")):
        pickled = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in directory.glob(pattern))
        raise ModelError(
            f"{directory} has no safetensors weights" + (f", only pickled ones ({pickled[0]})" if pickled else ""),
            field=_FIELD,
            fix="load it with transformers where you trust it and save it again with save_pretrained, "
            "which writes safetensors; pickled weights are never loaded",
        )
    # transformers would make up an empty tokenizer.
    if not any(file for pattern in _TOKENIZER_FILES for file in directory.glob(pattern)):
        raise ModelError(f"{directory} has no tokenizer", field=_FIELD, fix="save its tokenizer.json beside the model")


def load_tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    """Load a tokenizer that pads on the right; one without a padding token pads with its end token.

    Raises:
        ModelError: it cannot be read, or has neither token.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
    except _CANNOT_LOAD as error:
        raise ModelError(
            f"{directory} has no usable tokenizer: {_first_line(error)}",
            field=_FIELD,
            fix="save its tokenizer.json beside the model",
        ) from None
    if tokenizer.pad_token is None and tokenizer.eos_token is None:
        raise ModelError(
            f"the tokenizer of {directory} has neither a padding nor an end token",
            field=_FIELD,
            fix='name one of its tokens "pad_token" in tokenizer_config.json',
        )
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    tokenizer.padding_side = "right"
    return tokenizer


def load_base_model(directory: Path, labels: Sequence[str], pad_id: int, seed: int) -> PreTrainedModel:
    """Load the base with a new head of one logit a label, in float32.

    Args:
        directory: from `find_base`; no code in it is run.
        labels: by class index.
        pad_id: token that pads; the head reads the last one that is another.
        seed: of the head's initialisation.

    Raises:
        ModelError: the directory holds no model that can be a sequence classifier with a block list, or weights are
            missing.
    """
    set_seed(seed)
    try:
        model, found = AutoModelForSequenceClassification.from_pretrained(
            directory,
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id={label: index for index, label in enumerate(labels)},
            problem_type="single_label_classification",
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # the head of a base that is itself a classifier of other labels
            output_loading_info=True,
            **attention_of(directory),
        )
    except _CANNOT_LOAD as error:
        raise ModelError(
            f"{directory} cannot become a sequence classifier: {_first_line(error)}",
            field=_FIELD,
            fix=_GIVE_A_DIRECTORY,
        ) from None
    find_blocks(model)
    _check_weights(model, {*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])}, directory)
    model.config.pad_token_id = pad_id
    text_config(model).pad_token_id = pad_id  # where a model of text and images looks
    return model


def _check_weights(model: PreTrainedModel, initialised: set[str], directory: Path) -> None:
    """Only what lies above the blocks may start from scratch: the head, and the pooler of an encoder."""
    body = f"{model.base_model_prefix}."
    lost = sorted(name for name in initialised if name.startswith(body) and ".pooler." not in name)
    if lost:
        raise ModelError(
            f"{directory} lacks {len(lost)} of the model's weights, or has them in another shape: {lost[0]}",
            field=_FIELD,
            fix="give weights that belong to its config.json",
        )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
