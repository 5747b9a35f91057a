"""The command line: each command calls the package that does the work."""

from tegakari.cli.app import main

__all__ = ["main"]
