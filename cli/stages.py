"""Commands of an analysis: the whole job, a stage each, its checks, and the search in more files."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any, Literal

import click

from ..errors import HunchError, unknown_name
from ..files import refuse_input, require_place
from ..lock import only_writer
from .analyses import (
    ANALYSIS,
    analysis_of,
    answer,
    cores,
    is_analysis,
    overriding,
    refuse,
    set_values,
    stage_command,
)
from .terminal import say

__all__ = ["process", "report", "run_command", "search", "train", "validate"]

FORCED_STAGES = ("process", "train", "score", "hunt", "limits", "report")
RENAMED = {
    "--jets": "jets",
    "--pixels": "pixels",
    "--max-constituents": "max_constituents",
    "--radius": "radius",
    "--min-pt": "min_pt",
    "--max-pt": "max_pt",
    "--max-abs-eta": "max_abs_eta",
    "--min-leading-pt": "min_leading_pt",
    "--max-deta": "max_deta",
    "--min-mjj": "min_mjj",
    "--max-mjj": "max_mjj",
}
"""Options that `hunch process` had -> the keys of --set that took their place."""


@click.command(name="run")
@click.argument("analysis", type=ANALYSIS)
@click.option(
    "--force", multiple=True, metavar="STAGE", help=f"Rerun a stage: {', '.join(FORCED_STAGES)}; can be repeated."
)
@overriding
@click.pass_obj
def run_command(
    obj: dict[str, Any], analysis: Path, *, force: tuple[str, ...], representation: str | None, values: tuple[str, ...]
) -> None:
    """Do the whole job of ANALYSIS (YAML): every stage that is not up to date, then print the answer."""
    from ..workflow.stages import run

    settings = analysis_of(analysis, representation, values)
    result = run(settings, force=force, progress=obj["progress"])
    say(answer(result))
    say(f"report: {Path(settings.output) / 'report.html'}")


def renamed(_: click.Context, option: click.Parameter, value: str | None) -> None:
    """Say which key took an option's place."""
    if value is not None:
        key = RENAMED[option.opts[0]]
        raise HunchError(
            f"{option.opts[0]} {value}: is now --set {key}={value} (with --as images or constituents for jets' own)"
        )


def taking_renamed(command: click.Command) -> click.Command:
    """Add the options of before, hidden, each of which names its key."""
    for name in RENAMED:
        command.params.append(
            click.Option([name], hidden=True, expose_value=False, callback=renamed, default=None, is_eager=True)
        )
    return command


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILES|FILESET|ANALYSIS")
@click.option("-o", "--output", type=ANALYSIS, default=None, help="Table to write (parquet); not for an ANALYSIS.")
@click.option(
    "--as", "representation", default=None, metavar="NAME", help="features, images or constituents [features]."
)
@click.option(
    "--set",
    "values",
    multiple=True,
    metavar="KEY=VALUE",
    help="A field of the representation: jets=1, pixels=40, min_pt=200; of an ANALYSIS: one of its keys.",
)
@click.option(
    "--executor",
    type=click.Choice(["iterative", "futures", "dask"]),
    default=None,
    help="How the chunks are run [default: futures].",
)
@click.option("--workers", type=click.IntRange(min=1), default=None, help="Processes [default: all cores].")
@click.option("--scheduler", default=None, help="Address of a running dask scheduler.")
@click.option("--skip-bad-files", is_flag=True, help="Count and report files that cannot be processed.")
@click.option(
    "--repeats",
    type=click.Choice(["refuse", "drop"]),
    default=None,
    help="Events that come again: an error, or left out and counted [refuse].",
)
@click.option("--force", is_flag=True, help="With an ANALYSIS: rerun though nothing changed.")
@click.pass_obj
def process(
    obj: dict[str, Any],
    /,
    files: tuple[str, ...],
    *,
    output: Path | None,
    representation: str | None,
    values: tuple[str, ...],
    force: bool,
    repeats: Literal["refuse", "drop"] | None,
    **running: Any,
) -> None:
    """Turn event files, or a coffea fileset (JSON, YAML, .gz), into a table: one row an event.

    \b
    features       the dijet system and the substructure of its jets
    images         an image of each jet
    constituents   pT, eta, phi of the constituents of each jet, or their four-vectors
    objects        pT, eta, phi of missing momentum, electrons, muons and jets of each event

    With an ANALYSIS (YAML with the keys `samples` and `output`): the first stage of hunch run.
    """
    if len(files) == 1 and is_analysis(files[0]):
        given = {"output": output, "repeats": repeats, **running, "skip_bad_files": running["skip_bad_files"] or None}
        refuse(given, "for event files; an ANALYSIS has these in its own keys")
        stage_command(obj, analysis_of(Path(files[0]), representation, values), "process", force=force)
        return
    if output is None:
        raise HunchError("-o TABLE.parquet is missing: where to write the table")
    if output.suffix != ".parquet":
        raise HunchError(f"{output}: the table is parquet; a name that ends in .parquet is expected")
    refuse({"force": force or None}, "only with an ANALYSIS; event files are always processed")
    from ..processors import Running, read_fileset, run_table

    chosen = representation_with(representation or "features", set_values(values))
    running_as = Running(progress=obj["progress"], **{key: v for key, v in running.items() if v is not None})
    with only_writer(output):
        result = run_table(read_fileset(files), chosen, running_as, output=output, repeats=repeats or "refuse")
    width = max(len(name) for name in result.cutflow)
    for name, count in result.cutflow.items():
        say(f"{name:{width}}  {count}")
    say(f"{output}: {result.cutflow['kept']} events, {len(result.skipped)} files skipped")


