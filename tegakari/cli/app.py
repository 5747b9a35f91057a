"""The `tegakari` command: its subcommands, and how errors are printed."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from tegakari.cli import (
    analyses,
    attribution,
    circuit,
    classification,
    classify,
    compare,
    config,
    contexts,
    corpus,
    cues,
    demo,
    doctor,
    document,
    documents,
    effects,
    encode,
    explain,
    explanations,
    feature,
    features,
    finetune,
    histogram,
    index,
    init,
    keys,
    knockout,
    labels,
    mcp,
    neighbours,
    notes,
    renamed_options,
    runs,
    sae,
    search,
    serve,
    sparsity,
    specificity,
    sql,
    study,
    variants,
)
from tegakari.cli.output import err, print_error, set_up_logging
from tegakari.extras import extras_named
from tegakari.schemas.errors import TegakariError
from tegakari.store.processes import keep_working_directory_off_path
from tegakari.version import __version__

app = typer.Typer(
    name="tegakari",
    cls=renamed_options.Group,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"tegakari {__version__}")
        raise typer.Exit


@app.callback()
def start(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """A feature store for sparse autoencoders over text classifiers: which clue carries a label."""
    if context.invoked_subcommand != runs.COMMAND:  # its list logs nothing, and must start fast
        set_up_logging()


COMMANDS = {
    "Pipeline": (init, corpus, finetune, sae, index, demo),
    "Queries": (
        runs,
        labels,
        features,
        feature,
        contexts,
        effects,
        histogram,
        neighbours,
        specificity,
        documents,
        document,
        search,
        sql,
        notes,
        explanations,
    ),
    "Models": (classify, encode, attribution, explain),
    "Analyses": (knockout, circuit, variants, study, compare, classification, sparsity, cues, analyses),
    "Service": (serve, mcp, keys),
    "Set-up": (doctor, config),
}
"""Section of the help page -> modules. A module is named as its command: a function of that name, or a group `app`."""

for section, modules in COMMANDS.items():
    for module in modules:
        name = module.__name__.rpartition(".")[2]
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name, rich_help_panel=section)
        else:
            app.command(name, rich_help_panel=section)(getattr(module, name))

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


FILE_OPTIONS = ("--config", "--path")
"""Options whose errors are about the file, not about the value."""


def exit_code(error: TegakariError) -> int:
    """2 for a value that is not allowed, as for an unknown option; 1 for every other error."""
    field = error.field or ""
    wrong_value = error.status in (400, 422) or (field.startswith("-") and field not in FILE_OPTIONS)
    return EXIT_USAGE if wrong_value else EXIT_ERROR


def main() -> None:
    """Run the command line.

    Exit codes: 0 success; 1 an explained error; 2 wrong usage, values that are not allowed included; 130 interrupted.
    """
    # Models come from directories; nothing is fetched unless the user says so, and nothing asks the hub on the way.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    keep_working_directory_off_path()
    try:
        with extras_named():
            app()
    except TegakariError as error:
        print_error(error)
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        err.print("interrupted; finished work is kept, the same command resumes it")
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of a pipe left early, as `| head` does; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_ERROR)
