"""Models of a hub's repository, of its cache, of a release of SAELens and of a converter, indexed and used again."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from huggingface_hub import HfApi, constants

from tegakari.analyses.engine.run_models import load_run_models
from tegakari.indexer.local_models import with_local_classifier, with_local_models
from tegakari.indexer.pipeline import index
from tegakari.indexer.training.saes import train_saes
from tegakari.models.sae_formats import load_saes, save_sae
from tegakari.schemas.config import Config, load_config
from tegakari.schemas.config.render import render_config
from tegakari.schemas.errors import ConfigError, ModelError, SaeError, TegakariError
from tegakari.store import Run, Store
from tests.support.fake_hub import Hub, serve_hub
from tests.support.run_tables import tables_of
from tests.support.small_case import SmallCase, with_index

SAES, CLASSIFIER = "owner/tiny-scope-res", "owner/tiny-classifier"


def with_saes(config: Config, **changes: object) -> Config:
    return msgspec.structs.replace(config, saes=msgspec.structs.replace(config.saes, **changes))


@pytest.fixture(scope="module")
def repositories(small_case: SmallCase, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """SAEs of two widths per layer beside files that no one needs, and the classifier of the small case."""
    root = tmp_path_factory.mktemp("repositories")
    for directory in sorted(Path(small_case.config.saes.path).glob("layer_*")):
        for width in ("48", "96"):
            shutil.copytree(directory, root / "saes" / f"width_{width}" / directory.name)
        (root / "saes" / "width_48" / directory.name / "examples.safetensors").write_bytes(bytes(100_000))
    (root / "saes" / "README.md").write_text("SAEs")
    shutil.copytree(small_case.config.classifier.path, root / "classifier")
    (root / "classifier" / "onnx").mkdir()
    (root / "classifier" / "onnx" / "model.safetensors").write_bytes(bytes(10_000))
    (root / "classifier" / "pytorch_model.bin").write_bytes(bytes(10_000))
    return {SAES: root / "saes", CLASSIFIER: root / "classifier"}


@pytest.fixture
def hub(repositories: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with these repositories, and an empty cache."""
    with serve_hub(dict(repositories)) as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        template = served.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield served


