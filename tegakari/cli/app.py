"""The `tegakari` command: its groups, and what it says when something is wrong."""

from __future__ import annotations

import os
import sys

import typer
from rich.markup import escape

from tegakari.cli import (
    circuit,
    compare,
    corpus,
    demo,
    keys,
    knockout,
    near,
    query,
    runs,
    serve,
    setup,
    sql,
    study,
    train,
    variants,
)
from tegakari.cli.output import err, set_up_logging
from tegakari.schemas.errors import TegakariError

app = typer.Typer(
    name="tegakari",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def start() -> None:
    """A feature store for sparse autoencoders over text classifiers: which clue carries a label."""
    set_up_logging()


setup.register(app)
app.add_typer(corpus.app, name="corpus")
train.register(app)
app.add_typer(train.sae_app, name="sae")
app.add_typer(runs.app, name="runs")
query.register(app)
near.register(app)
knockout.register(app)
circuit.register(app)
study.register(app)
variants.register(app)
compare.register(app)
sql.register(app)
serve.register(app)
app.add_typer(keys.app, name="keys")
demo.register(app)

EXIT_ERROR = 1
EXIT_INTERRUPTED = 130


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 an error that is explained, 2 wrong usage, 130 interrupted."""
    # Models come from directories; nothing is fetched unless the user says so, and nothing asks the hub on the way.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        app()
    except TegakariError as error:
        where = f"[bold]{escape(error.field)}[/]: " if error.field else ""
        err.print(f"[bold red]error:[/] {where}{escape(error.message)}", soft_wrap=True)
        if error.fix:
            err.print(f"  [bold]fix:[/] {escape(error.fix)}", soft_wrap=True)
        sys.exit(EXIT_ERROR)
    except KeyboardInterrupt:
        err.print("interrupted; finished work is kept, the same command goes on from there")
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of a pipe left early, as `| head` does; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_ERROR)
