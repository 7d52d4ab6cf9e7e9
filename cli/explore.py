"""The command that shows events on a local page."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import click

from ..errors import HunchError, printable
from ..files import refuse_input, require_place
from ..lock import only_writer
from .analyses import ANALYSIS
from .terminal import say

__all__ = ["explore"]


@click.command()
@click.argument("target", type=ANALYSIS, metavar="TABLE.parquet|OUT")
@click.option(
    "--columns",
    multiple=True,
    metavar="NAME[,NAME...]",
    help="Columns with a histogram to begin with; can be repeated [the first ones].",
)
@click.option(
    "--export", type=ANALYSIS, default=None, help="Table (parquet) that the page's button writes the selection to."
)
@click.option("--truth", is_flag=True, help="Show truth labels, too.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on this machine [a free one].")
@click.option("--no-browser", is_flag=True, help="Print the address and open no browser.")
def explore(
    *, target: Path, columns: tuple[str, ...], export: Path | None, truth: bool, port: int, no_browser: bool
) -> None:
    """Look at the events of a table, or of the search in the folder OUT, on a page of this machine.

    Linked histograms and scatter plots: a box that is drawn in one, or a bin that is clicked, filters all others. Of OUT: the
    scored samples with their kinematics, losses, score and regions; the data of a blind search stay closed. Ctrl-C ends it.
    """
    from ..workflow.explore.explored import read_explored_table
    from ..workflow.explore.outputs import is_output, read_explored_output

    if export is not None:
        check_export(export, target)
    read = read_explored_output if is_output(target) else read_explored_table
    found = read(target, truth=truth, columns=columns)
    say(
        f"{len(found):,} events, {len(found.columns)} columns; samples: {', '.join(printable(s) for s in found.samples)}"
    )
    for note in found.notes:
        say(note)
    with contextlib.ExitStack() as stack:
        if export is not None:
            stack.enter_context(only_writer(export))
        show(found, stack, export=export, port=port, browser=not no_browser)


def check_export(export: Path, target: Path) -> None:
    """Raise HunchError where a selection cannot be written to a place, or would take the place of what is read."""
    if export.suffix != ".parquet":
        raise HunchError(f"--export {export}: the table is parquet; a name that ends in .parquet is expected")
    if export.is_dir():
        raise HunchError(f"--export {export}: is a directory, not a file to write")
    require_place(export.parent)
    refuse_input(export, [target])
    if target.is_dir() and export.resolve().is_relative_to(target.resolve()):
        raise HunchError(f"--export {export}: lies in {target}, which is read; name a file elsewhere")


def show(found: Any, stack: contextlib.ExitStack, *, export: Path | None, port: int, browser: bool) -> None:
    """Serve the page and print its address."""
    from ..workflow.explore.page import Page
    from ..workflow.explore.serving import opened_in_browser, serve

    def ready(address: str) -> None:
        say(f"page: {address}")
        say("Ctrl-C ends it")
        if browser:
            stack.enter_context(opened_in_browser(address))

    serve(lambda document, own: Page(found, export=export).add_to(document, own), port=port, ready=ready)
