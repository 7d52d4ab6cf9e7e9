"""Commands of an analysis: the whole job, a stage each, its checks, and the search in more files."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from ..errors import HunchError
from .analyses import ANALYSIS, answer, cores, is_analysis, refuse, stage_command

__all__ = ["process", "report", "run_command", "search", "train", "validate"]

FORCED_STAGES = ("process", "train", "score", "hunt", "limits", "report")
JET_OPTIONS = ("representation", "pixels", "max_constituents", "max_pt")
DIJET_OPTIONS = ("min_leading_pt", "max_deta", "min_mjj", "max_mjj")
"""Of `hunch process`: what makes sense only with --jets, and only without."""


@click.command(name="run")
@click.argument("analysis", type=ANALYSIS)
@click.option(
    "--force", multiple=True, metavar="STAGE", help=f"Rerun a stage: {', '.join(FORCED_STAGES)}; can be repeated."
)
@click.pass_obj
def run_command(obj: dict[str, Any], analysis: Path, *, force: tuple[str, ...]) -> None:
    """Do the whole job of ANALYSIS (YAML): every stage that is not up to date, then print the answer."""
    from ..config import read_analysis
    from ..workflow.stages import run

    settings = read_analysis(analysis)
    result = run(settings, force=force, progress=obj["progress"])
    click.echo(answer(result))
    click.echo(f"report: {Path(settings.output) / 'report.html'}")


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILES|FILESET|ANALYSIS")
@click.option("-o", "--output", type=ANALYSIS, default=None, help="Table to write (parquet); not for an ANALYSIS.")
@click.option("--executor", type=click.Choice(["iterative", "futures", "dask"]), default="futures", show_default=True)
@click.option("--workers", type=click.IntRange(min=1), default=None, help="Processes [default: all cores].")
@click.option("--scheduler", default=None, help="Address of a running dask scheduler.")
@click.option("--skip-bad-files", is_flag=True, help="Count and report files that cannot be processed.")
@click.option("--radius", type=float, default=1.0, show_default=True, help="Of the anti-kT jets.")
@click.option("--min-pt", type=float, default=50.0, show_default=True, help="Of a jet, GeV.")
@click.option("--max-abs-eta", type=float, default=None, help="Of a jet.")
@click.option("--min-leading-pt", type=float, default=None, help="Of the harder jet, GeV.")
@click.option("--max-deta", type=float, default=None, help="|eta_1 - eta_2| of the two leading jets.")
@click.option("--min-mjj", type=float, default=None, help="GeV.")
@click.option("--max-mjj", type=float, default=None, help="GeV.")
@click.option(
    "--jets", type=click.IntRange(1, 2), default=None, help="Images of the 1 or 2 leading jets, not the dijet table."
)
@click.option(
    "--as",
    "representation",
    type=click.Choice(["images", "constituents"]),
    default=None,
    help="With --jets: what a jet becomes [default: images].",
)
@click.option("--pixels", type=click.IntRange(min=1), default=None, help="With --jets: a side of the image [40].")
@click.option("--max-constituents", type=click.IntRange(min=1), default=None, help="With --as constituents [100].")
@click.option("--max-pt", type=float, default=None, help="With --jets: of each of them, GeV.")
@click.option("--force", is_flag=True, help="With an ANALYSIS: rerun though nothing changed.")
@click.pass_obj
def process(
    obj: dict[str, Any],
    /,
    files: tuple[str, ...],
    *,
    output: Path | None,
    executor: str,
    workers: int | None,
    scheduler: str | None,
    skip_bad_files: bool,
    force: bool,
    jets: int | None,
    **cuts: Any,
) -> None:
    """Turn event files, or a coffea fileset (JSON, YAML), into a table of dijets and their substructure.

    With --jets: into images or constituents of single jets, or of the two leading jets, one row an event. With an
    ANALYSIS (YAML with the key `samples`): the first stage of hunch run.
    """
    if len(files) == 1 and is_analysis(files[0]):
        refuse({"jets": jets, **{name: cuts[name] for name in JET_OPTIONS}}, "for event files, not for an ANALYSIS")
        stage_command(obj, Path(files[0]), "process", force=force)
        return
    if output is None:
        raise HunchError("-o TABLE.parquet is missing: where to write the table")
    if output.suffix != ".parquet":
        raise HunchError(f"{output}: the table is parquet; a name that ends in .parquet is expected")
    from ..processors import DijetSettings, read_fileset, run_dijets, run_jets
    from ..table import write_table

    if jets is None:
        refuse({name: cuts.pop(name) for name in JET_OPTIONS}, "only with --jets, as in hunch process --jets 1 FILES")
        run: Any = partial(run_dijets, settings=DijetSettings(**cuts))
    else:
        refuse({name: cuts.pop(name) for name in DIJET_OPTIONS}, "of the dijet table, not with --jets")
        refuse({"force": force or None}, "only with an ANALYSIS; event files are always processed")
        run = partial(run_jets, settings=jet_settings(jets, **cuts))
    result = run(
        read_fileset(files),
        executor=executor,
        workers=workers,
        scheduler=scheduler,
        skip_bad_files=skip_bad_files,
        progress=obj["progress"],
    )
    write_table(output, result.table)
    for path, reason in result.skipped:
        click.echo(f"skipped {path}: {reason}", err=True)
    width = max(len(name) for name in result.cutflow)
    for name, count in result.cutflow.items():
        click.echo(f"{name:{width}}  {count}")
    click.echo(f"{output}: {len(result.table)} events, {len(result.skipped)} files skipped")


def jet_settings(
    jets: int, *, representation: str | None, pixels: int | None, max_constituents: int | None, **cuts: Any
) -> Any:
    """Return the settings of jets; refuse the options of the other representation."""
    from ..processors import ImageSettings, JetSettings

    if representation == "constituents":
        refuse({"pixels": pixels}, "of images, not with --as constituents")
    else:
        refuse({"max_constituents": max_constituents}, "only with --as constituents")
    return JetSettings(
        n_jets=jets,
        representation=representation or "images",  # type: ignore[arg-type]
        image=ImageSettings(pixels=pixels or 40),
        max_constituents=max_constituents or 100,
        **cuts,
    )


def stage_only(name: str, text: str) -> click.Command:
    """Return a command for one stage of an analysis."""

    @click.command(name=name, help=text)
    @click.argument("analysis", type=ANALYSIS)
    @click.option("--force", is_flag=True, help="Rerun though nothing changed.")
    @click.pass_obj
    def command(obj: dict[str, Any], analysis: Path, *, force: bool) -> None:
        stage_command(obj, analysis, name, force=force)

    return command


train = stage_only("train", "Train the scorers of ANALYSIS on its tables.")

report = stage_only("report", "Write report.html of ANALYSIS from result.json, limits.json and the figures.")


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
@click.pass_obj
def validate(obj: dict[str, Any], /, *, target: Path, workers: int | None, retrain: int, **numbers: int) -> None:
    """Check the p-values and yields of a finished ANALYSIS, or of the folder OUT of a hunt in spectra.

    Injected signals (slope, pulls, coverage), local p of background-only experiments in bulk and tail, and the global p of
    whole hunts in experiments drawn from background events: samples.validation, else held-out background. Writes
    validation.json, figures and report.html. Exit status 1 where a check fails.
    """
    from ..config import read_analysis
    from ..workflow.given_spectra import validate_folder
    from ..workflow.validate import validate_analysis

    options = {"progress": obj["progress"], "workers": workers or cores(), **numbers}
    if target.is_dir():
        if retrain:
            raise HunchError("--retrain: only with an ANALYSIS, whose models are trained anew")
        checks, output = validate_folder(target, **options), target
    else:
        settings = read_analysis(target)
        checks, output = validate_analysis(settings, retrain=retrain, **options), Path(settings.output)
    for check in checks["checks"]:
        word = {True: "pass", False: "FAIL", None: "-"}[check["passed"]]
        click.echo(f"{word:4}  {check['name']}: {check['found']}")
    click.echo(f"report: {output / 'report.html'}")
    if any(check["passed"] is False for check in checks["checks"]):
        sys.exit(1)


@click.command()
@click.argument("analysis", type=ANALYSIS)
@click.argument("files", nargs=-1, required=True)
@click.option("-o", "--output", type=ANALYSIS, required=True, help="Spectra per region to write (ROOT).")
@click.pass_obj
def search(obj: dict[str, Any], analysis: Path, files: tuple[str, ...], *, output: Path) -> None:
    """Apply the trained scorers and fixed regions of ANALYSIS to event FILES, without tables in between."""
    from ..analysis import write_spectra
    from ..config import read_analysis
    from ..workflow.search import search_files

    result = search_files(read_analysis(analysis), files, progress=obj["progress"])
    regions = range(result.spectra.axes[0].size)
    write_spectra(output, [f"region {r}" for r in regions], [result.spectra[r, :] for r in regions])
    click.echo(json.dumps({"cutflow": result.cutflow, "skipped": [list(s) for s in result.skipped]}))
    click.echo(f"{output}: {int(result.spectra.sum())} events in {len(regions)} regions")
