"""Wrong inputs of a fine-tuning are refused before it trains, with the field and the fix."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tegakari.indexer.training.classifier import finetune
from tegakari.indexer.training.classifier.examples import check_labels
from tegakari.schemas.corpus import Document, Split
from tegakari.schemas.errors import CorpusError, ModelError
from tests.support.finetune_case import CLUES, Case, write_corpus


@pytest.fixture(scope="module")
def case(tiny_gemma2_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(write_corpus(tmp_path_factory.mktemp("learnable"), CLUES), tiny_gemma2_dir)


def refused(case: Case, path: Path, *, device: str = "cpu", **changes: Any) -> ModelError:
    """The error of a fine-tuning that is refused before its first step."""
    with pytest.raises(ModelError) as caught:
        finetune(case.config(path, **changes), device=device)
    assert caught.value.fix
    assert not list(path.parent.glob(f"{path.name}.work/checkpoint-*"))
    return caught.value


@pytest.mark.parametrize("base", ["nobody/nothing", "base-model", "no such model", "a/b/c", "../nowhere"])
def test_a_base_that_does_not_exist(case: Case, tmp_path: Path, base: str):
    error = refused(case, tmp_path / "c", base=base)
    assert error.field == "classifier.base"
    assert repr(base) in error.message
    assert "give a directory" in (error.fix or "")


def without_weights(base: Path) -> None:
    (base / "model.safetensors").rename(base / "pytorch_model.bin")


def without_config(base: Path) -> None:
    (base / "config.json").unlink()


def without_tokenizer(base: Path) -> None:
    for file in base.glob("tokenizer*"):
        file.unlink()


def without_padding_or_end(base: Path) -> None:
    file = base / "tokenizer_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({key: value for key, value in config.items() if key not in ("pad_token", "eos_token")}))


def damaged_tokenizer(base: Path) -> None:
    (base / "tokenizer.json").write_text("{")


def damaged_weights(base: Path) -> None:
    (base / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0not json at all!")


def damaged_config(base: Path) -> None:
    (base / "config.json").write_text("{")


def weights_of_fewer_layers(base: Path) -> None:
    tensors = load_file(base / "model.safetensors")
    remaining = {name: value for name, value in tensors.items() if ".layers.2." not in name}
    save_file(remaining, base / "model.safetensors", metadata={"format": "pt"})


def weights_of_another_width(base: Path) -> None:
    tensors = load_file(base / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"] = torch.zeros(3, 3)
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})


def fewer_embeddings_than_tokens(base: Path) -> None:
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "vocab_size": 100}))
    tensors = load_file(base / "model.safetensors")
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"][:100].clone()
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})


def custom_code(base: Path) -> None:
    config = json.loads((base / "config.json").read_text())
    custom = {"model_type": "custom", "auto_map": {"AutoConfig": "custom.Config", "AutoModel": "custom.Model"}}
    (base / "config.json").write_text(json.dumps({**config, **custom}))
    (base / "custom.py").write_text(f"open({str(base / 'it ran')!r}, 'w')")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (without_weights, "only pickled ones (pytorch_model.bin)"),
        (without_config, "no config.json"),
        (without_tokenizer, "has no tokenizer"),
        (damaged_tokenizer, "has no usable tokenizer"),
        (without_padding_or_end, "neither a padding nor an end token"),
        (damaged_weights, "cannot become a sequence classifier"),
        (damaged_config, "transformers cannot read the config.json"),
        (weights_of_fewer_layers, "lacks 11 of the model's weights"),
        (weights_of_another_width, "model.layers.1.mlp.up_proj.weight"),
        (fewer_embeddings_than_tokens, "the model embeds only 100 tokens"),
        (custom_code, "contains custom code"),
    ],
)
def test_an_incomplete_or_damaged_base(case: Case, tmp_path: Path, spoil: Callable[[Path], None], words: str):
    base = tmp_path / "base"
    shutil.copytree(case.base, base)
    spoil(base)
    error = refused(case, tmp_path / "c", base=str(base))
    assert words in error.message
    assert error.field == "classifier.base"
    assert not (base / "it ran").exists()


def test_more_tokens_than_the_model_has_positions(case: Case, tmp_path: Path):
    error = refused(case, tmp_path / "c", max_length=513)
    assert error.field == "classifier.max_length"
    assert error.fix == "set it to 512 or less"


def test_a_directory_with_other_content_is_not_changed(case: Case, tmp_path: Path):
    path = tmp_path / "c"
    path.mkdir()
    (path / "thesis.txt").write_text("other content")
    assert refused(case, path).field == "classifier.path"
    (path / "report.json").write_text('{"classifier": 1}')
    assert refused(case, path).field == "classifier.path"
    assert (path / "thesis.txt").read_text() == "other content"


def test_an_empty_directory_is_used(case: Case, tmp_path: Path):
    (tmp_path / "c").mkdir()
    finetune(case.config(tmp_path / "c", epochs=1), device="cpu")
    error = refused(case, tmp_path / "c", epochs=2)
    assert "epochs was 1 and is now 2" in error.message
    assert error.field == "classifier.path"


def test_a_path_below_a_file(case: Case, tmp_path: Path):
    (tmp_path / "file").write_text("")
    assert refused(case, tmp_path / "file" / "c").field == "classifier.path"


@pytest.mark.parametrize("device", ["abacus", "meta", "cuda:1"])
def test_a_device_that_cannot_train(case: Case, tmp_path: Path, device: str):
    assert repr(device) in refused(case, tmp_path / "c", device=device).message


def test_a_diverging_training_ends_with_an_error(case: Case, tmp_path: Path):
    with pytest.raises(ModelError, match="diverged") as caught:
        finetune(case.config(tmp_path / "c", learning_rate=1e30, epochs=1), device="cpu")
    assert caught.value.field == "classifier.learning_rate"
    assert not (tmp_path / "c").exists()


def documents_of(**counts: tuple[int, int]) -> list[Document]:
    splits: tuple[Split, Split] = ("train", "eval")
    return [
        Document(f"{label} {split} {number}", label, split, "text")
        for label, sizes in counts.items()
        for split, count in zip(splits, sizes, strict=True)
        for number in range(count)
    ]


@pytest.mark.parametrize(
    ("documents", "words"),
    [
        (documents_of(a=(5, 5), b=(1, 5)), r"label 'b' has 1 train document\(s\), fewer than 2"),
        (documents_of(a=(5, 5), b=(0, 5)), r"label 'b' has 0 train document\(s\)"),
        (
            documents_of(a=(5, 0), b=(5, 0), c=(5, 1)),
            r"label 'a' has 0 eval document\(s\), fewer than 1; so have 1 more",
        ),
        (documents_of(a=(5, 5)), r"the corpus has 1 label\(s\)"),
    ],
)
def test_labels_with_too_few_documents(documents: list[Document], words: str):
    labels = sorted({document.label for document in documents})
    with pytest.raises(CorpusError, match=words) as caught:
        check_labels(documents, labels)
    assert caught.value.field
    assert caught.value.fix
    check_labels(documents_of(a=(2, 1), b=(2, 1)), ["a", "b"])


def test_a_missing_corpus(case: Case, tmp_path: Path):
    config = Case(type(case.corpus)(path=str(tmp_path / "nowhere")), case.base).config(tmp_path / "c")
    with pytest.raises(CorpusError, match="nowhere"):
        finetune(config, device="cpu")
