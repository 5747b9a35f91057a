"""tegakari.toml: rendering and loading, errors with key, value and fix, and presets with the study's settings."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tegakari.indexer.training.saes.schedule import FEW_STEPS
from tegakari.schemas.config import Config, load_config
from tegakari.schemas.config.presets import PRESETS
from tegakari.schemas.config.render import render_config
from tegakari.schemas.errors import ConfigError


@pytest.mark.parametrize("preset", PRESETS)
def test_a_rendered_configuration_loads_with_the_same_values(preset: str, tmp_path: Path):
    file = tmp_path / "tegakari.toml"
    file.write_text(render_config(PRESETS[preset]), encoding="utf-8")
    assert msgspec.toml.decode(file.read_bytes(), type=Config) == PRESETS[preset]
    assert load_config(file).corpus.path == str(tmp_path / "corpus")


def test_every_key_is_described():
    for line in render_config(Config()).splitlines():
        if "=" in line and not line.startswith("#"):
            assert "  # " in line, line


@pytest.mark.parametrize("preset", ["gemma-2-2b-jpn-it", "gemma-2-2b-it"])
def test_the_gemma_presets_have_the_settings_of_the_study(preset: str):
    """Tables 5 and 6 and section 3.1 of the study, copied by hand."""
    config = PRESETS[preset]
    assert config.classifier.base == f"google/{preset}"
    c, s = config.classifier, config.saes
    assert (c.learning_rate, c.weight_decay, c.epochs, c.batch_size, c.max_length) == (1e-5, 0.01, 3, 2, 512)
    # The study's 0.03, for inputs of mean norm 1, is 0.03 * 48 for inputs of mean norm sqrt(2304) = 48.
    assert (s.d_sae, s.l1_coefficient, s.learning_rate, s.batch_size, s.epochs) == (9216, 1.44, 1e-3, 512, 10)
    assert (s.architecture, s.layers, s.target_l0) == ("relu", [], 0)
    assert (config.corpus.train_per_label, config.corpus.eval_per_label) == (280, 120)
    assert config.index.variety_threshold == 1.0


@pytest.mark.parametrize("preset", ["small-encoder", "small-decoder"])
def test_the_presets_for_small_models_have_enough_steps_on_a_small_corpus(preset: str):
    saes = PRESETS[preset].saes
    positions = 10 * 100 * 43  # labels, documents per label, tokens per document
    assert positions * saes.epochs / saes.batch_size >= FEW_STEPS
    assert saes.architecture == "relu"
    assert 0 < saes.target_l0 < saes.d_sae / 20


@pytest.mark.parametrize(
    ("text", "field", "words"),
    [
        ("[corpus]\nsauce = 1", "corpus.sauce", "use one of: source"),
        ("[korpus]\n", "korpus", "use one of: corpus"),
        ("[saes]\nlayers = [0, -1]", "saes.layers[1]", "-1"),
        ('[index]\nrun = "Große Läufe"', "index.run", "Große"),
        ("[classifier]\nepochs = 0", "classifier.epochs", "0"),
        ('[index]\npooling = "sum"', "index.pooling", "sum"),
        ("[service]\nport = 99999", "service.port", "99999"),
        ("[corpus", None, "not valid TOML"),
        ('[index]\nstore = "s3://our-bucket/tegakari"', "index.store", "'s3://our-bucket/tegakari' is no directory"),
    ],
)
def test_errors_name_key_value_and_fix(text: str, field: str | None, words: str, tmp_path: Path):
    file = tmp_path / "tegakari.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert caught.value.field == field
    assert words in str(caught.value)
    assert caught.value.fix


def test_the_error_of_a_missing_file_names_init(tmp_path: Path):
    with pytest.raises(ConfigError, match="tegakari init"):
        load_config(tmp_path / "none.toml")


def test_a_file_that_is_not_utf8_is_not_toml(tmp_path: Path):
    file = tmp_path / "tegakari.toml"
    file.write_bytes(b'[corpus]\nsource = "\xff"')
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_config(file)
