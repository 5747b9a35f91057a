"""Which layer an SAE belongs to, by the names that its files or directories bear."""

from __future__ import annotations

import re

_PATTERNS = (
    r"blocks\.(\d+)\.hook_resid_post",
    r"blocks\.(\d+)\.",
    r"layers\.(\d+)",
    r"layer[_=]?(\d+)",
    r"\bh\.(\d+)",
    r"resid_post_layer_(\d+)",
)


def layer_of_name(name: str) -> int | None:
    """Layer in a hook, hookpoint or directory name: `blocks.3.hook_resid_post`, `layers.3`, `layer_03`, ...

    `blocks.N.hook_resid_pre` is the residual before block N, which is the output of block N - 1.
    """
    before = re.search(r"blocks\.(\d+)\.hook_resid_pre", name)
    if before:
        return int(before[1]) - 1
    for pattern in _PATTERNS:
        found = re.search(pattern, name)
        if found:
            return int(found[1])
    return None
