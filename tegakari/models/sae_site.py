"""Site of an SAE: the block, and the part of it whose activations it was trained on, from every name that says so.

Names are those of hooks and modules in configurations, and of directories and repositories. SAEs of an MLP, of
attention or of the embedding have the shapes of a residual SAE on most models: only a name distinguishes them. The
residual of layer N is the output of block N, which is the input of block N + 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, Literal, NamedTuple

from tegakari.schemas.errors import SaeError

AFTER, BEFORE, RESIDUAL = "the residual after a block", "the residual before a block", "the residual"
_RESIDUALS = (AFTER, BEFORE, RESIDUAL)

_OTHER_PARTS = {
    "a crosscoder": r"crosscoders?",
    "a transcoder": r"(?:\w*transcoders?|clts?|l\d+tc|lxtc)",
    "the logits": r"(?:unembed|logits?|lm_head)",
    "the embedding": r"(?:w[pt]e|embeds?|embeddings?|e_res)",
    "the residual between attention and MLP": r"resid_?mid",
    "attention": r"(?:attn|att|attention|hook_[qkvz]|hcat_z|[qkvo]_proj|l\d+a|lxa)",
    "an MLP": r"(?:mlps?|feed_?forward|ffn|fc[12]|(?:gate|up|down)_proj|l\d+m|lxm)",
    "a norm": r"(?:ln_?[12f]|ln_final|\w*layer_?norm|\w*rms_?norm|hook_normalized)",
}
"""What is not the residual -> words of names that say so."""
_RESIDUAL_WORDS = {
    AFTER: r"resid_?post",
    BEFORE: r"resid_?pre",
    RESIDUAL: r"(?<!\be_)(?:(?:res|resid|residuals?)(?!_mid)|l\d+r|lxr)",
}
_WORDS = {
    part: re.compile(rf"(?:^|[^a-z0-9]){words}(?![a-z0-9])") for part, words in (_OTHER_PARTS | _RESIDUAL_WORDS).items()
}

_BLOCK = re.compile(
    r"(?:^|[^a-z0-9])(?:(?:blocks?|layers?)[._=-]?|h\.)(\d+)(?![\dkm])"  # blocks.3, layer_03, h.3
    r"|(?:^|[^a-z0-9])l(\d+)(?:r|a|m|tc)(?![a-z0-9])"  # L3R: Llama Scope
    r"|^(\d+)-(?:res|mlp|att)(?![a-z0-9])"  # 3-res-sm
    r"|sae[-_]l(\d+)(?![\dr_])"  # SAE-l19; L0_50 is a sparsity
)
_RANGE = re.compile(r"(?:blocks?|layers?)[._=-]?\d+ ?(?:-|_?to_?|\.\.|_-_)\d+")
"""layers_0-25: the name of a set, and not of a block"""
_MODULE = re.compile(r"(?:^|[./])(?:layers?|blocks?|h)\.\d+(?:\.(?P<end>output|hook_out|input|hook_in))?$")
"""A whole block as a module or hook: `model.layers.3`, `transformer.h.3`, `blocks.3.hook_out`."""
_ENDS = {None: AFTER, "output": AFTER, "hook_out": AFTER, "input": BEFORE, "hook_in": BEFORE}
_RELEASE = re.compile(
    r"^(?:models|datasets)--|(?:^|[^a-z0-9])(?:saes?|saebench|scope|\w*coders?|clts?|lx[amr]|l\d+[amr])(?![a-z0-9])",
    re.IGNORECASE,
)
"""Names above the directory of a set that are those of a published release, and not of somebody's project."""


NO_PART = (
    "neither its configuration nor a name of its directories says that it is of the residual, and not of attention or "
    "an MLP"
)
"""Doubt about an SAE whose names give the number of a block alone."""


class Site(NamedTuple):
    """What one name says about the place of an SAE."""

    name: str
    """the name and where it stands, as messages quote it"""
    block: int | None = None
    part: str | None = None
    """one of `_RESIDUALS` or a key of `_OTHER_PARTS`; None: the name does not say"""
    source: Literal["configuration", "directory", "set"] = "configuration"
    """directory: of the SAE, within its set; set: the directory of the set or one above, which somebody may have named
    after a project"""


def site_of_name(name: str, source: str = "") -> Site:
    """What the name of a directory, a repository, a hook or a module says.

    Args:
        name: as `blocks.3.hook_resid_pre`, `mlp_out_layer_3`, `gemma-scope-2b-pt-att`, `average_l0_71`.
        source: where it stands, for messages: the field of a configuration, say.
    """
    text = name.lower()
    quoted = f"{source} {name!r}".strip()
    found = _BLOCK.search(_RANGE.sub(" ", text))
    block = int(next(filter(None, found.groups()))) if found else None
    module = _MODULE.search(text)
    if module:
        return Site(quoted, block, _ENDS[module["end"]])
    parts = [part for part, words in _WORDS.items() if words.search(text.replace("-", "_"))]
    residuals = [part for part in parts if part in _RESIDUALS]
    if residuals and len(parts) > len(residuals):
        return Site(quoted, block)  # a name of several sites says nothing about one SAE among them
    return Site(quoted, block, parts[0] if parts else None)


