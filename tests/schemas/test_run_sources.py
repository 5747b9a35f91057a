"""Paths of SAEs and revisions of repositories in run.json: below their directory, and of their form."""

from __future__ import annotations

import msgspec
import pytest

from tegakari.schemas.run import HubRevision, SaeInfo

INFO = {"sha256": "0", "layers": [3, 5], "architecture": "relu", "widths": [8, 8], "max_norms": [None, None]}


@pytest.mark.parametrize("sources", [[".", "layer_5"], ["a/b..c/layer_3", "layer 5/x.pt"], None])
def test_paths_below_the_directory_are_read(sources: list[str] | None):
    assert msgspec.convert({**INFO, "sources": sources}, SaeInfo).sources == sources


@pytest.mark.parametrize(
    "path", ["..", "../layer_3", "a/../b", "/etc/passwd", "a/..", "./layer_3", "a/./b", "", "a\0b", "x" * 1025]
)
def test_paths_that_leave_the_directory_are_refused(path: str):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**INFO, "sources": ["layer_3", path]}, SaeInfo)


@pytest.mark.parametrize("name", ["sources", "architectures"])
def test_there_is_one_per_layer(name: str):
    with pytest.raises(msgspec.ValidationError, match=f"2 layers, but 1 {name}"):
        msgspec.convert({**INFO, name: ["x"]}, SaeInfo)


@pytest.mark.parametrize(
    ("repository", "revision"),
    [("owner/name", "main"), ("owner/name", "a" * 39), ("a/b/c", "a" * 40), ("a b", "a" * 40), ("", "a" * 40)],
)
def test_revisions_of_another_form_are_refused(repository: str, revision: str):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"repository": repository, "revision": revision}, HubRevision)
