"""The command line: each command opens, calls one function, writes. `hunch run` is the whole job."""

from __future__ import annotations

import json
import logging
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from . import __version__
from .errors import HunchError

__all__ = ["main"]

FORCED_STAGES = ("process", "train", "score", "hunt", "limits", "report")
ANALYSIS = click.Path(path_type=Path)
JET_OPTIONS = ("representation", "pixels", "max_constituents", "max_pt")
DIJET_OPTIONS = ("min_leading_pt", "max_deta", "min_mjj", "max_mjj")
"""Of `hunch process`: what makes sense only with --jets, and only without."""


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
    handler.setFormatter(logging.Formatter("%(message)s" if not debug else "%(name)s: %(message)s"))
    logger = logging.getLogger("hunch")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False
    if not debug:
        # pyhf logs a page for every fit that fails; hunch says which ones did
        logging.getLogger("pyhf").setLevel(logging.CRITICAL)


@cli.command(name="run")
@click.argument("analysis", type=ANALYSIS)
@click.option(
    "--force", multiple=True, metavar="STAGE", help=f"Rerun a stage: {', '.join(FORCED_STAGES)}; can be repeated."
)
@click.pass_obj
def run_command(obj: dict[str, Any], analysis: Path, *, force: tuple[str, ...]) -> None:
    """Do the whole job of ANALYSIS (YAML): every stage that is not up to date, then print the answer."""
    from .config import read_analysis
    from .workflow import run

    settings = read_analysis(analysis)
    result = run(settings, force=force, progress=obj["progress"])
    click.echo(answer(result))
    click.echo(f"report: {Path(settings.output) / 'report.html'}")


def answer(result: dict[str, Any]) -> str:
    """Return the answer of a search in a few lines."""
    best = result["best"]
    mass = f"{best['mass']:.0f}" if best["mass"] >= 100 else f"{best['mass']:.3g}"
    if "no_significance" in best:
        return (
            f"largest excess at {mass} GeV\n"
            f"local:  p = {best['p_local']:.2g}, {best['z_local']:.2f} sigma from a fit that fails\n"
            f"global: none, {best['no_significance']}"
        )
    sign = "<" if best["p_global_is_bound"] else "="
    more = "more than " if best["p_global_is_bound"] else ""
    return (
        f"largest excess at {mass} GeV\n"
        f"local:  p = {best['p_local']:.2g}, {best['z_local']:.2f} sigma\n"
        f"global: p {sign} {best['p_global']:.2g}, {more}{best['z_global']:.2f} sigma "
        f"({best['pseudo_experiments']} pseudo-experiments)"
    )


@cli.command()
@click.argument("process", metavar="PROCESS")
@click.option("-n", "--events", type=click.IntRange(min=1), required=True, help="Accepted events.")
@click.option("-o", "--output", type=ANALYSIS, required=True, help="Event file to write (ROOT).")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The same seed gives the same events."
)
@click.option("--workers", type=click.IntRange(min=1), default=None, help="Processes [default: all cores].")
@click.option("--min-jet-pt", type=float, default=None, help="pT of the leading R = 1.0 jet, GeV [default: 1200].")
@click.option(
    "--jet-pt",
    type=(float, float),
    default=None,
    metavar="LOW HIGH",
    help="Single jets: window of the jet's pT, GeV [default: 550 650].",
)
@click.option(
    "--set", "parameters", multiple=True, metavar="NAME=GEV", help="A mass of the process: --set m_zprime=4000."
)
@click.pass_obj
def simulate(
    obj: dict[str, Any],
    process: str,
    *,
    events: int,
    output: Path,
    seed: int,
    workers: int | None,
    min_jet_pt: float | None,
    jet_pt: tuple[float, float] | None,
    parameters: tuple[str, ...],
) -> None:
    """Simulate PROCESS with Pythia 8 and a fast detector.

    \b
    Events:      qcd, zprime_xy, zprime_qqq, zprime_tt, wprime_wz
                 (--set m_zprime, m_x, m_y, m_wprime)
    Single jets: jet_qcd, jet_top, jet_w, one jet an event of the file
                 (--set m_top, m_w)

    The jets are anti-kT, R = 1.0, |eta| < 1.5; those of top and W hold all quarks of the hadronic decay (--set
    min_quarks=1: that many of them). Three commands with one -n make samples of equal size.
    """
    from .samples import simulate as simulate_events

    report = simulate_events(
        process,
        events,
        output,
        seed=seed,
        workers=workers or cores(),
        min_jet_pt=min_jet_pt,
        jet_pt=jet_pt,
        parameters=masses(parameters),
        progress=obj["progress"],
    )
    click.echo(
        f"{report.path}: {report.accepted} events of {report.tries} tried, {report.accepted / report.seconds:.0f} a second"
    )


