"""Commands that take an analysis, or spectra that others made: hunt, limits."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import HunchError
from .analyses import ANALYSIS, analysis_of, answer, overriding, refuse, stage_command, yaml_keys
from .terminal import say

if TYPE_CHECKING:
    from ..analysis import SignalErrors

__all__ = ["hunt", "limits"]

NUMBER = re.compile(r"[0-9]*\.?[0-9]+(e-?[0-9]+)?")


def finite_number(_: click.Context, option: click.Parameter, given: float | None) -> float | None:
    """Return the number; nan and inf, which click takes for numbers in a range, are refused."""
    if given is not None and not math.isfinite(given):
        raise click.BadParameter(f"{given} is no finite number", param=option)
    return given


def width_or_two(_: click.Context, option: click.Parameter, given: str | None) -> float | tuple[float, float] | None:
    """Return a relative width, or the lowest and the highest, which have a comma between; None where none is given."""
    if given is None:
        return None
    try:
        widths = [float(text) for text in given.split(",")]
    except ValueError:
        widths = []
    if len(widths) not in {1, 2} or not all(0 < w < 1 for w in widths) or widths != sorted(set(widths)):
        raise click.BadParameter(
            f"{given!r}: a number between 0 and 1 is expected, or two that rise, as in --width 0.01 0.10", param=option
        )
    return widths[0] if len(widths) == 1 else (widths[0], widths[1])


class Hunt(click.Command):
    """The command, with an option that takes one number or two."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Join two numbers after --width."""
        joined = list(args)
        for i in range(len(joined) - 3, -1, -1):
            if joined[i] == "--width" and all(NUMBER.fullmatch(text) for text in joined[i + 1 : i + 3]):
                joined[i + 1 : i + 3] = [",".join(joined[i + 1 : i + 3])]
        return super().parse_args(ctx, joined)