process = taking_renamed(process)


def representation_with(name: str, values: dict[str, Any]) -> Any:
    """Return the representation of that name with these fields; raises HunchError naming what is allowed."""
    from ..config import checked_options
    from ..processors.representations import REPRESENTATIONS, representation_of

    if name not in REPRESENTATIONS:
        raise HunchError(unknown_name("representation", name, REPRESENTATIONS, "--as"))
    cls = REPRESENTATIONS[name]
    if not cls.of_events:
        made = ", ".join(n for n, c in REPRESENTATIONS.items() if c.of_events)
        raise HunchError(f"--as {name}: no events become a table of your own; allowed: {made}")
    hunted = {key: values.pop(key) for key in ("observable",) if key in values}
    if values.get("jets") == 1 and not hunted:
        hunted = {"observable": None}  # a jet of one particle has no mass and is a jet all the same
    try:
        options = checked_options(
            "--set", cls, values, {field.name for field in dataclasses.fields(cls)} - {"observable"}
        )
    except ValueError as error:
        raise HunchError(str(error).replace("'--set.", "'--set ")) from error
    return representation_of(name, **options, **hunted)


def stage_only(name: str, text: str) -> click.Command:
    """Return a command for one stage of an analysis."""

    @click.command(name=name, help=text)
    @click.argument("analysis", type=ANALYSIS)
    @click.option("--force", is_flag=True, help="Rerun though nothing changed.")
    @overriding
    @click.pass_obj
    def command(
        obj: dict[str, Any], analysis: Path, *, force: bool, representation: str | None, values: tuple[str, ...]
    ) -> None:
        stage_command(obj, analysis_of(analysis, representation, values), name, force=force)

    return command


train = stage_only("train", "Train the scorers of ANALYSIS on its tables.")


@click.command()
@click.argument("target", type=ANALYSIS, metavar="ANALYSIS|OUT")
@click.option("--force", is_flag=True, help="With an ANALYSIS: rerun though nothing changed.")
@overriding
@click.pass_obj
def report(
    obj: dict[str, Any], /, *, target: Path, force: bool, representation: str | None, values: tuple[str, ...]
) -> None:
    """Write report.html anew from result.json, limits.json, validation.json and figures: of ANALYSIS, or of OUT, the folder of a hunt in spectra."""
    if not target.is_dir():
        stage_command(obj, analysis_of(target, representation, values), "report", force=force)
        return
    refuse({"representation": representation, "values": values, "force": force or None}, "only with an ANALYSIS")
    from ..workflow.given_spectra import report_again

    report_again(target)
    say(f"report: {target / 'report.html'}")