def sites_of_config(
    config: Mapping[str, Any], hooks: Sequence[str], block_numbers: Sequence[str] = ()
) -> tuple[Site, ...]:
    """What the hooks, modules and numbers of blocks in a configuration say.

    Args:
        config: of the SAE.
        hooks: keys whose values are names of hooks or modules.
        block_numbers: keys whose values are numbers of blocks.

    Raises:
        SaeError: a hook that is not known to be of the residual.
    """
    sites = []
    for field in hooks:
        if hook := config.get(field):
            site = site_of_name(str(hook), field)
            if site.part is None or (site.part in _RESIDUALS and site.block is None):
                raise _not_a_residual(site)
            sites.append(site)
    for field in block_numbers:
        number = config.get(field)
        if isinstance(number, int) and not isinstance(number, bool):
            sites.append(Site(f"{field} {number}", number))
    return tuple(sites)


def sites_of_path(directory: PurePath, root: Path) -> tuple[Site, ...]:
    """What the names of an SAE's directories say, the nearest first.

    Args:
        directory: of the SAE, relative to that of its set.
        root: directory of the set. Of the names above it those count that are of a release, as
            `models--google--gemma-scope-2b-pt-mlp` of a hub's cache and `gemma-scope-2b-pt-att` of a download, those
            below the nearest release, and those that name a part of a certain block.
    """
    names = [name for name in reversed(directory.parts) if name not in (".", "..")]
    below = [site_of_name(name, "directory")._replace(source="directory") for name in names]
    absolute, target = root.absolute(), root.resolve()
    names = [absolute.name, *_names_above(absolute.parts[:-1]), *_names_above(target.parts)]
    above = [site_of_name(name, "directory")._replace(source="set") for name in dict.fromkeys(names)]
    if not below:  # the set is one SAE
        above[0] = above[0]._replace(source="directory")
    if any(site.block is not None for site in below):
        above = [site._replace(block=None) for site in above]
    nearest = next((site.block for site in above if site.block is not None), None)
    return (*below, *(site._replace(block=nearest if site.block is not None else None) for site in above))


def _names_above(ancestors: Sequence[str]) -> Iterator[str]:
    """Names among those of directories above a set that can be meant for it, the nearest first."""
    releases = [place for place, name in enumerate(ancestors) if _RELEASE.search(name)]
    nearest = releases[-1] if releases else len(ancestors)
    for place in reversed(range(len(ancestors))):
        site = site_of_name(ancestors[place])
        if place >= nearest or place in releases or None not in (site.block, site.part):
            yield ancestors[place]


def residual_layer(sites: Iterable[Site]) -> int | None:
    """Layer of the residual that an SAE was trained on, from all that its names say; None: they name no block.

    Where the configuration says that it is of the residual, names of the set's directory and above it do not count.

    Raises:
        SaeError: it is not of the residual, or two names contradict each other.
    """
    sites = list(sites)
    if names_residual(site for site in sites if site.source == "configuration"):
        sites = [site for site in sites if site.source != "set"]
    for site in sites:
        if site.part is not None and site.part not in _RESIDUALS:
            raise _not_a_residual(site)
    ends = [site for site in sites if site.part in (AFTER, BEFORE)]
    for site in ends:
        if site.part != ends[0].part:
            raise _contradiction(ends[0], site)
    before = bool(ends) and ends[0].part == BEFORE
    blocks = [site for site in sites if site.block is not None]
    if not blocks:
        return None
    # A directory that names no part may count layers as tegakari does, or blocks as the hook does.
    first = next((site for site in blocks if site.part in (AFTER, BEFORE)), blocks[0])
    assert first.block is not None
    layer = first.block - before
    for site in blocks:
        if site.block not in ({first.block} if site.part in (AFTER, BEFORE) else {first.block, layer}):
            raise _contradiction(first, site)
    if layer < 0:
        raise SaeError(
            f"{first.name}: it was trained on the residual before the first block, which is the embedding",
            field="saes.path",
            fix="use SAEs of blocks.N.hook_resid_pre from block 1 on, or of blocks.N.hook_resid_post",
        )
    return layer


def names_residual(sites: Iterable[Site]) -> bool:
    """Whether any name says that an SAE is of the residual."""
    return any(site.part in _RESIDUALS for site in sites)


def _not_a_residual(site: Site) -> SaeError:
    part = "not known to be" if site.part is None or site.part in _RESIDUALS else f"{site.part}, and not"
    return SaeError(
        f"it was trained at {site.name}, which is {part} the residual after a block",
        field="saes.path",
        fix="use an SAE of blocks.N.hook_resid_post; if the name misleads, rename the directory",
    )


def _contradiction(one: Site, other: Site) -> SaeError:
    return SaeError(
        f"{one.name} and {other.name} contradict each other: {_described(one)}, and {_described(other)}",
        field="saes.path",
        fix="correct the configuration, or rename the directory",
    )


def _described(site: Site) -> str:
    block = "no block" if site.block is None else f"block {site.block}"
    return block if site.part is None else f"{site.part}, {block}"