def cores() -> int:
    """Return the cores this process may use."""
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def masses(parameters: tuple[str, ...]) -> dict[str, float] | None:
    """Read NAME=GEV pairs."""
    result = {}
    for text in parameters:
        name, equals, value = text.partition("=")
        try:
            result[name] = float(value)
        except ValueError:
            equals = ""
        if not equals:
            raise HunchError(f"--set {text!r}: NAME=GEV is expected, as in --set m_zprime=4000")
    return result or None


@cli.command()
@click.argument("name", metavar="NAME")
@click.option(
    "-o", "--output", type=ANALYSIS, default=Path("data"), show_default=True, help="Folder to put the files in."
)
@click.pass_obj
def fetch(obj: dict[str, Any], name: str, *, output: Path) -> None:
    """Download a public record by NAME, checksums taken from the record; an interrupted download resumes."""
    from .samples import fetch as fetch_record

    for path in fetch_record(name, output, progress=obj["progress"]):
        click.echo(path)


@cli.group()
def convert() -> None:
    """Turn a foreign format into event files."""


@convert.command()
@click.argument("source", type=ANALYSIS, metavar="IN.h5")
@click.argument("target", type=ANALYSIS, metavar="OUT.root")
@click.option("--key", default=None, help="The table's key in the HDF5 file [default: the only one].")
@click.pass_obj
def lhco(obj: dict[str, Any], source: Path, target: Path, *, key: str | None) -> None:
    """Convert the LHC Olympics format: 700 x (pT, eta, phi) and a label a row."""
    from .samples import convert_lhco

    report = convert_lhco(source, target, key=key, progress=obj["progress"])
    click.echo(f"{target}: {report.n_events} events, {report.n_signal} with truth_signal = 1")


@convert.command()
@click.argument("source", type=ANALYSIS, metavar="IN.h5")
@click.argument("target", type=ANALYSIS, metavar="OUT.root")
@click.option("--key", default=None, help="The table's key in the HDF5 file [default: the only one].")
@click.pass_obj
def toptag(obj: dict[str, Any], source: Path, target: Path, *, key: str | None) -> None:
    """Convert the top-tagging reference data: 200 x (E, PX, PY, PZ) and is_signal_new a row, one jet an event."""
    from .samples import convert_toptag

    report = convert_toptag(source, target, key=key, progress=obj["progress"])
    click.echo(f"{target}: {report.n_events} jets, {report.n_signal} with truth_signal = 1")


@cli.command()
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
    from .processors import DijetSettings, read_fileset, run_dijets, run_jets
    from .table import write_table

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
    from .processors import ImageSettings, JetSettings

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


def refuse(options: dict[str, Any], why: str) -> None:
    """Name the options that were given and may not be."""
    flags = {"representation": "--as"}
    given = [flags.get(name, f"--{name.replace('_', '-')}") for name, value in options.items() if value is not None]
    if given:
        raise HunchError(f"{', '.join(given)}: {why}")


def is_analysis(file: str) -> bool:
    """Tell an analysis from a coffea fileset in YAML: it has the keys `samples` and `output`."""
    return {"samples", "output"} <= yaml_keys(file)


def yaml_keys(file: str) -> set[str]:
    """Return the top keys of a YAML file, none where it is no such file."""
    import yaml

    path = Path(file)
    if path.suffix not in {".yaml", ".yml"} or not path.is_file():
        return set()
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        return set()
    return {str(key) for key in content} if isinstance(content, dict) else set()


def stage_command(obj: dict[str, Any], analysis: Path, stage: str, *, force: bool) -> None:
    """Run one stage of an analysis and say whether it did anything."""
    from .config import read_analysis
    from .workflow import run_stage

    settings = read_analysis(analysis)
    ran = run_stage(settings, stage, force=force, progress=obj["progress"])
    click.echo(f"{stage}: {'done' if ran else 'up to date'} in {settings.output}")


def add_stage(name: str, text: str) -> None:
    """Add a command for one stage of an analysis."""

    @cli.command(name=name, help=text)
    @click.argument("analysis", type=ANALYSIS)
    @click.option("--force", is_flag=True, help="Rerun though nothing changed.")
    @click.pass_obj
    def command(obj: dict[str, Any], analysis: Path, *, force: bool) -> None:
        stage_command(obj, analysis, name, force=force)


