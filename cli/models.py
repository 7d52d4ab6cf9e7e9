"""Commands of trained scorers: score, in stages or streams, export, and generate."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from ..errors import HunchError, shown
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
@click.option(
    "-o", "--output", type=ANALYSIS, required=True, help="Table (.parquet), or of whole events an event file (.root)."
)
@click.option(
    "--axis", default=None, metavar="NAME", help="Of a space: the background or a prior [default: background]."
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The same seed gives the same events."
)
@click.option("--alpha", type=float, default=None, help="EventVae: factor of the latent sigmas [default: 1].")
@click.option("--gamma", type=float, default=None, help="EventVae: added to the latent sigmas [default: 0.05].")
@click.option(
    "--where",
    multiple=True,
    metavar="QUANTITY=LOW:HIGH",
    help="EventVae: events of a window alone, as met=200:inf, ht, pt_jet_1, n_jet or dphi_met_jet_1; repeatable.",
)
@click.option("--prior", is_flag=True, help="EventVae: draw from the latent prior in place of the training's buffer.")
@click.pass_obj
def generate(
    obj: dict[str, Any],
    *,
    target: Path,
    events: int,
    output: Path,
    axis: str | None,
    seed: int,
    alpha: float | None,
    gamma: float | None,
    where: tuple[str, ...],
    prior: bool,
) -> None:
    """Generate events with a trained SCORER (a folder): decoded from draws of its latent prior, or drawn by the chains of a NAE, in the
    units of its training.

    The table has the columns that the scorer was trained on: features, or the image or the constituents of a jet. ConstituentVae,
    ConvVae, Flow, NAE and Vae can, and so can an axis of a space of them. How like the training's such events are
    hunch.analysis.compare_generated tells.

    An EventVae that was trained with buffer=N draws whole events around the latent Gaussians of N training events, mean and alpha * sigma + gamma
    (arXiv:1901.00875), and writes an event file too, which hunch process reads. They say no more of the physics than these N.
    """
    from ..models import ScorerError, load_scorer
    from ..models.generated_table import generated_table
    from ..table import write_table
    from ..workflow.generate import event_generator, write_generated

    if output.suffix not in {".parquet", ".root"}:
        raise HunchError(f"{output}: a name that ends in .parquet (a table) or .root (whole events) is expected")
    windows = dict(window_option(text) for text in where)
    given = {"--alpha": alpha is not None, "--gamma": gamma is not None, "--where": where, "--prior": prior}
    if prior and (alpha is not None or gamma is not None):
        raise HunchError("--prior: draws have the spread of the prior; --alpha and --gamma are of the buffer")
    with only_writer(output):
        try:
            found = event_generator(
                target,
                axis=axis,
                prior=prior,
                alpha=1.0 if alpha is None else alpha,
                gamma=0.05 if gamma is None else gamma,
                where=windows,
            )
            if found is not None:
                generator, names, made = found

                def bar(chunks: Iterable[Any]) -> Iterable[Any]:
                    return events_shown(chunks, events, bar=obj["progress"])

                counts = write_generated(generator, events, output, names=names, made=made, seed=seed, progress=bar)
                told = ", ".join(f"{name} {share:.2%}" for name, share in counts.shares().items())
                say(
                    f"{output}: {events} events of {len(generator.drawn_around)} latent Gaussians; before put right: {told}"
                )
                return
            wrong = [name for name, value in given.items() if value]
            if wrong or output.suffix != ".parquet":
                raise HunchError(f"{', '.join(wrong) or output}: only with an EventVae, which makes whole events")
            table = generated_table(load_scorer(target), events, axis=axis, seed=seed)
        except ScorerError as error:
            told = str(error)
            raise HunchError(told if told.startswith(str(target)) else f"{target}: {told}") from error
        write_table(output, table)
    say(f"{output}: {len(table)} events of {table.metadata['generated']['scorer']}, columns {', '.join(table.columns)}")


def window_option(text: str) -> tuple[str, tuple[float, float]]:
    """Return name and limits of QUANTITY=LOW:HIGH; raises HunchError for another text."""
    name, equals, limits = text.partition("=")
    parts = limits.split(":")
    try:
        low, high = (float(part) for part in parts)
    except ValueError as error:
        raise HunchError(f"--where {shown(text)}: QUANTITY=LOW:HIGH is expected, as met=200:inf") from error
    if not (equals and name):
        raise HunchError(f"--where {shown(text)}: QUANTITY=LOW:HIGH is expected, as met=200:inf")
    return name, (low, high)


def events_shown(chunks: Iterable[Any], total: int, *, bar: bool) -> Iterator[Any]:
    """Give chunks on, with a bar of their events where it is shown."""
    from tqdm import tqdm

    interval = 0.5 if sys.stderr.isatty() else 30.0
    with tqdm(desc="generate", total=total, unit="event", disable=not bar, mininterval=interval) as shown_bar:
        for chunk in chunks:
            yield chunk
            shown_bar.update(len(chunk.events))


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
