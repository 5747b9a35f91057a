"""Commands in files and pages, compared with the commands that tegakari has."""

from __future__ import annotations

from typing import Any

from typer.main import get_command

from tegakari.cli.app import app


def check_command(words: list[str]) -> None:
    """Fail unless `tegakari` has the command, or group and command, and the command the options.

    Args:
        words: what follows `tegakari`.
    """
    command: Any = get_command(app)
    name = "tegakari"
    while hasattr(command, "commands"):
        assert words, f"{name} is a group of commands"
        assert words[0] in command.commands, f"{name} has no command {words[0]}"
        command, name, words = command.commands[words[0]], f"{name} {words[0]}", words[1:]
    options = {option for parameter in command.params for option in parameter.opts}
    for option in (word for word in words if word.startswith("-")):
        assert option in options, f"{option} is not an option of {name}"