add_stage("train", "Train the scorers of ANALYSIS on its tables.")


@cli.command()
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
        stage_command(obj, target, "score", force=force)
        return
    if force:
        raise HunchError("--force: only with an ANALYSIS; a stream is always scored")
    from .processors.stream import stream_scores

    try:
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
        click.echo(
            f"skipped {report.skipped} bad rows of {report.rows + report.skipped}; first: {report.first_skipped}",
            err=True,
        )
    if obj["progress"]:
        click.echo(f"{report.rows} rows scored", err=True)


@cli.command()
@click.argument("scorer", type=ANALYSIS, metavar="SCORER")
@click.option("-o", "--output", type=ANALYSIS, required=True, help="ONNX file to write.")
@click.option("--metric", default=None, help="Which of the scorer's [default: its first].")
@click.option(
    "--precision",
    type=click.Choice(["double", "float"]),
    default="double",
    show_default=True,
    help="double scores as hunch does, to rounding; float in about half the time.",
)
def export(*, scorer: Path, output: Path, metric: str | None, precision: str) -> None:
    """Write the trained SCORER (a folder) as one ONNX file, scaling included, for use without Python."""
    from .models import load_scorer
    from .models.onnx_export import export_onnx

    if output.suffix != ".onnx":
        raise HunchError(f"{output}: a name that ends in .onnx is expected")
    export_onnx(load_scorer(scorer), output, metric=metric, precision=precision)
    click.echo(f"{output}: {output.stat().st_size} bytes")


@cli.command()
@click.argument("sources", nargs=-1, required=True, metavar="ANALYSIS|SPECTRUM...|TABLE")
@click.option("--force", is_flag=True, help="With an ANALYSIS: rerun though nothing changed.")
@click.option("-o", "--output", type=ANALYSIS, default=None, help="Folder to write; not for an ANALYSIS.")
@click.option(
    "--masses", type=(float, float), default=None, metavar="LOW HIGH", help="GeV to hunt in [default: the fit range]."
)
@click.option(
    "--fit-range", type=(float, float), default=None, metavar="LOW HIGH", help="GeV [default: found from the bins]."
)
@click.option(
    "--width",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=None,
    help="Of the Gaussian signal, relative to its mass [default: 0.035].",
)
@click.option(
    "--function",
    "--family",
    "family",
    default=None,
    help="Background: dijet, exponential, bernstein, or a formula such as '(1-x)**p1 * x**(-p2)', x = m/sqrt(s) [default: dijet].",
)
@click.option(
    "--sqrt-s", type=click.FloatRange(0, min_open=True), default=None, help="Of the collisions, GeV [default: 13000]."
)
@click.option(
    "--combination",
    type=click.Choice(["fisher", "stouffer", "simes", "cauchy", "tippett", "harmonic", "harmonic_bound"]),
    default=None,
    help="Of disjoint regions [default: fisher].",
)
@click.option(
    "--pseudo-experiments", type=click.IntRange(min=1), default=None, help="For the global p [default: 5000]."
)
@click.option("--seed", type=click.IntRange(min=0), default=None, help="Of the pseudo-experiments [default: 0].")
@click.option(
    "--unit",
    default=None,
    help="Of the values, where the file does not say: events/GeV, pb/GeV, ... [default: counts].",
)
@click.option("--luminosity", default=None, help="Turns cross-sections into counts: 19.7 or 19.7/fb, 19700/pb.")
@click.pass_obj
def hunt(
    obj: dict[str, Any],
    /,
    *,
    sources: tuple[str, ...],
    force: bool,
    output: Path | None,
    **options: Any,
) -> None:
    """Hunt for a resonance in the regions of an ANALYSIS, or in spectra that others made.

    An ANALYSIS (YAML with the key `samples`): fix the regions, scan them, write result.json and the figures.

    A SPECTRUM is FILE.json, .csv, .yaml (HEPData) or .root, or FILE:NAME where the file holds several; a TABLE of events
    is .parquet with a column mjj (GeV), and `region` where it has several. Several spectra are disjoint regions. Counts,
    events/GeV, or cross-sections with --luminosity. result.json, report.html and figures go to -o.
    """
    if len(sources) == 1 and "samples" in yaml_keys(sources[0]):
        given = [
            f"--{name.replace('_', '-')}" for name, value in {"output": output, **options}.items() if value is not None
        ]
        if given:
            raise HunchError(f"{', '.join(given)}: for spectra; an ANALYSIS has these in its own keys")
        stage_command(obj, Path(sources[0]), "hunt", force=force)
        return
    if force:
        raise HunchError("--force: only with an ANALYSIS; spectra are always hunted in")
    if output is None:
        raise HunchError("-o OUT is missing: the folder to write result.json, report.html and figures to")
    from .analysis import hunt_files

    result = hunt_files(
        sources, output, progress=obj["progress"], **{k: v for k, v in options.items() if v is not None}
    )
    click.echo(answer(result))
    click.echo(f"report: {output / 'report.html'}")


