"""The base model of a fine-tuning: its files, its tokenizer, and the model with a new head for the labels."""

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
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)

from tegakari.models.architecture import find_blocks, text_config
from tegakari.models.loading import attention_of
from tegakari.models.model_files import check_model_directory
from tegakari.models.tokenizer import load_tokenizer
from tegakari.models.weights import check_weights
from tegakari.schemas.errors import DiskFullError, ModelError
from tegakari.store.disk.durable import translate_disk_full

_FIELD = "classifier.base"
_GIVE_A_DIRECTORY = "give a directory with the model's config.json, safetensors weights and tokenizer.json"
_LOADING_ERRORS = (OSError, ValueError, KeyError, TypeError, ImportError, RuntimeError, SafetensorError)
"""Exceptions of transformers for a directory that holds no model of the expected kind."""


def find_base(base: str) -> Path:
    """Return the directory of a base model; a hub id is downloaded, unless it is in the hub's cache.

    Raises:
        ModelError: `base` is neither a directory nor a model that can be downloaded, or has no safetensors weights.
        DiskFullError: no space for the download.
    """
    directory = Path(base).expanduser()
    if not directory.is_dir():
        directory = _download(base)
    _check_files(directory)
    return directory


def _download(base: str) -> Path:
    try:
        with translate_disk_full(Path(constants.HF_HUB_CACHE), field=_FIELD):
            # Only the repository's root: directories below it hold exports for other programs.
            files = ["*.json", "*.safetensors", "*.model", "*.txt"]
            return Path(snapshot_download(base, allow_patterns=files, ignore_patterns=["*/*", "consolidated*"]))
    except GatedRepoError:
        raise ModelError(
            f"the licence of {base!r} must be accepted before the hub allows the download",
            field=_FIELD,
            fix=f"accept it on the model's page and log in with `hf auth login`, or {_GIVE_A_DIRECTORY}",
        ) from None
    except DiskFullError:
        raise
    except Exception as error:  # noqa: BLE001 - the client passes on exceptions of its HTTP and transfer libraries
        raise ModelError(
            f"{base!r} is no directory, and no model of that name can be downloaded ({_first_line(error)})",
            field=_FIELD,
            fix=_GIVE_A_DIRECTORY,
        ) from None


def _check_files(directory: Path) -> None:
    check_model_directory(directory, field=_FIELD, missing=_GIVE_A_DIRECTORY)
    try:
        AutoConfig.from_pretrained(directory, trust_remote_code=False)
    except _LOADING_ERRORS as error:
        raise ModelError(
            f"transformers cannot read the config.json of {directory}: {_first_line(error)}",
            field=_FIELD,
            fix="give a model of an architecture in transformers; code that comes with a model is never run",
        ) from None


def load_base_tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    """Load a tokenizer that pads on the right, with its end token if it has no padding token.

    Raises:
        ModelError: the tokenizer cannot be used, or has neither token.
    """
    tokenizer = load_tokenizer(directory, _FIELD)
    if tokenizer.pad_token is None and tokenizer.eos_token is None:
        raise ModelError(
            f"the tokenizer of {directory} has neither a padding nor an end token",
            field=_FIELD,
            fix='name one of its tokens "pad_token" in tokenizer_config.json',
        )
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return tokenizer


def load_base_model(directory: Path, labels: Sequence[str], pad_id: int, seed: int) -> PreTrainedModel:
    """Load the base model in float32 with a new head of one logit per label.

    Args:
        directory: from `find_base`; code in it is never run.
        labels: by class index.
        pad_id: id of the padding token; the head reads the last token with another id.
        seed: seed of the head's initialisation.

    Raises:
        ModelError: the architecture has no sequence classifier or no list of blocks, or weights are missing.
    """
    set_seed(seed)
    try:
        model, loading_info = AutoModelForSequenceClassification.from_pretrained(
            directory,
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id={label: index for index, label in enumerate(labels)},
            problem_type="single_label_classification",
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # a base that is itself a classifier has a head for other labels
            output_loading_info=True,
            **attention_of(directory),
        )
    except _LOADING_ERRORS as error:
        raise ModelError(
            f"{directory} cannot become a sequence classifier: {_first_line(error)}",
            field=_FIELD,
            fix=_GIVE_A_DIRECTORY,
        ) from None
    find_blocks(model)
    check_weights(model, loading_info, directory, field=_FIELD, new_head=True)
    model.config.pad_token_id = pad_id
    text_config(model).pad_token_id = pad_id  # read by models of text and images
    return model


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
