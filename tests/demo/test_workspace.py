"""The demo's workspace: completeness, resumption, and refusal of another recipe."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from tegakari.demo.workspace import SHOWN_LABEL, DemoSizes, make_demo
from tegakari.indexer.corpus import import_corpus
from tegakari.indexer.training.classifier import finetune
from tegakari.schemas.config import load_config
from tegakari.schemas.errors import ConfigError

SIZES = DemoSizes(
    train_per_label=6,
    eval_per_label=3,
    vocab_size=1200,
    alphabet=500,
    hidden_size=32,
    layers=2,
    heads=2,
    kv_heads=1,
    head_dim=16,
    intermediate=64,
    mix_texts=64,
    mix_steps=3,
    unlabelled_posts=320,
    unlabelled_steps=3,
)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("demo") / "work"
    make_demo(directory, sizes=SIZES)
    return directory


def copy_of(workspace: Path, parent: Path) -> Path:
    return shutil.copytree(workspace, parent / "work")


def contents(directory: Path) -> dict[str, bytes]:
    return {str(file.relative_to(directory)): file.read_bytes() for file in directory.rglob("*") if file.is_file()}


def test_two_runs_on_one_corpus_in_one_store(workspace):
    configs = make_demo(workspace, sizes=SIZES)
    assert configs == (workspace / "jpn.toml", workspace / "base.toml")
    jpn, base = map(load_config, configs)
    assert (jpn.index.run, base.index.run) == ("demo-jpn", "demo-base")
    assert jpn.corpus == base.corpus
    assert jpn.index.store == base.index.store == str(workspace / "store")
    assert jpn.classifier.base == str(workspace / "models" / "jpn")
    assert len({jpn.classifier.path, base.classifier.path, jpn.saes.path, base.saes.path}) == 4


def test_existing_files_are_not_written_again(workspace):
    before = {file: file.stat().st_mtime_ns for file in workspace.rglob("*")}
    make_demo(workspace, sizes=SIZES)
    assert {file: file.stat().st_mtime_ns for file in workspace.rglob("*")} == before


@pytest.mark.parametrize("unfinished_models", [("jpn",), ("jpn", "base", "untrained")])
def test_a_demo_stopped_anywhere_becomes_the_same_demo(workspace, tmp_path, unfinished_models):
    directory = copy_of(workspace, tmp_path)
    for model in unfinished_models:
        shutil.rmtree(directory / "models" / model)
    (directory / "base.toml").unlink()
    make_demo(directory, sizes=SIZES)
    assert contents(directory) == contents(workspace)


def test_edited_configurations_stay(workspace, tmp_path):
    directory = copy_of(workspace, tmp_path)
    (directory / "base.toml").write_text("# mine\n")
    make_demo(directory, sizes=SIZES)
    assert (directory / "base.toml").read_text() == "# mine\n"


@pytest.mark.parametrize(("seed", "sizes"), [(1, SIZES), (0, msgspec.structs.replace(SIZES, mix_steps=4))])
def test_a_workspace_of_another_recipe_is_refused(workspace, seed, sizes):
    before = contents(workspace)
    with pytest.raises(ConfigError, match="another seed, other sizes"):
        make_demo(workspace, seed, sizes=sizes)
    assert contents(workspace) == before


def test_a_directory_that_cannot_be_created_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot make") as raised:
        make_demo(tmp_path / "file" / "work", sizes=SIZES)
    assert raised.value.fix


def test_import_and_finetuning_run_on_the_workspace(workspace, tmp_path):
    config = load_config(workspace / "jpn.toml")
    corpus = msgspec.structs.replace(config.corpus, path=str(tmp_path / "corpus"))
    manifest = import_corpus(corpus)
    assert SHOWN_LABEL in manifest.labels
    assert (manifest.train, manifest.eval, manifest.dropped) == (16 * 6, 16 * 3, [])
    classifier = msgspec.structs.replace(config.classifier, path=str(tmp_path / "classifier"), epochs=1)
    report = finetune(msgspec.structs.replace(config, corpus=corpus, classifier=classifier), device="cpu")
    assert report.eval_documents == 16 * 3
