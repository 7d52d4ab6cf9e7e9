"""Commands that take an analysis, or spectra that others made: hunt, limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..errors import HunchError
from .analyses import ANALYSIS, analysis_of, answer, overriding, refuse, stage_command, yaml_keys
from .terminal import say

__all__ = ["hunt", "limits"]


@click.command()
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
@click.option("--mass-unit", default=None, help="Of the mass, where the file does not say: GeV, TeV or MeV.")
@click.option("--luminosity", default=None, help="Turns cross-sections into counts: 19.7 or 19.7/fb, 19700/pb.")
@overriding
@click.pass_obj
def hunt(
    obj: dict[str, Any],
    /,
    *,
    sources: tuple[str, ...],
    force: bool,
    output: Path | None,
    representation: str | None,
    values: tuple[str, ...],
    **options: Any,
) -> None:
    """Hunt for a resonance in the regions of an ANALYSIS, or in spectra that others made.

    An ANALYSIS (YAML with the key `samples`): fix the regions, scan them, write result.json and the figures.

    A SPECTRUM is FILE.json, .csv, .yaml (HEPData) or .root, or FILE:NAME where the file holds several; a TABLE of events
    is .parquet, .csv or .h5 with a column mjj (GeV), and `region` where it has several. Several spectra are disjoint regions. Counts,
    events/GeV, or cross-sections with --luminosity. result.json, report.html and figures go to -o.
    """
    if len(sources) == 1 and "samples" in yaml_keys(sources[0]):
        given = [
            f"--{name.replace('_', '-')}" for name, value in {"output": output, **options}.items() if value is not None
        ]
        if given:
            raise HunchError(f"{', '.join(given)}: for spectra; an ANALYSIS has these in its own keys")
        stage_command(obj, analysis_of(Path(sources[0]), representation, values), "hunt", force=force)
        return
    refuse({"representation": representation, "values": values}, "only with an ANALYSIS")
    if force:
        raise HunchError("--force: only with an ANALYSIS; spectra are always hunted in")
    if output is None:
        raise HunchError("-o OUT is missing: the folder to write result.json, report.html and figures to")
    from ..workflow.given_spectra import hunt_files

    result = hunt_files(
        sources, output, progress=obj["progress"], **{k: v for k, v in options.items() if v is not None}
    )
    say(answer(result))
    say(f"report: {output / 'report.html'}")


@click.command()
@click.argument("target", type=ANALYSIS, metavar="ANALYSIS|OUT")
@click.option("--force", is_flag=True, help="With an ANALYSIS: rerun though nothing changed.")
@click.option("--luminosity", default=None, help="Of OUT, for limits in fb: 19.7 or 19.7/fb, 19700/pb.")
@click.option("--points", type=click.IntRange(min=1), default=None, help="Masses of OUT [default: 12].")
@click.option("--efficiencies", default=None, metavar="A,B,C", help="Share of the signal in each region of OUT.")
@overriding
@click.pass_obj
def limits(
    obj: dict[str, Any],
    /,
    *,
    target: Path,
    force: bool,
    representation: str | None,
    values: tuple[str, ...],
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
        stage_command(obj, analysis_of(target, representation, values), "limits", force=force)
        return
    refuse({"representation": representation, "values": values}, "only with an ANALYSIS")
    from ..analysis import read_luminosity
    from ..workflow.given_spectra import limit_folder

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
    reasons = {failure["mass"]: failure["reason"] for failure in of["failures"]}
    for mass, observed, expected in zip(of["masses"], of["observed"], of["expected"], strict=True):
        told = (
            f"no limit: {reasons[mass]}"
            if observed is None
            else f"below {observed:.3g} events (expected {expected[2]:.3g})"
        )
        say(f"{mass:6.0f} GeV  {told}")
    say(f"report: {target / 'report.html'}")