@cli.command()
@click.argument("target", type=ANALYSIS, metavar="ANALYSIS|OUT")
@click.option("--force", is_flag=True, help="With an ANALYSIS: rerun though nothing changed.")
@click.option("--luminosity", default=None, help="Of OUT, for limits in fb: 19.7 or 19.7/fb, 19700/pb.")
@click.option("--points", type=click.IntRange(min=1), default=None, help="Masses of OUT [default: 12].")
@click.option("--efficiencies", default=None, metavar="A,B,C", help="Share of the signal in each region of OUT.")
@click.pass_obj
def limits(
    obj: dict[str, Any],
    /,
    *,
    target: Path,
    force: bool,
    luminosity: str | None,
    points: int | None,
    efficiencies: str | None,
) -> None:
    """Set upper limits by CLs against mass: on the signals of an ANALYSIS, or in OUT, the folder of a hunt in spectra.

    Writes limits.json, and into limits/ the figure, pyhf workspaces, datacards for combine and tables for HEPData.
    """
    given = {"--luminosity": luminosity, "--points": points, "--efficiencies": efficiencies}
    if not target.is_dir():
        wrong = [name for name, value in given.items() if value is not None]
        if wrong:
            raise HunchError(f"{', '.join(wrong)}: for the folder of a hunt; an ANALYSIS has these in its own keys")
        stage_command(obj, target, "limits", force=force)
        return
    from .analysis import limit_folder, read_luminosity

    try:
        share = None if efficiencies is None else [float(text) for text in efficiencies.split(",")]
    except ValueError as error:
        raise HunchError(f"--efficiencies {efficiencies!r}: numbers are expected, as in 0.1,0.2") from error
    value = None if luminosity is None else read_luminosity(luminosity)
    found = limit_folder(
        target,
        efficiencies=share,
        luminosity=None if value is None else value.per_pb / 1000,
        points=points or 12,
    )
    of = found["signals"]["signal"]
    for mass, observed, expected in zip(of["masses"], of["observed"], of["expected"], strict=True):
        told = "no limit" if observed is None else f"below {observed:.3g} events (expected {expected[2]:.3g})"
        click.echo(f"{mass:6.0f} GeV  {told}")
    click.echo(f"report: {target / 'report.html'}")


@cli.command()
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
    from .analysis import validate_folder
    from .config import read_analysis
    from .workflow import validate_analysis

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


add_stage("report", "Write report.html of ANALYSIS from result.json, limits.json and the figures.")


@cli.command()
@click.argument("analysis", type=ANALYSIS)
@click.argument("files", nargs=-1, required=True)
@click.option("-o", "--output", type=ANALYSIS, required=True, help="Spectra per region to write (ROOT).")
@click.pass_obj
def search(obj: dict[str, Any], analysis: Path, files: tuple[str, ...], *, output: Path) -> None:
    """Apply the trained scorers and fixed regions of ANALYSIS to event FILES, without tables in between."""
    from .analysis import write_spectra
    from .config import read_analysis
    from .workflow import search_files

    result = search_files(read_analysis(analysis), files, progress=obj["progress"])
    regions = range(result.spectra.axes[0].size)
    write_spectra(output, [f"region {r}" for r in regions], [result.spectra[r, :] for r in regions])
    click.echo(json.dumps({"cutflow": result.cutflow, "skipped": [list(s) for s in result.skipped]}))
    click.echo(f"{output}: {int(result.spectra.sum())} events in {len(regions)} regions")


def main() -> None:
    """Run the command line: errors of the user's making are one message on stderr and exit status 2."""
    debug = "--debug" in sys.argv
    try:
        cli(standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except HunchError as error:
        if debug:
            raise
        click.echo(f"hunch: {error}", err=True)
        sys.exit(2)
    except OSError as error:
        if debug:
            raise
        click.echo(f"hunch: {error.filename or 'input/output'}: {error.strerror or error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