@click.command()
@click.argument("target", type=ANALYSIS, metavar="ANALYSIS|OUT")
@click.option(
    "--local", type=click.IntRange(min=100), default=10_000, show_default=True, help="Experiments for local p."
)
@click.option("--outer", type=click.IntRange(min=0), default=200, show_default=True, help="Whole hunts for global p.")
@click.option(
    "--inner", type=click.IntRange(min=20), default=500, show_default=True, help="Experiments in each of them."
)
@click.option(
    "--injected", type=click.IntRange(min=20), default=1000, show_default=True, help="Experiments a strength."
)
@click.option("--retrain", type=click.IntRange(min=0), default=0, show_default=True, help="Analyses with new models.")
@click.option("--workers", type=click.IntRange(min=1), default=None, help="Processes [default: all cores].")
@overriding
@click.pass_obj
def validate(
    obj: dict[str, Any],
    /,
    *,
    target: Path,
    workers: int | None,
    retrain: int,
    representation: str | None,
    values: tuple[str, ...],
    **numbers: int,
) -> None:
    """Check the p-values and yields of a finished ANALYSIS, or of the folder OUT of a hunt in spectra.

    Injected signals (slope, pulls, coverage), local p of experiments of the fit in bulk and tail, the global p of whole hunts
    in experiments drawn from background events (samples.validation, else held-out background), and the bias test: yields and
    p-values in experiments drawn from every other background function that describes the data. Writes
    validation.json, figures and report.html. Exit status 1 where a check fails.
    """
    from ..workflow.given_spectra import validate_folder
    from ..workflow.validate import validate_analysis

    options = {"progress": obj["progress"], "workers": workers or cores(), **numbers}
    if target.is_dir():
        refuse({"representation": representation, "values": values}, "only with an ANALYSIS")
        if retrain:
            raise HunchError("--retrain: only with an ANALYSIS, whose models are trained anew")
        checks, output = validate_folder(target, **options), target
    else:
        settings = analysis_of(target, representation, values)
        checks, output = validate_analysis(settings, retrain=retrain, **options), Path(settings.output)
    for check in checks["checks"]:
        word = {True: "pass", False: "FAIL", None: "-"}[check["passed"]]
        say(f"{word:4}  {check['name']}: {check['found']}")
    say(f"report: {output / 'report.html'}")
    if any(check["passed"] is False for check in checks["checks"]):
        sys.exit(1)


@click.command()
@click.argument("analysis", type=ANALYSIS)
@click.argument("files", nargs=-1, required=True)
@click.option("-o", "--output", type=ANALYSIS, required=True, help="Spectra per region to write (ROOT).")
@overriding
@click.pass_obj
def search(
    obj: dict[str, Any],
    analysis: Path,
    files: tuple[str, ...],
    *,
    output: Path,
    representation: str | None,
    values: tuple[str, ...],
) -> None:
    """Apply the trained scorers and fixed regions of ANALYSIS to event FILES, or tables; of each event a hash alone is kept.

    An event that the model which would score it has trained on ends the search.
    """
    from ..analysis import write_spectra
    from ..workflow.search import search_files

    if output.suffix != ".root":
        raise HunchError(f"{output}: spectra are written as ROOT; a name that ends in .root is expected")
    settings = analysis_of(analysis, representation, values)
    require_place(output.parent)
    refuse_input(output, [*files, *(file for own in settings.sample_files().values() for file in own)])
    with only_writer(output):
        result = search_files(settings, files, progress=obj["progress"])
        regions = range(result.spectra.axes[0].size)
        write_spectra(output, [f"region {r}" for r in regions], [result.spectra[r, :] for r in regions])
    say(json.dumps({"cutflow": result.cutflow, "skipped": [list(s) for s in result.skipped]}))
    say(f"{output}: {int(result.spectra.sum())} events in {len(regions)} regions")
