"""Releases of SAELens by name: the repository and the paths of SAEs that its directory of pretrained SAEs lists."""

from __future__ import annotations

import importlib.util
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from tegakari.schemas.errors import ConfigError

SCHEME = "saelens://"
_DIRECTORY = "pretrained_saes.yaml"


class Release(NamedTuple):
    """A release: one repository, and the SAEs of it that belong to the release."""

    repository: str
    paths: tuple[str, ...]
    """of directories or files in the repository"""


def saelens_release(path: str) -> Release:
    """Look up `saelens://RELEASE` in the installed SAELens, none of whose code is run.

    Raises:
        ConfigError: SAELens is not installed, or has no such release.
    """
    name = path.removeprefix(SCHEME).strip("/")
    package = importlib.util.find_spec("sae_lens")
    file = Path(package.origin).with_name(_DIRECTORY) if package is not None and package.origin else None
    if file is None or not file.is_file():
        raise ConfigError(
            f"{path!r} is a name of SAELens, which is not installed",
            field="saes.path",
            fix="install sae-lens, or name the repository: hf://OWNER/NAME, with saes.select for its SAEs",
        )
    releases = _read(file)
    if name not in releases:
        close = get_close_matches(name, releases, n=3, cutoff=0.3)
        raise ConfigError(
            f"SAELens has no release {name!r}",
            field="saes.path",
            fix=f"use one of: {', '.join(f'{SCHEME}{other}' for other in close or sorted(releases)[:3])}",
        )
    release = releases[name]
    return Release(release["repo_id"], tuple(str(sae["path"]).strip("/") for sae in release["saes"]))


def _read(file: Path) -> dict[str, dict]:
    import yaml  # a dependency of huggingface_hub

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # five times as fast, where libyaml is
    with file.open(encoding="utf-8") as stream:
        return yaml.load(stream, Loader=loader)
