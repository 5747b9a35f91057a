"""The blocks of docs/walkthrough-cluster.md: commands, and the machines that they run on."""

from __future__ import annotations

import re
from typing import NamedTuple

from tools.generated import ROOT

PAGE = ROOT / "docs" / "walkthrough-cluster.md"

_BLOCK = re.compile(r"^```sh\n# on ([^\n]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ALL = "all machines"


class Block(NamedTuple):
    """Commands of a shell."""

    machines: list[str]
    """addresses"""
    commands: str

    @property
    def serves(self) -> bool:
        """Whether the commands end with the machine."""
        return "tegakari serve" in self.commands


def environment_and_blocks() -> tuple[str, list[Block]]:
    """Commands that precede those of every block, and the blocks in order."""
    found = _BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    environment = [commands for where, commands in found if where == ALL]
    blocks = [Block(where.split(", "), commands) for where, commands in found if where != ALL]
    return "\n".join(environment), blocks
