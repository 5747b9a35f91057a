"""Layer of an SAE from the name of a hook, a module or a directory.

The residual of layer N is the output of block N. SAEs of anything else (an MLP, attention, the embedding) have the same
shapes on most models: only the name distinguishes them.
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
        SaeError: the name is not that of the residual after a block.
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
        SaeError: the name is that of a part of a block.
    """
    if _BLOCK_OUTPUT.search(name) or _BLOCK_INPUT.search(name):
        return layer_of_hook(name)
    block = _BLOCK_ANYWHERE.search(name)
    if block and _NOT_A_RESIDUAL.search(name):
        return layer_of_hook(name)  # raises
    return int(block[1]) if block else None
