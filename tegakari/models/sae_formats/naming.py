"""Which layer an SAE belongs to, by the names that its files or directories bear.

The residual of layer N is what block N puts out. SAEs of anything else (an MLP, attention, the embedding) have the same
shapes on most models, so they are told by name or not at all.
"""

from __future__ import annotations

import re

from tegakari.schemas.errors import SaeError

_BLOCK = r"(?:^|[./_])(?:(?:blocks|layers|layer)[._=-]?|h\.)(\d+)"
_BLOCK_OUTPUT = re.compile(_BLOCK + r"(?:\.hook_resid_post|\.hook_out)?$")
_BLOCK_INPUT = re.compile(_BLOCK + r"\.hook_resid_pre$")
_BLOCK_ANYWHERE = re.compile(_BLOCK, re.IGNORECASE)
_NOT_A_RESIDUAL = re.compile(r"mlp|attn|attention|hook_z|hook_[qkv]$|transcoder|embed|ln1|ln2", re.IGNORECASE)


def layer_of_hook(hook: str) -> int:
    """Layer of a hook or module name: `blocks.3.hook_resid_post`, `model.layers.3`, `resid_post_layer_3`.

    `blocks.N.hook_resid_pre` is the residual before block N, which is the output of block N - 1.

    Raises:
        SaeError: it names something else than the residual after a block.
    """
    before = _BLOCK_INPUT.search(hook)
    if before and int(before[1]) > 0:
        return int(before[1]) - 1
    after = _BLOCK_OUTPUT.search(hook)
    if before or not after or _NOT_A_RESIDUAL.search(hook):
        raise SaeError(
            f"it was trained at {hook!r}, which is not known to be the residual after a block",
            field="hook_name",
            fix="use an SAE of blocks.N.hook_resid_post",
        )
    return int(after[1])


def layer_of_directory(name: str) -> int | None:
    """Layer in the name of a directory: `layer_03`, `layers.3`, `blocks.3.hook_resid_post`; None if it names none.

    Raises:
        SaeError: it names a part of a block.
    """
    if _BLOCK_OUTPUT.search(name) or _BLOCK_INPUT.search(name):
        return layer_of_hook(name)
    found = _BLOCK_ANYWHERE.search(name)
    if found and _NOT_A_RESIDUAL.search(name):
        return layer_of_hook(name)  # which says why not
    return int(found[1]) if found else None
