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
    "--layer": "a feature is named LAYER:FEATURE, as --feature 1:41",
}
"""Former option -> what to write."""


class Group(TyperGroup):
    """The root of the commands: an unknown option that had another name is named by the error."""

    def invoke(self, ctx: Any) -> Any:
        """Run a subcommand, as in the base class."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            option = getattr(error, "option_name", None)  # of click's NoSuchOption, which typer may bring itself
            if option in RENAMED and hasattr(error, "possibilities"):
                error.message = f"No such option: {option}. Now: {RENAMED[option]}"  # pyright: ignore
                error.possibilities = None  # pyright: ignore
            raise
