"""Fine-tuning: the classifier learns, the report is true, and equal inputs give equal weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from tegakari.indexer.corpus import read_documents, read_manifest
from tegakari.indexer.training.classifier import finetune
from tegakari.models.fingerprint import fingerprint
from tegakari.models.loading import load_classifier
from tegakari.schemas.classifier import ClassifierReport, ModelScores
from tegakari.schemas.corpus import Document
from tests.support.finetune_case import CLUES, EVAL, STEPS_PER_EPOCH, TRAIN, Case, acting_at, write_corpus


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """More threads do not speed up models of this size, and slow them down on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def case(tiny_gemma2_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(write_corpus(tmp_path_factory.mktemp("learnable"), CLUES), tiny_gemma2_dir)


class Tuned(NamedTuple):
    case: Case
    path: Path
    report: ClassifierReport


@pytest.fixture(scope="module")
def tuned(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    path = tmp_path_factory.mktemp("tuned") / "classifier"
    return Tuned(case, path, finetune(case.config(path), device="cpu"))


def held_out(case: Case) -> list[Document]:
    return read_documents(case.corpus_path, "eval")


def plain_logits(path: Path, texts: list[str]) -> torch.Tensor:
    """Logits of the plain transformers model, one text at a time: no padding, none of the code under test."""
    model = AutoModelForSequenceClassification.from_pretrained(path, attn_implementation="eager").eval()
    tokenizer = AutoTokenizer.from_pretrained(path)
    with torch.no_grad():
        return torch.cat(
            [model(**tokenizer(text, truncation=True, max_length=24, return_tensors="pt")).logits for text in texts]
        )


def test_a_separable_corpus_is_learned(tuned: Tuned):
    assert tuned.report.classifier.macro_f1 == 1.0
    assert tuned.report.classifier.accuracy == 1.0
    assert tuned.report.baseline.macro_f1 == 1.0
    assert tuned.report.steps == STEPS_PER_EPOCH * 8


def test_the_classifier_loads_and_its_logits_are_the_plain_models(tuned: Tuned):
    classifier = load_classifier(tuned.path, max_length=24, device="cpu")
    assert list(classifier.labels) == sorted(CLUES)
    texts = [document.text for document in held_out(tuned.case)]
    logits = classifier.run(classifier.batch(classifier.tokenize(texts))).logits
    torch.testing.assert_close(logits, plain_logits(tuned.path, texts), atol=1e-5, rtol=1e-5)


def check_scores(scores: ModelScores, labels: list[str], true: list[str], predicted: list[str]) -> None:
    """Compare with scikit-learn."""
    assert scores.macro_f1 == pytest.approx(f1_score(true, predicted, average="macro", labels=labels))
    assert scores.accuracy == pytest.approx(accuracy_score(true, predicted))
    table = np.array(precision_recall_fscore_support(true, predicted, labels=labels))
    assert [row.label for row in scores.labels] == labels
    rows = [[row.precision, row.recall, row.f1, row.support] for row in scores.labels]
    np.testing.assert_allclose(rows, table.T.astype(float))
    pairs = list(zip(true, predicted, strict=True))
    assert {(c.label, c.predicted): c.documents for c in scores.confusion} == {
        pair: pairs.count(pair) for pair in pairs
    }


def test_scores_are_those_of_new_predictions(case: Case, tmp_path: Path):
    """A classifier that has not learned enough to be always right."""
    report = finetune(case.config(tmp_path / "classifier", epochs=2), device="cpu")
    documents = held_out(case)
    labels = read_manifest(case.corpus_path).labels
    logits = plain_logits(tmp_path / "classifier", [document.text for document in documents])
    predicted = [labels[index] for index in logits.argmax(1)]
    assert 0 < report.classifier.accuracy < 1
    check_scores(report.classifier, labels, [document.label for document in documents], predicted)


def test_the_report_records_inputs_and_cost(tuned: Tuned):
    report = msgspec.json.decode((tuned.path / "report.json").read_bytes(), type=ClassifierReport)
    assert report == tuned.report
    assert report.train_documents == TRAIN * len(CLUES)
    assert report.eval_documents == EVAL * len(CLUES)
    assert report.recipe.corpus_sha256 == read_manifest(tuned.case.corpus_path).content_sha256
    assert report.recipe.base_sha256 == fingerprint(tuned.case.base)
    assert report.recipe.precision == "float32"
    assert report.base == str(tuned.case.base)
    assert report.versions["torch"] == torch.__version__
    assert report.seconds > 0
    assert report.peak_memory_bytes > 2**20
    assert set(report.classifier.macro_f1_by_prefix) == {"aozora"}  # the only prefix that two labels share


def test_the_directory_holds_a_whole_model_and_nothing_pickled(tuned: Tuned):
    files = {file.name for file in tuned.path.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "report.json"} <= files
    assert {Path(name).suffix for name in files} <= {".json", ".safetensors", ".jinja"}
    assert len({file.stat().st_mode for file in tuned.path.iterdir()}) == 1
    assert not tuned.path.with_name("classifier.work").exists()
    config = json.loads((tuned.path / "config.json").read_text())
    assert config["label2id"] == {label: index for index, label in enumerate(sorted(CLUES))}
    assert json.loads((tuned.path / "tokenizer.json").read_text())["truncation"] is None


def test_a_finished_training_is_not_repeated(tuned: Tuned):
    before = (tuned.path / "model.safetensors").stat().st_mtime_ns
    assert finetune(tuned.case.config(tuned.path), device="cpu") == tuned.report
    assert (tuned.path / "model.safetensors").stat().st_mtime_ns == before
    assert not tuned.path.with_name("classifier.work").exists()


def assert_same_weights(left: Path, right: Path) -> None:
    left_weights, right_weights = load_file(left / "model.safetensors"), load_file(right / "model.safetensors")
    assert left_weights.keys() == right_weights.keys()
    for name, weight in left_weights.items():
        assert torch.equal(weight, right_weights[name]), name


def test_equal_inputs_give_equal_weights_and_another_seed_gives_others(tuned: Tuned, tmp_path: Path):
    torch.manual_seed(99)  # the random state of the process is not an input
    np.random.seed(99)
    config = tuned.case.config(tmp_path / "again", gradient_checkpointing=True)  # saves memory, changes nothing
    assert finetune(config, device="cpu").recipe == tuned.report.recipe
    assert_same_weights(tuned.path, tmp_path / "again")
    finetune(tuned.case.config(tmp_path / "other", seed=4, epochs=1), device="cpu")
    finetune(tuned.case.config(tmp_path / "third", seed=5, epochs=1), device="cpu")
    with pytest.raises(AssertionError):
        assert_same_weights(tmp_path / "other", tmp_path / "third")


def test_training_restores_torchs_settings(tuned: Tuned):
    assert not torch.are_deterministic_algorithms_enabled()


def test_progress_has_all_stages_step_by_step(case: Case, tmp_path: Path):
    steps: list[int] = []
    progress = acting_at(5, lambda: steps.append(5))
    finetune(case.config(tmp_path / "classifier", epochs=3), device="cpu", progress=progress)
    assert steps == [5]
    assert all(done == total for done, total in progress.ends.values()), progress.ends
    assert progress.ends["fine-tuning"] == (3 * STEPS_PER_EPOCH, 3 * STEPS_PER_EPOCH)
    assert any(note.startswith("loss ") for note in progress.notes)


SMALL = {
    "vocab_size": 512,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}


def save_base(model: PreTrainedModel, tokenizer: Path, path: Path, **changes: str | None) -> Path:
    model.save_pretrained(path)
    copy = AutoTokenizer.from_pretrained(tokenizer)
    for name, value in changes.items():
        setattr(copy, name, value)
    copy.save_pretrained(path)
    return path


def test_an_encoder_whose_pooler_is_new(case: Case, tiny_tokenizer: Path, tmp_path: Path):
    base = save_base(BertForMaskedLM(BertConfig.from_dict(SMALL)), tiny_tokenizer, tmp_path / "base")
    finetune(case.config(tmp_path / "classifier", base=str(base), epochs=1), device="cpu")
    before, after = (load_file(path / "model.safetensors") for path in (base, tmp_path / "classifier"))
    trained_weight = "bert.encoder.layer.0.attention.self.query.weight"
    assert not torch.equal(before[trained_weight], after[trained_weight])
    assert "bert.pooler.dense.weight" in after.keys() - before.keys()
    texts = [document.text for document in held_out(case)]
    classifier = load_classifier(tmp_path / "classifier", max_length=24, device="cpu")
    logits = classifier.run(classifier.batch(classifier.tokenize(texts))).logits
    torch.testing.assert_close(logits, plain_logits(tmp_path / "classifier", texts), atol=1e-5, rtol=1e-5)


def test_a_tokenizer_without_padding_pads_with_its_end_token(case: Case, tiny_tokenizer: Path, tmp_path: Path):
    model = LlamaForCausalLM(LlamaConfig.from_dict({**SMALL, "num_key_value_heads": 1}))
    base = save_base(model, tiny_tokenizer, tmp_path / "base", pad_token=None)
    report = finetune(case.config(tmp_path / "classifier", base=str(base), learning_rate=1e-2), device="cpu")
    assert report.classifier.accuracy > 0.9
    classifier = load_classifier(tmp_path / "classifier", max_length=24, device="cpu")
    assert classifier.tokenizer.pad_token == "<eos>"
    assert classifier.model.config.pad_token_id == classifier.tokenizer.eos_token_id
    texts = [document.text for document in held_out(case)]
    logits = classifier.run(classifier.batch(classifier.tokenize(texts))).logits
    torch.testing.assert_close(logits, plain_logits(tmp_path / "classifier", texts), atol=1e-5, rtol=1e-5)


def test_a_base_that_is_a_classifier_of_other_labels_gets_a_new_head(tuned: Tuned, tmp_path: Path):
    assert len(load_classifier(tuned.path, device="cpu").labels) == 4
    corpus = write_corpus(tmp_path / "two", {"a": "MTG", "b": "笑顔"})
    config = Case(corpus, tuned.path).config(tmp_path / "classifier", epochs=2)
    report = finetune(config, device="cpu")
    assert [row.label for row in report.classifier.labels] == ["a", "b"]
    assert load_classifier(tmp_path / "classifier", device="cpu").labels == ("a", "b")