@click.command(cls=Hunt)
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
    "--blind",
    type=(float, float),
    default=None,
    metavar="LOW HIGH",
    help="GeV that stay masked: the fit range is fixed and stored, no p-value.",
)
@click.option(
    "--unblind", type=ANALYSIS, default=None, metavar="RESULT.json", help="Of a hunt with --blind, for its fit range."
)
@click.option(
    "--width",
    callback=width_or_two,
    default=None,
    metavar="WIDTH | LOW HIGH",
    help="Of the Gaussian signal, relative to its mass; two: widths between are scanned beside the mass [default: 0.035].",
)
@click.option(
    "--function",
    "--family",
    "family",
    default=None,
    help="Background: gaussian_process, dijet, exponential, bernstein, or a formula such as '(1-x)**p1 * x**(-p2)', x = m/sqrt(s) [default: gaussian_process].",
)
@click.option(
    "--sqrt-s",
    type=click.FloatRange(0, min_open=True),
    callback=finite_number,
    default=None,
    help="Of the collisions, GeV [default: 13000].",
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
@click.option(
    "--after-first",
    type=click.FloatRange(0, min_open=True),
    callback=finite_number,
    default=None,
    metavar="SIGMA",
    help="Look for a second excess beside a first one above this [default: none].",
)
@click.option("--seed", type=click.IntRange(min=0), default=None, help="Of the pseudo-experiments [default: 0].")
@click.option(
    "--unit",
    default=None,
    help="Of the values, where the file does not say: events/GeV, pb/GeV, ... [default: counts].",
)
@click.option("--mass-unit", default=None, help="Of the mass, where the file does not say: GeV, TeV or MeV.")
@click.option("--luminosity", default=None, help="Turns cross-sections into counts: 19.7 or 19.7/fb, 19700/pb.")
@click.option(
    "--expected",
    default=None,
    metavar="auto|A,B,C",
    help="The significance expected of so many signal events, or of a choice of them, too; with --luminosity in fb.",
)
@click.option(
    "--efficiencies", default=None, metavar="A,B,C", help="Share of that signal in each region; with --expected."
)
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

    if options["efficiencies"] is not None and options["expected"] is None:
        raise HunchError("--efficiencies: only with --expected")
    for name in ("expected", "efficiencies"):
        options[name] = [] if options[name] == "auto" and name == "expected" else numbers(name, options[name])
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
@click.option(
    "--scale-error",
    default=None,
    metavar="ERROR",
    help="Of the signal's mass in OUT, relative: 0.01; up,down: 0.02,0.01; by mass: 2000:0.01:0.01,4000:0.03:0.02 [default: 0.01].",
)
@click.option(
    "--resolution-error", default=None, metavar="ERROR", help="Of the signal's width in OUT, the same [default: 0.1]."
)
@click.option(
    "--efficiency-error", type=float, default=None, help="Of the signal's efficiency in OUT, relative [default: 0]."
)
@click.option("--luminosity-error", type=float, default=None, help="Of the luminosity of OUT, relative [default: 0].")
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
    **errors: Any,
) -> None:
    """Set upper limits by CLs against mass: on the signals of an ANALYSIS, or in OUT, the folder of a hunt in spectra.

    Writes limits.json, and into limits/ the figure, pyhf workspaces, datacards for combine and tables for HEPData.
    """
    given = {"--luminosity": luminosity, "--points": points, "--efficiencies": efficiencies}
    given |= {f"--{name.replace('_', '-')}": value for name, value in errors.items()}
    if not target.is_dir():
        wrong = [name for name, value in given.items() if value is not None]
        if wrong:
            raise HunchError(f"{', '.join(wrong)}: for the folder of a hunt; an ANALYSIS has these in its own keys")
        stage_command(obj, analysis_of(target, representation, values), "limits", force=force)
        return
    refuse({"representation": representation, "values": values}, "only with an ANALYSIS")
    from ..analysis import read_luminosity
    from ..workflow.given_spectra import limit_folder

    share = numbers("efficiencies", efficiencies)
    value = None if luminosity is None else read_luminosity(luminosity)
    found = limit_folder(
        target,
        efficiencies=share,
        luminosity=None if value is None else value.per_pb / 1000,
        points=points or 12,
        errors=signal_errors(**errors),
    )
    of = found["signals"]["signal"]
    reasons = {failure["mass"]: failure["reason"] for failure in of["failures"]}
    few = {mass for mass, holds in zip(of["masses"], of["asymptotic_holds"], strict=True) if not holds}
    for mass, observed, expected in zip(of["masses"], of["observed"], of["expected"], strict=True):
        told = (
            f"no limit: {reasons[mass]}"
            if mass in reasons
            else f"expected below {expected[2]:.3g} events"
            if observed is None
            else f"below {observed:.3g} events (expected {expected[2]:.3g})"
            + (", by pseudo-experiments" if mass in few else "")
        )
        say(f"{mass:6.0f} GeV  {told}")
    say(f"report: {target / 'report.html'}")


def signal_errors(**given: Any) -> SignalErrors:
    """Return the errors of a signal from the texts and numbers of the options, those that are given."""
    from ..analysis import SignalErrors

    found: dict[str, Any] = {}
    for option, value in given.items():
        name = option.removesuffix("_error")
        if isinstance(value, str):
            try:
                parts = [[float(number) for number in part.split(":")] for part in value.split(",")]
            except ValueError as error:
                raise HunchError(
                    f"--{option.replace('_', '-')} {value!r}: a number, up,down or MASS:up:down,... is expected"
                ) from error
            single = all(len(part) == 1 for part in parts)
            found[name] = tuple(p for (p,) in parts) if single and len(parts) > 1 else parts[0][0] if single else parts
        elif value is not None:
            found[name] = value
    return SignalErrors(**found)


def numbers(option: str, given: str | None) -> list[float] | None:
    """Return the numbers of an option; raises HunchError for what is none."""
    try:
        return None if given is None else [float(text) for text in given.split(",")]
    except ValueError as error:
        also = "auto, or " if option == "expected" else ""
        raise HunchError(f"--{option} {given!r}: {also}numbers are expected, as in 0.1,0.2") from error