def go_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_a_run_of_a_repository_has_the_tables_of_a_run_of_its_files(
    hub: Hub, small_case: SmallCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    index(with_index(small_case, tmp_path / "plain"))
    config = with_saes(with_index(small_case, tmp_path / "store"), path=f"hf://{SAES}", select="width_48")
    config = msgspec.structs.replace(
        config, classifier=msgspec.structs.replace(config.classifier, path=f"hf://{CLASSIFIER}@main")
    )
    manifest = index(config).manifest
    assert tables_of(tmp_path / "store" / "runs" / "small") == tables_of(tmp_path / "plain" / "runs" / "small")
    assert manifest.saes.hub is not None
    assert manifest.classifier.hub is not None
    assert (manifest.saes.hub.repository, manifest.saes.hub.revision) == (SAES, hub.revision(SAES))
    assert (manifest.classifier.hub.repository, manifest.classifier.hub.revision) == (
        CLASSIFIER,
        hub.revision(CLASSIFIER),
    )
    assert manifest.saes.sources == [f"width_48/layer_{layer:02d}" for layer in manifest.saes.layers]
    assert manifest.saes.architectures == ["relu"] * len(manifest.saes.layers)

    # Only files of the selector, none of which is an example, a pickle or an export.
    downloads = hub.downloads()
    assert {path for path in downloads if path.startswith("width")} == {
        f"{source}/{file}" for source in manifest.saes.sources or [] for file in ("cfg.json", "sae_weights.safetensors")
    }
    assert "model.safetensors" in downloads
    assert not {path for path in downloads if path.endswith(".bin") or path.startswith("onnx") or "examples" in path}

    # Offline, the same command finds everything in the cache, and an analysis loads the models from there.
    go_offline(monkeypatch)
    hub.requests.clear()
    assert index(config).already_published
    models = load_run_models(Store(tmp_path / "store").run("small"))
    assert sorted(models.saes) == manifest.saes.layers
    assert hub.requests == []


def test_another_selection_in_the_same_cache_leaves_a_run_as_it_is(hub: Hub, small_case: SmallCase, tmp_path: Path):
    """The fingerprint is of the run's own SAEs: a snapshot can gain others."""
    first = with_saes(with_index(small_case, tmp_path / "store"), path=f"hf://{SAES}", select="width_48", layers=[0])
    index(first)
    other = with_saes(with_index(small_case, tmp_path / "store", run="other"), path=f"hf://{SAES}", select="width_96")
    index(other)
    store = Store(tmp_path / "store")
    assert store.run("small").manifest.saes.layers == [0]
    assert list(load_run_models(store.run("small")).saes) == [0]
    assert index(first).already_published


def test_a_pinned_revision_is_that_of_the_run(hub: Hub, small_case: SmallCase):
    revision = hub.revision(SAES)
    config = with_local_models(with_saes(small_case.config, path=f"hf://{SAES}@{revision}", select="width_48"))
    assert Path(config.saes.path).name == revision
    directory = with_local_models(with_saes(small_case.config, path=f"hf://{SAES}@{revision}/width_96"))
    assert Path(directory.saes.path).parts[-2:] == (revision, "width_96")
    assert list(load_saes(Path(directory.saes.path), directory.saes.select)) == list(
        load_saes(Path(config.saes.path), config.saes.select)
    )


@pytest.mark.parametrize("root", ["repository", "snapshot"])
def test_a_cache_that_the_library_made_is_read_directly(root: str, hub: Hub, small_case: SmallCase, tmp_path: Path):
    snapshot = Path(HfApi(endpoint=hub.url).snapshot_download(SAES, allow_patterns="width_48/*"))
    assert (snapshot / "width_48" / "layer_00" / "cfg.json").is_symlink()
    path = snapshot if root == "snapshot" else snapshot.parent.parent
    result = index(with_saes(with_index(small_case, tmp_path / "store"), path=str(path)))
    assert result.manifest.saes.hub is not None
    assert result.manifest.saes.hub.repository == SAES
    assert result.manifest.locations.saes == str(snapshot)


def error_of(config: Config) -> TegakariError:
    with pytest.raises(TegakariError) as raised:
        with_local_models(config)
    return raised.value


def test_what_the_hub_does_not_give_is_said_in_words(hub: Hub, small_case: SmallCase, monkeypatch: pytest.MonkeyPatch):
    config = small_case.config
    assert "no repository owner/none" in error_of(with_saes(config, path="hf://owner/none")).message
    assert "no revision 'v9'" in error_of(with_saes(config, path=f"hf://{SAES}@v9")).message
    assert "no SAE of a known format" in error_of(with_saes(config, path=f"hf://{SAES}/elsewhere")).message
    several = error_of(with_saes(config, path=f"hf://{SAES}"))
    assert 'select = "width_48/layer_*"' in str(several.fix)
    assert error_of(with_saes(config, path=f"hf://{SAES}", select="width_7")).field == "saes.select"
    assert hub.downloads() == set()
    hub.gated.add(SAES)
    gated = error_of(with_saes(config, path=f"hf://{SAES}", select="width_48"))
    assert (type(gated), gated.field) == (SaeError, "saes.path")
    assert "licence" in gated.message
    go_offline(monkeypatch)
    offline = error_of(with_saes(config, path=f"hf://{SAES}", select="width_48"))
    assert "HF_HUB_OFFLINE" in offline.message
    classifier = msgspec.structs.replace(config.classifier, path="hf://owner/none")
    assert type(error_of(msgspec.structs.replace(config, classifier=classifier))) is ModelError


def test_offline_a_layer_that_is_not_in_the_cache_is_not_left_out(
    hub: Hub, small_case: SmallCase, monkeypatch: pytest.MonkeyPatch
):
    """The cache knows all files of the revision, though it has some of them."""
    config = with_saes(small_case.config, path=f"hf://{SAES}", select="width_48")
    with_local_models(with_saes(config, layers=[0]))
    go_offline(monkeypatch)
    assert "the hub's cache lacks" in error_of(config).message
    assert list(load_saes(Path(with_local_models(with_saes(config, layers=[0])).saes.path))) == [0]


def test_offline_a_cache_without_a_list_of_its_files_is_not_believed(
    hub: Hub, small_case: SmallCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As files that were fetched one by one leave it: which files are missing cannot be known."""
    config = with_saes(small_case.config, path=f"hf://{SAES}", select="width_48")
    local = with_local_models(config)
    shutil.rmtree(next((tmp_path / "hub").glob("*/trees")))
    monkeypatch.setattr("huggingface_hub._tree_cache._IN_MEMORY_TREE_CACHE", {})
    go_offline(monkeypatch)
    assert "the hub's cache lacks" in error_of(config).message
    assert with_local_models(with_saes(config, path=local.saes.path)).saes.path == local.saes.path


def test_a_hub_that_cannot_be_reached_is_not_needed(hub: Hub, small_case: SmallCase, monkeypatch: pytest.MonkeyPatch):
    revision = hub.revision(SAES)
    config = with_saes(small_case.config, path=f"hf://{SAES}@{revision}", select="width_48")
    local = with_local_models(config)
    hub.requests.clear()
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{revision}/{filename}")
    assert with_local_models(config) == local
    assert hub.requests == []


def test_a_file_that_was_damaged_on_the_way_or_in_the_cache_is_refused(hub: Hub, small_case: SmallCase, tmp_path: Path):
    config = with_saes(with_index(small_case, tmp_path / "store"), path=f"hf://{SAES}", select="width_48")
    hub.wrong.add("sae_weights.safetensors")
    with pytest.raises(SaeError, match="damaged: its hash is"):
        index(config)
    shutil.rmtree(tmp_path / "hub")
    hub.wrong.clear()
    local = Path(with_local_models(config).saes.path)
    weights = local / "width_48" / "layer_01" / "sae_weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.resolve().write_bytes(content)
    with pytest.raises(SaeError, match="damaged: its hash is") as raised:
        index(config)
    assert raised.value.field == "saes.path"
    weights.resolve().write_bytes(content[:-4])
    with pytest.raises(SaeError, match="bytes, the hub's file has"):
        index(config)


def test_a_repository_of_another_site_is_refused_before_anything_is_downloaded(hub: Hub, small_case: SmallCase):
    hub.repositories["owner/tiny-scope-mlp"] = hub.repositories[SAES]
    error = error_of(with_saes(small_case.config, path="hf://owner/tiny-scope-mlp", select="width_48"))
    assert (type(error), error.field) == (SaeError, "saes.path")
    assert "an MLP" in error.message
    assert hub.downloads() == set()


def test_saes_of_several_architectures_are_named_layer_by_layer(small_case: SmallCase, tmp_path: Path):
    saes = load_saes(Path(small_case.config.saes.path))
    for layer, sae in saes.items():
        changed = dataclasses.replace(sae, activation="topk", k=4) if layer == 1 else sae
        save_sae(tmp_path / "saes" / f"layer_{layer:02d}", changed)
    cfg = tmp_path / "saes" / "layer_01" / "cfg.json"
    cfg.write_text(cfg.read_text().replace('"k": 4', '"k": 4.0'))
    assert '"k": 4.0' in cfg.read_text()
    config = with_saes(with_index(small_case, tmp_path / "store"), path=str(tmp_path / "saes"))
    manifest = index(config).manifest
    assert manifest.saes.architecture == "mixed"
    assert manifest.saes.architectures == ["topk" if layer == 1 else "relu" for layer in manifest.saes.layers]
    models = load_run_models(Store(tmp_path / "store").run("small"), layers=[1])
    assert {layer: (sae.activation, sae.k) for layer, sae in models.saes.items()} == {1: ("topk", 4)}


@pytest.mark.parametrize("path", ["hf://owner", "hf://", "hf://owner/name@", "hf://a b/c", "saelens://"])
def test_references_of_another_form_are_refused(path: str, small_case: SmallCase):
    error = error_of(with_saes(small_case.config, path=path))
    assert isinstance(error, ConfigError)
    assert error.field == "saes.path"
    classifier = msgspec.structs.replace(small_case.config.classifier, path=path)
    config = msgspec.structs.replace(small_case.config, classifier=classifier)
    with pytest.raises(ConfigError):
        with_local_classifier(config)


def test_nothing_is_trained_into_a_repository(small_case: SmallCase):
    with pytest.raises(ConfigError, match="no training writes to"):
        train_saes(with_saes(small_case.config, path=f"hf://{SAES}"), device="cpu")


def test_a_path_of_a_repository_is_not_anchored_at_the_configuration(small_case: SmallCase, tmp_path: Path):
    file = tmp_path / "tegakari.toml"
    file.write_text(render_config(with_saes(small_case.config, path=f"hf://{SAES}", select="width_48 l0~70")))
    saes = load_config(file).saes
    assert (saes.path, saes.select) == (f"hf://{SAES}", "width_48 l0~70")


RELEASES = f"""
tiny-res-canonical:
  conversion_func: null
  model: tiny
  repo_id: {SAES}
  saes:
  - id: layer_0/canonical
    path: width_48/layer_00
  - id: layer_1/canonical
    path: width_96/layer_01
"""


@pytest.fixture
def releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with SAELens' name and a directory of releases in SAELens' form."""
    package = tmp_path / "packages" / "sae_lens"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('none of its code is run')")
    (package / "pretrained_saes.yaml").write_text(RELEASES)
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.delitem(sys.modules, "sae_lens", raising=False)


@pytest.mark.usefixtures("releases")
def test_a_release_of_saelens_is_the_saes_that_it_lists(hub: Hub, small_case: SmallCase):
    config = with_local_models(with_saes(small_case.config, path="saelens://tiny-res-canonical"))
    saes = load_saes(Path(config.saes.path), config.saes.select)
    assert {layer: sae.source for layer, sae in saes.items()} == {0: "width_48/layer_00", 1: "width_96/layer_01"}
    assert {path.rpartition("/")[0] for path in hub.downloads()} == {"width_48/layer_00", "width_96/layer_01"}
    with pytest.raises(ConfigError, match="no release 'tiny-res'") as raised:
        with_local_models(with_saes(small_case.config, path="saelens://tiny-res"))
    assert "saelens://tiny-res-canonical" in str(raised.value.fix)


CONVERTER = """
import numpy as np
import torch

from tegakari.models.sae import Sae


def read(directory):
    file = directory / "mine.npz"
    if not file.exists():
        return None
    arrays = {name: torch.from_numpy(value) for name, value in np.load(file).items()}
    return Sae(**arrays, activation="relu", apply_b_dec_to_input=True)


def wrong(directory):
    return {"W_enc": 1}


constant = 3
"""


@pytest.fixture
def own_format(small_case: SmallCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """The small case's SAEs in files of another format, and a module that reads them."""
    for layer, sae in load_saes(Path(small_case.config.saes.path)).items():
        directory = tmp_path / "own" / f"layer_{layer}"
        directory.mkdir(parents=True)
        arrays = {name: getattr(sae, name).numpy() for name in ("W_enc", "W_dec", "b_enc", "b_dec")}
        np.savez(directory / "mine.npz", **arrays)
    (tmp_path / "own" / "notes.txt").write_text("no SAE here")
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "own_saes.py").write_text(CONVERTER)
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    monkeypatch.delitem(sys.modules, "own_saes", raising=False)
    return with_saes(with_index(small_case, tmp_path / "store"), path=str(tmp_path / "own"), converter="own_saes:read")


def test_saes_of_a_converter_are_stored_and_used_without_it(
    own_format: Config, small_case: SmallCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    index(with_index(small_case, tmp_path / "plain"))
    manifest = index(own_format).manifest
    assert tables_of(tmp_path / "store" / "runs" / "small") == tables_of(tmp_path / "plain" / "runs" / "small")
    assert index(own_format).already_published  # the conversion is repeated, with the same result
    assert len(list((tmp_path / "own-converted").iterdir())) == 1
    assert Path(manifest.locations.saes).parent == tmp_path / "own-converted"
    shutil.rmtree(tmp_path / "modules")
    shutil.rmtree(tmp_path / "own")
    monkeypatch.delitem(sys.modules, "own_saes")
    run: Run = Store(tmp_path / "store").run("small")
    assert sorted(load_run_models(run).saes) == manifest.saes.layers


@pytest.mark.parametrize(
    ("converter", "words"),
    [
        ("own_saes:wrong", "returned a dict"),
        ("own_saes:constant", "not a function"),
        ("own_saes:absent", "cannot be imported"),
        ("no_module:read", "cannot be imported"),
        ("own_saes", "cannot be imported"),
        (":read", "cannot be imported"),
    ],
)
def test_converters_that_are_none_are_refused(converter: str, words: str, own_format: Config):
    error = error_of(with_saes(own_format, converter=converter))
    assert (type(error), error.field) == (ConfigError, "saes.converter")
    assert words in error.message


def test_a_converter_reads_no_repository(own_format: Config):
    error = error_of(with_saes(own_format, path=f"hf://{SAES}"))
    assert error.field == "saes.converter"
    assert "hf download" in str(error.fix)


def test_the_command_downloads_and_indexes_with_the_hubs_own_variables(hub: Hub, small_case: SmallCase, tmp_path: Path):
    config = with_saes(with_index(small_case, tmp_path / "store"), path=f"hf://{SAES}", select="width_96")
    (tmp_path / "tegakari.toml").write_text(render_config(config))
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-m", "tegakari.cli", "index", "--config", str(tmp_path / "tegakari.toml"), "--json"]
    process = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert process.returncode == 0, process.stderr[-3000:]
    assert hub.revision(SAES) in process.stdout
    assert (tmp_path / "home" / "hub" / f"models--{SAES.replace('/', '--')}").is_dir()
