"""A model directory whose files are absent, or are not what their names say, is refused with what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tegakari.models.loading import load_classifier
from tegakari.models.model_files import check_model_directory
from tegakari.schemas.errors import ModelError
from tests.support.model_directories import change_config, save_classifier

POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_classifier(tmp_path_factory.mktemp("llama"))


def pointer(name: str) -> Callable[[Path], None]:
    return lambda directory: (directory / name).write_text(POINTER)


def adapter_alone(directory: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (directory / name).rename(directory / {"config.json": "adapter_config.json"}.get(name, "adapter_" + name))


def adapter_with_config(directory: Path) -> None:
    (directory / "adapter_config.json").write_text("{}")
    (directory / "model.safetensors").rename(directory / "adapter_model.safetensors")


def adapter_beside_weights(directory: Path) -> None:
    (directory / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))


def quantised(directory: Path) -> None:
    change_config(directory, quantization_config={"quant_method": "gptq", "bits": 4})


def other_weights(name: str) -> Callable[[Path], None]:
    return lambda directory: (directory / "model.safetensors").rename(directory / name) and None


def cut_short(directory: Path) -> None:
    file = directory / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-64])


def tokenizer_of_vocabulary_alone(directory: Path) -> None:
    vocabulary = json.loads((directory / "tokenizer.json").read_text())["model"]["vocab"]
    (directory / "tokenizer.json").unlink()
    (directory / "vocab.json").write_text(json.dumps(vocabulary))


SPOILED: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "pointer: weights": (pointer("model.safetensors"), "model.safetensors is a Git LFS pointer", "git lfs pull"),
    "pointer: tokenizer": (pointer("tokenizer.json"), "tokenizer.json is a Git LFS pointer", "git lfs pull"),
    "pointer: SentencePiece": (pointer("tokenizer.model"), "tokenizer.model is a Git LFS pointer", "git lfs pull"),
    "adapter alone": (adapter_alone, "holds an adapter", "merge_and_unload"),
    "adapter and config": (adapter_with_config, "holds an adapter", "merge_and_unload"),
    "adapter beside weights": (adapter_beside_weights, "both a model and an adapter", "merge_and_unload"),
    "quantised": (quantised, "quantised weights (gptq)", "dequantize"),
    "pickled": (other_weights("pytorch_model.bin"), "only pickled ones (pytorch_model.bin)", "save_pretrained"),
    "GGUF": (other_weights("model-q4.gguf"), "only those of GGUF (model-q4.gguf)", "save_pretrained"),
    "another name": (other_weights("weights.safetensors"), "only weights.safetensors", "save_pretrained"),
    "cut short": (cut_short, "are damaged", "copy the model again"),
    "vocab.json alone": (tokenizer_of_vocabulary_alone, "without its merges.txt", "merges.txt"),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_files_that_are_not_a_model(kind: str, llama: Path, tmp_path: Path):
    for file in llama.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    spoil, words, fix = SPOILED[kind]
    spoil(tmp_path)
    with pytest.raises(ModelError) as caught:
        load_classifier(tmp_path, max_length=32, device="cpu")
    assert words in caught.value.message
    assert fix in (caught.value.fix or "")


def test_the_field_is_the_one_that_named_the_directory(tmp_path: Path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError) as caught:
        check_model_directory(tmp_path, field="classifier.base")
    assert caught.value.field == "classifier.base"


def test_null_in_place_of_a_quantisation_is_none(llama: Path, tmp_path: Path):
    for file in llama.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    content = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**content, "quantization_config": None}))
    load_classifier(tmp_path, max_length=32, device="cpu")
