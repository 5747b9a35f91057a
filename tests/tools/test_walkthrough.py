"""The walk-through of a cluster names machines of its table and commands that exist; the soak executes it."""

from __future__ import annotations

import re
import shlex

from typer.testing import CliRunner

from tegakari.cli.app import app
from tests.support.walkthrough import PAGE, environment_and_blocks


def test_blocks_are_for_machines_of_the_table_and_have_commands_that_exist():
    text = PAGE.read_text(encoding="utf-8")
    environment, blocks = environment_and_blocks()
    assert "AWS_ENDPOINT_URL" in environment
    assert text.count("```sh") == len(blocks) + 1
    table = {address for row in re.findall(r"^\| (10\.[^|]+) \|", text, re.MULTILINE) for address in row.split(", ")}
    assert {address for block in blocks for address in block.machines} == table - {"10.77.0.9"}
    commands = [shlex.split(line)[1:] for block in blocks for line in re.findall("tegakari .*", block.commands)]
    assert {command[0] for command in commands} >= {"index", "runs", "serve", "labels"}
    for command in commands:
        arguments = command[: command.index(">")] if ">" in command else command
        done = CliRunner().invoke(app, [*arguments, "--help"])  # options are parsed before help is printed
        assert done.exit_code == 0, (arguments, done.output)
