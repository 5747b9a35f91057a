"""`tegakari.toml`: keys, presets, loading and rendering."""

from tegakari.schemas.config.load import is_remote, load_config
from tegakari.schemas.config.schema import (
    NAME_PATTERN,
    POOLINGS,
    ClassifierConfig,
    Config,
    CorpusConfig,
    ExplainConfig,
    IndexConfig,
    LogFormat,
    Natural,
    Pooling,
    SaesConfig,
    Seed,
    ServiceConfig,
    Warm,
)

__all__ = [
    "NAME_PATTERN",
    "POOLINGS",
    "ClassifierConfig",
    "Config",
    "CorpusConfig",
    "ExplainConfig",
    "IndexConfig",
    "LogFormat",
    "Natural",
    "Pooling",
    "SaesConfig",
    "Seed",
    "ServiceConfig",
    "Warm",
    "is_remote",
    "load_config",
]
