"""Former spellings of options, for an error that names the present one."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

UsageError = typer.BadParameter.__base__
assert UsageError is not None

RENAMED = {
    "--runs": "--run, once per run: --run A --run B",
    "--labels": "--label, once per label: --label A --label B",
    "--limit": "-k",
    "--tokens": "-k",
    "--in": "--in-run",
}
"""Former option -> what to write."""

LAYER_OF_FEATURE = "features are named LAYER:FEATURE: --feature 1:41"


class Group(TyperGroup):
    """The root of the commands: an unknown option that had another name is named by the error."""

    def invoke(self, ctx: Any) -> Any:
        """Run a subcommand, as in the base class."""
        try:
            return super().invoke(ctx)
        except UsageError as error:
            option = getattr(error, "option_name", None)
            if option in RENAMED:
                error.message = f"No such option: {option}. Now: {RENAMED[option]}"
            elif option == "--layer":
                error.message = f"No such option: {option}. Now: {LAYER_OF_FEATURE}"
            else:
                raise
            error.possibilities = None
            raise
