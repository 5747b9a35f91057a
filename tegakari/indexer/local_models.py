"""The models of a configuration as directories of this machine: downloaded, found in a cache, or converted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import msgspec

from tegakari.indexer.converted_saes import convert
from tegakari.indexer.hub import CLASSIFIER_FILES, SCHEME, HubReference, download, hub_reference
from tegakari.indexer.saelens_releases import saelens_release
from tegakari.models.hub_cache import check_blobs, snapshot_directory
from tegakari.models.sae_formats.registry import formats_among
from tegakari.models.sae_formats.selection import exactly
from tegakari.models.sae_formats.sets import chosen_names
from tegakari.schemas.config import Config, SaesConfig, is_remote
from tegakari.schemas.errors import ConfigError, SaeError
from tegakari.schemas.saes import REPORT_FILE

_CLASSIFIER, _SAES = "classifier.path", "saes.path"


def with_local_models(config: Config) -> Config:
    """The configuration with directories of this machine for `classifier.path` and `saes.path`.

    Raises:
        ConfigError: a reference, a release or a converter of another form, or one that does not exist.
        ModelError, SaeError: as `download`, `check_blobs` and `convert`; or several SAEs of one layer.
    """
    return _with_local_saes(with_local_classifier(config))


def with_local_classifier(config: Config) -> Config:
    """The configuration with a directory of this machine for `classifier.path`.

    Raises:
        ConfigError, ModelError: as `with_local_models`.
    """
    path = config.classifier.path
    if path.startswith(SCHEME):
        reference = hub_reference(path, _CLASSIFIER)
        directory = download(
            reference, lambda files, _: [file for file in files if CLASSIFIER_FILES.match(file)], _CLASSIFIER
        )
    elif is_remote(path):
        raise ConfigError(
            f"{path!r} is a release of SAEs", field=_CLASSIFIER, fix="name a directory or hf://OWNER/NAME"
        )
    else:
        directory = snapshot_directory(Path(path), _CLASSIFIER)
    check_blobs([file for file in directory.glob("*") if file.is_file()], _CLASSIFIER)
    classifier = msgspec.structs.replace(config.classifier, path=str(directory))
    return msgspec.structs.replace(config, classifier=classifier)


def _with_local_saes(config: Config) -> Config:
    settings = config.saes
    if settings.converter:
        if is_remote(settings.path):
            raise ConfigError(
                f"{settings.converter!r} reads a directory, and saes.path is {settings.path!r}",
                field="saes.converter",
                fix="download the repository with `hf download`, and name that directory",
            )
        changed = msgspec.structs.replace(settings, path=str(convert(settings)), select="", converter="")
    elif is_remote(settings.path):
        changed = _downloaded(settings)
    else:
        directory = snapshot_directory(Path(settings.path), _SAES)
        changed = msgspec.structs.replace(settings, path=str(directory))
    return msgspec.structs.replace(config, saes=changed)


def _downloaded(settings: SaesConfig) -> SaesConfig:
    """Settings with the directory of the chosen SAEs in the hub's cache, which can hold others."""
    names: list[str] = []
    if settings.path.startswith(SCHEME):
        reference, released = hub_reference(settings.path, _SAES), None
    else:
        release = saelens_release(settings.path)
        reference, released = HubReference(release.repository), release.paths

    def choose(files: Sequence[str], directory: Path) -> list[str]:
        among = files if released is None else [file for file in files if _belongs(file, released)]
        names[:] = chosen_names(among, directory, settings.select, settings.layers)
        if not names:
            raise SaeError(
                f"{reference.repository} has no SAE of a known format in {reference.directory or 'any directory'!r}",
                field=_SAES,
                fix="name a repository with SAEs of the formats of docs/saes.md, or convert them with saes.converter",
            )
        return _files_of(names, files)

    directory = download(reference, choose, _SAES)
    return msgspec.structs.replace(settings, path=str(directory), select=exactly(names))


def _belongs(file: str, paths: Sequence[str]) -> bool:
    """Whether a file is one of the paths or below one."""
    return not {file, *map(str, PurePosixPath(file).parents)}.isdisjoint(paths)


def _files_of(names: Sequence[str], files: Sequence[str]) -> list[str]:
    """The files of SAEs: of their formats, the JSON beside them, and the report of a training by tegakari."""
    formats = formats_among(files)
    wanted = {REPORT_FILE}
    for name in names:
        required = formats[name].files
        wanted |= {str(PurePosixPath(name) / file) for file in required} if required else {name}
        wanted |= {file for file in files if required and file.endswith(".json") and _is_in(file, name)}
    return [file for file in files if file in wanted]


def _is_in(file: str, directory: str) -> bool:
    return str(PurePosixPath(file).parent) == directory
