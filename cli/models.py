"""Commands of trained scorers: score, in stages or streams, export, and generate."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import click

from ..errors import HunchError
from ..lock import only_writer, reading
from .analyses import ANALYSIS, analysis_of, overriding, refuse, stage_command, yaml_keys
from .terminal import say

__all__ = ["export", "generate", "score"]


@click.command()
@click.argument("target", type=ANALYSIS, metavar="ANALYSIS|SCORER")
@click.argument("files", nargs=-1, metavar="[FILES|-]...")
@click.option("--force", is_flag=True, help="With an ANALYSIS: rerun though nothing changed.")
@click.option("--stream", is_flag=True, help="Score rows of FILES or standard input with a SCORER, as they come.")
@click.option(
    "-o", "--output", default=None, metavar="OUT|-", help="With --stream: CSV to write [default: standard output]."
)
@click.option("--metric", default=None, help="With --stream: which of the scorer's [default: its first].")
@click.option("--columns", default=None, metavar="A,B,C", help="With --stream: the features, in the order of training.")
@click.option("--skip-bad", is_flag=True, help="With --stream: leave out and count rows that hold no finite number.")
@overriding
@click.pass_obj
def score(
    obj: dict[str, Any],
    *,
    target: Path,
    files: tuple[str, ...],
    force: bool,
    stream: bool,
    output: str | None,
    metric: str | None,
    columns: str | None,
    skip_bad: bool,
    representation: str | None,
    values: tuple[str, ...],
) -> None:
    """Score the tables of ANALYSIS, each event by a model that never saw it.

    With --stream: score rows with a SCORER (a folder, or a file of hunch export) one block after another, in bounded
    memory. FILES are CSV with a header line, or parquet; without them, or as "-", CSV comes from standard input. One
    CSV line a row goes out: the columns that identify the event, and its score.
    """
    if not stream:
        only = {"FILES": files, "-o": output, "--metric": metric, "--columns": columns, "--skip-bad": skip_bad}
        given = [name for name, value in only.items() if value]
        if given:
            raise HunchError(f"{', '.join(given)}: only with --stream, as in hunch score --stream SCORER FILES")
        stage_command(obj, analysis_of(target, representation, values), "score", force=force)
        return
    refuse({"representation": representation, "values": values}, "only with an ANALYSIS")
    if force:
        raise HunchError("--force: only with an ANALYSIS; a stream is always scored")
    from ..workflow.stream import stream_scores

    to_file = output not in {None, "-"}
    try:
        with only_writer(Path(str(output))) if to_file else contextlib.nullcontext():
            report = stream_scores(
                target,
                files or ("-",),
                output or "-",
                columns=[name.strip() for name in columns.split(",")] if columns else None,
                metric=metric,
                skip_bad=skip_bad,
            )
    except BrokenPipeError:
        # the reader has what it wanted (as in `| head`): end as every filter does, and let nothing be written at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    if report.skipped:
        say(
            f"skipped {report.skipped} bad rows of {report.rows + report.skipped}; first: {report.first_skipped}",
            err=True,
        )
    if obj["progress"]:
        say(f"{report.rows} rows scored", err=True)


@click.command()
@click.argument("target", type=ANALYSIS, metavar="ANALYSIS|SCORER")
@click.option("-o", "--output", type=ANALYSIS, required=True, help="ONNX file to write.")
@click.option("--metric", default=None, help="Which of the scorer's [default: its first].")
@click.option(
    "--precision",
    type=click.Choice(["double", "float"]),
    default="double",
    show_default=True,
    help="double scores as hunch does, to rounding; float in about half the time.",
)
@overriding
def export(
    *,
    target: Path,
    output: Path,
    metric: str | None,
    precision: str,
    representation: str | None,
    values: tuple[str, ...],
) -> None:
    """Write a trained SCORER (a folder), or the one model of an ANALYSIS, as one ONNX file, scaling included.

    The file is for use without Python. What ONNX cannot hold, as exact optimal transport, is refused by name.
    """
    from ..models import load_scorer, load_space
    from ..models.export.onnx_export import export_onnx

    if output.suffix != ".onnx":
        raise HunchError(f"{output}: a name that ends in .onnx is expected")
    scorer: Any
    if "samples" in yaml_keys(str(target)):
        analysis = analysis_of(target, representation, values)
        with reading(Path(analysis.output)):
            scorer = load_space(only_model(target, analysis), metric=analysis.axis_metric, per_jet=analysis.per_jet)
    else:
        refuse({"representation": representation, "values": values}, "only with an ANALYSIS")
        scorer = load_scorer(target)
    with only_writer(output):
        export_onnx(scorer, output, metric=metric, precision=precision)
    say(f"{output}: {output.stat().st_size} bytes")


@click.command()
@click.argument("target", type=ANALYSIS, metavar="SCORER")
@click.option("-n", "--events", type=click.IntRange(min=1), required=True, help="Events to generate.")
@click.option("-o", "--output", type=ANALYSIS, required=True, help="Table to write (parquet).")
@click.option(
    "--axis", default=None, metavar="NAME", help="Of a space: the background or a prior [default: background]."
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The same seed gives the same events."
)
def generate(*, target: Path, events: int, output: Path, axis: str | None, seed: int) -> None:
    """Generate events with a trained SCORER (a folder): decoded from draws of its latent prior, or drawn by the chains of a NAE, in the
    units of its training.

    The table has the columns that the scorer was trained on: features, or the image or the constituents of a jet. ConstituentVae,
    ConvVae, Flow, NAE and Vae can, and so can an axis of a space of them. How like the training's such events are
    hunch.analysis.compare_generated tells.
    """
    from ..models import ScorerError, load_scorer
    from ..models.generated_table import generated_table
    from ..table import write_table

    if output.suffix != ".parquet":
        raise HunchError(f"{output}: the table is parquet; a name that ends in .parquet is expected")
    with only_writer(output):
        try:
            table = generated_table(load_scorer(target), events, axis=axis, seed=seed)
        except ScorerError as error:
            told = str(error)
            raise HunchError(told if told.startswith(str(target)) else f"{target}: {told}") from error
        write_table(output, table)
    say(f"{output}: {len(table)} events of {table.metadata['generated']['scorer']}, columns {', '.join(table.columns)}")


def only_model(path: Path, analysis: Any) -> Path:
    """Return the folder of an analysis' one trained model; raises HunchError where it has several, naming them, or an older one."""
    from ..workflow.layout import model_paths
    from ..workflow.stages import check_earlier

    folders = model_paths(analysis)
    if len(folders) > 1:
        raise HunchError(
            f"{path}: has a model for each of {len(folders)} folds; name one: {', '.join(map(str, folders))}"
        )
    check_earlier(analysis, "score", asked="export", any_source=True)
    return folders[0]
