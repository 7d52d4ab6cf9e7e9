"""The program: its options, its commands in the order of the pipeline, and how errors end it."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType

import click

from .. import __version__
from ..errors import HunchError
from ..files import WITHOUT_NAME, write_reason
from .compare import compare
from .explore import explore
from .models import export, generate, score
from .samples import convert, fetch, simulate
from .spectra import hunt, limits
from .stages import process, report, run_command, search, train, validate
from .terminal import PlainFormatter, say, say_error

__all__ = ["cli", "main"]


class PipelineOrder(click.Group):
    """Lists the commands in the order of the pipeline, not of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the command names as they were added."""
        return list(self.commands)


@click.group(cls=PipelineOrder, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="hunch")
@click.option("--debug", is_flag=True, help="Show tracebacks and debug messages.")
@click.option("--quiet", is_flag=True, help="No progress and no messages but warnings.")
@click.pass_context
def cli(ctx: click.Context, *, debug: bool, quiet: bool) -> None:
    """From collider events in ROOT files to a p-value, without being told which particle to look for."""
    ctx.obj = {"progress": not quiet}
    level = logging.DEBUG if debug else logging.WARNING if quiet else logging.INFO
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainFormatter("%(message)s" if not debug else "%(name)s: %(message)s"))
    logger = logging.getLogger("hunch")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False
    if not debug:
        # pyhf logs a page for every fit that fails; hunch says which ones did
        logging.getLogger("pyhf").setLevel(logging.CRITICAL)


for command in (
    run_command,
    simulate,
    fetch,
    convert,
    process,
    train,
    score,
    export,
    generate,
    hunt,
    limits,
    validate,
    report,
    explore,
    search,
    compare,
):
    cli.add_command(command)


class Interruption:
    """What ends a run from outside: Ctrl-C, or a signal to terminate or hang up, which then is one that cleans up as Ctrl-C does."""

    def __init__(self) -> None:
        self.number = signal.SIGINT

    @contextlib.contextmanager
    def awaited(self) -> Iterator[None]:
        """Take signals that would end this process; those that whoever started it ignores stay ignored."""
        taken = []
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                with contextlib.suppress(ValueError):  # not in the main thread
                    signal.signal(number, self.take)
                    taken.append(number)
        try:
            yield
        finally:
            for number in taken:
                signal.signal(number, signal.SIG_DFL)

    def take(self, number: int, frame: FrameType | None) -> None:
        """Interrupt what is being done."""
        del frame
        self.number = signal.Signals(number)
        raise KeyboardInterrupt

    def end(self) -> None:
        """Say what happened in a line and exit with 128 and the signal's number."""
        said = {signal.SIGINT: "interrupted"}.get(self.number, f"ended by {self.number.name}")
        say(said, err=True)
        sys.exit(128 + self.number)


def main() -> None:
    """Run the command line: errors of the user's making are one message on stderr and exit status 2."""
    debug = "--debug" in sys.argv
    interruption = Interruption()
    try:
        with interruption.awaited():
            cli(standalone_mode=False)
        sys.stdout.flush()
    except (click.exceptions.Abort, KeyboardInterrupt):
        interruption.end()
    except click.ClickException as error:
        say_error(error)
        sys.exit(2)
    except HunchError as error:
        if debug:
            raise
        say(f"hunch: {error}", err=True)
        sys.exit(2)
    except OSError as error:
        if debug:
            raise
        place = error.filename or ("standard output" if error.errno in WITHOUT_NAME else "input/output")
        say(f"hunch: {place}: {write_reason(error)}", err=True)
        if error.filename is None:
            os.dup2(
                os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
            )  # else what is left is written at exit, and fails again
        sys.exit(2)
    except MemoryError as error:
        if debug:
            raise
        say(f"hunch: the memory does not suffice: {error or 'no more is to be had'}", err=True)
        sys.exit(2)
