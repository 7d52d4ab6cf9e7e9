"""What reaches the terminal: every line of the command line and of the log goes through here.

Names of regions, samples, columns and files come from others. Control characters in them would move the cursor, change
colours or forge lines, so they are written out.
"""

from __future__ import annotations

import logging
from typing import Any

import click

from ..errors import printable

__all__ = ["PlainFormatter", "say", "say_error"]


def say(message: object, *, err: bool = False) -> None:
    """Print a message to standard output, or to standard error; line feeds alone stay what they are."""
    click.echo(printable(str(message), keep="\n"), err=err)


def say_error(error: click.ClickException) -> None:
    """Print in a line what click found wrong with the command line, which may hold names of files too; help, where that is all."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        say(error.format_message(), err=True)
        return
    context = getattr(error, "ctx", None)
    more = f"; see {context.command_path} --help" if context is not None else ""
    say(f"hunch: {' '.join(error.format_message().split()).removesuffix('.')}{more}", err=True)


class PlainFormatter(logging.Formatter):
    """One line a message, whatever is in it; a traceback keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line of a message."""
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        """Return the lines of a traceback."""
        return printable(super().formatException(ei), keep="\n")
