"""Former spellings of options, for an error that names the present one."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

RENAMED = {
    "--runs": "--run, once per run: --run A --run B",
    "--labels": "--label, once per label: --label A --label B",
    "--limit": "-k",
    "--tokens": "-k",
    "--in": "--in-run",
}
"""Former option -> what to write."""

LAYER_OF_FEATURE = "a feature is named LAYER:FEATURE, as --feature 1:41"
"""What to write instead of `--layer` where `--feature` had the number alone."""


def present_spelling(option: str, command: Any) -> str | None:
    """What to write instead of an option that a command does not have; None: nothing is known."""
    if option == "--layer" and any("--feature" in parameter.opts for parameter in command.params):
        return LAYER_OF_FEATURE
    return RENAMED.get(option)


class Group(TyperGroup):
    """The root of the commands: an unknown option that had another name is named by the error."""

    def invoke(self, ctx: Any) -> Any:
        """Run a subcommand, as in the base class."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            if hasattr(error, "possibilities") and hasattr(error, "option_name"):  # click's or typer's NoSuchOption
                unknown: Any = error
                if spelling := present_spelling(unknown.option_name, unknown.ctx.command):
                    unknown.message = f"No such option: {unknown.option_name}. Now: {spelling}"
                    unknown.possibilities = None
            raise
